//! Compiles a model to a plan, pass by pass: fold, fuse, choose algorithms, choose stored activations, schedule, choose the
//! layers that run depth first, place buffers. Nothing is allocated or run yet.

use super::algorithms::{choose, conv_shape};
use super::checkpoint;
use super::depth_first::{self, DepthFirst};
use super::fuse::fuse;
use super::planned::{Packing, PlannedLayers};
use super::schedule::{Layers, Schedule, can_be_bf16, schedule};
use super::{Instruction, Scheduled};
use crate::arena::{BufferId, Places};
use crate::parameters::{ParameterLayout, Scales};
use crate::{EngineError, Memory, Mode, Options};
use residual_graph::{Graph, Node, NodeId, Op, Shape};
use residual_kernels::conv::{Conv, ConvShape, Elements};
use residual_kernels::{Isa, rows};
use residual_model::{Model, fold_batch_norm_but_scales, unpack_weights};
use residual_tensor::NamedTensors;
use std::borrow::Cow;
use std::sync::Arc;

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
pub(crate) fn fold<'a>(model: &'a Model, mode: Mode, outputs: &[&str]) -> Folded<'a> {
    if mode == Mode::Infer {
        let mut folded = fold_batch_norm_but_scales(model, outputs);
        unpack_weights(&mut folded.graph, &mut folded.tensors);
        let (graph, tensors) = (Cow::Owned(folded.graph), Cow::Owned(folded.tensors));
        return Folded { graph, tensors, scales: folded.scales };
    }
    Folded { graph: Cow::Borrowed(&model.graph), tensors: Cow::Borrowed(&model.tensors), scales: Scales::new() }
}

/// A compiled graph: the instructions in order, their layers, and the offset of each value. Sessions share it: nothing in it
/// changes when they run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) isa: Isa,
    /// Maximum number of images.
    pub(crate) batch: usize,
    /// Values of an image.
    pub(crate) image_len: usize,
    pub(crate) forward: Vec<Scheduled>,
    pub(crate) backward: Vec<Scheduled>,
    /// The early layers that run depth first, for a part of the batch at a time.
    pub(crate) depth_first: Option<DepthFirst>,
    /// The input image.
    pub(crate) input: BufferId,
    /// The network's output first, then the other requested nodes.
    pub(crate) kept: Vec<Kept>,
    /// The nodes that were requested.
    pub(crate) outputs: Vec<String>,
    pub(crate) places: Places,
    pub(crate) layers: PlannedLayers,
    pub(crate) parameters: Arc<ParameterLayout>,
    /// The first batch norm over a single pixel, which cannot be trained on one image.
    pub(crate) single_pixel_norm: Option<String>,
    /// The most channels that a kernel sums over the pixels of a batch.
    widest_sum: usize,
    /// Floats for the statistics that a convolution computes for the following batch norm.
    pub(crate) statistics_len: usize,
}

/// A node whose value stays readable, and can be given a gradient.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) value: BufferId,
    pub(crate) seed: Option<BufferId>,
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
        let shapes = shapes_in_memory(graph, &logical);
        check_addressable(&shapes, batch)?;
        let layers = Layers::of(graph, |node| match mode {
            Mode::Infer => options.inference.elements == Elements::Bf16 && can_be_bf16(&node.op, false),
            Mode::Train | Mode::Eval => {
                let reads_images = node.inputs.iter().all(|input| input.0 == 0);
                let has_gradient = !reads_images || kept.contains(&NodeId(0));
                options.gradients.elements == Elements::Bf16 && can_be_bf16(&node.op, has_gradient)
            }
        });
        check_padded(graph, &layers, &shapes)?;
        let convs = choose(graph, &layers, &shapes, mode, batch, options);
        let stored = match options.gradients.checkpointing && mode != Mode::Infer {
            true => checkpoint::stored(&fused, &shapes, &kept),
            false => vec![true; graph.nodes.len()],
        };
        let frozen = &options.gradients.frozen;
        let mut schedule = schedule(graph, &fused, &layers, &shapes, mode, &kept, stored, frozen);
        let all_floats = layers.quantized.is_empty() && !layers.bf16.contains(&true);
        let depth_first = match options.packs_ahead(mode) && all_floats {
            true => depth_first::choose(&mut schedule, &convs, batch),
            false => None,
        };
        let is_single_pixel = |node: &&NodeId| {
            let takes_statistics = !frozen.statistics.contains(&graph.node(**node).name);
            takes_statistics && shapes[node.0].height * shapes[node.0].width == 1
        };
        let single_pixel_norm = layers.norms.iter().find(is_single_pixel).map(|&node| graph.node(node).name.clone());
        let summed = layers.norms.iter().chain(&layers.layer_norms).chain(&layers.scales).chain(&layers.gates);
        let widest_sum = summed.map(|node| shapes[node.0].channels).max().unwrap_or(0);
        let statistics_len = statistics_len(batch, &schedule, &convs);
        let channels: Vec<usize> = shapes.iter().map(|shape| shape.channels).collect();
        let is_trained = |node: &Node| mode != Mode::Infer && !frozen.parameters.contains(&node.name);
        let without_filters = mode == Mode::Infer && options.inference.pack_on_use;
        let parameters = ParameterLayout::new(graph, &channels, without_filters, is_trained);
        let layers = PlannedLayers::new(graph, &layers, &fused, convs, &shapes, &channels, &parameters, mode, options);
        let keep = |&(node, value, seed): &(NodeId, BufferId, Option<BufferId>)| Kept {
            name: graph.node(node).name.clone(),
            shape: shapes[node.0],
            value,
            seed,
        };
        Ok(Self {
            mode,
            isa: options.isa,
            batch,
            image_len: shapes[0].len(),
            places: Places::new(&schedule.buffers, batch),
            kept: schedule.kept.iter().map(keep).collect(),
            outputs: outputs.iter().map(|&name| name.to_owned()).collect(),
            forward: schedule.forward,
            backward: schedule.backward,
            input: schedule.input,
            depth_first,
            layers,
            parameters: Arc::new(parameters),
            single_pixel_norm,
            widest_sum,
            statistics_len,
        })
    }

    /// Floats of workspace for so many threads.
    pub(crate) fn workspace_len(&self, threads: usize) -> usize {
        let of_conv = |conv: &Conv| {
            let weights = if self.mode == Mode::Infer { 0 } else { conv.weights_workspace_len(self.batch, threads) };
            conv.workspace_len(threads).max(weights)
        };
        let convs = || self.layers.convs.iter().map(|planned| &planned.conv);
        let quantized = self.layers.quantized.iter().map(|planned| planned.conv.workspace_len(threads)).max();
        let widest = convs().map(|conv| conv.shape().out_channels).fold(self.widest_sum, usize::max);
        convs().map(of_conv).max().max(quantized).unwrap_or(0).max(rows::workspace_len(widest))
    }

    /// The memory of an engine for this plan with so many threads, in bytes.
    pub(crate) fn memory(&self, threads: usize) -> Memory {
        let bytes = |floats: usize| floats.saturating_mul(size_of::<f32>());
        let Packing { on_use, kept, conversion, current } = self.layers.packing;
        let filters = || self.layers.convs.iter().map(|planned| planned.conv.shape().weight_len()).sum();
        Memory {
            values: self.places.len(),
            packed: bytes(kept.saturating_add(conversion).saturating_add(current)),
            workspace: bytes(self.workspace_len(threads).saturating_add(self.statistics_len)),
            parameters: match self.mode {
                Mode::Infer if on_use => bytes(filters()),
                Mode::Infer => 0,
                Mode::Train | Mode::Eval => self.parameters.bytes(),
            },
        }
    }
}

