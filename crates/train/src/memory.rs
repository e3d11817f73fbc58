//! The peak memory of a run, computed before its first step.

use crate::TrainError;
use crate::distill::Distillation;
use crate::optimizer::Optimizer;
use crate::prepare::Job;
use crate::recipe::Recipe;
use crate::train::training_options;
use residual_engine::{Engine, Memory, Options};
use residual_model::Model;

/// The peak memory of a run from `epoch` on in bytes, without the dataset but for decoded images that are kept: the maximum of training
/// steps and evaluation, which needs a second engine in addition to the training engine. `cached` is the size of cached features and of the plan
/// that computes them.
///
/// # Errors
/// If a plan cannot be compiled.
pub(crate) fn forecast(job: &Job, options: &Options, epoch: u64, cached: [usize; 2]) -> Result<u64, TrainError> {
    forecast_with(job, &job.recipe, options, epoch, cached)
}

/// What a run with `amp` would need in f32; `None` of others.
///
/// # Errors
/// As [`forecast`].
pub(crate) fn forecast_in_floats(
    job: &Job,
    options: &Options,
    epoch: u64,
    cached: [usize; 2],
) -> Result<Option<u64>, TrainError> {
    let floats = Recipe { amp: false, ..job.recipe.clone() };
    job.recipe.amp.then(|| forecast_with(job, &floats, options, epoch, cached)).transpose()
}

/// The forecast for a job with the numbers of `recipe`.
fn forecast_with(
    job: &Job,
    recipe: &Recipe,
    options: &Options,
    epoch: u64,
    cached: [usize; 2],
) -> Result<u64, TrainError> {
    let Job { model, transfer, .. } = job;
    let (train_mode, train_batch) = job.train_plan();
    let size = model.preprocessing.size;
    let kept = job.kept_nodes()?;
    let plan = |epoch: u64| {
        let options = training_options(recipe, options, transfer.frozen(epoch));
        Engine::required_memory(model, train_mode, train_batch, job.train_size(epoch), &kept, &options)
    };
    let now = plan(epoch)?;
    // When layers are unfrozen or images grow, the next engine is created before the previous one is dropped.
    let mut changes = transfer.unfreeze_epochs();
    changes.extend(job.size_changes());
    let later = changes.range(epoch + 1..).map(|&epoch| plan(epoch)).collect::<Result<Vec<Memory>, _>>()?;
    let most = later.iter().map(Memory::total).max().unwrap_or(0);
    let before = if later.len() > 1 { most } else { now.total() };
    let engine = now.total().max(before + most);

    let parameters = parameters(model);
    let beside = BesideEngine::of(recipe, model, options);
    let largest = changes.iter().map(|&epoch| job.train_size(epoch)).chain([job.train_size(0), size]);
    let pixels = largest.map(|[height, width]| height * width).max().unwrap_or(0);
    let image = 4 * model.graph.input_size()[0] * pixels;
    // The loader holds at most two batches more than it has threads, plus the current batch.
    let batches = |batch: usize| (recipe.workers + 3) * batch * image;
    let mut evaluation = 0;
    if let Some((mode, batch)) = job.evaluation_plan() {
        for judged in job.teachers()?.iter().map(|teacher| &teacher.model).chain([model]) {
            let plan = Engine::required_memory(judged, mode, batch, size, &[], options)?;
            evaluation = evaluation.max(plan.total());
        }
        // Weights go through a state dict into the second engine, where they are in torch's layout until packed.
        evaluation += 8 * parameters + batches(batch) * recipe.tta.views().count();
    }
    // A checkpoint, also in mid-epoch, copies the model and the optimiser's state.
    let checkpoint = 4 * parameters + beside.state + beside.averaged;
    // So does another engine for unfrozen layers or larger images, which has an optimiser and hooks of its own.
    let unfreezing = if later.is_empty() { 0 } else { checkpoint + beside.total() };
    let temporary = evaluation.max(batches(recipe.batch_size) + checkpoint).max(unfreezing);
    // In addition to the engine: the state of optimiser and hooks, the averaged weights, and the initial model.
    let training = engine + beside.total() + 4 * parameters + temporary;
    let mut teachers = 0;
    for epoch in changes.range(epoch..).copied().chain([epoch]) {
        teachers = teachers.max(Distillation::required_memory(job, options, job.train_size(epoch))?);
    }
    let [features, backbone] = cached;
    let images = job.recipe.cache_mb.saturating_mul(1_000_000);
    Ok(images.saturating_add((features + (training + teachers).max(backbone)) as u64))
}

/// The memory of a training step beside its engine, in bytes.
pub(crate) struct BesideEngine {
    /// The optimiser's state.
    state: usize,
    /// The optimiser's workspace.
    workspace: usize,
    /// Accumulated gradients.
    accumulated: usize,
    /// Averaged weights.
    averaged: usize,
    /// Masks of weights that stay zero: a bit for each in two orders.
    zeros: usize,
}

impl BesideEngine {
    pub(crate) fn of(recipe: &Recipe, model: &Model, options: &Options) -> Self {
        let parameters = parameters(model);
        Self {
            state: parameters * Optimizer::bytes_per_parameter(recipe.opt),
            workspace: Optimizer::workspace_bytes(recipe.opt, &model.graph, options),
            accumulated: if recipe.grad_accum_steps > 1 { 4 * parameters } else { 0 },
            averaged: if recipe.model_ema { 4 * parameters } else { 0 },
            zeros: if recipe.keep_zeros { parameters / 4 } else { 0 },
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.state + self.workspace + self.accumulated + self.averaged + self.zeros
    }
}

/// Values of all tensors.
fn parameters(model: &Model) -> usize {
    model.tensors.values().map(residual_tensor::Tensor::len).sum()
}
