//! A search: trials are proposed, trained as ordinary runs and recorded in a journal, by one or several processes.
//!
//! The folder of a search holds `journal.jsonl`, the description of every trial's network or settings in `descriptions/`, the trials'
//! run folders in `trials/`, and at the end the best one: `best.toml` and `best.safetensors`. A process claims a trial by the
//! lock of its description, which ends with the process: a trial whose process was killed is free again, and goes on from its
//! last checkpoint.

use crate::journal::{Entry, Journal, Record, Settings};
use crate::limits::Bounded;
use crate::trial::{End, TrialRun};
use crate::trials::name;
use crate::{Latency, Limits, Method, NetworkSpace, Networks, Next, Recipes, SearchError, Trials, importance};
use residual_data::{DataError, Dataset, Source, Split};
use residual_engine::Options;
use residual_files::atomic_write;
use residual_tensor::Stream;
use residual_train::{Event as TrainEvent, Recipe, Resolved, TrainError};
use residual_weights::{load, save};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The share of the training images that is held out where the data have no validation images.
const HELD_OUT: f64 = 0.1;

/// Pause before the journal is read again, when another process has just changed it.
const PAUSE: Duration = Duration::from_millis(50);

/// The folder of the trials' descriptions.
const DESCRIPTIONS: &str = "descriptions";

/// What is searched for, and how.
pub struct Search<T> {
    trials: T,
    method: Method,
    seed: u64,
    /// What is held out of the training images where the recipe holds nothing out.
    val_split: Option<f64>,
    /// Epochs of the longest training.
    epochs: u64,
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
    /// A trial begins or goes on.
    Trial {
        /// Its number.
        trial: usize,
        /// Epochs that it is to be trained in all.
        epochs: u64,
        /// What it tries.
        tried: &'a T,
    },
    /// Something happened in the training of the trial.
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
    /// Seconds of training in all trials together.
    pub seconds: f64,
    /// The description of the best network, which `train --model` takes, or the best recipe, which `train --recipe` takes.
    pub description: PathBuf,
    /// Its checkpoint.
    pub weights: PathBuf,
    /// The importance of every dimension of the space (see [`importance`]), if it is known.
    pub importance: Option<Vec<f64>>,
    /// Whether a signal ended the search.
    pub interrupted: bool,
}

/// What a process does next.
enum Work<T> {
    /// Trains a trial, which it has claimed.
    Train(Claim<T>),
    /// Looks again.
    Again,
    /// Nothing is left.
    Done,
}

/// A trial that is this process's.
struct Claim<T> {
    trial: usize,
    epochs: u64,
    tried: T,
    /// Seconds of training in all trials together.
    spent: f64,
    /// The description of the trial, with its lock.
    description: PathBuf,
    _lock: File,
}

impl<'a> Search<Networks<'a>> {
    /// A search of `space` within `limits`, whose trials are trained by `recipe`. Every trial has the recipe's seed, which is also
    /// the search's. The test images are not read: if the data have no validation images, and the recipe holds none out, a tenth
    /// of the training images is.
    ///
    /// # Errors
    /// If the data cannot be read, or the recipe names a network or weights, holds no images out, or has no number of epochs
    /// although trials are halved.
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
        let trials = Networks { members: Bounded::new(space, limits, latency), recipe, screen: 1 };
        Self::of(trials, val_split, method, length)
    }

    /// With the best of so many proposals in place of each, by a score that takes no training ([`naswot`](crate::naswot)).
    pub fn with_screen(mut self, screen: usize) -> Self {
        self.trials.screen = screen.max(1);
        self
    }
}

impl Search<Recipes> {
    /// A search of settings. Every trial has the recipe's seed, which is also the search's. Images are held out as in
    /// [`Search::new`].
    ///
    /// # Errors
    /// If the data cannot be read, or the recipe holds no images out, or has no number of epochs although trials are halved.
    pub fn of_recipes(recipes: Recipes, method: Method, length: Length) -> Result<Self, SearchError> {
        let (val_split, _) = held_out(recipes.recipe())?;
        Self::of(recipes, val_split, method, length)
    }
}

