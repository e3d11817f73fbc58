//! One-shot search: the members of trained supernets are judged without training of their own, and the best of them are
//! fine-tuned.
//!
//! The supernets' runs are in `supernets/`, the weights from which members are fine-tuned in `members/`.

use crate::journal::{Entry, Record};
use crate::judge::Judge;
use crate::sandwich::companion;
use crate::search::{Claim, Session, Work, claim, description_file};
use crate::setting_space::line;
use crate::supernet::{Part, Supernets};
use crate::trial::{End, TrialRun};
use crate::trials::name;
use crate::{Candidate, Event, Found, NetworkSpace, Search, SearchError, Supernet, Trials};
use residual_files::atomic_write;
use residual_train::{Event as TrainEvent, Job, Layer, Recipe, Resolved, SETTINGS, TrainError};
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

/// The supernets of a one-shot search, and how members are fine-tuned.
#[derive(Clone, Debug)]
pub struct OneShot {
    supernets: Supernets,
    finetune_epochs: u64,
    /// The recipe of fine-tuning, without the paths of a member.
    fine_tuning: Resolved,
}

impl OneShot {
    /// One-shot search of `space`, with supernets that are trained by `recipe`.
    ///
    /// # Errors
    /// As [`Supernets::new`], or if members cannot be fine-tuned by such a recipe.
    pub(crate) fn new(space: &NetworkSpace, recipe: &Resolved) -> Result<Self, SearchError> {
        let finetune_epochs = (recipe.recipe.epochs.unwrap_or(1) / FINE_TUNING_SHARE).max(1);
        let fine_tuning = fine_tuning(recipe, finetune_epochs)?;
        Ok(Self { supernets: Supernets::new(space)?, finetune_epochs, fine_tuning })
    }

    /// With fine-tuning of so many epochs, given the recipe of the supernets; 0 for none.
    ///
    /// # Errors
    /// If members cannot be fine-tuned by such a recipe.
    pub(crate) fn with_finetune_epochs(self, finetune_epochs: u64, recipe: &Resolved) -> Result<Self, SearchError> {
        let fine_tuning = fine_tuning(recipe, finetune_epochs.max(1))?;
        Ok(Self { finetune_epochs, fine_tuning, ..self })
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
}

/// The recipe that fine-tunes members of supernets, which `recipe` trains: the settings that were given are resolved anew, with given
/// weights, lower learning rates, no warm-up, and everything that the recipe counts in epochs or steps in the share that `epochs`
/// are of its own. Settings without effect in it are left out.
fn fine_tuning(supernets: &Resolved, epochs: u64) -> Result<Resolved, SearchError> {
    let share = epochs as f64 / supernets.recipe.epochs.unwrap_or(1) as f64;
    let shorter = |count: u64| if count == 0 { 0 } else { ((count as f64 * share).round() as u64).max(1) };
    let all_shorter = |counts: &Vec<u64>| {
        let mut counts: Vec<u64> = counts.iter().map(|&count| shorter(count)).collect();
        counts.dedup();
        counts
    };
    let of = &supernets.recipe;
    let recipe = Recipe {
        epochs: Some(epochs),
        // Any weights: a member's are not known yet.
        weights: Some("member.safetensors".into()),
        lr: FINE_TUNING_LR * of.lr,
        lr_base: of.lr_base.map(|lr| FINE_TUNING_LR * lr),
        min_lr: of.min_lr.map(|lr| FINE_TUNING_LR * lr),
        warmup_epochs: None,
        warmup_steps: None,
        milestone_epochs: of.milestone_epochs.as_ref().map(all_shorter),
        milestone_steps: of.milestone_steps.as_ref().map(all_shorter),
        decay_epochs: of.decay_epochs.map(|epochs| epochs * share),
        decay_steps: of.decay_steps.map(shorter),
        cooldown_epochs: of.cooldown_epochs * share,
        mixup_off_epoch: shorter(of.mixup_off_epoch),
        kd_warmup_epochs: shorter(of.kd_warmup_epochs),
        ..of.clone()
    };
    let is_given = |name| ["epochs", "weights", "lr"].contains(&name) || supernets.origins.get(name).is_some();
    let lines = SETTINGS.iter().filter(|setting| is_given(setting.name));
    let text: String = lines.filter_map(|of| Some(line(of.name, &recipe.value(of.name)?))).collect();
    let resolved = Layer::chosen("fine-tuning", &text).and_then(|layer| Recipe::resolve(&[layer]));
    resolved.map_err(|error| SearchError::Recipe(Box::new(error.into())))
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
            judged: None,
            companion: Some(&companion),
        };
        let mut on_training = |event: &TrainEvent| on_event(&Event::Training(event));
        let End::Scored { seconds, .. } = run.train(session.options, session.stop, &mut on_training).map_err(fail)?
        else {
            return Ok(false);
        };
        let entry = Entry::Supernet { supernet: number, seconds };
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

