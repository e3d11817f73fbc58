//! Knowledge distillation: teachers run on the student's batches, and their outputs or feature maps are part of the student's
//! loss.

mod cache;
mod hints;
mod teacher;

pub(crate) use hints::Pair;
pub(crate) use teacher::{Teacher, Teachers};

use cache::Cache;
use hints::Hints;
use teacher::Session;

use crate::optimizer::Device;
use crate::prepare::Job;
use crate::recipe::{KdLoss, Recipe};
use crate::{RunFolder, TrainError};
use residual_data::Targets;
use residual_engine::{Engine, EngineError, Options};
use residual_kernels::loss::{Decoupled, add_softened, decoupled_distillation, kl_divergence};
use residual_kernels::optim::scale;
use residual_tensor::NamedTensors;

/// The teachers of a run at work, and the part of the loss that they add.
pub(crate) struct Distillation {
    rule: Rule,
    sessions: Vec<Session>,
    cache: Option<Cache>,
    hints: Option<Hints>,
    classes: usize,
    /// The mean of the teachers' softened probabilities for the last batch: images × classes.
    probabilities: Vec<f32>,
}

/// How a teacher's outputs enter the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rule {
    kind: KdLoss,
    /// Whether the teachers' probabilities are learnt, or feature maps alone.
    learns_probabilities: bool,
    temperature: f64,
    alpha: f64,
    beta: f64,
    /// Whether the divergence is multiplied by temperature², which keeps its gradient independent of the temperature.
    scale_t2: bool,
    /// Epochs in which the decoupled loss rises to its full weight.
    warmup_epochs: u64,
    /// The current epoch, from 0.
    epoch: u64,
}

impl Distillation {
    /// The distillation of `job` on images of `size`; `None` if it has no teacher.
    ///
    /// # Errors
    /// If a teacher cannot be read, does not fit the student, or cannot be run.
    pub(crate) fn new(job: &Job, options: &Options, size: [usize; 2]) -> Result<Option<Self>, TrainError> {
        let teachers = job.teachers()?;
        if teachers.is_empty() {
            return Ok(None);
        }
        let (_, batch) = job.train_plan();
        let hinted: Vec<&str> = job.hint_pairs()?.iter().map(|pair| &*pair.teacher).collect();
        let session = |teacher: &_| Session::new(teacher, batch, size, &hinted, options);
        let sessions = teachers.iter().map(session).collect::<Result<Vec<_>, EngineError>>()?;
        let classes = job.model.labels.len();
        let cache = if cache::fits(job) { Some(Cache::new(job.train.len(), classes)?) } else { None };
        let (rule, hints) = (Rule::of(&job.recipe), Hints::new(job, options, size)?);
        Ok(Some(Self { rule, sessions, cache, hints, classes, probabilities: Vec::new() }))
    }

    /// The bytes that [`new`](Self::new) allocates.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn required_memory(job: &Job, options: &Options, size: [usize; 2]) -> Result<usize, TrainError> {
        let (_, batch) = job.train_plan();
        let hinted: Vec<&str> = job.hint_pairs()?.iter().map(|pair| &*pair.teacher).collect();
        let mut bytes = Hints::required_memory(job, options, size)?;
        bytes += if cache::fits(job) { cache::bytes(job) } else { 0 };
        for teacher in job.teachers()? {
            bytes += Session::required_memory(teacher, batch, size, &hinted, options)?;
        }
        Ok(bytes)
    }

    /// Sets the current epoch, from 0.
    pub(crate) fn begin_epoch(&mut self, epoch: u64) {
        self.rule.epoch = epoch;
    }

    /// Runs the teachers on a batch of normalised images, whose dataset indices are `indices`, or takes their probabilities from
    /// the cache.
    ///
    /// # Errors
    /// If the batch does not fit the plan.
    pub(crate) fn observe(&mut self, images: &[f32], indices: &[usize]) -> Result<(), TrainError> {
        let Self { rule, sessions, cache, classes, probabilities, .. } = self;
        if !rule.learns_probabilities {
            return Ok(sessions.iter_mut().try_for_each(|session| session.forward(images))?);
        }
        if cache.as_ref().is_some_and(|cache| cache.read(indices, probabilities)) {
            return Ok(());
        }
        probabilities.clear();
        probabilities.resize(indices.len() * *classes, 0.0);
        let share = 1.0 / sessions.len() as f64;
        for session in sessions {
            add_softened(session.logits(images)?, *classes, rule.temperature, share, probabilities);
        }
        if let Some(cache) = cache {
            cache.write(indices, probabilities);
        }
        Ok(())
    }

    /// The loss of the observed batch without feature maps, given that of its labels, `loss`, whose gradient with respect to the
    /// logits `gradient` is; it becomes that of the result.
    ///
    /// # Panics
    /// If decoupled distillation is given other than hard targets.
    pub(crate) fn loss(
        &self,
        device: &Device,
        logits: &[f32],
        targets: Targets<'_>,
        loss: f64,
        gradient: &mut [f32],
    ) -> f64 {
        let Self { rule, classes, probabilities, .. } = self;
        let Rule { temperature, alpha, beta, .. } = *rule;
        if !rule.learns_probabilities {
            return loss;
        }
        match (rule.kind, targets) {
            (KdLoss::Kd | KdLoss::FitNet | KdLoss::At, _) => {
                scale(device.isa, &device.pool, gradient, (1.0 - alpha) as f32);
                let weight = alpha * if rule.scale_t2 { temperature * temperature } else { 1.0 };
                (1.0 - alpha) * loss
                    + kl_divergence(logits, probabilities, *classes, temperature, weight, Some(gradient))
            }
            (KdLoss::Dkd, Targets::Hard(labels)) => {
                let weight = rule.warmup();
                let rule = Decoupled { temperature, alpha: weight * alpha, beta: weight * beta };
                loss + decoupled_distillation(logits, probabilities, labels, *classes, &rule, Some(gradient))
            }
            (KdLoss::Dkd, _) => unreachable!("a job with decoupled distillation has one class for each image"),
        }
    }

    /// The feature maps' part of the loss, for the last batch of the student's engine; 0 if they have none.
    ///
    /// # Errors
    /// If the batch does not fit the plan.
    pub(crate) fn hint_loss(&mut self, student: &Engine) -> Result<f64, TrainError> {
        match (&mut self.hints, &self.sessions[..]) {
            (Some(hints), [teacher, ..]) => hints.loss(student, teacher.engine()),
            _ => Ok(0.0),
        }
    }

    /// Whether feature maps are part of the loss.
    pub(crate) fn has_hints(&self) -> bool {
        self.hints.is_some()
    }

    /// The backward pass of [`hint_loss`](Self::hint_loss), divided by `batches`, to the student's nodes.
    ///
    /// # Errors
    /// If there was no loss before.
    pub(crate) fn backward(&mut self, device: &Device, batches: usize) -> Result<(), TrainError> {
        self.hints.iter_mut().try_for_each(|hints| hints.backward(device, batches))
    }

    /// The gradients of the last backward pass at the student's nodes.
    pub(crate) fn seeds(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.hints.iter().flat_map(Hints::seeds)
    }

    /// Updates what is trained beside the student.
    pub(crate) fn update(&mut self, device: &Device, lr: f64) {
        self.hints.iter_mut().for_each(|hints| hints.update(device, lr));
    }

    /// What is trained beside the student, with the state of its optimiser.
    pub(crate) fn state(&self) -> NamedTensors {
        self.hints.as_ref().map(Hints::state).unwrap_or_default()
    }

    /// Loads what [`state`](Self::state) returned.
    ///
    /// # Errors
    /// If it is of other layers or of another optimiser.
    pub(crate) fn load(&mut self, state: &NamedTensors) -> Result<(), TrainError> {
        self.hints.iter_mut().try_for_each(|hints| hints.load(state))
    }
}

