//! The layers of a plan, which instructions refer to by their ids: algorithms, constants, and the places of parameters. The
//! values of parameters are in [`Weights`](crate::weights::Weights).

use super::algorithms::conv_shape;
use super::fuse::{Fused, Head};
use super::schedule::Layers;
use super::{QuantizationId, QuantizedConvId};
use crate::layout::Layout;
use crate::parameters::ParameterLayout;
use crate::{Mode, Options};
use residual_graph::{Graph, Node, NodeId, Op, Role, Shape};
use residual_kernels::conv::{Conv, QuantizedConv};
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

/// A node that rounds values.
#[derive(Debug)]
pub(crate) struct PlannedQuantization {
    pub(crate) name: String,
    /// Whether it rounds in the range of a batch.
    pub(crate) is_dynamic: bool,
}

/// A quantised convolution or linear layer, with what follows it in its step.
#[derive(Debug)]
pub(crate) struct PlannedQuantizedConv {
    pub(crate) conv: QuantizedConv,
    /// The state-dict keys of its weight and of the weight's scales, and the order of the weight's elements for the kernel.
    pub(crate) keys: [String; 2],
    pub(crate) layout: Layout,
    /// The range of its bias in the bucket of parameters.
    pub(crate) bias: Option<Range<usize>>,
    /// The quantisations of its input, of the value that is added to its result, and of its result if that is bytes.
    pub(crate) input: QuantizationId,
    pub(crate) add: Option<QuantizationId>,
    pub(crate) output: Option<QuantizationId>,
    pub(crate) relu: bool,
    /// The ranges of its weight among the packed weights, and of its constants for each output channel: what sums begin with, scale,
    /// bias.
    pub(crate) weight: Range<usize>,
    pub(crate) constants: [Range<usize>; 3],
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
    pub(crate) quantized: Vec<PlannedQuantizedConv>,
    /// The nodes that round values.
    pub(crate) quantizations: Vec<PlannedQuantization>,
    pub(crate) norms: Vec<PlannedNorm>,
    pub(crate) layer_norms: Vec<PlannedLayerNorm>,
    /// Layer scales.
    pub(crate) scales: Vec<ParameterPlace>,
    pub(crate) packing: Packing,
}

impl PlannedLayers {
    /// The layers of `graph`, whose convolutions have the algorithms `convs`. `shapes` and `channels` are those of each node's value
    /// in memory.
    pub(crate) fn new(
        graph: &Graph,
        layers: &Layers,
        fused: &Fused,
        convs: Vec<Conv>,
        shapes: &[Shape],
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
        let mut places = Places { parameters, is_inference: mode == Mode::Infer, kept: 0 };
        let planned_conv = |(conv, &id): (Conv, &NodeId)| {
            let node = graph.node(id);
            let weight = (!on_use).then(|| places.take(node, "weight", Some(conv.packed_forward_len())));
            let has_bias = node.op.parameters().len() > 1;
            PlannedConv {
                key: node.key("weight"),
                layout: Layout::of(node, Role::Weight, channels[node.inputs[0].0]),
                weight,
                bias: has_bias.then(|| places.take(node, "bias", None)),
                conv,
            }
        };
        let convs = convs.into_iter().zip(&layers.convs).map(planned_conv).collect();
        let quantized_steps = fused.steps.iter().filter_map(|step| match step.head {
            Head::Node(node) if graph.node(node).op.is_quantized() => Some((step, node)),
            _ => None,
        });
        let mut quantized: Vec<(QuantizedConvId, PlannedQuantizedConv)> = Vec::new();
        for (step, id) in quantized_steps {
            let node = graph.node(id);
            let conv = QuantizedConv::new(options.isa, conv_shape(graph, id, shapes));
            let outputs = conv.shape().out_channels;
            let has_bias = node.op.parameters().iter().any(|spec| spec.role == Role::Bias);
            let planned = PlannedQuantizedConv {
                keys: ["weight", "weight_scale"].map(|name| node.key(name)),
                layout: Layout::of(node, Role::QuantizedWeight, channels[node.inputs[0].0]),
                bias: has_bias.then(|| parameters.range(&node.key("bias"))),
                input: layers.quantization_of(graph, node.inputs[0]).expect("quantised layers read bytes"),
                add: step.add.and_then(|add| layers.quantization_of(graph, add)),
                output: layers.quantization_of(graph, step.output),
                relu: step.relu,
                weight: places.reserve(conv.packed_len()),
                constants: [(); 3].map(|()| places.reserve(outputs)),
                conv,
            };
            quantized.push((layers.quantized_conv(id), planned));
        }
        quantized.sort_by_key(|(QuantizedConvId(id), _)| *id);
        let quantized = quantized.into_iter().map(|(_, planned)| planned).collect();
        let planned_quantization = |&id: &NodeId| PlannedQuantization {
            name: graph.node(id).name.clone(),
            is_dynamic: graph.node(id).op == Op::QuantizeDynamic,
        };
        let quantizations = layers.quantizations.iter().map(planned_quantization).collect();
        let frozen = &options.gradients.frozen;
        let planned_layer_norm = |&id: &NodeId| {
            let node = graph.node(id);
            let Op::LayerNorm { eps, .. } = node.op else { unreachable!("the schedule lists layer norms") };
            let trained = !frozen.parameters.contains(&node.name);
            let [weight, bias] = ["weight", "bias"].map(|name| places.take(node, name, None));
            PlannedLayerNorm { eps, trained, weight, bias }
        };
        let layer_norms = layers.layer_norms.iter().map(planned_layer_norm).collect();
        let scales = layers.scales.iter().map(|&id| places.take(graph.node(id), "layer_scale", None)).collect();
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
                affine: [places.reserve(channels), places.reserve(channels)],
            }
        };
        let norms = layers.norms.iter().map(planned_norm).collect();
        let packing = Packing { on_use, kept: places.kept, conversion, current };
        Self { convs, quantized, quantizations, norms, layer_norms, scales, packing }
    }
}

/// Hands out places for parameters.
struct Places<'a> {
    parameters: &'a ParameterLayout,
    /// Inference keeps packed weights; in training parameters are read from their bucket.
    is_inference: bool,
    /// Floats handed out.
    kept: usize,
}

impl Places<'_> {
    /// A range among the packed weights; empty in training.
    fn reserve(&mut self, len: usize) -> Range<usize> {
        let start = self.kept;
        if !self.is_inference {
            return start..start;
        }
        self.kept += len.next_multiple_of(16);
        start..start + len
    }

    /// The place of a tensor of `node`, of `packed_len` floats if that is not the length of the tensor.
    fn take(&mut self, node: &Node, name: &str, packed_len: Option<usize>) -> ParameterPlace {
        let bucket = self.parameters.range(&node.key(name));
        let packed = self.reserve(packed_len.unwrap_or(bucket.len()));
        ParameterPlace { bucket, packed }
    }
}