    /// The recipe that fine-tunes a member, which the recipe `member` trains from new weights; its initial weights are written.
    ///
    /// # Errors
    /// If a supernet's run cannot be read, or a file cannot be written.
    pub(crate) fn fine_tuning(
        &self,
        one_shot: &OneShot,
        claim: &Claim<T::Tried>,
        session: &Session<'_>,
        member: Resolved,
    ) -> Result<Resolved, SearchError> {
        let trial = claim.trial;
        let members = session.folder.join("members");
        std::fs::create_dir_all(&members).map_err(SearchError::io(&members))?;
        let weights = members.join(format!("{}.safetensors", name(trial)));
        if !weights.exists() {
            let part = one_shot.part(trial, &claim.candidate, session)?;
            let cut = |judge: &Judge| judge.member(part, name(trial), session.options);
            let cut = session.judge(one_shot).and_then(cut).map_err(SearchError::trial(trial))?;
            save(&weights, &cut, None)?;
        }
        let Resolved { recipe, origins } = one_shot.fine_tuning.clone();
        let Recipe { model, experiment, val_split, .. } = member.recipe;
        Ok(Resolved { recipe: Recipe { weights: Some(weights), model, experiment, val_split, ..recipe }, origins })
    }

    /// What follows when no other trial begins, and other processes train `others`: the best members are fine-tuned, once all are
    /// judged.
    pub(crate) fn after_trials(
        &self,
        record: &Record,
        tried: &[T::Tried],
        others: usize,
    ) -> (Vec<Entry>, Work<T::Tried>) {
        let epochs = self.trials.one_shot().map_or(0, OneShot::finetune_epochs);
        let trials = record.history.trials();
        if epochs == 0 || trials.iter().any(|trial| trial.budget == 0 && trial.is_running()) {
            return (Vec::new(), Work::after(record, others));
        }
        let judged = trials.iter().enumerate().filter_map(|(trial, of)| {
            let &(epochs, top1) = of.scores.first()?;
            Some(Found { trial, epochs, top1, tried: tried[trial].clone() })
        });
        let front = self.front(judged.collect());
        let mut best = front.iter().rev().take(FINE_TUNED);
        match best.find(|found| trials[found.trial].budget == 0) {
            Some(&Found { trial, .. }) => (vec![Entry::Promoted { trial, epochs }], Work::Again),
            None => (Vec::new(), Work::after(record, others)),
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
    claim(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recipe of fine-tuning for 10 epochs, of supernets that `text` trains for 40.
    fn fine_tuned(text: &str) -> Recipe {
        let layer = Layer::parse("base", &format!("epochs = 40\n{text}")).unwrap();
        fine_tuning(&Recipe::resolve(&[layer]).unwrap(), 10).unwrap().recipe
    }

    /// By hand: a tenth of the learning rates, and a quarter of what is counted in epochs or steps.
    #[test]
    fn the_recipe_of_fine_tuning_is_that_of_a_shorter_run_from_weights() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        let recipe = fine_tuned("sched = 'cosine'\nlr = 0.4\nmin_lr = 0.1\ncooldown_epochs = 4\nmomentum = 0.8");
        assert!(close(recipe.lr, 0.04) && close(recipe.min_lr.unwrap(), 0.01) && close(recipe.cooldown_epochs, 1.0));
        assert_eq!((recipe.epochs, recipe.momentum), (Some(10), 0.8));
        let recipe = fine_tuned("lr_base = 0.5\nlr_base_size = 128");
        assert!(close(recipe.lr_base.unwrap(), 0.05) && recipe.lr_base_size == 128);
        // What only a warm-up and new weights have is left out with these.
        let warmup = "warmup_epochs = 5\nwarmup_lr = 0.2\nwarmup_prefix = false\ninit = 'torch'";
        let recipe = fine_tuned(warmup);
        let usual = Recipe::default();
        assert_eq!((recipe.warmup_epochs, recipe.warmup_lr, recipe.warmup_prefix), (None, None, None));
        assert!(close(recipe.lr, FINE_TUNING_LR * usual.lr) && recipe.init == usual.init);
        let recipe = fine_tuned("sched = 'multistep'\nmilestone_epochs = [20, 21, 30]\nwarmup_steps = 9\nmixup = 0.2");
        assert_eq!((recipe.milestone_epochs, recipe.mixup), (Some(vec![5, 8]), 0.2));
        let recipe = fine_tuned("sched = 'multistep'\nmilestone_steps = [1, 100]\nmixup = 0.2\nmixup_off_epoch = 20");
        assert_eq!((recipe.milestone_steps, recipe.mixup_off_epoch), (Some(vec![1, 25]), 5));
        let recipe = fine_tuned("sched = 'step'\ndecay_epochs = 6");
        assert!(close(recipe.decay_epochs.unwrap(), 1.5));
        // Defaults are no given settings, so that they still follow from others.
        let layer = Layer::parse("base", "epochs = 4\naugment = 'resized-crop'\ntrain_crop_mode = 'rkrc'").unwrap();
        let resolved = fine_tuning(&Recipe::resolve(&[layer]).unwrap(), 1).unwrap();
        assert!(resolved.origins.get("train_crop_mode").is_some() && resolved.origins.get("scale").is_none());
    }

    #[test]
    fn a_recipe_that_cannot_fine_tune_is_refused() {
        let layer = Layer::parse("base", "epochs = 4\nsched = 'step'\ndecay_epochs = 900000").unwrap();
        let error = fine_tuning(&Recipe::resolve(&[layer]).unwrap(), 8).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("decay_epochs"), "{error}");
    }
}
