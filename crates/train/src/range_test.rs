//! The learning-rate range test (Smith 2017, arXiv:1506.01186): a short training whose learning rate rises until the loss
//! explodes.

use crate::TrainError;
use crate::distill::Distillation;
use crate::prepare::Job;
use crate::recipe::RecipeError;
use crate::train::train_step;
use residual_engine::Options;
use residual_tensor::Stream;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};

/// The learning rates of the first and the last step, and the number of steps: fastai's.
const RATES: [f64; 2] = [1e-7, 10.0];
const STEPS: usize = 100;
/// Weight of the past in the smoothed loss.
const SMOOTHING: f64 = 0.98;
/// The test ends when the smoothed loss is so many times its lowest value.
const EXPLODED: f64 = 4.0;
/// Separates the dropout masks from those of a run.
const SALT: u64 = u64::from_be_bytes(*b"lr-range");

/// The result of a range test.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RangeTest {
    /// The steps, with rising learning rates.
    pub points: Vec<RangePoint>,
    /// A learning rate in the middle of the longest decrease of the loss (fastai's `valley`); `None` if the test was too
    /// short.
    pub suggestion: Option<f64>,
}

/// One step of a range test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RangePoint {
    /// The learning rate.
    pub lr: f64,
    /// The mean loss of the step's images.
    pub loss: f64,
    /// The running average of the losses, corrected for its start.
    pub smoothed: f64,
}

/// Trains `job` for up to 100 steps at learning rates from 1e-7 to 10 and returns the losses; nothing is saved.
///
/// `None` if `stop` was set.
///
/// # Errors
/// If the job has cached features, an image cannot be read, or the engine cannot be run.
pub fn find_lr(
    job: &Job,
    options: &Options,
    stop: &AtomicBool,
    on_step: &mut dyn FnMut(usize, usize),
) -> Result<Option<RangeTest>, TrainError> {
    if job.recipe.cache_features {
        return Err(RecipeError::field("cache_features", "false for a range test", "true").into());
    }
    let size = job.train_size(0);
    let step = train_step(job, &job.model, options, job.transfer.frozen(0), size)?;
    let mut step = step.with_distillation(Distillation::new(job, options, size)?);
    let accumulated = job.recipe.grad_accum_steps;
    let (mut points, mut average, mut lowest) = (Vec::<RangePoint>::new(), 0.0, f64::INFINITY);
    let (mut epoch, mut loader) = (0, job.loader(0, 0, size)?);
    while points.len() < STEPS {
        let (mut loss, mut images) = (0.0, 0);
        for index in 0..accumulated {
            let batch = match loader.next() {
                Some(batch) => batch?,
                None => {
                    epoch += 1;
                    loader = job.loader(epoch, 0, size)?;
                    loader.next().expect("an epoch has a batch")?
                }
            };
            if batch.is_empty() {
                continue;
            }
            let counters = [SALT, points.len() as u64, index as u64];
            step.engine_mut().set_seed(Stream::new(job.recipe.seed, &counters).next_u64());
            loss +=
                batch.len() as f64 * step.backward(batch.images(), batch.targets(), batch.indices(), accumulated)?;
            images += batch.len();
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let lr = RATES[0] * (RATES[1] / RATES[0]).powf(points.len() as f64 / (STEPS - 1) as f64);
        let loss = loss / f64::from(images.max(1) as u32);
        average = SMOOTHING * average + (1.0 - SMOOTHING) * loss;
        let smoothed = average / (1.0 - SMOOTHING.powi(points.len() as i32 + 1));
        if !smoothed.is_finite() {
            break;
        }
        points.push(RangePoint { lr, loss, smoothed });
        lowest = lowest.min(smoothed);
        if smoothed > EXPLODED * lowest {
            break;
        }
        step.update(lr);
        on_step(points.len(), STEPS);
    }
    let suggestion = suggestion(&points);
    Ok(Some(RangeTest { points, suggestion }))
}

/// fastai's `valley`: the longest decreasing subsequence of the smoothed losses, without the first tenth of the steps and
/// the last five, and of it the place at the middle of its second third.
fn suggestion(points: &[RangePoint]) -> Option<f64> {
    let points = points.get(STEPS / 10..points.len().checked_sub(5)?)?;
    let mut lengths = vec![1_usize; points.len()];
    let mut end = 0;
    for i in 1..points.len() {
        for j in 0..i {
            if points[i].smoothed < points[j].smoothed && lengths[i] < lengths[j] + 1 {
                lengths[i] = lengths[j] + 1;
            }
        }
        if lengths[end] < lengths[i] {
            end = i;
        }
    }
    let start = end.saturating_sub(*lengths.get(end)?);
    let section = (end - start) / 3;
    points.get(start + section + section / 2).map(|point| point.lr)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second implementation of fastai's `valley`, in Python, on a plateau, a fall and an explosion.
    #[test]
    fn the_suggestion_is_fastais() {
        let points: Vec<RangePoint> = (0..STEPS)
            .map(|step| {
                let lr = RATES[0] * (RATES[1] / RATES[0]).powf(step as f64 / (STEPS - 1) as f64);
                let x = step as f64;
                let smoothed =
                    2.3 + 0.01 * (x * 0.7).sin() - 1.5 / (1.0 + (-(x - 60.0) / 6.0).exp()) + ((x - 92.0) / 3.0).exp();
                RangePoint { lr, loss: smoothed, smoothed }
            })
            .collect();
        let got = suggestion(&points).unwrap();
        assert!((got / EXPECTED - 1.0).abs() < 1e-9, "expected {EXPECTED}, got {got}");
        assert_eq!(suggestion(&points[..12]), None);
    }

    const EXPECTED: f64 = 0.001_321_941_148_466_028_6;
}
