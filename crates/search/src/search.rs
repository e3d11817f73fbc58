//! A search: trials are proposed, trained as ordinary runs and recorded in a journal, by one or several processes.
//!
//! The folder of a search holds `journal.jsonl`, the description of every trial's network or settings in `descriptions/`, the trials'
//! run folders in `trials/`, the weights by which trials were judged before they got more epochs in `judged/`, and at the end the best
//! one: `best.toml` and `best.safetensors`, the weights that it was judged by; a one-shot search has more (see `one_shot.rs`). A process claims a trial by the
//! lock of its description, which ends with the process: a trial whose process was killed is free again, and is resumed from its
//! last checkpoint.

use crate::halving::Next;
use crate::journal::{Entry, Journal, Record, Settings};
use crate::judge::Judge;
use crate::limits::Bounded;
use crate::trial::{End, TrialRun, is_of_trial};
use crate::trials::name;
use crate::{
    Candidate, History, Latency, Limits, Member, Method, NetworkSpace, Networks, OneShot, Recipes, SearchError, Trials,
};
use residual_data::{DataError, Dataset, Source, Split};
use residual_engine::Options;
use residual_files::{atomic_write, try_lock};
use residual_model::Model;
use residual_tensor::Stream;
use residual_train::{Event as TrainEvent, Recipe, Resolved, TrainError};
use residual_weights::{load, save};
use std::cell::OnceCell;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The share of the training images that is held out where the data have no validation images.
const HELD_OUT: f64 = 0.1;

/// Pause before the journal is read again, when another process has just changed it.
const PAUSE: Duration = Duration::from_millis(50);

/// Pause before the journal is read again, while other processes train the last trials.
const WAIT: Duration = Duration::from_millis(100);

/// Failures without any result after which a search gives up.
const MAX_FAILURES: usize = 10;

/// The folder of the trials' descriptions.
const DESCRIPTIONS: &str = "descriptions";
/// The folder of weights that were judged, of trials that were trained for more epochs since.
const JUDGED: &str = "judged";

/// What is searched for, and how.
pub struct Search<T> {
    pub(crate) trials: T,
    method: Method,
    seed: u64,
    /// What is held out of the training images where the recipe holds nothing out.
    val_split: Option<f64>,
    /// Epochs of the longest training, but for fine-tuning.
    pub(crate) epochs: u64,
    length: Length,
}

/// How long a search goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Length {
    /// The number of trials.
    pub trials: Option<usize>,
    /// The time of training in all trials together.
    pub budget: Option<Duration>,
}

/// An event of a search.
#[derive(Clone, Debug)]
pub enum Event<'a, T> {
    /// The training of a supernet begins or is resumed.
    Supernet {
        /// Its number.
        supernet: usize,
        /// Epochs that it is to be trained in all.
        epochs: u64,
        /// Its largest network.
        network: &'a Member,
    },
    /// Other processes train the supernets that are left, and this one waits for them.
    Waiting {
        /// How many are left.
        supernets: usize,
    },
    /// Other processes train the trials that are left, and this one waits for them.
    WaitingForTrials {
        /// How many are left.
        trials: usize,
    },
    /// A trial begins, is resumed, or gets more epochs.
    Trial {
        /// Its number.
        trial: usize,
        /// Epochs that it is to be trained in all; 0 if it shares the weights of a supernet.
        epochs: u64,
        /// What it tries.
        tried: &'a T,
    },
    /// Something happened in the training of the trial or supernet.
    Training(&'a TrainEvent),
    /// The trial has a result: top-1 on held-out images in percent.
    Scored {
        /// Its number.
        trial: usize,
        /// Epochs that it was trained.
        epochs: u64,
        /// The result.
        top1: f64,
    },
    /// The trial failed.
    Failed {
        /// Its number.
        trial: usize,
        /// Why.
        reason: &'a str,
    },
}

/// A trial with a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<T> {
    /// The trial's number.
    pub trial: usize,
    /// Epochs that it was trained.
    pub epochs: u64,
    /// Top-1 on held-out images in percent.
    pub top1: f64,
    /// The cost of its network, or its settings.
    pub tried: T,
}

