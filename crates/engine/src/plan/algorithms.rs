//! Chooses the algorithm of each convolution.

use super::schedule::Layers;
use crate::{Mode, Options};
use residual_graph::{Graph, NodeId, Op, Shape};
use residual_kernels::conv::{Algorithms, Conv, ConvShape, Elements};

/// The convolutions and linear layers of `graph`, planned for batches of `batch` images.
pub(crate) fn choose(
    graph: &Graph,
    layers: &Layers,
    shapes: &[Shape],
    mode: Mode,
    batch: usize,
    options: &Options,
) -> Vec<Conv> {
    let plan = |&node: &NodeId| {
        let shape = conv_shape(graph, node, shapes);
        if layers.bf16[node.0] {
            let algorithms = match options.low_memory || mode == Mode::Infer && options.inference.pack_on_use {
                true => Algorithms::DIRECT,
                false => Algorithms::choose_bf16(options.isa, &shape, batch),
            };
            let algorithms = match mode {
                Mode::Infer => Algorithms { forward: algorithms.forward, ..Algorithms::DIRECT },
                Mode::Train | Mode::Eval => algorithms,
            };
            return Conv::of_elements(options.isa, shape, algorithms, Elements::Bf16);
        }
        let expected = expected(options, mode, &shape, batch);
        let mut algorithms = match &options.tuning {
            _ if options.low_memory => Algorithms::untransformed(options.isa, &shape),
            Some(tuning) => tuning.algorithms(shape, batch, mode, options.packs_ahead(mode), expected),
            None => expected,
        };
        if mode == Mode::Infer {
            // Passes that are never run need no workspace.
            algorithms = Algorithms { forward: algorithms.forward, ..Algorithms::DIRECT };
        }
        Conv::with_algorithms(options.isa, shape, algorithms)
    };
    layers.convs.iter().map(plan).collect()
}

/// Minimum number of pixels per batch for Winograd in inference that packs on use.
const TRANSFORM_PIXELS: usize = 256;

/// The algorithms that are expected to be fastest for batches of `images`. The Winograd transform of the weights takes
/// about as long as multiplying them with some hundred pixels.
pub(crate) fn expected(options: &Options, mode: Mode, shape: &ConvShape, images: usize) -> Algorithms {
    let pixels = images * shape.output().iter().product::<usize>();
    if mode == Mode::Infer && options.inference.pack_on_use && pixels < TRANSFORM_PIXELS {
        return Algorithms::untransformed(options.isa, shape);
    }
    Algorithms::choose(options.isa, shape, images)
}

/// The extents of a convolution. A linear layer is a convolution over one pixel, or with a kernel as large as the
/// flattened feature map that it reads.
pub(crate) fn conv_shape(graph: &Graph, node: NodeId, shapes: &[Shape]) -> ConvShape {
    let input = shapes[graph.node(node).inputs[0].0];
    let size = [input.height, input.width];
    match graph.node(node).op {
        Op::Conv2d(conv) => ConvShape {
            input: size,
            in_channels: conv.in_channels,
            out_channels: conv.out_channels,
            kernel: conv.kernel,
            stride: conv.stride,
            padding: conv.padding,
            dilation: conv.dilation,
            groups: conv.groups,
        },
        Op::Linear { in_features, out_features, .. } => ConvShape {
            input: size,
            in_channels: input.channels,
            out_channels: out_features,
            kernel: if in_features == input.channels { [1; 2] } else { size },
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
        },
        _ => unreachable!("called for convolutions and linear layers"),
    }
}
