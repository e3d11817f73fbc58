//! A search: trials are proposed, trained as ordinary runs and recorded in a journal, by one or several processes.
//!
//! The folder of a search holds `journal.jsonl`, the description of every trial's network in `networks/`, the trials' run
//! folders in `trials/`, and at the end the best network: `best.toml` and `best.safetensors`. A process claims a trial by the
//! lock of its description, which ends with the process: a trial whose process was killed is free again, and goes on from its
//! last checkpoint.

use crate::journal::{Entry, Journal, Record, Settings};
use crate::limits::Bounded;
use crate::trial::{End, TrialRun};
use crate::{Candidate, Cost, Latency, Limits, Method, NetworkSpace, Next, Screened, SearchError, Strategy, naswot};
use residual_data::{DataError, Source, Split};
use residual_engine::Options;
use residual_files::atomic_write;
use residual_tensor::Stream;
use residual_train::{Event as TrainEvent, Recipe, Resolved, TrainError};
use residual_weights::{load, save};
use residual_zoo::Config;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The share of the training images that is held out where the data have no validation images.
const HELD_OUT: f64 = 0.1;

/// Pause before the journal is read again, when another process has just changed it.
const PAUSE: Duration = Duration::from_millis(50);

/// What is searched for, and how.
pub struct Search<'a> {
    space: Bounded<'a>,
    method: Method,
    recipe: Resolved,
    seed: u64,
    /// The number of proposals of which the one with the best score is tried.
    screen: usize,
    /// Epochs of the longest training.
    epochs: u64,
    trials: Option<usize>,
    budget: Option<f64>,
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
pub enum Event<'a> {
    /// A trial begins or goes on.
    Trial {
        /// Its number.
        trial: usize,
        /// Epochs that it is to be trained in all.
        epochs: u64,
        /// Its network.
        cost: &'a Cost,
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
pub struct Found {
    /// The trial's number.
    pub trial: usize,
    /// Epochs that it was trained.
    pub epochs: u64,
    /// Top-1 on held-out images in percent.
    pub top1: f64,
    /// Its network.
    pub cost: Cost,
}

/// The end of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The best trial: of those that were trained the longest, the most accurate, and the cheapest of several.
    pub best: Found,
    /// The trials that were trained the longest, in the order of their proposal.
    pub finished: Vec<Found>,
    /// Those of them that no other one beats in both cost and accuracy, by rising cost: the
    /// latency if it has a limit, else the multiply-accumulates. The last one is the best.
    pub front: Vec<Found>,
    /// The number of trials, the failed ones included.
    pub trials: usize,
    /// The number of trials that failed.
    pub failed: usize,
    /// Seconds of training in all trials together.
    pub seconds: f64,
    /// The description of the best network, which `train --model` takes.
    pub network: PathBuf,
    /// Its checkpoint.
    pub weights: PathBuf,
    /// Whether a signal ended the search.
    pub interrupted: bool,
}

/// What a process does next.
enum Work {
    /// Trains a trial, which it has claimed.
    Train(Claim),
    /// Looks again.
    Again,
    /// Nothing is left.
    Done,
}

/// A trial that is this process's.
struct Claim {
    trial: usize,
    epochs: u64,
    cost: Cost,
    /// Seconds of training in all trials together.
    spent: f64,
    /// The description of the network, with its lock.
    network: PathBuf,
    _lock: File,
}

