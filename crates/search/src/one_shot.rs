//! One-shot search: the members of trained supernets are judged without training of their own, and the best of them are
//! fine-tuned.
//!
//! The supernets' runs are in `supernets/`, the weights from which members are fine-tuned in `members/`.

use crate::journal::{Entry, Record};
use crate::judge::Judge;
use crate::sandwich::companion;
use crate::search::{Claim, Session, Work, description_file, try_lock};
use crate::supernet::{Part, Supernets};
use crate::trial::{End, TrialRun};
use crate::trials::name;
use crate::{Candidate, Event, Found, NetworkSpace, Search, SearchError, Supernet, Trials};
use residual_files::atomic_write;
use residual_train::{Event as TrainEvent, Job, Recipe, Resolved, TrainError};
use residual_weights::save;
use residual_zoo::Config;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Members that are fine-tuned.
const FINE_TUNED: usize = 3;
/// The learning rate of fine-tuning, in that of the supernet.
const FINE_TUNING_LR: f64 = 0.1;
/// The share of the supernet's epochs for which members are fine-tuned if nothing else is said.
const FINE_TUNING_SHARE: u64 = 4;
/// Pause before the journal is read again, while other processes train the supernets.
const WAIT: Duration = Duration::from_millis(200);

/// The supernets of a one-shot search, and how long members are fine-tuned.
#[derive(Clone, Debug)]
pub struct OneShot {
    supernets: Supernets,
    finetune_epochs: u64,
}

impl OneShot {
    /// One-shot search of `space`, with supernets that are trained for `epochs`.
    ///
    /// # Errors
    /// As [`Supernets::new`].
    pub(crate) fn new(space: &NetworkSpace, epochs: u64) -> Result<Self, SearchError> {
        let finetune_epochs = (epochs / FINE_TUNING_SHARE).max(1);
        Ok(Self { supernets: Supernets::new(space)?, finetune_epochs })
    }

    /// With fine-tuning of so many epochs; 0 for none.
    pub(crate) fn with_finetune_epochs(self, finetune_epochs: u64) -> Self {
        Self { finetune_epochs, ..self }
    }

    /// The supernets.
    pub fn supernets(&self) -> &Supernets {
        &self.supernets
    }

    /// Epochs that the best members are fine-tuned; 0 for none.
    pub fn finetune_epochs(&self) -> u64 {
        self.finetune_epochs
    }

    /// The part that the network of a trial has of a supernet.
    ///
    /// # Errors
    /// If the journal says another candidate, which has none.
    pub(crate) fn part(&self, trial: usize, candidate: &Candidate, session: &Session<'_>) -> Result<Part, SearchError> {
        self.supernets.part(candidate).ok_or_else(|| session.other_candidate(trial))
    }

    /// Turns the recipe of a member into that of its fine-tuning from `weights`.
    fn fine_tune(&self, recipe: &mut Recipe, weights: PathBuf) {
        recipe.weights = Some(weights);
        recipe.epochs = Some(self.finetune_epochs);
        recipe.lr *= FINE_TUNING_LR;
        recipe.lr_base = recipe.lr_base.map(|lr| FINE_TUNING_LR * lr);
        (recipe.warmup_epochs, recipe.warmup_steps) = (None, None);
    }
}

/// The folder of the supernets' runs.
pub(crate) fn runs(folder: &Path) -> PathBuf {
    folder.join("supernets")
}

/// The name of a supernet's run, without its number.
pub(crate) fn supernet_name(supernet: usize) -> String {
    format!("supernet-{supernet}")
}

