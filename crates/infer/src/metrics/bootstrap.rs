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

/// Calls a task once for every index below a number, in any order and on any threads.
pub(crate) type Run<'a> = &'a dyn Fn(usize, &(dyn Fn(usize) + Sync));

/// The intervals of top-1 accuracy, in percent, and of the macro mean of F1, 0 to 1. They do not depend on the threads.
pub(crate) fn intervals(results: &[ImageResult], classes: usize, run: Run<'_>) -> [Interval; 2] {
    resample(results.len(), run, &|drawn| {
        let mut correct = 0;
        let drawn = drawn.map(|image| &results[image]).inspect(|result| correct += u64::from(result.correct));
        let macro_f1 = macro_average(&counts(drawn, classes)).f1;
        [100.0 * correct as f64 / results.len() as f64, macro_f1]
    })
}

/// The percentile bootstrap (Efron, 1979) of `values`, functions of some of `images` images: of 1000 resamples with
/// replacement, the 2.5th and the 97.5th percentile.
pub(crate) fn resample<const N: usize>(
    images: usize,
    run: Run<'_>,
    values: &(dyn Fn(&mut dyn Iterator<Item = usize>) -> [f64; N] + Sync),
) -> [Interval; N] {
    let resamples = Mutex::new(vec![[0.0; N]; RESAMPLES]);
    run(RESAMPLES, &|resample| {
        let mut random = Stream::new(SALT, &[resample as u64]);
        let value = values(&mut (0..images).map(|_| random.below(images as u32) as usize));
        resamples.lock().expect("no task panics while it holds the values")[resample] = value;
    });
    let resamples = resamples.into_inner().expect("no task panics while it holds the values");
    std::array::from_fn(|metric| percentiles(resamples.iter().map(|values| values[metric]).collect()))
}

/// The 2.5th and the 97.5th percentile.
fn percentiles(mut values: Vec<f64>) -> Interval {
    values.sort_unstable_by(f64::total_cmp);
    [0.025, 0.975].map(|share| quantile(&values, share))
}

/// The quantile of sorted values, of which there is at least one, interpolated linearly between them as in NumPy. `share` is 0
/// to 1.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[position as usize], sorted[position.ceil() as usize]);
    below + position.fract() * (above - below)
}