/// The end of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<T> {
    /// The best trial: of those that were trained the longest, the most accurate, and the cheapest of several.
    pub best: Found<T>,
    /// The trials with a result, in the order of their proposal.
    pub scored: Vec<Found<T>>,
    /// Those that were trained the longest and that no other one beats in both cost and accuracy, by rising cost: of networks the
    /// latency if it has a limit, else the multiply-accumulates; settings have none. The last one is the best.
    pub front: Vec<Found<T>>,
    /// The number of trials, the failed ones included.
    pub trials: usize,
    /// The number of trials that failed.
    pub failed: usize,
    /// Seconds of training in all trials and supernets together.
    pub seconds: f64,
    /// The description of the best network, which `train --model` takes, or the best recipe, which `train --recipe` takes.
    pub description: PathBuf,
    /// Its checkpoint.
    pub weights: PathBuf,
    /// The importance of every setting of the space, the sum of which is 1, if it is known: how much the best tenth of the trials
    /// differs from all of them in that setting alone (PED-ANOVA; Watanabe et al., arXiv:2304.10255). Of networks it is not.
    pub importance: Option<Vec<f64>>,
    /// Whether a signal ended the search.
    pub interrupted: bool,
}

/// What a process does next.
pub(crate) enum Work<T> {
    /// Trains a trial, which it has claimed.
    Train(Claim<T>),
    /// Looks again.
    Again,
    /// Waits until the journal has other entries than so many, or other processes train other trials than so many.
    Wait { entries: usize, trials: usize },
    /// Nothing is left.
    Done,
}

impl<T> Work<T> {
    /// What a process does that has nothing to train, while others train so many trials: their results are part of the outcome.
    pub(crate) fn after(record: &Record, others: usize) -> Self {
        if others > 0 { Self::Wait { entries: record.entries, trials: others } } else { Self::Done }
    }
}

/// A trial that is this process's.
pub(crate) struct Claim<T> {
    pub(crate) trial: usize,
    pub(crate) candidate: Candidate,
    epochs: u64,
    tried: T,
    /// Epochs after which it was judged the last time, if it was.
    judged: Option<u64>,
    /// Seconds of training in all trials together.
    spent: f64,
    /// The description of the trial, with its lock.
    description: PathBuf,
    _lock: File,
}

/// A process at work in the folder of a search.
pub(crate) struct Session<'s> {
    pub(crate) folder: PathBuf,
    pub(crate) journal: Journal,
    pub(crate) options: &'s Options,
    pub(crate) stop: &'s AtomicBool,
    judge: OnceCell<Judge>,
}

impl Session<'_> {
    /// What judges members of the supernets, which must be trained.
    ///
    /// # Errors
    /// If a run or the images cannot be read.
    pub(crate) fn judge(&self, one_shot: &OneShot) -> Result<&Judge, TrainError> {
        if let Some(judge) = self.judge.get() {
            return Ok(judge);
        }
        let judge = Judge::open(&self.folder, one_shot)?;
        Ok(self.judge.get_or_init(|| judge))
    }

    /// The error of a trial that is none of this search.
    pub(crate) fn other_candidate(&self, trial: usize) -> SearchError {
        SearchError::Content {
            path: self.folder.join("journal.jsonl"),
            what: format!("trial {trial}"),
            expected: "a candidate of the space".into(),
            got: "another one".into(),
        }
    }
}

