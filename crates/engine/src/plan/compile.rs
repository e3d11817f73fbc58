//! Compiles a model to a plan, pass by pass: fold, fuse, choose algorithms, choose stored activations, schedule, choose the
//! layers that run depth first, place buffers. Nothing is allocated or run yet.

use super::algorithms::choose;
use super::checkpoint;
use super::depth_first::{self, DepthFirst};
use super::fuse::fuse;
use super::schedule::{Layers, Schedule, schedule};
use super::{Instruction, Scheduled};
use crate::arena::Places;
use crate::parameters::Scales;
use crate::{EngineError, Frozen, Memory, Mode, Options};
use residual_graph::{Graph, NodeId, Op, Role, Shape};
use residual_kernels::conv::Conv;
use residual_kernels::rows;
use residual_model::{Model, fold_batch_norm_but_scales};
use residual_tensor::NamedTensors;
use std::borrow::Cow;
use std::ops::Range;

/// The input of the other passes: the model's graph and tensors, in inference with batch norms and layer scales folded.
pub(crate) struct Folded<'a> {
    pub(crate) graph: Cow<'a, Graph>,
    pub(crate) tensors: Cow<'a, NamedTensors>,
    /// Factors of the filters that folding left to be applied.
    pub(crate) scales: Scales,
}

/// Folds and compiles `model`.
///
/// # Panics
/// If `batch` is zero.
pub(crate) fn compile_model<'a>(
    model: &'a Model,
    mode: Mode,
    batch: usize,
    size: [usize; 2],
    outputs: &[&str],
    options: &Options,
) -> Result<(Folded<'a>, Plan), EngineError> {
    assert!(batch > 0, "a plan needs room for at least one image");
    let folded = fold(model, mode, outputs);
    let plan = Plan::compile(&folded.graph, mode, batch, size, outputs, options)?;
    Ok((folded, plan))
}

/// Folds the batch norms and layer scales of a model for inference, except those named by `outputs`.
fn fold<'a>(model: &'a Model, mode: Mode, outputs: &[&str]) -> Folded<'a> {
    if mode == Mode::Infer {
        let folded = fold_batch_norm_but_scales(model, outputs);
        let (graph, tensors) = (Cow::Owned(folded.graph), Cow::Owned(folded.tensors));
        return Folded { graph, tensors, scales: folded.scales };
    }
    Folded { graph: Cow::Borrowed(&model.graph), tensors: Cow::Borrowed(&model.tensors), scales: Scales::new() }
}

/// A compiled graph: the instructions in order, their algorithms, and the offset of each value.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) schedule: Schedule,
    /// The early layers that run depth first, for a part of the batch at a time.
    pub(crate) depth_first: Option<DepthFirst>,
    pub(crate) layers: Layers,
    /// The algorithm of each convolution of the layers.
    pub(crate) convs: Vec<Conv>,
    pub(crate) places: Places,
    pub(crate) packed: Packed,
    pub(crate) workspace_len: usize,
    /// Floats for the statistics that a convolution computes for the following batch norm.
    pub(crate) statistics_len: usize,
    /// Floats of all parameters, of trainable parameters, and of running statistics.
    parameters: [usize; 3],
    /// The shape of every node's value in memory, for one image.
    pub(crate) shapes: Vec<Shape>,
    /// The contiguous channels of every node's value: for a flattened feature map, the channels of the map.
    pub(crate) channels: Vec<usize>,
}

impl Plan {
    /// Compiles a graph that was folded for `mode`.
    fn compile(
        graph: &Graph,
        mode: Mode,
        batch: usize,
        size: [usize; 2],
        outputs: &[&str],
        options: &Options,
    ) -> Result<Self, EngineError> {
        let kept = kept(graph, outputs)?;
        let logical = graph.shapes(size[0], size[1])?;
        check_supported(graph, &logical, mode)?;
        let fused = fuse(graph, mode, &kept);
        // A flattened feature map stays a feature map in memory.
        let shapes: Vec<Shape> = fused.source.iter().map(|id| logical[id.0]).collect();
        check_addressable(&shapes, batch)?;
        let layers = Layers::of(graph);
        let convs = choose(graph, &layers, &shapes, mode, batch, options);
        let stored = match options.grad_checkpointing && mode != Mode::Infer {
            true => checkpoint::stored(&fused, &shapes, &kept),
            false => vec![true; graph.nodes.len()],
        };
        let mut schedule = schedule(graph, &fused, &layers, &shapes, mode, &kept, stored, &options.frozen);
        let depth_first = match options.packs_ahead(mode) {
            true => depth_first::choose(&mut schedule, &convs, batch),
            false => None,
        };
        let places = Places::new(&schedule.buffers, batch);
        let packed = place_weights(graph, mode, &layers, &convs, options);
        let workspace_len = workspace_len(mode, batch, &convs, &layers, &shapes, options.pool.threads());
        let statistics_len = statistics_len(batch, &schedule, &convs);
        let parameters = parameters_len(graph, &options.frozen);
        Ok(Self {
            mode,
            schedule,
            depth_first,
            layers,
            convs,
            places,
            packed,
            workspace_len,
            statistics_len,
            parameters,
            shapes,
            channels: channels_in_memory(graph, &logical),
        })
    }

