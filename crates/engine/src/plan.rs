//! The instructions of a plan, and the passes that compile them (see [`compile`]).

mod algorithms;
mod checkpoint;
mod compile;
mod depth_first;
mod fuse;
mod planned;
mod schedule;
mod summary;

pub(crate) use algorithms::expected;
pub(crate) use compile::{Folded, Kept, Plan, compile_model, fold};
pub(crate) use depth_first::DepthFirst;
pub(crate) use planned::{
    Packing, ParameterPlace, PlannedLayerNorm, PlannedNorm, PlannedQuantization, PlannedQuantizedConv,
};
pub use summary::{Kind, Pass, PlanStep, PlanSummary};

use crate::arena::BufferId;
use fuse::{Fused, Head, Step};
use residual_graph::{NodeId, Pool2d};
use residual_kernels::conv::{Direction, Elements};
use residual_kernels::pool::{AdaptiveShape, PoolShape};

/// The index of a convolution (or linear layer) among those of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConvId(pub(crate) usize);
/// The index of a batch norm among those of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NormId(pub(crate) usize);
/// The index of a layer norm among those of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerNormId(pub(crate) usize);
/// The index of a layer scale among those of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerScaleId(pub(crate) usize);

/// The index of a quantised convolution (or linear layer) among those of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuantizedConvId(pub(crate) usize);
/// The index of a quantisation, a scale and a zero point, among those of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuantizationId(pub(crate) usize);

/// An instruction, the node whose step it belongs to, and what is known about it.
#[derive(Clone, Debug)]
pub(crate) struct Scheduled {
    pub(crate) node: NodeId,
    pub(crate) instruction: Instruction,
    pub(crate) facts: Facts,
}

impl Scheduled {
    pub(crate) fn new(node: NodeId, pass: Pass, instruction: Instruction) -> Self {
        Self { node, facts: instruction.facts(pass), instruction }
    }
}

/// What the compiler and its reports know about an instruction.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// A short name of the operation.
    pub(crate) label: &'static str,
    /// The kind of its op.
    pub(crate) kind: Kind,
    /// The kind of its result: a value, the gradient of one, or gradients of parameters.
    pub(crate) direction: Direction,
    /// The convolution that it computes a pass of.
    pub(crate) conv: Option<ConvId>,
    /// Every buffer that it reads or writes.
    pub(crate) buffers: Vec<BufferId>,
    /// The buffer of its result; `None` if that is gradients of parameters.
    pub(crate) result: Option<BufferId>,
}

