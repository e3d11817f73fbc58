//! A network that a pipeline made.

use crate::Outcome;
use serde::{Deserialize, Serialize};

/// A network beside the original: its checkpoint, and what it costs and gains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// What was done to get it: "pruned 2x, int8".
    pub name: String,
    /// Height and width of its images.
    pub image_size: [usize; 2],
    /// Its file, in the folder of the pipeline, and its judgement on the images that networks are chosen by.
    pub outcome: Outcome,
}

impl Point {
    /// The name of its file, from that of the network.
    pub(super) fn file(name: &str) -> String {
        format!("points/{}.safetensors", Self::slug(name))
    }

    /// A name without spaces and commas.
    pub(super) fn slug(name: &str) -> String {
        name.replace(", ", "-").replace(' ', "-")
    }

    /// The top-1 accuracy in percent.
    pub fn top1(&self) -> f64 {
        self.outcome.top1.unwrap_or(0.0)
    }

    /// Points of accuracy below that of the original.
    pub fn drop(&self) -> f64 {
        self.outcome.drop().unwrap_or(0.0)
    }

    /// Milliseconds for a batch: those of `original`, measured once, divided by the ratio that was measured in turns, so that the load
    /// of the machine at the time of each measurement counts for little. Infinite, if it was not measured.
    pub fn latency_ms(&self, batch: usize, original: &Self) -> f64 {
        let both = original.outcome.latency.get(&batch).zip(self.outcome.latency.get(&batch));
        both.map_or(f64::INFINITY, |(original, own)| original.before_ms / own.ratio)
    }
}
