//! Bootstrap confidence intervals.

use super::ImageResult;
use super::classes::{counts, macro_average};
use residual_tensor::Stream;
use std::sync::Mutex;

/// The number of resamples.
const RESAMPLES: usize = 1000;
/// Salt of the random resamples.
const SALT: u64 = u64::from_be_bytes(*b"resample");

/// The lower and upper end of a 95 % confidence interval.
pub type Interval = [f64; 2];

/// The intervals of an evaluation.
pub(crate) struct Intervals {
    /// Of top-1 accuracy, in percent.
    pub(crate) top1: Interval,
    /// Of the macro mean of F1, 0 to 1.
    pub(crate) macro_f1: Interval,
}

/// The percentile bootstrap (Efron, 1979) over images: of 1000 resamples with replacement, the 2.5th and the 97.5th
/// percentile. `run(tasks, task)` calls `task` once for every index below `tasks`, in any order and on any threads; the
/// result does not depend on them.
pub(crate) fn intervals(
    results: &[ImageResult],
    classes: usize,
    run: impl FnOnce(usize, &(dyn Fn(usize) + Sync)),
) -> Intervals {
    let values = Mutex::new(vec![[0.0; 2]; RESAMPLES]);
    run(RESAMPLES, &|resample| {
        let value = resampled(results, classes, resample);
        values.lock().expect("no task panics while it holds the values")[resample] = value;
    });
    let values = values.into_inner().expect("no task panics while it holds the values");
    let [top1, macro_f1] = [0, 1].map(|metric| percentiles(values.iter().map(|value| value[metric]).collect()));
    Intervals { top1, macro_f1 }
}

/// Top-1 accuracy in percent and the macro mean of F1 of one resample.
fn resampled(results: &[ImageResult], classes: usize, resample: usize) -> [f64; 2] {
    let mut random = Stream::new(SALT, &[resample as u64]);
    let mut correct = 0;
    let drawn = (0..results.len()).map(|_| &results[random.below(results.len() as u32) as usize]);
    let counts = counts(drawn.inspect(|result| correct += u64::from(result.correct)), classes);
    [100.0 * correct as f64 / results.len() as f64, macro_average(&counts).f1]
}

/// The 2.5th and the 97.5th percentile, interpolated linearly between values as in NumPy.
fn percentiles(mut values: Vec<f64>) -> Interval {
    values.sort_unstable_by(f64::total_cmp);
    [0.025, 0.975].map(|fraction| {
        let position = fraction * (values.len() - 1) as f64;
        let (below, above) = (values[position as usize], values[(position as usize + 1).min(values.len() - 1)]);
        below + position.fract() * (above - below)
    })
}