/// One kernel call or a few that belong together. Buffers are named as in the kernels.
#[derive(Clone, Debug)]
pub(crate) enum Instruction {
    /// y = conv(x) + bias, + add, ReLU; all three in the convolution's elements.
    Conv { conv: ConvId, x: BufferId, add: Option<BufferId>, relu: bool, y: BufferId },
    /// y = conv(x) + bias, + add, ReLU, where x and what is added are bytes, and y is bytes or floats.
    QuantizedConv { conv: QuantizedConvId, x: BufferId, add: Option<BufferId>, y: BufferId },
    /// y = the bytes nearest to the floats of x.
    Quantize { quantization: QuantizationId, channels: usize, x: BufferId, y: BufferId },
    /// y = the bytes nearest to the floats of x in the range of the batch, which the session keeps.
    QuantizeDynamic { quantization: QuantizationId, channels: usize, x: BufferId, y: BufferId },
    /// y = the floats that the bytes of x mean.
    Dequantize { quantization: QuantizationId, channels: usize, x: BufferId, y: BufferId },
    /// y = the bf16 nearest to the floats of x, or to their sums with y.
    Round { channels: usize, x: BufferId, accumulate: bool, y: BufferId },
    /// y = the bf16 of x as floats, or y += them.
    Widen { channels: usize, x: BufferId, accumulate: bool, y: BufferId },
    /// y = conv(x) + bias, and the statistics of y for the following batch norm.
    ConvWithStatistics { conv: ConvId, norm: NormId, x: BufferId, y: BufferId },
    /// y = batch norm of x, + add, ReLU. It first `takes_statistics` of x in training, unless a convolution computed them
    /// or this is a recomputation.
    BatchNorm {
        norm: NormId,
        elements: Elements,
        takes_statistics: bool,
        x: BufferId,
        add: Option<BufferId>,
        relu: bool,
        y: BufferId,
    },
    /// y = layer norm of x.
    LayerNorm { norm: LayerNormId, x: BufferId, y: BufferId },
    /// y = x · factors, + add, ReLU.
    Scale { factors: Factors, x: BufferId, add: Option<BufferId>, relu: bool, y: BufferId },
    /// y = f(x), element by element.
    Activate { activation: Activation, elements: Elements, x: BufferId, y: BufferId },
    /// y = max(x, 0).
    Relu { elements: Elements, x: BufferId, y: BufferId },
    /// y = x, or y += x.
    Copy { elements: Elements, x: BufferId, accumulate: bool, y: BufferId },
    /// y = max(y + x, 0).
    AccumulateRelu { elements: Elements, x: BufferId, y: BufferId },
    /// y = 0.
    Zero { y: BufferId },
    /// y = zero in bytes.
    ZeroBytes { quantization: QuantizationId, y: BufferId },
    /// As [`Instruction::CopyChannels`], of bytes.
    CopyChannelsOfBytes { x: BufferId, slice: Slice, y: BufferId },
    /// Some channels of y = some channels of every `stride`-th pixel of x.
    CopyChannels { elements: Elements, x: BufferId, slice: Slice, y: BufferId },
    /// y = maxima of x; `index` gets their positions in the windows, for the backward pass.
    MaxPool { pool: Pooling, elements: Elements, x: BufferId, index: Option<BufferId>, y: BufferId },
    /// y = maxima of the bytes of x.
    MaxPoolOfBytes { pool: Pooling, x: BufferId, y: BufferId },
    /// y = means, in floats, of what the bytes of x mean over all pixels.
    GlobalAvgPoolOfBytes { quantization: QuantizationId, pixels: usize, channels: usize, x: BufferId, y: BufferId },
    /// y = means of x over windows.
    AvgPool { pool: Pooling, count_include_pad: bool, x: BufferId, y: BufferId },
    /// y = means of x over as many windows as y has pixels.
    AdaptiveAvgPool { pool: AdaptiveShape, x: BufferId, y: BufferId },
    /// y = means of x over all pixels, in floats.
    GlobalAvgPool { elements: Elements, pixels: usize, channels: usize, x: BufferId, y: BufferId },
    /// y = x with some elements dropped; its own gradient. `node` and the engine's seed determine which.
    Dropout { node: usize, p: f32, x: BufferId, accumulate: bool, y: BufferId },
    /// y = x with some images dropped; its own gradient. `node` and the engine's seed determine which.
    DropPath { node: usize, p: f32, x: BufferId, accumulate: bool, y: BufferId },
    /// The gradients of weights and bias.
    ConvWeights { conv: ConvId, x: BufferId, dy: BufferId },
    /// dx = the gradient of a convolution's input (backward data).
    ConvData { conv: ConvId, dy: BufferId, accumulate: bool, dx: BufferId },
    /// The sums over dy, and the gradients of weight and bias.
    BatchNormSums { norm: NormId, elements: Elements, x: BufferId, mask: Mask, dy: BufferId },
    /// dx from dy; in place if `dy` is `dx`. With `masked`, dy counts as zero where the batch norm's result is not
    /// positive.
    BatchNormData {
        norm: NormId,
        elements: Elements,
        masked: bool,
        x: BufferId,
        dy: BufferId,
        accumulate: bool,
        dx: BufferId,
    },
    /// dx from dy, and the gradients of weight and bias.
    LayerNormBackward { norm: LayerNormId, x: BufferId, dy: BufferId, accumulate: bool, dx: BufferId },
    /// dx = dy · factors.
    ScaleData { factors: Factors, dy: BufferId, accumulate: bool, dx: BufferId },
    /// The gradient of a layer scale's factors.
    LayerScaleSums { scale: LayerScaleId, x: BufferId, dy: BufferId },
    /// The gradient of a gate.
    GateSums { channels: usize, x: BufferId, dy: BufferId, accumulate: bool, dgate: BufferId },
    /// dy · f′, in place. `value` is what the activation's gradient is a function of.
    ActivateBackward { activation: Activation, elements: Elements, value: BufferId, dy: BufferId },
    /// dy = 0 where y is not positive.
    ReluBackward { elements: Elements, y: BufferId, dy: BufferId },
    /// The gradient of [`Instruction::CopyChannels`], added to dx.
    CopyChannelsBackward { elements: Elements, dy: BufferId, slice: Slice, dx: BufferId },
    /// dx from dy: each gradient is added at the position of the maximum, given by `index`.
    MaxPoolBackward { pool: Pooling, elements: Elements, index: BufferId, dy: BufferId, accumulate: bool, dx: BufferId },
    /// The gradient of [`Instruction::AvgPool`].
    AvgPoolBackward { pool: Pooling, count_include_pad: bool, dy: BufferId, accumulate: bool, dx: BufferId },
    /// The gradient of [`Instruction::AdaptiveAvgPool`].
    AdaptiveAvgPoolBackward { pool: AdaptiveShape, dy: BufferId, accumulate: bool, dx: BufferId },
    /// The gradient of [`Instruction::GlobalAvgPool`]; dy is floats.
    GlobalAvgPoolBackward {
        elements: Elements,
        pixels: usize,
        channels: usize,
        dy: BufferId,
        accumulate: bool,
        dx: BufferId,
    },
}