impl<'a> Search<'a> {
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
        mut recipe: Resolved,
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
        let Recipe { data, data_dir, val_split, .. } = &mut recipe.recipe;
        let data_error = |error: DataError| SearchError::Recipe(Box::new(error.into()));
        let source = Source::open(data, data_dir.as_deref()).map_err(data_error)?;
        if !source.splits().contains(&Split::Val) && *val_split.get_or_insert(HELD_OUT) == 0.0 {
            let expected = "a fraction above 0, as the data have no validation images".into();
            return Err(SearchError::Field { field: "val_split", expected, got: "0".into() });
        }
        let Recipe { val_split, seed, num_classes, in_chans, .. } = &recipe.recipe;
        let (images, _) = source.training(val_split.map(|share| share as f32), *seed).map_err(data_error)?;
        let channels = in_chans.unwrap_or(images.format().channels);
        let space = space.for_images(channels, num_classes.unwrap_or(images.class_names().len()));
        let Recipe { epochs, max_steps, time_budget, .. } = &recipe.recipe;
        if method.halves() && (epochs.is_none() || max_steps.is_some() || time_budget.is_some()) {
            let expected = format!("alone, as {method} gives its trials a part of the epochs");
            return Err(SearchError::Field { field: "epochs", expected, got: "none, or another length".into() });
        }
        let (seed, epochs) = (recipe.recipe.seed, epochs.unwrap_or(1));
        let (trials, budget) = (length.trials, length.budget.map(|budget| budget.as_secs_f64()));
        Ok(Self {
            space: Bounded::new(space, limits, latency),
            method,
            recipe,
            seed,
            screen: 1,
            epochs,
            trials,
            budget,
        })
    }

    /// With the best of so many proposals in place of each, by a score that takes no training ([`naswot`]).
    pub fn with_screen(self, screen: usize) -> Self {
        Self { screen: screen.max(1), ..self }
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
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<Outcome, SearchError> {
        for folder in [folder.join("networks"), folder.join("trials")] {
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

    /// The space, with networks for the images of the recipe.
    pub fn space(&self) -> &NetworkSpace {
        self.space.space()
    }

    fn settings(&self) -> Settings {
        let Limits { macs, parameters, latency } = *self.space.limits();
        Settings {
            space: self.space.space().text().to_owned(),
            strategy: self.method.name().into(),
            seed: self.seed,
            screen: self.screen,
            max_macs: macs,
            max_params: parameters,
            target_latency: latency.map(|limit| limit.to_string()),
            recipe: self.recipe.recipe.to_toml(),
        }
    }

    /// Chooses the next work: a trial that is nobody's, else more epochs for one, else a new one.
    fn next(&self, record: &Record, folder: &Path, options: &Options) -> Result<(Vec<Entry>, Work), SearchError> {
        let costs = self.costs(record, folder)?;
        for (cost, trial) in costs.iter().zip(record.history.trials()) {
            if let Some(latency) = cost.latency {
                self.space.remember(&trial.identity, latency);
            }
        }
        let spent: f64 = record.seconds.iter().sum();
        if self.budget.is_some_and(|budget| spent >= budget) {
            return Ok((Vec::new(), Work::Done));
        }
        for (number, trial) in record.history.trials().iter().enumerate().filter(|(_, trial)| trial.is_running()) {
            if let Some(claim) = claim(folder, number, trial.budget, costs[number].clone(), spent)? {
                return Ok((Vec::new(), Work::Train(claim)));
            }
        }
        let number = record.history.trials().len();
        match self.method.halving(self.epochs).next(&record.history) {
            Next::Promote { trial, budget } => Ok((vec![Entry::Promoted { trial, epochs: budget }], Work::Again)),
            Next::New { .. } if self.trials.is_some_and(|trials| number >= trials) => Ok((Vec::new(), Work::Done)),
            Next::New { budget } => {
                let mut random = Stream::new(self.seed, &[number as u64]);
                let score = |candidate: &Candidate| naswot(&self.space().member(candidate)?.graph, options);
                let strategy = self.method.strategy(self.trials);
                let screened = Screened { strategy: &*strategy, count: self.screen, score: &score };
                let strategy = if self.screen > 1 { &screened as &dyn Strategy } else { &*strategy };
                let Some(candidate) = strategy.propose(&self.space, &record.history, &mut random)? else {
                    return match number {
                        0 => Err(SearchError::Exhausted { tried: 0 }),
                        _ => Ok((Vec::new(), Work::Done)),
                    };
                };
                self.propose(number, &candidate, budget, spent, folder)
            }
        }
    }

    /// Writes the description of a new trial's network, and claims the trial.
    fn propose(
        &self,
        trial: usize,
        candidate: &Candidate,
        epochs: u64,
        spent: f64,
        folder: &Path,
    ) -> Result<(Vec<Entry>, Work), SearchError> {
        let cost = self.space.cost(candidate)?.expect("strategies propose members");
        let config = Config { name: name(trial), ..self.space.space().member(candidate)?.config };
        let text = config.to_toml();
        atomic_write(&network_file(folder, trial), |file| file.write_all(text.as_bytes()))?;
        let entry = Entry::Proposed {
            trial,
            candidate: candidate.0.clone(),
            identity: cost.identity.clone(),
            epochs,
            parameters: cost.parameters,
            macs: cost.macs,
            latency_ms: cost.latency.map(|seconds| 1e3 * seconds),
        };
        let work = claim(folder, trial, epochs, cost, spent)?.map_or(Work::Again, Work::Train);
        Ok((vec![entry], work))
    }

    /// The costs of the trials' networks, as they were proposed.
    fn costs(&self, record: &Record, folder: &Path) -> Result<Vec<Cost>, SearchError> {
        let sizes = self.space.space().sizes();
        let cost = |(number, entry): (usize, &Entry)| match entry {
            Entry::Proposed { candidate, identity, parameters, macs, latency_ms, .. }
                if candidate.len() == sizes.len()
                    && candidate.iter().zip(sizes).all(|(choice, size)| choice < size) =>
            {
                let latency = latency_ms.map(|milliseconds| 1e-3 * milliseconds);
                Ok(Cost { identity: identity.clone(), parameters: *parameters, macs: *macs, latency })
            }
            _ => Err(SearchError::Content {
                path: folder.join("journal.jsonl"),
                what: format!("trial {number}"),
                expected: "a candidate of the space".into(),
                got: "another one".into(),
            }),
        };
        record.proposals.iter().enumerate().map(cost).collect()
    }

    /// Trains a trial, and records its result. False if it was interrupted before, by `stop` or the end of the budget.
    fn train(
        &self,
        claim: &Claim,
        folder: &Path,
        journal: &Journal,
        options: &Options,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<bool, SearchError> {
        let &Claim { trial, epochs, ref cost, spent, ref network, .. } = claim;
        on_event(&Event::Trial { trial, epochs, cost });
        let run = TrialRun {
            recipe: self.recipe_of(trial, network),
            name: name(trial),
            trials: folder.join("trials"),
            // A trial is paused at its budget, unless it is trained to the end.
            pause_at: (epochs < self.epochs).then_some(epochs),
            seconds: self.budget.map(|budget| (budget - spent).max(0.0)),
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

    fn recipe_of(&self, trial: usize, network: &Path) -> Resolved {
        let mut resolved = self.recipe.clone();
        resolved.recipe.model = network.to_string_lossy().into_owned();
        resolved.recipe.experiment = Some(name(trial));
        resolved
    }

    /// The result of the search, with the best network's files written.
    fn outcome(&self, record: &Record, folder: &Path, interrupted: bool) -> Result<Outcome, SearchError> {
        let costs = self.costs(record, folder)?;
        let found = |trial: usize| {
            let &(epochs, top1) = record.history.trials()[trial].scores.last()?;
            Some(Found { trial, epochs, top1, cost: costs[trial].clone() })
        };
        let mut finished: Vec<Found> = (0..costs.len()).filter_map(found).collect();
        let most = finished.iter().map(|found| found.epochs).max();
        finished.retain(|found| Some(found.epochs) == most);
        let front = front(finished.clone());
        let Some(best) = front.last().cloned() else {
            return Err(SearchError::NoResult { failure: record.failures.first().map(|(_, reason)| reason.clone()) });
        };
        let run = crate::trial::find(&folder.join("trials"), &name(best.trial))
            .map_err(|source| SearchError::Trial { trial: best.trial, source: Box::new(source) })?
            .ok_or_else(|| {
                SearchError::io(&folder.join("trials").join(name(best.trial)))(ErrorKind::NotFound.into())
            })?;
        let (network, weights) = (folder.join("best.toml"), folder.join("best.safetensors"));
        let description = residual_files::read_text(&network_file(folder, best.trial), MAX_DESCRIPTION)?;
        atomic_write(&network, |file| file.write_all(description.as_bytes()))?;
        save(&weights, &load(&run.best())?.model, None)?;
        Ok(Outcome {
            finished,
            front,
            trials: costs.len(),
            failed: record.failures.len(),
            seconds: record.seconds.iter().sum(),
            best,
            network,
            weights,
            interrupted,
        })
    }
}

/// Maximum length of a description that a search wrote.
const MAX_DESCRIPTION: u64 = 1 << 20;

/// The name of a trial.
fn name(trial: usize) -> String {
    format!("trial-{trial}")
}

fn network_file(folder: &Path, trial: usize) -> PathBuf {
    folder.join("networks").join(format!("{}.toml", name(trial)))
}

/// Claims a trial for this process; `None` if it is another one's.
fn claim(folder: &Path, trial: usize, epochs: u64, cost: Cost, spent: f64) -> Result<Option<Claim>, SearchError> {
    let network = network_file(folder, trial);
    let file = File::open(&network).map_err(SearchError::io(&network))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(None),
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(SearchError::io(&network)(error)),
        Ok(()) => {}
    }
    Ok(Some(Claim { trial, epochs, cost, spent, network, _lock: file }))
}

/// The trials that no other one beats in both cost and accuracy, by rising cost.
fn front(mut found: Vec<Found>) -> Vec<Found> {
    let price = |found: &Found| found.cost.latency.unwrap_or(found.cost.macs as f64);
    found.sort_by(|a, b| price(a).total_cmp(&price(b)).then(b.top1.total_cmp(&a.top1)));
    let mut best = f64::NEG_INFINITY;
    found.retain(|found| {
        let is_better = found.top1 > best;
        best = best.max(found.top1);
        is_better
    });
    found
}
