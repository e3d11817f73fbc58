//! The layers of a plan, which instructions refer to by their ids: algorithms, constants, and the places of parameters. The
//! values of parameters are in [`Weights`](crate::weights::Weights).

use super::schedule::Layers;
use crate::layout::Layout;
use crate::parameters::ParameterLayout;
use crate::{Mode, Options};
use residual_graph::{Graph, Node, NodeId, Op, Role};
use residual_kernels::conv::Conv;
use std::ops::Range;

/// The place of a parameter.
#[derive(Clone, Debug)]
pub(crate) struct ParameterPlace {
    /// Its range in the bucket of parameters.
    pub(crate) bucket: Range<usize>,
    /// Its range among the packed weights of an inference plan.
    pub(crate) packed: Range<usize>,
}

/// A convolution or linear layer.
#[derive(Debug)]
pub(crate) struct PlannedConv {
    pub(crate) conv: Conv,
    /// The state-dict key of its weight, and the order of the weight's elements in the bucket.
    pub(crate) key: String,
    pub(crate) layout: Layout,
    /// Its weight; none if inference packs it on use.
    pub(crate) weight: Option<ParameterPlace>,
    pub(crate) bias: Option<ParameterPlace>,
}

/// A batch norm.
#[derive(Debug)]
pub(crate) struct PlannedNorm {
    pub(crate) channels: usize,
    pub(crate) eps: f32,
    pub(crate) momentum: f32,
    /// Whether its weight and bias have gradients.
    pub(crate) trained: bool,
    /// Whether it uses its running statistics in training too.
    pub(crate) keeps_statistics: bool,
    /// The ranges of its weight and bias in the bucket of parameters.
    pub(crate) weight: Range<usize>,
    pub(crate) bias: Range<usize>,
    /// The ranges of its running mean and variance in the bucket of statistics.
    pub(crate) running_mean: Range<usize>,
    pub(crate) running_var: Range<usize>,
    pub(crate) counter: usize,
    /// The ranges of its scale and shift among the packed weights of an inference plan.
    pub(crate) affine: [Range<usize>; 2],
}

/// A layer norm.
#[derive(Debug)]
pub(crate) struct PlannedLayerNorm {
    pub(crate) eps: f32,
    /// Whether its parameters have gradients.
    pub(crate) trained: bool,
    pub(crate) weight: ParameterPlace,
    pub(crate) bias: ParameterPlace,
}

/// Where packed weights lie, in floats. Training, and inference that packs on use, pack the weights of one convolution at a time,
/// when it runs, so that they are still in cache: into memory of the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing {
    /// Whether inference packs on use.
    pub(crate) on_use: bool,
    /// What an inference plan keeps: all weights, or without those of convolutions if they are packed on use.
    pub(crate) kept: usize,
    /// A session's memory for weights that must first be converted to the engine's layout.
    pub(crate) conversion: usize,
    /// A session's memory for the packed weights of one convolution.
    pub(crate) current: usize,
}

/// All layers with parameters, and where their packed weights lie.
#[derive(Debug)]
pub(crate) struct PlannedLayers {
    pub(crate) convs: Vec<PlannedConv>,
    pub(crate) norms: Vec<PlannedNorm>,
    pub(crate) layer_norms: Vec<PlannedLayerNorm>,
    /// Layer scales.
    pub(crate) scales: Vec<ParameterPlace>,
    pub(crate) packing: Packing,
}

impl PlannedLayers {
    /// The layers of `graph`, whose convolutions have the algorithms `convs`. `channels` are those of each node's value in memory.
    pub(crate) fn new(
        graph: &Graph,
        layers: &Layers,
        convs: Vec<Conv>,
        channels: &[usize],
        parameters: &ParameterLayout,
        mode: Mode,
        options: &Options,
    ) -> Self {
        let longest = |len: fn(&Conv) -> usize| convs.iter().map(len).max().unwrap_or(0);
        let on_use = mode == Mode::Infer && options.inference.pack_on_use;
        let (conversion, current) = match mode {
            Mode::Infer if on_use => {
                let converted = |conv: &Conv| if conv.panel_width().is_some() { 0 } else { conv.shape().weight_len() };
                (longest(converted).next_multiple_of(16), longest(Conv::packed_forward_len))
            }
            Mode::Infer => (0, 0),
            Mode::Train | Mode::Eval => (0, longest(|conv| conv.packed_forward_len().max(conv.packed_backward_len()))),
        };
        // Inference keeps packed weights; in training parameters are read from their bucket.
        let mut kept = 0;
        let mut reserve = |len: usize| {
            let start = kept;
            if mode != Mode::Infer {
                return start..start;
            }
            kept += len.next_multiple_of(16);
            start..start + len
        };
        let mut place = |node: &Node, name: &str, packed_len: Option<usize>| {
            let bucket = parameters.range(&node.key(name));
            let packed = reserve(packed_len.unwrap_or(bucket.len()));
            ParameterPlace { bucket, packed }
        };
        let planned_conv = |(conv, &id): (Conv, &NodeId)| {
            let node = graph.node(id);
            let weight = (!on_use).then(|| place(node, "weight", Some(conv.packed_forward_len())));
            let has_bias = node.op.parameters().len() > 1;
            PlannedConv {
                key: node.key("weight"),
                layout: Layout::of(node, Role::Weight, channels[node.inputs[0].0]),
                weight,
                bias: has_bias.then(|| place(node, "bias", None)),
                conv,
            }
        };
        let convs = convs.into_iter().zip(&layers.convs).map(planned_conv).collect();
        let frozen = &options.gradients.frozen;
        let planned_layer_norm = |&id: &NodeId| {
            let node = graph.node(id);
            let Op::LayerNorm { eps, .. } = node.op else { unreachable!("the schedule lists layer norms") };
            let trained = !frozen.parameters.contains(&node.name);
            let [weight, bias] = ["weight", "bias"].map(|name| place(node, name, None));
            PlannedLayerNorm { eps, trained, weight, bias }
        };
        let layer_norms = layers.layer_norms.iter().map(planned_layer_norm).collect();
        let scales = layers.scales.iter().map(|&id| place(graph.node(id), "layer_scale", None)).collect();
        let planned_norm = |&id: &NodeId| {
            let node = graph.node(id);
            let Op::BatchNorm2d { channels, eps, momentum } = node.op else {
                unreachable!("the schedule lists batch norms")
            };
            let range = |name: &str| parameters.range(&node.key(name));
            PlannedNorm {
                channels,
                eps,
                momentum,
                trained: !frozen.parameters.contains(&node.name),
                keeps_statistics: frozen.statistics.contains(&node.name),
                weight: range("weight"),
                bias: range("bias"),
                running_mean: range("running_mean"),
                running_var: range("running_var"),
                counter: parameters.counter(&node.key("num_batches_tracked")),
                affine: [reserve(channels), reserve(channels)],
            }
        };
        let norms = layers.norms.iter().map(planned_norm).collect();
        let packing = Packing { on_use, kept, conversion, current };
        Self { convs, norms, layer_norms, scales, packing }
    }
}