/// The source of the factors of each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factors {
    /// A layer scale: factors shared by all pixels and images.
    LayerScale(LayerScaleId),
    /// A gate: a value with factors per image.
    Gate(BufferId),
}

/// An elementwise function other than ReLU, which is fused into other steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// Its gradient is a function of its argument.
    Gelu,
    /// Its gradient is a function of its result.
    Sigmoid,
}

impl Activation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Activation::Gelu => "gelu",
            Activation::Sigmoid => "sigmoid",
        }
    }
}

/// The ReLU mask of a batch norm's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// No ReLU.
    None,
    /// dy = 0 where this value, the ReLU's, is not positive.
    Value(BufferId),
    /// dy is masked where x, normalised again, is not positive: cheaper than reading the ReLU's value.
    Again,
}

/// The windows and extents of a pooling op.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pooling {
    pub(crate) window: Pool2d,
    pub(crate) input: [usize; 2],
    pub(crate) channels: usize,
}

/// What a value is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Values(Elements),
    /// Quantised.
    Bytes,
}

impl Form {
    pub(crate) const FLOATS: Self = Self::Values(Elements::F32);
    pub(crate) const BF16: Self = Self::Values(Elements::Bf16);

    /// The elements of values with gradients, which are never bytes.
    pub(crate) fn elements(self) -> Elements {
        match self {
            Form::Values(elements) => elements,
            Form::Bytes => unreachable!("a plan with gradients has no bytes"),
        }
    }
}

impl Pooling {
    /// The description for the kernels.
    pub(crate) fn shape(self) -> PoolShape {
        let Self { window, input, channels } = self;
        let Pool2d { kernel, stride, padding, ceil_mode } = window;
        PoolShape { input, channels, kernel, stride, padding, ceil_mode }
    }
}

/// Which channels and pixels [`Instruction::CopyChannels`] copies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    pub(crate) size: [usize; 2],
    pub(crate) stride: usize,
    pub(crate) x_channels: usize,
    pub(crate) y_channels: usize,
    pub(crate) y_offset: usize,
}