impl<T: Trials> Search<T> {
    /// Trains the supernets that no process has trained yet, and waits for those that others train. False if a signal ended that
    /// before.
    ///
    /// # Errors
    /// If one cannot be trained, or a file cannot be read or written.
    pub(crate) fn train_supernets(
        &self,
        one_shot: &OneShot,
        session: &Session<'_>,
        on_event: &mut dyn FnMut(&Event<'_, T::Tried>),
    ) -> Result<bool, SearchError> {
        let runs = runs(&session.folder);
        std::fs::create_dir_all(&runs).map_err(SearchError::io(&runs))?;
        let supernets = one_shot.supernets.all();
        let mut is_waiting = false;
        loop {
            let (left, claimed) = session.journal.update(|record| {
                let left: Vec<usize> = (0..supernets.len()).filter(|number| !record.has_supernet(*number)).collect();
                let mut claimed = None;
                for &number in &left {
                    if let Some(lock) = claim_supernet(&supernets[number], number, &session.folder)? {
                        claimed = Some((number, lock));
                        break;
                    }
                }
                Ok((Vec::new(), (left.len(), claimed)))
            })?;
            match claimed {
                _ if left == 0 => return Ok(true),
                _ if session.stop.load(Ordering::Relaxed) => return Ok(false),
                None => {
                    if !std::mem::replace(&mut is_waiting, true) {
                        on_event(&Event::Waiting { supernets: left });
                    }
                    std::thread::sleep(WAIT);
                }
                Some((number, _lock)) => {
                    if !self.train_supernet(one_shot, number, session, on_event)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Trains a supernet, which this process has claimed, from its last checkpoint if it has one. False if it was interrupted.
    fn train_supernet(
        &self,
        one_shot: &OneShot,
        number: usize,
        session: &Session<'_>,
        on_event: &mut dyn FnMut(&Event<'_, T::Tried>),
    ) -> Result<bool, SearchError> {
        let fail = |source| SearchError::Supernet { supernet: number, source: Box::new(source) };
        let supernet = &one_shot.supernets.all()[number];
        on_event(&Event::Supernet { supernet: number, epochs: self.epochs, network: supernet.network() });
        let companion = |job: &Job| companion(one_shot.supernets.space(), supernet, job, session.options);
        let run = TrialRun {
            recipe: self
                .recipe_of(&description_file(&session.folder, &supernet_name(number)), supernet_name(number))?,
            name: supernet_name(number),
            trials: runs(&session.folder),
            pause_at: None,
            seconds: None,
            companion: Some(&companion),
        };
        let mut on_training = |event: &TrainEvent| on_event(&Event::Training(event));
        let End::Scored { top1, seconds } = run.train(session.options, session.stop, &mut on_training).map_err(fail)?
        else {
            return Ok(false);
        };
        let entry = Entry::Supernet { supernet: number, epochs: self.epochs, top1, seconds };
        session.journal.update(|_| Ok((vec![entry], ())))?;
        Ok(true)
    }

    /// Judges a member, which is `part` of a supernet, with its slice of the weights.
    ///
    /// # Errors
    /// If a supernet's run or an image cannot be read, or the network cannot be run.
    pub(crate) fn judge(
        &self,
        one_shot: &OneShot,
        trial: usize,
        part: Part,
        session: &Session<'_>,
    ) -> Result<End, TrainError> {
        let (began, Session { options, stop, .. }) = (Instant::now(), session);
        let judge = session.judge(one_shot)?;
        let model = judge.member(part, name(trial), options)?;
        let top1 = judge.top1(&model, options, stop)?;
        let seconds = began.elapsed().as_secs_f64();
        Ok(top1.map_or(End::Interrupted { seconds }, |top1| End::Scored { top1, seconds }))
    }

    /// The recipe that fine-tunes a member, whose initial weights are written.
    ///
    /// # Errors
    /// If a supernet's run cannot be read, or a file cannot be written.
    pub(crate) fn fine_tuning(
        &self,
        one_shot: &OneShot,
        claim: &Claim<T::Tried>,
        session: &Session<'_>,
        mut recipe: Resolved,
    ) -> Result<Resolved, SearchError> {
        let trial = claim.trial;
        let members = session.folder.join("members");
        std::fs::create_dir_all(&members).map_err(SearchError::io(&members))?;
        let weights = members.join(format!("{}.safetensors", name(trial)));
        if !weights.exists() {
            let part = one_shot.part(trial, &claim.candidate, session)?;
            let member = |judge: &Judge| judge.member(part, name(trial), session.options);
            let member = session.judge(one_shot).and_then(member).map_err(SearchError::trial(trial))?;
            save(&weights, &member, None)?;
        }
        one_shot.fine_tune(&mut recipe.recipe, weights);
        Ok(recipe)
    }

    /// What follows when no other trial begins: the best members are fine-tuned, once all are judged.
    pub(crate) fn after_trials(&self, record: &Record, tried: &[T::Tried]) -> (Vec<Entry>, Work<T::Tried>) {
        let epochs = self.trials.one_shot().map_or(0, OneShot::finetune_epochs);
        let trials = record.history.trials();
        if epochs == 0 {
            return (Vec::new(), Work::Done);
        }
        if trials.iter().any(|trial| trial.budget == 0 && trial.is_running()) {
            // Another process judges it.
            return (Vec::new(), Work::Again);
        }
        let judged = trials.iter().enumerate().filter_map(|(trial, of)| {
            let &(epochs, top1) = of.scores.first()?;
            Some(Found { trial, epochs, top1, tried: tried[trial].clone() })
        });
        let front = self.front(judged.collect());
        let mut best = front.iter().rev().take(FINE_TUNED);
        match best.find(|found| trials[found.trial].budget == 0) {
            Some(&Found { trial, .. }) => (vec![Entry::Promoted { trial, epochs }], Work::Again),
            None => (Vec::new(), Work::Done),
        }
    }
}

/// Claims the training of a supernet for this process, and describes it if nobody has; `None` if another process trains it.
fn claim_supernet(supernet: &Supernet, number: usize, folder: &Path) -> Result<Option<File>, SearchError> {
    let file = description_file(folder, &supernet_name(number));
    // A file that is there may be locked.
    if !file.exists() {
        let config = Config { name: supernet_name(number), ..supernet.network().config.clone() };
        atomic_write(&file, |file| file.write_all(config.to_toml().as_bytes()))?;
    }
    try_lock(&file)
}
