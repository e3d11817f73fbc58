//! A time budget: steps and evaluation are timed before the run, and as many steps are planned as fit.

use crate::prepare::{EVALUATION_BATCH, Job};
use crate::step::TrainStep;
use crate::{Recipe, TrainError};
use residual_data::Subset;
use residual_engine::Options;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Steps that are timed, after as many that are not.
const STEPS: usize = 5;

/// The job with the number of steps that fit its time budget as `max_steps`; `None` if it has no budget or needs less.
/// `step` is used and reset.
///
/// # Errors
/// If an image cannot be read, or an engine cannot be run.
pub(crate) fn plan(job: &Job, step: &mut TrainStep, options: &Options) -> Result<Option<Job>, TrainError> {
    let Some(budget) = job.recipe.budget()? else { return Ok(None) };
    let began = Instant::now();
    let per_step = time_step(job, step)? + time_evaluation(job, options)?;
    let left = (budget as f64 - began.elapsed().as_secs_f64()).max(0.0);
    let fitting = ((left / per_step) as u64).max(1);
    let epoch_steps = job.epoch_steps();
    let wanted = job.recipe.epochs.map_or(u64::MAX, |epochs| epochs.saturating_mul(epoch_steps));
    let wanted = wanted.min(job.recipe.max_steps.unwrap_or(u64::MAX));
    let recipe = Recipe { max_steps: Some(fitting), ..job.recipe.clone() };
    Ok((fitting < wanted).then(|| Job { recipe, ..job.clone() }))
}

/// The seconds of a training step, loading included.
fn time_step(job: &Job, step: &mut TrainStep) -> Result<f64, TrainError> {
    let (model, optimizer, averaged) = (step.engine().state_dict(), step.optimizer_state(), step.averaged());
    let distillation = step.distillation_state();
    let (mut began, mut steps, mut batches) = (Instant::now(), 0, 0);
    let accumulated = job.recipe.grad_accum_steps;
    'timing: for epoch in 0.. {
        for batch in job.loader(epoch, 0, job.train_size(0))? {
            let batch = batch?;
            if !batch.is_empty() {
                step.backward(batch.images(), batch.targets(), batch.indices(), accumulated)?;
            }
            batches += 1;
            if batches % accumulated == 0 {
                // Without a change of the parameters.
                step.update(0.0);
                steps += 1;
            }
            if steps == STEPS && batches % accumulated == 0 {
                began = Instant::now();
            }
            if steps == 2 * STEPS {
                break 'timing;
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64() / STEPS as f64;
    step.load(&model, &optimizer, averaged.as_ref(), 0)?;
    step.load_distillation(&distillation)?;
    Ok(seconds)
}

/// The seconds of evaluations per training step.
fn time_evaluation(job: &Job, options: &Options) -> Result<f64, TrainError> {
    let Some(held_out) = &job.held_out else { return Ok(0.0) };
    let count = held_out.len().min(EVALUATION_BATCH);
    let part: Arc<dyn residual_data::Dataset> = Arc::new(Subset::new(held_out.clone(), (0..count).collect()));
    let mut evaluator = job.evaluator(options);
    let mut evaluate = || evaluator.count(&job.model, &part, &AtomicBool::new(false), &mut |_, _| {});
    // The first time it is compiled, which happens once in a run.
    evaluate()?;
    let began = Instant::now();
    evaluate()?;
    let per_image = began.elapsed().as_secs_f64() / count as f64;
    let models = if job.recipe.model_ema { 2.0 } else { 1.0 };
    Ok(models * per_image * held_out.len() as f64 / (job.epoch_steps() * job.recipe.val_interval) as f64)
}