impl<T: Trials> Search<T> {
    fn of(trials: T, val_split: Option<f64>, method: Method, length: Length) -> Result<Self, SearchError> {
        let Recipe { epochs, max_steps, time_budget, seed, .. } = trials.recipe();
        if method.halves() && (epochs.is_none() || max_steps.is_some() || time_budget.is_some()) {
            let expected = format!("alone, as {method} gives its trials a part of the epochs");
            return Err(SearchError::Field { field: "epochs", expected, got: "none, or another length".into() });
        }
        let (seed, epochs) = (*seed, epochs.unwrap_or(1));
        Ok(Self { trials, method, seed, val_split, epochs, length })
    }

    /// Searches in `folder`, or goes on with the search that is there, until its length is reached or `stop` is set. Other
    /// processes may do the same in the same folder.
    ///
    /// # Errors
    /// If the folder holds another search, no network is within the limits, a trial cannot be trained, a file cannot be read or
    /// written, or no trial has a result.
    pub fn run(
        &self,
        folder: &Path,
        options: &Options,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(&Event<'_, T::Tried>),
    ) -> Result<Outcome<T::Tried>, SearchError> {
        for folder in [folder.join(DESCRIPTIONS), folder.join("trials")] {
            std::fs::create_dir_all(&folder).map_err(SearchError::io(&folder))?;
        }
        // Runs keep the path of their network.
        let folder = &folder.canonicalize().map_err(SearchError::io(folder))?;
        let journal = Journal::new(&folder.join("journal.jsonl"));
        journal.begin(&self.settings())?;
        loop {
            let claim = match journal.update(|record| self.next(record, folder, options))? {
                Work::Train(claim) => claim,
                Work::Again => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Work::Done => break,
            };
            let is_over = !self.train(&claim, folder, &journal, options, stop, on_event)?;
            if is_over || stop.load(Ordering::Relaxed) {
                break;
            }
        }
        self.outcome(&journal.read()?, folder, stop.load(Ordering::Relaxed))
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
            recipe: recipe.to_toml(),
        };
        self.trials.settings(kept)
    }

    /// Chooses the next work: a trial that is nobody's, else more epochs for one, else a new one.
    fn next(
        &self,
        record: &Record,
        folder: &Path,
        options: &Options,
    ) -> Result<(Vec<Entry>, Work<T::Tried>), SearchError> {
        let tried = self.tried(record, folder)?;
        let spent: f64 = record.seconds.iter().sum();
        if self.length.budget.is_some_and(|budget| spent >= budget.as_secs_f64()) {
            return Ok((Vec::new(), Work::Done));
        }
        for (number, trial) in record.history.trials().iter().enumerate().filter(|(_, trial)| trial.is_running()) {
            if let Some(claim) = claim(folder, number, trial.budget, tried[number].clone(), spent)? {
                return Ok((Vec::new(), Work::Train(claim)));
            }
        }
        let number = record.history.trials().len();
        match self.method.halving(self.epochs).next(&record.history) {
            Next::Promote { trial, budget } => Ok((vec![Entry::Promoted { trial, epochs: budget }], Work::Again)),
            Next::New { .. } if self.length.trials.is_some_and(|trials| number >= trials) => {
                Ok((Vec::new(), Work::Done))
            }
            Next::New { budget } => {
                let mut random = Stream::new(self.seed, &[number as u64]);
                let strategy = self.method.strategy(self.length.trials);
                let Some(candidate) = self.trials.propose(&*strategy, &record.history, &mut random, options)? else {
                    return match number {
                        0 => Err(SearchError::Exhausted { tried: 0 }),
                        _ => Ok((Vec::new(), Work::Done)),
                    };
                };
                let (entry, description) = self.trials.describe(number, &candidate, budget)?;
                let path = description_file(folder, number);
                atomic_write(&path, |file| file.write_all(description.as_bytes()))?;
                let tried = self.trials.tried(&entry).expect("a proposal says what is tried");
                let work = claim(folder, number, budget, tried, spent)?.map_or(Work::Again, Work::Train);
                Ok((vec![entry], work))
            }
        }
    }

    /// What the trials try, as it was proposed.
    fn tried(&self, record: &Record, folder: &Path) -> Result<Vec<T::Tried>, SearchError> {
        let sizes = self.trials.sizes();
        let is_candidate = |entry: &Entry| match entry {
            Entry::Proposed { candidate, .. } => {
                candidate.len() == sizes.len() && candidate.iter().zip(sizes).all(|(choice, size)| choice < size)
            }
            _ => false,
        };
        let tried = |(number, entry): (usize, &Entry)| {
            let tried = is_candidate(entry).then(|| self.trials.tried(entry)).flatten();
            tried.ok_or_else(|| SearchError::Content {
                path: folder.join("journal.jsonl"),
                what: format!("trial {number}"),
                expected: "a candidate of the space".into(),
                got: "another one".into(),
            })
        };
        record.proposals.iter().enumerate().map(tried).collect()
    }