impl Rule {
    fn of(recipe: &Recipe) -> Self {
        Self {
            kind: recipe.kd_loss,
            learns_probabilities: recipe.learns_probabilities(),
            temperature: recipe.kd_temperature,
            alpha: recipe.distillation_alpha(),
            beta: recipe.distillation_beta(),
            scale_t2: recipe.kd_scale_t2,
            warmup_epochs: recipe.kd_warmup_epochs,
            epoch: 0,
        }
    }

    /// The weight of the decoupled loss in this epoch: mdistiller's, which counts epochs from 1.
    fn warmup(&self) -> f64 {
        ((self.epoch + 1) as f64 / self.warmup_epochs.max(1) as f64).min(1.0)
    }
}

/// The checksums of the teachers of `job`.
///
/// # Errors
/// If a teacher cannot be read or does not fit the student.
pub(crate) fn fingerprints(job: &Job) -> Result<Vec<u32>, TrainError> {
    Ok(job.teachers()?.iter().map(|teacher| teacher.fingerprint).collect())
}

/// Checks that the teachers of `job` are those that the run in `folder` began with.
///
/// # Errors
/// [`TrainError::OtherRun`] if they are not.
pub(crate) fn check(job: &Job, began: &[u32], folder: &RunFolder) -> Result<(), TrainError> {
    let teachers = job.teachers()?;
    let other = |what, expected, got| Err(TrainError::OtherRun { path: folder.path().into(), what, expected, got });
    if teachers.len() != began.len() {
        return other("number of teachers".into(), began.len().to_string(), teachers.len().to_string());
    }
    match teachers.iter().zip(began).find(|(teacher, began)| teacher.fingerprint != **began) {
        Some((teacher, began)) => {
            let show = |checksum: u32| format!("weights with the checksum {checksum:08x}");
            other(format!("teacher {}", teacher.name), show(*began), show(teacher.fingerprint))
        }
        None => Ok(()),
    }
}

/// Notes for the user about the teachers, one line each.
///
/// # Errors
/// If a teacher cannot be read or does not fit the student.
pub(crate) fn notes(job: &Job) -> Result<Vec<String>, TrainError> {
    let mut notes: Vec<String> = job.teachers()?.iter().flat_map(|teacher| teacher.notes.clone()).collect();
    let pairs: Vec<String> =
        job.hint_pairs()?.iter().map(|Pair { student, teacher }| format!("{student} from {teacher}")).collect();
    if !pairs.is_empty() {
        notes.push(format!("feature maps: {}", pairs.join(", ")));
    }
    if job.recipe.teacher.is_some() {
        notes.extend(cache::note(job));
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// mdistiller's `min(kwargs["epoch"] / self.warmup, 1.0)`, with epochs from 1 and a warm-up of 20.
    #[test]
    fn the_warm_up_is_mdistillers() {
        let at = |warmup_epochs, epoch| {
            let recipe = Recipe { kd_warmup_epochs: warmup_epochs, ..Recipe::default() };
            Rule { epoch, ..Rule::of(&recipe) }.warmup()
        };
        assert_eq!([0, 9, 19, 50].map(|epoch| at(20, epoch)), [0.05, 0.5, 1.0, 1.0]);
        assert_eq!((at(0, 0), at(1, 0)), (1.0, 1.0));
    }
}
