//! Cross-layer equalisation: the channels between two layers are scaled so that the weights on both sides use their ranges equally.

use residual_graph::{Conv2d, NodeId, Op};
use residual_model::Model;

/// Rounds over all pairs of layers, which depend on each other.
const MOST_ROUNDS: usize = 20;
/// No channel is scaled by more in a round.
const MOST: f32 = 1e4;
/// The change of a round below which the scales have settled.
const SETTLED: f32 = 1e-3;

/// Scales the channels between every two layers of a folded model of which the second alone reads the first, through at most a ReLU: with
/// factors s > 0, relu(s·x) is s·relu(x), so that the function stays the same. s makes the largest weights equal that compute
/// a channel and that read it.
pub(super) fn equalize(model: &mut Model) {
    let pairs = pairs(model);
    for _ in 0..MOST_ROUNDS {
        let changes = pairs.iter().map(|&(first, second)| equalize_pair(model, first, second));
        if changes.fold(0.0, f32::max) < SETTLED {
            break;
        }
    }
}

/// The layers whose results only one other layer reads, without groups, and that layer.
fn pairs(model: &Model) -> Vec<(NodeId, NodeId)> {
    let graph = &model.graph;
    let consumers = graph.consumers();
    let only_reader = |id: NodeId| match consumers[id.0][..] {
        [reader] if id != graph.output => Some(reader),
        _ => None,
    };
    let is_layer = |id: NodeId| match graph.node(id).op {
        Op::Conv2d(Conv2d { groups, .. }) => groups == 1,
        Op::Linear { .. } => true,
        _ => false,
    };
    let pair = |first: NodeId| {
        let mut second = only_reader(first)?;
        if graph.node(second).op == Op::Relu {
            second = only_reader(second)?;
        }
        (is_layer(first) && is_layer(second)).then_some((first, second))
    };
    (0..graph.nodes.len()).map(NodeId).filter_map(pair).collect()
}

/// Equalises one pair; the largest relative change of a channel.
fn equalize_pair(model: &mut Model, first: NodeId, second: NodeId) -> f32 {
    let key = |id: NodeId, name: &str| model.graph.node(id).key(name);
    let keys = [key(first, "weight"), key(first, "bias"), key(second, "weight")];
    let values = |key: &str| model.tensors[key].as_f32().expect("a model of floats");
    let channels = model.tensors[keys[1].as_str()].len();
    let (before, after) = (values(&keys[0]), values(&keys[2]));
    let filter = before.len() / channels;
    let taps = after.len() / model.tensors[keys[2].as_str()].shape()[0] / channels;
    let largest =
        |values: &mut dyn Iterator<Item = &f32>| values.fold(0.0f32, |largest, value| largest.max(value.abs()));
    let mut reads = vec![0.0f32; channels];
    for (index, window) in after.chunks_exact(taps).enumerate() {
        let channel = &mut reads[index % channels];
        *channel = channel.max(largest(&mut window.iter()));
    }
    let factor = |(filter, &read): (&[f32], &f32)| {
        let factor = (read / largest(&mut filter.iter())).sqrt();
        if factor.is_finite() && factor > 0.0 { factor.clamp(1.0 / MOST, MOST) } else { 1.0 }
    };
    let factors: Vec<f32> = before.chunks_exact(filter).zip(&reads).map(factor).collect();
    let mut scale = |key: &str, factor: &dyn Fn(usize) -> f32| {
        let values = model.tensors[key].as_f32_mut().expect("a model of floats");
        values.iter_mut().enumerate().for_each(|(index, value)| *value *= factor(index));
    };
    scale(&keys[0], &|index| factors[index / filter]);
    scale(&keys[1], &|index| factors[index]);
    scale(&keys[2], &|index| 1.0 / factors[index / taps % channels]);
    factors.iter().map(|factor| (factor - 1.0).abs()).fold(0.0, f32::max)
}