    /// The memory of an engine for this plan, in bytes.
    pub(crate) fn memory(&self) -> Memory {
        let [parameters, trained, statistics] = self.parameters;
        let kept: usize = match self.mode {
            Mode::Infer if self.packed.on_use => self.convs.iter().map(|conv| conv.shape().weight_len()).sum(),
            Mode::Infer => 0,
            Mode::Train | Mode::Eval => parameters + trained + statistics,
        };
        let bytes = |floats: usize| floats.saturating_mul(size_of::<f32>());
        Memory {
            values: bytes(self.places.len()),
            packed: bytes(self.packed.len),
            workspace: bytes(self.workspace_len + self.statistics_len),
            parameters: bytes(kept),
        }
    }
}

/// The maximum number of floats that a process can address on current processors (47-bit addresses).
const ADDRESSABLE: usize = 1 << 45;

/// Whether the largest value of a batch can be addressed at all. After this check, sizes of single values do not overflow.
fn check_addressable(shapes: &[Shape], batch: usize) -> Result<(), EngineError> {
    let largest = shapes.iter().map(Shape::len).max().unwrap_or(0).saturating_mul(batch);
    if largest <= ADDRESSABLE {
        return Ok(());
    }
    let values = largest.saturating_mul(size_of::<f32>());
    Err(Memory { values, ..Memory::default() }.refused())
}

/// Whether the engine can run every op at these shapes.
///
/// A flattened feature map keeps its NHWC layout in memory: only elementwise ops and linear layers can read it. In a plan
/// with gradients, the position of a maximum in its window must fit a byte.
fn check_supported(graph: &Graph, shapes: &[Shape], mode: Mode) -> Result<(), EngineError> {
    let mut flat = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let reads_flat = node.inputs.iter().any(|input| flat[input.0]);
        let unsupported = match node.op {
            Op::Flatten => {
                let Shape { height, width, .. } = shapes[node.inputs[0].0];
                flat[index] = reads_flat || height * width > 1;
                continue;
            }
            _ if is_elementwise(&node.op) => {
                flat[index] = reads_flat;
                continue;
            }
            Op::Linear { .. } => continue,
            _ if reads_flat => "of a flattened feature map",
            Op::MaxPool2d(window) if mode != Mode::Infer && window.kernel.iter().product::<usize>() > 256 => {
                "with windows of more than 256 pixels, which has no gradient here"
            }
            _ => continue,
        };
        return Err(EngineError::Unsupported {
            node: node.name.clone(),
            op: format!("{} {unsupported}", node.op.name()),
        });
    }
    Ok(())
}

/// Whether an op is elementwise, and so independent of the layout.
fn is_elementwise(op: &Op) -> bool {
    match op {
        Op::Relu | Op::Gelu | Op::Sigmoid | Op::Dropout { .. } | Op::DropPath { .. } => true,
        Op::Input { .. } | Op::Conv2d(_) | Op::Linear { .. } | Op::Flatten | Op::PadShortcut { .. } => false,
        Op::BatchNorm2d { .. } | Op::LayerNorm { .. } | Op::LayerScale { .. } | Op::Gate | Op::Add | Op::Concat => {
            false
        }
        Op::MaxPool2d(_) | Op::AvgPool2d { .. } | Op::GlobalAvgPool | Op::AdaptiveAvgPool2d { .. } => false,
    }
}