impl<'a> Search<Networks<'a>> {
    /// A search of `space` within `limits`, whose trials are trained by `recipe`. Every trial has the recipe's seed, which is also
    /// the search's. The test images are not read: if the data have no validation images, and the recipe holds none out, a tenth
    /// of the training images is.
    ///
    /// # Errors
    /// If the data cannot be read, or the recipe names a network or weights, holds no images out, has no number of epochs
    /// although the method needs one, or does not evaluate every epoch although trials are halved; if the method shares weights, also if the space needs too many supernets (see
    /// [`Supernets::new`](crate::Supernets::new)), its members cannot be fine-tuned by the recipe, the number of trials is open, or the
    /// loss is none of a softmax.
    pub fn new(
        space: NetworkSpace,
        limits: Limits,
        latency: Latency<'a>,
        method: Method,
        recipe: Resolved,
        length: Length,
    ) -> Result<Self, SearchError> {
        for (field, given) in
            [("model", recipe.origins.is_given("model")), ("weights", recipe.recipe.weights.is_some())]
        {
            if given {
                let expected = "none: the networks come from the space, with new weights".into();
                return Err(SearchError::Field { field, expected, got: "one".into() });
            }
        }
        let (val_split, images) = held_out(&recipe.recipe)?;
        let Recipe { num_classes, in_chans, .. } = &recipe.recipe;
        let channels = in_chans.unwrap_or(images.format().channels);
        let space = space.for_images(channels, num_classes.unwrap_or(images.class_names().len()));
        let one_shot = match method.shares_weights() {
            true => Some(OneShot::new(&space, &recipe)?),
            false => None,
        };
        let trials = Networks { members: Bounded::new(space, limits, latency), recipe, screen: 1, one_shot };
        Self::of(trials, val_split, method, length)
    }

    /// With the best of so many proposals in place of each, by a score that takes no training ([`naswot`](crate::naswot)).
    pub fn with_screen(mut self, screen: usize) -> Self {
        self.trials.screen = screen.max(1);
        self
    }

    /// With so many epochs of fine-tuning for the best members of a one-shot search, in place of a quarter of the supernet's; 0 for
    /// none.
    ///
    /// # Errors
    /// If trials share no weights, or the recipe of fine-tuning, which has a share of the supernet's epochs and of its learning rate, is
    /// invalid.
    pub fn with_finetune_epochs(mut self, epochs: u64) -> Result<Self, SearchError> {
        let Some(one_shot) = self.trials.one_shot.take() else {
            let (expected, got) = (format!("none with strategy {}", self.method), epochs.to_string());
            return Err(SearchError::Field { field: "finetune_epochs", expected, got });
        };
        self.trials.one_shot = Some(one_shot.with_finetune_epochs(epochs, &self.trials.recipe)?);
        Ok(self)
    }
}

impl Search<Recipes> {
    /// A search of settings. Every trial has the recipe's seed, which is also the search's. Images are held out as in
    /// [`Search::new`].
    ///
    /// # Errors
    /// If the data cannot be read, the method is one for networks, or the recipe holds no images out, or has no number of epochs
    /// or does not evaluate every one although trials are halved.
    pub fn of_recipes(recipes: Recipes, method: Method, length: Length) -> Result<Self, SearchError> {
        if method.shares_weights() {
            let expected = "one for settings, as only networks share weights".into();
            return Err(SearchError::Field { field: "strategy", expected, got: method.to_string() });
        }
        let (val_split, _) = held_out(recipes.recipe())?;
        Self::of(recipes, val_split, method, length)
    }
}

impl<T: Trials> Search<T> {
    fn of(trials: T, val_split: Option<f64>, method: Method, length: Length) -> Result<Self, SearchError> {
        let Recipe { epochs, max_steps, time_budget, seed, bce_loss, val_interval, .. } = trials.recipe();
        let field = |field, expected, got: &str| Err(SearchError::Field { field, expected, got: got.into() });
        let needs_epochs = method.halves() || method.shares_weights();
        if needs_epochs && (epochs.is_none() || max_steps.is_some() || time_budget.is_some()) {
            let why = if method.halves() { "gives its trials a part of the epochs" } else { "trains for whole epochs" };
            return field("epochs", format!("alone, as {method} {why}"), "none, or another length");
        }
        if method.halves() && *val_interval != 1 {
            let expected = format!("1, as {method} compares trials after some of their epochs");
            return field("val_interval", expected, &val_interval.to_string());
        }
        if method.shares_weights() && *bce_loss {
            return field("bce_loss", format!("false, as {method} learns the softmax of the largest network"), "true");
        }
        if method.shares_weights() && length.budget.is_some() {
            return field("budget", format!("none, as {method} takes as long as its epochs and trials do"), "one");
        }
        if method.shares_weights() && length.trials.is_none() {
            return field("trials", format!("a number, as {method} trains none of them"), "none");
        }
        let (seed, epochs) = (*seed, epochs.unwrap_or(1));
        Ok(Self { trials, method, seed, val_split, epochs, length })
    }

