//! What a compressed network is worth: accuracy, size and speed, before and after.

use crate::CompressError;
use residual_engine::{Engine, Mode, Options};
use residual_infer::{Evaluation, Interval, Repeats, take_turns};
use residual_model::Model;
use residual_tensor::Stream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;

/// Batch sizes whose latency is measured.
pub(crate) const BATCHES: [usize; 2] = [1, 8];

/// A compressed network beside the one it was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its file.
    pub file: String,
    /// Images that both were judged on.
    pub images: u64,
    /// The top-1 accuracy of the original in percent; `None` if the images' classes are not the network's.
    pub top1_before: Option<f64>,
    /// The top-1 accuracy in percent.
    pub top1: Option<f64>,
    /// The 95 % confidence interval of the accuracy's change in points: percentile bootstrap over the images.
    pub interval: Option<Interval>,
    /// Trainable values and quantised weights.
    pub parameters: usize,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// By batch size.
    pub latency: BTreeMap<usize, LatencyChange>,
}

/// The latency of both networks, whose passes took turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyChange {
    /// The median of the original in milliseconds.
    pub before_ms: f64,
    /// The median of the compressed one in milliseconds.
    pub after_ms: f64,
    /// How many times as fast the compressed one is.
    pub ratio: f64,
    /// The 95 % interval of the ratio.
    pub interval: Interval,
}

impl Outcome {
    /// The outcome of `model`, stored in `file` of so many `bytes`, without a judgement.
    ///
    /// # Errors
    /// If the network's shapes do not fit together.
    pub fn new(file: String, bytes: u64, model: &Model) -> Result<Self, CompressError> {
        let [height, width] = model.preprocessing.size;
        let analysis = model.graph.analyse(height, width)?;
        Ok(Self {
            file,
            images: 0,
            top1_before: None,
            top1: None,
            interval: None,
            parameters: analysis.parameters,
            macs: analysis.macs,
            bytes,
            latency: BTreeMap::new(),
        })
    }

    /// With the evaluations of both networks on the same images.
    pub fn judged(self, before: &Evaluation, after: &Evaluation, options: &Options) -> Self {
        let interval = after.compare(before, options).interval;
        Self {
            images: after.images,
            top1_before: Some(before.top1),
            top1: Some(after.top1),
            interval: Some(interval),
            ..self
        }
    }

    /// With the latency of both networks at the batch sizes 1 and 8, on noise.
    ///
    /// # Errors
    /// If a network cannot be run.
    pub fn timed(mut self, before: &Model, after: &Model, options: &Options) -> Result<Self, CompressError> {
        for batch in BATCHES {
            self.latency.insert(batch, compare_latency(before, after, batch, None, options)?);
        }
        Ok(self)
    }

    /// By how many points the accuracy dropped.
    pub fn drop(&self) -> Option<f64> {
        Some(self.top1_before? - self.top1?)
    }
}

/// The latency of two networks on batches of noise of their sizes, in inference; their passes take turns. Each has `repeats` timed passes, or
/// as many as fit two seconds.
///
/// # Errors
/// If a network cannot be run.
pub fn compare_latency(
    before: &Model,
    after: &Model,
    batch: usize,
    repeats: Option<usize>,
    options: &Options,
) -> Result<LatencyChange, CompressError> {
    let mut networks = Vec::new();
    for model in [before, after] {
        let size = model.preprocessing.size;
        let mut random = Stream::new(0, &[]);
        let len = batch * size.iter().product::<usize>() * model.preprocessing.channels();
        let images: Vec<f32> = (0..len).map(|_| random.normal()).collect();
        networks.push((Engine::new(model, Mode::Infer, batch, size, &[], options)?, images));
    }
    let turns = take_turns(Repeats { warm_up: 2, timed: repeats }, |which| {
        let (engine, images) = &mut networks[which];
        let start = Instant::now();
        engine.forward(images)?;
        Ok::<_, CompressError>(start.elapsed().as_secs_f64())
    })?;
    let [before_ms, after_ms] = turns.latencies.map(|latency| 1e3 * latency.median());
    Ok(LatencyChange { before_ms, after_ms, ratio: turns.ratio, interval: turns.interval })
}