/// See [`Plan::channels`]; `shapes` are those of shape inference.
fn channels_in_memory(graph: &Graph, shapes: &[Shape]) -> Vec<usize> {
    let mut channels: Vec<usize> = Vec::with_capacity(graph.nodes.len());
    for (node, shape) in graph.nodes.iter().zip(shapes) {
        channels.push(match node.op {
            Op::Flatten => channels[node.inputs[0].0],
            _ if is_elementwise(&node.op) => channels[node.inputs[0].0],
            _ => shape.channels,
        });
    }
    channels
}

/// The network's output, and the nodes that `outputs` name.
fn kept(graph: &Graph, outputs: &[&str]) -> Result<Vec<NodeId>, EngineError> {
    let mut kept = vec![graph.output];
    for &output in outputs {
        let expected = "a node of the graph";
        let node = graph.find(output).ok_or_else(|| EngineError::Node { name: output.into(), expected })?;
        if !kept.contains(&node) {
            kept.push(node);
        }
    }
    Ok(kept)
}

/// The offsets of packed weights and biases.
#[derive(Debug)]
pub(crate) struct Packed {
    /// In inference, the offsets of the packed weight and bias of each convolution.
    pub(crate) places: Vec<[Range<usize>; 2]>,
    /// Whether inference packs on use: then all weights share one offset, preceded by a buffer for weights that must first
    /// be converted to the engine's layout.
    pub(crate) on_use: bool,
    /// Floats in total.
    pub(crate) len: usize,
}

/// Training and inference with packing on use pack the weights of one convolution at a time, when it runs.
fn place_weights(graph: &Graph, mode: Mode, layers: &Layers, convs: &[Conv], options: &Options) -> Packed {
    let longest = |len: fn(&Conv) -> usize| convs.iter().map(len).max().unwrap_or(0);
    if mode != Mode::Infer {
        let len = longest(|conv| conv.packed_forward_len().max(conv.packed_backward_len()));
        return Packed { places: Vec::new(), on_use: false, len };
    }
    let mut end = 0;
    let mut reserve = |len: usize| {
        let start = end;
        end += len.next_multiple_of(16);
        start..start + len
    };
    let shared = options.pack_on_use.then(|| {
        reserve(longest(|conv| if conv.panel_width().is_some() { 0 } else { conv.shape().weight_len() }));
        reserve(longest(Conv::packed_forward_len)).start
    });
    let places = layers.convs.iter().zip(convs).map(|(&node, conv)| {
        let has_bias = graph.node(node).op.parameters().len() > 1;
        let bias_len = if has_bias { conv.shape().out_channels } else { 0 };
        let len = conv.packed_forward_len();
        let weight = shared.map_or_else(|| reserve(len), |start| start..start + len);
        [weight, reserve(bias_len)]
    });
    Packed { places: places.collect(), on_use: options.pack_on_use, len: end }
}

fn workspace_len(mode: Mode, batch: usize, convs: &[Conv], layers: &Layers, shapes: &[Shape], threads: usize) -> usize {
    let of_conv = |conv: &Conv| {
        let weights = if mode == Mode::Infer { 0 } else { conv.weights_workspace_len(batch, threads) };
        conv.workspace_len(threads).max(weights)
    };
    let widest = convs.iter().map(|conv| conv.shape().out_channels);
    let summed = layers.norms.iter().chain(&layers.layer_norms).chain(&layers.scales).chain(&layers.gates);
    let widest = widest.chain(summed.map(|node| shapes[node.0].channels)).max().unwrap_or(0);
    convs.iter().map(of_conv).max().unwrap_or(0).max(rows::workspace_len(widest))
}

fn statistics_len(batch: usize, schedule: &Schedule, convs: &[Conv]) -> usize {
    let len = |scheduled: &Scheduled| match scheduled.instruction {
        Instruction::ConvWithStatistics { conv, .. } => convs[conv].statistics_workspace_len(batch),
        _ => 0,
    };
    schedule.forward.iter().map(len).max().unwrap_or(0)
}

/// Floats of all parameters, of trainable parameters, and of running statistics, each tensor padded to whole cache lines.
fn parameters_len(graph: &Graph, frozen: &Frozen) -> [usize; 3] {
    let mut lens = [0; 3];
    for node in &graph.nodes {
        for spec in node.op.parameters() {
            let len = spec.shape.iter().product::<usize>().next_multiple_of(16);
            if spec.role.is_parameter() {
                lens[0] += len;
                lens[1] += if frozen.parameters.contains(&node.name) { 0 } else { len };
            } else if spec.role == Role::Buffer {
                lens[2] += len;
            }
        }
    }
    lens
}