/// The maximum number of floats that a process can address on current processors (47-bit addresses).
const ADDRESSABLE: usize = 1 << 45;
/// No vector has more floats.
const MOST_LANES: usize = 16;

/// Whether the largest value of a batch can be addressed at all. After this check, sizes of single values do not overflow.
fn check_addressable(shapes: &[Shape], batch: usize) -> Result<(), EngineError> {
    let largest = shapes.iter().map(Shape::len).max().unwrap_or(0).saturating_mul(batch);
    if largest <= ADDRESSABLE {
        return Ok(());
    }
    let values = largest.saturating_mul(size_of::<f32>());
    Err(Memory { values, ..Memory::default() }.refused())
}

/// Whether the workspace of each quantised convolution can be addressed, which holds its input with the padding around it: at most
/// a vector for each channel.
fn check_padded(graph: &Graph, layers: &Layers, shapes: &[Shape]) -> Result<(), EngineError> {
    for &node in &layers.quantized {
        let ConvShape { input, padding, in_channels, .. } = conv_shape(graph, node, shapes);
        let padded = |axis: usize| input[axis].saturating_add(2 * padding[axis]);
        let len = [padded(1), in_channels, MOST_LANES].into_iter().fold(padded(0), usize::saturating_mul);
        if len > ADDRESSABLE {
            let workspace = len.saturating_mul(size_of::<f32>());
            return Err(Memory { workspace, ..Memory::default() }.refused());
        }
    }
    Ok(())
}

/// Whether the engine can run every op at these shapes.
///
/// A flattened feature map keeps its NHWC layout in memory: only elementwise ops and linear layers can read it. In a plan
/// with gradients, the position of a maximum in its window must fit a byte, and nothing may be quantised.
fn check_supported(graph: &Graph, shapes: &[Shape], mode: Mode) -> Result<(), EngineError> {
    let mut flat = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let reads_flat = node.inputs.iter().any(|input| flat[input.0]);
        let unsupported = match node.op {
            Op::Quantize | Op::QuantizeDynamic if mode != Mode::Infer => "in a plan with gradients",
            ref op if mode != Mode::Infer && op.is_quantized() => "of bytes in a plan with gradients",
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
        Op::Quantize | Op::QuantizeDynamic => true,
        Op::Input { .. } | Op::Conv2d(_) | Op::Linear { .. } | Op::Flatten | Op::PadShortcut { .. } => false,
        Op::BatchNorm2d { .. } | Op::LayerNorm { .. } | Op::LayerScale { .. } | Op::Gate | Op::Add | Op::Concat => {
            false
        }
        Op::MaxPool2d(_) | Op::AvgPool2d { .. } | Op::GlobalAvgPool | Op::AdaptiveAvgPool2d { .. } => false,
    }
}

/// The shape of every node's value in memory, given those of shape inference: a flattened feature map stays a feature map, and so does
/// what is computed from it element by element.
fn shapes_in_memory(graph: &Graph, shapes: &[Shape]) -> Vec<Shape> {
    let mut in_memory: Vec<Shape> = Vec::with_capacity(graph.nodes.len());
    for (node, shape) in graph.nodes.iter().zip(shapes) {
        let keeps = node.op == Op::Flatten || is_elementwise(&node.op);
        in_memory.push(if keeps { in_memory[node.inputs[0].0] } else { *shape });
    }
    in_memory
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

fn statistics_len(batch: usize, schedule: &Schedule, convs: &[Conv]) -> usize {
    let len = |scheduled: &Scheduled| match scheduled.instruction {
        Instruction::ConvWithStatistics { conv, .. } => convs[conv.0].statistics_workspace_len(batch),
        _ => 0,
    };
    schedule.forward.iter().map(len).max().unwrap_or(0)
}