    /// Searches in `folder`, or resumes the search that is there, until its length is reached or `stop` is set. Other
    /// processes may do the same in the same folder.
    ///
    /// # Errors
    /// If the folder holds another search, no network is within the limits, the first ten trials failed, a file cannot be read or written,
    /// or no trial has a result.
    pub fn run(
        &self,
        folder: &Path,
        options: &Options,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(&Event<'_, T::Tried>),
    ) -> Result<Outcome<T::Tried>, SearchError> {
        for folder in [DESCRIPTIONS, "trials"].map(|name| folder.join(name)) {
            std::fs::create_dir_all(&folder).map_err(SearchError::io(&folder))?;
        }
        // Runs keep the path of their network.
        let folder = folder.canonicalize().map_err(SearchError::io(folder))?;
        let journal = Journal::new(&folder.join("journal.jsonl"));
        let session = Session { folder, journal, options, stop, judge: OnceCell::new() };
        self.check_limits(&session)?;
        session.journal.begin(&self.settings())?;
        let is_prepared = match self.trials.one_shot() {
            Some(one_shot) => self.train_supernets(one_shot, &session, on_event)?,
            None => true,
        };
        if is_prepared {
            self.train_trials(&session, on_event)?;
        }
        self.outcome(&session.journal.read()?, &session)
    }

    /// Checks that there is a first trial, before the search begins and hours are spent on supernets.
    fn check_limits(&self, session: &Session<'_>) -> Result<(), SearchError> {
        let history = session.journal.read()?.history;
        let is_known = !history.trials().is_empty() || self.trials.smallest(&history)?.is_some();
        match is_known || self.propose(&history, session.options)?.is_some() {
            true => Ok(()),
            false => Err(SearchError::Limits),
        }
    }

    /// The candidate of the next trial: where the strategy finds none, the smallest one that was not tried.
    fn propose(&self, history: &History, options: &Options) -> Result<Option<Candidate>, SearchError> {
        let mut random = Stream::new(self.seed, &[history.trials().len() as u64]);
        let strategy = self.method.strategy(self.length.trials);
        match self.trials.propose(&*strategy, history, &mut random, options)? {
            Some(candidate) => Ok(Some(candidate)),
            None => self.trials.smallest(history),
        }
    }

    /// Trains trials until nothing is left for this process or any other one, or it is to stop.
    fn train_trials(
        &self,
        session: &Session<'_>,
        on_event: &mut dyn FnMut(&Event<'_, T::Tried>),
    ) -> Result<(), SearchError> {
        // Whether a trial was paused at the end of the budget: then this process trains no other one.
        let (mut is_spent, mut is_waiting) = (false, false);
        while !session.stop.load(Ordering::Relaxed) {
            let next = |record: &Record| match is_spent {
                true => Ok((Vec::new(), Work::after(record, others(record, &session.folder)?))),
                false => self.next(record, session),
            };
            match session.journal.update(next)? {
                Work::Train(claim) => {
                    is_spent = !self.train(&claim, session, on_event)?;
                    is_waiting = false;
                }
                Work::Again => std::thread::sleep(PAUSE),
                Work::Wait { entries, trials } => {
                    if !std::mem::replace(&mut is_waiting, true) {
                        on_event(&Event::WaitingForTrials { trials });
                    }
                    let has_changed = |record: &Record| {
                        Ok((Vec::new(), record.entries != entries || others(record, &session.folder)? != trials))
                    };
                    while !session.stop.load(Ordering::Relaxed) && !session.journal.update(has_changed)? {
                        std::thread::sleep(WAIT);
                    }
                }
                Work::Done => break,
            }
        }
        Ok(())
    }

    /// What the trials are.
    pub fn trials(&self) -> &T {
        &self.trials
    }

    fn settings(&self) -> Settings {
        let recipe = Recipe { val_split: self.val_split, ..self.trials.recipe().clone() };
        let kept = Settings {
            space: String::new(),
            strategy: self.method.name().into(),
            seed: self.seed,
            screen: 1,
            max_macs: None,
            max_params: None,
            target_latency: None,
            finetune_epochs: None,
            recipe: recipe.to_toml(),
        };
        self.trials.settings(kept)
    }

    /// Chooses the next work: a trial that is nobody's, else more epochs for one, else a new one.
    fn next(&self, record: &Record, session: &Session<'_>) -> Result<(Vec<Entry>, Work<T::Tried>), SearchError> {
        let Session { folder, options, .. } = session;
        let tried = self.tried(record, session)?;
        if let (Some((_, reason)), failed @ MAX_FAILURES.., true) =
            (record.failures.first(), record.failures.len(), record.history.best().is_none())
        {
            return Err(SearchError::AllFailed { failed, reason: reason.clone() });
        }
        let spent: f64 = record.seconds.iter().sum();
        if self.length.budget.is_some_and(|budget| spent >= budget.as_secs_f64()) {
            return Ok((Vec::new(), Work::after(record, others(record, folder)?)));
        }
        let mut others = 0;
        for (number, trial) in record.history.trials().iter().enumerate().filter(|(_, trial)| trial.is_running()) {
            let description = description_file(folder, &name(number));
            let Some(lock) = claim(&description)? else {
                others += 1;
                continue;
            };
            let (candidate, tried, epochs) = (trial.candidate.clone(), tried[number].clone(), trial.budget);
            let judged = trial.scores.last().map(|&(epochs, _)| epochs);
            let claim = Claim { trial: number, candidate, epochs, tried, judged, spent, description, _lock: lock };
            return Ok((Vec::new(), Work::Train(claim)));
        }
        let number = record.history.trials().len();
        let budget = match self.method.halving(self.epochs).next(&record.history) {
            Next::Promote { trial, budget } => {
                return Ok((vec![Entry::Promoted { trial, epochs: budget }], Work::Again));
            }
            Next::New { budget } => budget,
        };
        if self.length.trials.is_some_and(|trials| number >= trials) {
            return Ok(self.after_trials(record, &tried, others));
        }
        let Some(candidate) = self.propose(&record.history, options)? else {
            return match number {
                0 => Err(SearchError::Limits),
                _ => Ok(self.after_trials(record, &tried, others)),
            };
        };
        let (entry, text) = self.trials.describe(number, &candidate, budget)?;
        let description = description_file(folder, &name(number));
        atomic_write(&description, |file| file.write_all(text.as_bytes()))?;
        let tried = self.trials.tried(&entry).expect("a proposal says what is tried");
        let work = match claim(&description)? {
            Some(lock) => {
                let (epochs, judged) = (budget, None);
                Work::Train(Claim { trial: number, candidate, epochs, tried, judged, spent, description, _lock: lock })
            }
            None => Work::Again,
        };
        Ok((vec![entry], work))
    }

    /// What the trials try, as it was proposed.
    fn tried(&self, record: &Record, session: &Session<'_>) -> Result<Vec<T::Tried>, SearchError> {
        let sizes = self.trials.sizes();
        let is_candidate = |entry: &Entry| match entry {
            Entry::Proposed { candidate, .. } => {
                candidate.len() == sizes.len() && candidate.iter().zip(sizes).all(|(choice, size)| choice < size)
            }
            _ => false,
        };
        let tried = |(number, entry): (usize, &Entry)| {
            let tried = is_candidate(entry).then(|| self.trials.tried(entry)).flatten();
            tried.ok_or_else(|| session.other_candidate(number))
        };
        record.proposals.iter().enumerate().map(tried).collect()
    }

    /// Trains a trial, and records its result. False if it was interrupted before, by `stop` or the end of the budget.
    fn train(
        &self,
        claim: &Claim<T::Tried>,
        session: &Session<'_>,
        on_event: &mut dyn FnMut(&Event<'_, T::Tried>),
    ) -> Result<bool, SearchError> {
        let &Claim { trial, epochs, ref tried, judged, spent, ref description, .. } = claim;
        on_event(&Event::Trial { trial, epochs, tried });
        let one_shot = self.trials.one_shot();
        let ended = match one_shot {
            Some(one_shot) if epochs == 0 => {
                let part = one_shot.part(trial, &claim.candidate, session)?;
                self.judge(one_shot, trial, part, session)
            }
            _ => {
                let recipe = self.recipe_of(description, name(trial))?;
                let run = TrialRun {
                    recipe: match one_shot {
                        Some(one_shot) => self.fine_tuning(one_shot, claim, session, recipe)?,
                        None => recipe,
                    },
                    name: name(trial),
                    trials: session.folder.join("trials"),
                    // A trial is paused at its budget, unless it is trained to the end.
                    pause_at: (one_shot.is_none() && epochs < self.epochs).then_some(epochs),
                    seconds: self.length.budget.map(|budget| (budget.as_secs_f64() - spent).max(0.0)),
                    judged: judged
                        .filter(|&epochs| epochs > 0)
                        .map(|epochs| judged_file(&session.folder, trial, epochs)),
                    companion: None,
                };
                run.train(session.options, session.stop, &mut |event| on_event(&Event::Training(event)))
            }
        };
        let entry = match ended {
            Ok(End::Scored { top1, seconds }) => {
                on_event(&Event::Scored { trial, epochs, top1 });
                Entry::Scored { trial, epochs, top1, seconds }
            }
            Ok(End::Interrupted { seconds }) => Entry::Paused { trial, seconds },
            Err(error) if is_of_trial(&error) => {
                let reason = residual_files::one_line(&error);
                on_event(&Event::Failed { trial, reason: &reason });
                Entry::Failed { trial, reason }
            }
            Err(source) => return Err(SearchError::trial(trial)(source)),
        };
        let is_paused = matches!(entry, Entry::Paused { .. });
        session.journal.update(|_| Ok((vec![entry], ())))?;
        Ok(!is_paused)
    }

    /// The recipe of the run called `name` that the file `description` describes.
    ///
    /// # Errors
    /// If the file cannot be read or is invalid.
    pub(crate) fn recipe_of(&self, description: &Path, name: String) -> Result<Resolved, SearchError> {
        let text = residual_files::read_text(description, MAX_DESCRIPTION)?;
        let mut recipe = self.trials.recipe_of(&text, description)?;
        recipe.recipe.experiment = Some(name);
        recipe.recipe.val_split = self.val_split;
        Ok(recipe)
    }

    /// The result of the search, with the best trial's files written.
    fn outcome(&self, record: &Record, session: &Session<'_>) -> Result<Outcome<T::Tried>, SearchError> {
        let folder = &*session.folder;
        let tried = self.tried(record, session)?;
        let found = |trial: usize| {
            let &(epochs, top1) = record.history.trials()[trial].scores.last()?;
            Some(Found { trial, epochs, top1, tried: tried[trial].clone() })
        };
        let scored: Vec<Found<_>> = (0..tried.len()).filter_map(found).collect();
        let most = scored.iter().map(|found| found.epochs).max();
        let front = self.front(scored.iter().filter(|found| Some(found.epochs) == most).cloned().collect());
        let Some(best) = front.last().cloned() else {
            return Err(SearchError::NoResult { failure: record.failures.first().map(|(_, reason)| reason.clone()) });
        };
        let (description, weights) = (folder.join("best.toml"), folder.join("best.safetensors"));
        let text = residual_files::read_text(&description_file(folder, &name(best.trial)), MAX_DESCRIPTION)?;
        let text = self.trials.best(text)?;
        atomic_write(&description, |file| file.write_all(text.as_bytes()))?;
        save(&weights, &self.model_of(best.trial, best.epochs, record, session)?, None)?;
        Ok(Outcome {
            scored,
            front,
            trials: tried.len(),
            failed: record.failures.len(),
            seconds: record.seconds.iter().chain(record.supernets.iter().map(|(_, seconds)| seconds)).sum(),
            best,
            description,
            weights,
            importance: self.trials.importance(&record.history),
            interrupted: session.stop.load(Ordering::Relaxed),
        })
    }

    /// The model of a trial that was judged after so many epochs, as it was then.
    fn model_of(
        &self,
        trial: usize,
        epochs: u64,
        record: &Record,
        session: &Session<'_>,
    ) -> Result<Model, SearchError> {
        if let (0, Some(one_shot)) = (epochs, self.trials.one_shot()) {
            let candidate = &record.history.trials()[trial].candidate;
            let part = one_shot.part(trial, candidate, session)?;
            let member = |judge: &Judge| judge.member(part, name(trial), session.options);
            return session.judge(one_shot).and_then(member).map_err(SearchError::trial(trial));
        }
        let judged = judged_file(&session.folder, trial, epochs);
        if judged.exists() {
            return Ok(load(&judged)?.model);
        }
        // It was judged by its last weights, and was not resumed since.
        let trials = session.folder.join("trials");
        let run = crate::trial::find(&trials, &name(trial)).map_err(SearchError::trial(trial))?;
        let run = run.ok_or_else(|| SearchError::io(&trials.join(name(trial)))(ErrorKind::NotFound.into()))?;
        Ok(load(&run.last())?.model)
    }

    /// The trials that no other one beats in both cost and accuracy, by rising cost.
    pub(crate) fn front(&self, mut found: Vec<Found<T::Tried>>) -> Vec<Found<T::Tried>> {
        let price = |found: &Found<T::Tried>| self.trials.price(&found.tried);
        found.sort_by(|a, b| price(a).total_cmp(&price(b)).then(b.top1.total_cmp(&a.top1)));
        let mut best = f64::NEG_INFINITY;
        found.retain(|found| {
            let is_better = found.top1 > best;
            best = best.max(found.top1);
            is_better
        });
        found
    }
}

/// The share of the training images that trials hold out, and these images. Trials are compared by held-out images.
fn held_out(recipe: &Recipe) -> Result<(Option<f64>, Arc<dyn Dataset>), SearchError> {
    let Recipe { data, data_dir, seed, .. } = recipe;
    let data_error = |error: DataError| SearchError::Recipe(Box::new(error.into()));
    let source = Source::open(data, data_dir.as_deref()).map_err(data_error)?;
    let mut val_split = recipe.val_split;
    if !source.splits().contains(&Split::Val) && *val_split.get_or_insert(HELD_OUT) == 0.0 {
        let expected = "a fraction above 0, as the data have no validation images".into();
        return Err(SearchError::Field { field: "val_split", expected, got: "0".into() });
    }
    let (images, _) = source.training(val_split.map(|share| share as f32), *seed).map_err(data_error)?;
    Ok((val_split, images))
}

/// Maximum length of a description that a search wrote.
const MAX_DESCRIPTION: u64 = 1 << 20;

/// The description of the trial or supernet called `name`.
pub(crate) fn description_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(DESCRIPTIONS).join(format!("{name}.toml"))
}

/// The weights of a trial that was judged after so many epochs, once it is trained for more.
fn judged_file(folder: &Path, trial: usize, epochs: u64) -> PathBuf {
    folder.join(JUDGED).join(format!("{}-{epochs}.safetensors", name(trial)))
}

/// The number of trials that other processes train.
fn others(record: &Record, folder: &Path) -> Result<usize, SearchError> {
    let mut others = 0;
    for (number, _) in record.history.trials().iter().enumerate().filter(|(_, trial)| trial.is_running()) {
        others += usize::from(claim(&description_file(folder, &name(number)))?.is_none());
    }
    Ok(others)
}

/// Claims a trial or supernet for this process, by the lock of its description; `None` if it is another one's.
pub(crate) fn claim(description: &Path) -> Result<Option<File>, SearchError> {
    let file = File::open(description).map_err(SearchError::io(description))?;
    Ok(try_lock(&file).map_err(SearchError::io(description))?.then_some(file))
}