impl Instruction {
    /// What is known about it in a pass; the backward pass also has instructions of the forward pass, which recompute values.
    fn facts(&self, pass: Pass) -> Facts {
        use Direction::{BackwardData, BackwardWeights, Forward};
        use Instruction::*;
        // These move values in the forward pass and gradients in the backward pass.
        let moved = match pass {
            Pass::Forward => Forward,
            Pass::Backward => BackwardData,
        };
        let facts = |label, kind, direction, reads: &[Option<BufferId>], result: Option<BufferId>| Facts {
            label,
            kind,
            direction,
            conv: None,
            buffers: reads.iter().copied().chain([result]).flatten().collect(),
            result,
        };
        let other = |label, direction, reads: &[BufferId], result| {
            facts(label, Kind::Other, direction, &reads.iter().copied().map(Some).collect::<Vec<_>>(), Some(result))
        };
        let norm =
            |label, direction, reads: &[Option<BufferId>], result| facts(label, Kind::Norm, direction, reads, result);
        let conv = |conv, label, direction, reads: &[Option<BufferId>], result| Facts {
            conv: Some(conv),
            ..facts(label, Kind::Convolution, direction, reads, result)
        };
        let by = |factors: Factors| match factors {
            Factors::Gate(gate) => ("gate", Some(gate)),
            Factors::LayerScale(_) => ("layer scale", None),
        };
        match *self {
            Conv { conv: id, x, add, y, .. } => conv(id, "convolution", Forward, &[Some(x), add], Some(y)),
            ConvWithStatistics { conv: id, x, y, .. } => conv(id, "convolution", Forward, &[Some(x)], Some(y)),
            QuantizedConv { x, add, y, .. } => {
                facts("int8 convolution", Kind::Convolution, Forward, &[Some(x), add], Some(y))
            }
            Quantize { x, y, .. } | QuantizeDynamic { x, y, .. } => other("quantize", Forward, &[x], y),
            Dequantize { x, y, .. } => other("dequantize", Forward, &[x], y),
            Round { x, y, .. } => other("round to bf16", moved, &[x], y),
            Widen { x, y, .. } => other("widen bf16", moved, &[x], y),
            ZeroBytes { y, .. } => other("zero", Forward, &[], y),
            CopyChannelsOfBytes { x, y, .. } => other("copy channels", Forward, &[x], y),
            MaxPoolOfBytes { x, y, .. } => other("max pool", Forward, &[x], y),
            GlobalAvgPoolOfBytes { x, y, .. } => other("global average pool", Forward, &[x], y),
            ConvData { conv: id, dy, dx, .. } => conv(id, "data", BackwardData, &[Some(dy)], Some(dx)),
            ConvWeights { conv: id, x, dy } => conv(id, "weights", BackwardWeights, &[Some(x), Some(dy)], None),
            BatchNorm { x, add, y, .. } => norm("batch norm", Forward, &[Some(x), add], Some(y)),
            BatchNormSums { x, mask, dy, .. } => {
                let value = if let Mask::Value(value) = mask { Some(value) } else { None };
                norm("batch norm sums", BackwardWeights, &[Some(x), value, Some(dy)], None)
            }
            BatchNormData { x, dy, dx, .. } => norm("batch norm data", BackwardData, &[Some(x), Some(dy)], Some(dx)),
            LayerNorm { x, y, .. } => norm("layer norm", Forward, &[Some(x)], Some(y)),
            LayerNormBackward { x, dy, dx, .. } => norm("layer norm", BackwardData, &[Some(x), Some(dy)], Some(dx)),
            Scale { factors, x, add, y, .. } => {
                let (label, gate) = by(factors);
                facts(label, Kind::Other, Forward, &[gate, Some(x), add], Some(y))
            }
            ScaleData { factors, dy, dx, .. } => {
                let (label, gate) = by(factors);
                facts(label, Kind::Other, BackwardData, &[gate, Some(dy)], Some(dx))
            }
            LayerScaleSums { x, dy, .. } => {
                facts("layer scale sums", Kind::Other, BackwardWeights, &[Some(x), Some(dy)], None)
            }
            GateSums { x, dy, dgate, .. } => other("gate sums", BackwardData, &[x, dy], dgate),
            Activate { activation, x, y, .. } => other(activation.name(), Forward, &[x], y),
            ActivateBackward { activation, value, dy, .. } => other(activation.name(), BackwardData, &[value], dy),
            Relu { x, y, .. } | AccumulateRelu { x, y, .. } => other("relu", Forward, &[x], y),
            ReluBackward { y, dy, .. } => other("relu", BackwardData, &[y], dy),
            Copy { x, accumulate: false, y, .. } => other("copy", moved, &[x], y),
            Copy { x, accumulate: true, y, .. } => other("add", moved, &[x], y),
            Zero { y } => other("zero", moved, &[], y),
            Dropout { x, y, .. } => other("dropout", moved, &[x], y),
            DropPath { x, y, .. } => other("drop path", moved, &[x], y),
            CopyChannels { x, y, .. } => other("copy channels", Forward, &[x], y),
            CopyChannelsBackward { dy, dx, .. } => other("copy channels", BackwardData, &[dy], dx),
            MaxPool { x, index, y, .. } => facts("max pool", Kind::Other, Forward, &[Some(x), index], Some(y)),
            MaxPoolBackward { index, dy, dx, .. } => other("max pool", BackwardData, &[index, dy], dx),
            AvgPool { x, y, .. } => other("average pool", Forward, &[x], y),
            AvgPoolBackward { dy, dx, .. } => other("average pool", BackwardData, &[dy], dx),
            AdaptiveAvgPool { x, y, .. } => other("adaptive average pool", Forward, &[x], y),
            AdaptiveAvgPoolBackward { dy, dx, .. } => other("adaptive average pool", BackwardData, &[dy], dx),
            GlobalAvgPool { x, y, .. } => other("global average pool", Forward, &[x], y),
            GlobalAvgPoolBackward { dy, dx, .. } => other("global average pool", BackwardData, &[dy], dx),
        }
    }
}
