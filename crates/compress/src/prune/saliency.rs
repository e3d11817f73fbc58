//! What a network would lose with each filter, by several criteria.

use super::taylor::taylor;
use crate::{CompressError, TrainingImages};
use residual_engine::Options;
use residual_graph::{ChannelGroup, Graph, NodeId, Op, Unit};
use residual_model::Model;
use residual_tensor::{Stream, Tensor};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

/// Salt of random scores.
const DOMAIN: u64 = u64::from_be_bytes(*b"prunings");

/// How filters are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// The mean of |w| over the filter (Li et al., "Pruning filters for efficient ConvNets", 2017), relative to its group and to the
    /// number of filters of its layer.
    L1,
    /// |γ| of the batch norm that scales the channel (Liu et al., "Network slimming", 2017), relative in the same way.
    BatchNorm,
    /// To first order, by how much the loss on training images changes without the channel (Molchanov et al., "Importance
    /// estimation for neural network pruning", 2019).
    Taylor,
    /// A random number, as a baseline.
    Random,
}

impl Criterion {
    /// Every criterion with its name.
    pub const NAMES: [(&'static str, Self); 4] =
        [("l1", Self::L1), ("bn", Self::BatchNorm), ("taylor", Self::Taylor), ("random", Self::Random)];
}

impl FromStr for Criterion {
    type Err = CompressError;

    fn from_str(text: &str) -> Result<Self, CompressError> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        let fail =
            || CompressError::Setting { what: "criterion", expected: "l1, bn, taylor or random", got: text.into() };
        found.map(|(_, criterion)| *criterion).ok_or_else(fail)
    }
}

impl std::fmt::Display for Criterion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::NAMES.iter().find(|(_, criterion)| criterion == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// The score of every output channel of some nodes: of all layers, or of all batch norms.
#[derive(Clone, Debug, PartialEq)]
pub struct Saliency {
    /// By node; empty where it is not scored.
    scores: Vec<Vec<f64>>,
}

impl Saliency {
    /// Scores `model`, whose channel groups are `groups`. `images` are read for [`Criterion::Taylor`] alone; `seed` determines random
    /// scores. `None` if `stop` was set. `on_progress` gets the numbers of images so far and in all.
    ///
    /// # Errors
    /// [`CompressError::NoBatchNorm`] if a group has none and the criterion needs one; if images cannot be read, or the network cannot be
    /// run.
    pub fn measure(
        criterion: Criterion,
        model: &Model,
        groups: &[ChannelGroup],
        images: &TrainingImages,
        seed: u64,
        options: &Options,
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Self>, CompressError> {
        let graph = &model.graph;
        Ok(Some(match criterion {
            Criterion::L1 => Self { scores: magnitudes(model) }.relative(groups),
            Criterion::BatchNorm => {
                let is_norm = |id: NodeId| matches!(graph.node(id).op, Op::BatchNorm2d { .. });
                let has_norm = |group: &&ChannelGroup| group.widths.iter().any(|(id, _)| is_norm(*id));
                if let Some(group) = groups.iter().find(|group| !has_norm(group)) {
                    return Err(CompressError::NoBatchNorm { layer: group.name.clone() });
                }
                Self { scores: norm_scales(model) }.relative(groups)
            }
            Criterion::Taylor => match taylor(model, images, options, stop, on_progress)? {
                Some(scores) => Self { scores },
                None => return Ok(None),
            },
            Criterion::Random => Self { scores: random(graph, seed) },
        }))
    }

    /// The score of a unit: the sum over its filters. A unit with filters in ten layers thus counts ten times as much as one with
    /// a filter in one.
    pub fn of_unit(&self, unit: &Unit) -> f64 {
        let score = |&residual_graph::Channel { node, index }| self.scores[node.0].get(index).copied();
        unit.channels.iter().filter_map(score).sum()
    }

    /// The scores of a node's output channels; empty if it is not scored.
    pub(super) fn of_node(&self, id: NodeId) -> &[f64] {
        &self.scores[id.0]
    }

    /// Relative to the mean of each group, and divided by the number of a node's channels: a layer's filters have scores of about 1
    /// together, since what a network loses depends on the share of a layer that goes, not on the number of its filters.
    fn relative(self, groups: &[ChannelGroup]) -> Self {
        let mut scores: Vec<Vec<f64>> = self.scores.iter().map(|scores| over_sum(scores)).collect();
        for group in groups {
            let of_node = |id: NodeId| &self.scores[id.0];
            let channels = || group.units.iter().flat_map(|unit| &unit.channels);
            let scored = channels().filter_map(|channel| of_node(channel.node).get(channel.index).copied());
            let mean = mean(&scored.collect::<Vec<f64>>());
            for channel in channels() {
                let of_node = of_node(channel.node);
                if let Some(score) = of_node.get(channel.index) {
                    scores[channel.node.0][channel.index] = score / mean / of_node.len() as f64;
                }
            }
        }
        Self { scores }
    }
}
fn over_sum(scores: &[f64]) -> Vec<f64> {
    let sum = mean(scores) * scores.len() as f64;
    scores.iter().map(|score| score / sum).collect()
}

/// The mean, as a divisor.
fn mean(scores: &[f64]) -> f64 {
    (scores.iter().sum::<f64>() / scores.len().max(1) as f64).max(f64::MIN_POSITIVE)
}

fn values<'a>(model: &'a Model, key: &str) -> &'a [f32] {
    model.tensors.get(key).and_then(Tensor::as_f32).expect("a model has its graph's tensors")
}

/// The mean of |w| of every filter.
fn magnitudes(model: &Model) -> Vec<Vec<f64>> {
    let of = |node: &residual_graph::Node| {
        let outputs = match node.op {
            Op::Conv2d(conv) => conv.out_channels,
            Op::Linear { out_features, .. } => out_features,
            _ => return Vec::new(),
        };
        let weight = values(model, &node.key("weight"));
        let filter = weight.len() / outputs;
        let magnitude = |filter: &[f32]| filter.iter().map(|&w| f64::from(w.abs())).sum::<f64>() / filter.len() as f64;
        weight.chunks_exact(filter).map(magnitude).collect()
    };
    model.graph.nodes.iter().map(of).collect()
}

/// |γ| of every batch norm.
fn norm_scales(model: &Model) -> Vec<Vec<f64>> {
    let of = |node: &residual_graph::Node| match node.op {
        Op::BatchNorm2d { .. } => values(model, &node.key("weight")).iter().map(|&w| f64::from(w.abs())).collect(),
        _ => Vec::new(),
    };
    model.graph.nodes.iter().map(of).collect()
}

fn random(graph: &Graph, seed: u64) -> Vec<Vec<f64>> {
    let of = |(index, node): (usize, &residual_graph::Node)| {
        let outputs = match node.op {
            Op::Conv2d(conv) => conv.out_channels,
            Op::Linear { out_features, .. } => out_features,
            _ => return Vec::new(),
        };
        let mut stream = Stream::new(seed, &[DOMAIN, index as u64]);
        (0..outputs).map(|_| f64::from(stream.uniform())).collect()
    };
    graph.nodes.iter().enumerate().map(of).collect()
}