    /// Trains a trial, and records its result. False if it was interrupted before, by `stop` or the end of the budget.
    fn train(
        &self,
        claim: &Claim<T::Tried>,
        folder: &Path,
        journal: &Journal,
        options: &Options,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(&Event<'_, T::Tried>),
    ) -> Result<bool, SearchError> {
        let &Claim { trial, epochs, ref tried, spent, ref description, .. } = claim;
        on_event(&Event::Trial { trial, epochs, tried });
        let text = residual_files::read_text(description, MAX_DESCRIPTION)?;
        let mut recipe = self.trials.recipe_of(&text, description)?;
        recipe.recipe.experiment = Some(name(trial));
        recipe.recipe.val_split = self.val_split;
        let run = TrialRun {
            recipe,
            name: name(trial),
            trials: folder.join("trials"),
            // A trial is paused at its budget, unless it is trained to the end.
            pause_at: (epochs < self.epochs).then_some(epochs),
            seconds: self.length.budget.map(|budget| (budget.as_secs_f64() - spent).max(0.0)),
        };
        let ended = run.train(options, stop, &mut |event| on_event(&Event::Training(event)));
        let entry = match ended {
            Ok(End::Scored { top1, seconds }) => {
                on_event(&Event::Scored { trial, epochs, top1 });
                Entry::Scored { trial, epochs, top1, seconds }
            }
            Ok(End::Interrupted { seconds }) => Entry::Paused { trial, seconds },
            Err(error @ (TrainError::Diverged { .. } | TrainError::Engine(_))) => {
                let reason = residual_files::one_line(&error);
                on_event(&Event::Failed { trial, reason: &reason });
                Entry::Failed { trial, reason }
            }
            Err(source) => return Err(SearchError::Trial { trial, source: Box::new(source) }),
        };
        let is_paused = matches!(entry, Entry::Paused { .. });
        journal.update(|_| Ok((vec![entry], ())))?;
        Ok(!is_paused)
    }

    /// The result of the search, with the best trial's files written.
    fn outcome(&self, record: &Record, folder: &Path, interrupted: bool) -> Result<Outcome<T::Tried>, SearchError> {
        let tried = self.tried(record, folder)?;
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
        let run = crate::trial::find(&folder.join("trials"), &name(best.trial))
            .map_err(|source| SearchError::Trial { trial: best.trial, source: Box::new(source) })?
            .ok_or_else(|| {
                SearchError::io(&folder.join("trials").join(name(best.trial)))(ErrorKind::NotFound.into())
            })?;
        let (description, weights) = (folder.join("best.toml"), folder.join("best.safetensors"));
        let text = residual_files::read_text(&description_file(folder, best.trial), MAX_DESCRIPTION)?;
        let text = self.trials.best(text)?;
        atomic_write(&description, |file| file.write_all(text.as_bytes()))?;
        save(&weights, &load(&run.best())?.model, None)?;
        Ok(Outcome {
            scored,
            front,
            trials: tried.len(),
            failed: record.failures.len(),
            seconds: record.seconds.iter().sum(),
            best,
            description,
            weights,
            importance: importance(&self.trials, &record.history),
            interrupted,
        })
    }

    /// The trials that no other one beats in both cost and accuracy, by rising cost.
    fn front(&self, mut found: Vec<Found<T::Tried>>) -> Vec<Found<T::Tried>> {
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

fn description_file(folder: &Path, trial: usize) -> PathBuf {
    folder.join(DESCRIPTIONS).join(format!("{}.toml", name(trial)))
}

/// Claims a trial for this process; `None` if it is another one's.
fn claim<T>(folder: &Path, trial: usize, epochs: u64, tried: T, spent: f64) -> Result<Option<Claim<T>>, SearchError> {
    let description = description_file(folder, trial);
    let file = File::open(&description).map_err(SearchError::io(&description))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(None),
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(SearchError::io(&description)(error)),
        Ok(()) => {}
    }
    Ok(Some(Claim { trial, epochs, tried, spent, description, _lock: file }))
}
