//! The instructions of a plan, and the passes that compile them (see [`compile`]).

mod algorithms;
mod checkpoint;
mod compile;
mod depth_first;
mod fuse;
mod schedule;
mod summary;

pub(crate) use algorithms::expected;
pub(crate) use compile::{Folded, Plan, compile_model};
pub(crate) use depth_first::DepthFirst;
pub use summary::{Kind, Pass, PlanStep, PlanSummary};

use crate::arena::BufferId;
use fuse::{Fused, Head, Step};
use residual_graph::{NodeId, Pool2d};
use residual_kernels::conv::Direction;
use residual_kernels::pool::{AdaptiveShape, PoolShape};

/// The index of a convolution (or linear layer) among those of the plan.
pub(crate) type ConvId = usize;
/// The index of a batch norm among those of the plan.
pub(crate) type NormId = usize;
/// The index of a layer norm among those of the plan.
pub(crate) type LayerNormId = usize;
/// The index of a layer scale among those of the plan.
pub(crate) type LayerScaleId = usize;

/// An instruction, and the node whose step it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Scheduled {
    pub(crate) node: NodeId,
    pub(crate) instruction: Instruction,
}

/// One kernel call or a few that belong together. Buffers are named as in the kernels.
#[derive(Clone, Debug)]
pub(crate) enum Instruction {
    /// y = conv(x) + bias, + add, ReLU.
    Conv { conv: ConvId, x: BufferId, add: Option<BufferId>, relu: bool, y: BufferId },
    /// y = conv(x) + bias, and the statistics of y for the following batch norm.
    ConvWithStatistics { conv: ConvId, norm: NormId, x: BufferId, y: BufferId },
    /// y = batch norm of x, + add, ReLU. It first `takes_statistics` of x in training, unless a convolution computed them
    /// or this is a recomputation.
    BatchNorm { norm: NormId, takes_statistics: bool, x: BufferId, add: Option<BufferId>, relu: bool, y: BufferId },
    /// y = layer norm of x.
    LayerNorm { norm: LayerNormId, x: BufferId, y: BufferId },
    /// y = x · factors, + add, ReLU.
    Scale { factors: Factors, x: BufferId, add: Option<BufferId>, relu: bool, y: BufferId },
    /// y = f(x), element by element.
    Activate { activation: Activation, x: BufferId, y: BufferId },
    /// y = max(x, 0).
    Relu { x: BufferId, y: BufferId },
    /// y = x, or y += x.
    Copy { x: BufferId, accumulate: bool, y: BufferId },
    /// y = max(y + x, 0).
    AccumulateRelu { x: BufferId, y: BufferId },
    /// y = 0.
    Zero { y: BufferId },
    /// Some channels of y = some channels of every `stride`-th pixel of x.
    CopyChannels { x: BufferId, slice: Slice, y: BufferId },
    /// y = maxima of x; `index` gets their positions in the windows, for the backward pass.
    MaxPool { pool: Pooling, x: BufferId, index: Option<BufferId>, y: BufferId },
    /// y = means of x over windows.
    AvgPool { pool: Pooling, count_include_pad: bool, x: BufferId, y: BufferId },
    /// y = means of x over as many windows as y has pixels.
    AdaptiveAvgPool { pool: AdaptiveShape, x: BufferId, y: BufferId },
    /// y = means of x over all pixels.
    GlobalAvgPool { pixels: usize, channels: usize, x: BufferId, y: BufferId },
    /// y = x with some elements dropped; its own gradient. `node` and the engine's seed determine which.
    Dropout { node: usize, p: f32, x: BufferId, accumulate: bool, y: BufferId },
    /// y = x with some images dropped; its own gradient. `node` and the engine's seed determine which.
    DropPath { node: usize, p: f32, x: BufferId, accumulate: bool, y: BufferId },
    /// The gradients of weights and bias.
    ConvWeights { conv: ConvId, x: BufferId, dy: BufferId },
    /// dx = the gradient of a convolution's input (backward data).
    ConvData { conv: ConvId, dy: BufferId, accumulate: bool, dx: BufferId },
    /// The sums over dy, and the gradients of weight and bias.
    BatchNormSums { norm: NormId, x: BufferId, mask: Mask, dy: BufferId },
    /// dx from dy; in place if `dy` is `dx`. With `masked`, dy counts as zero where the batch norm's result is not
    /// positive.
    BatchNormData { norm: NormId, masked: bool, x: BufferId, dy: BufferId, accumulate: bool, dx: BufferId },
    /// dx from dy, and the gradients of weight and bias.
    LayerNormBackward { norm: LayerNormId, x: BufferId, dy: BufferId, accumulate: bool, dx: BufferId },
    /// dx = dy · factors.
    ScaleData { factors: Factors, dy: BufferId, accumulate: bool, dx: BufferId },
    /// The gradient of a layer scale's factors.
    LayerScaleSums { scale: LayerScaleId, x: BufferId, dy: BufferId },
    /// The gradient of a gate.
    GateSums { channels: usize, x: BufferId, dy: BufferId, accumulate: bool, dgate: BufferId },
    /// dy · f′, in place. `value` is what the activation's gradient is a function of.
    ActivateBackward { activation: Activation, value: BufferId, dy: BufferId },
    /// dy = 0 where y is not positive.
    ReluBackward { y: BufferId, dy: BufferId },
    /// The gradient of [`Instruction::CopyChannels`], added to dx.
    CopyChannelsBackward { dy: BufferId, slice: Slice, dx: BufferId },
    /// dx from dy: each gradient is added at the position of the maximum, given by `index`.
    MaxPoolBackward { pool: Pooling, index: BufferId, dy: BufferId, accumulate: bool, dx: BufferId },
    /// The gradient of [`Instruction::AvgPool`].
    AvgPoolBackward { pool: Pooling, count_include_pad: bool, dy: BufferId, accumulate: bool, dx: BufferId },
    /// The gradient of [`Instruction::AdaptiveAvgPool`].
    AdaptiveAvgPoolBackward { pool: AdaptiveShape, dy: BufferId, accumulate: bool, dx: BufferId },
    /// The gradient of [`Instruction::GlobalAvgPool`].
    GlobalAvgPoolBackward { pixels: usize, channels: usize, dy: BufferId, accumulate: bool, dx: BufferId },
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
    /// A short name of the operation.
    pub(crate) fn work(&self) -> &'static str {
        use Instruction::*;
        match self {
            Conv { .. } | ConvWithStatistics { .. } => "convolution",
            BatchNorm { .. } => "batch norm",
            LayerNorm { .. } | LayerNormBackward { .. } => "layer norm",
            Scale { factors: Factors::LayerScale(_), .. } | ScaleData { factors: Factors::LayerScale(_), .. } => {
                "layer scale"
            }
            Scale { factors: Factors::Gate(_), .. } | ScaleData { factors: Factors::Gate(_), .. } => "gate",
            LayerScaleSums { .. } => "layer scale sums",
            GateSums { .. } => "gate sums",
            Activate { activation, .. } | ActivateBackward { activation, .. } => activation.name(),
            Relu { .. } | AccumulateRelu { .. } => "relu",
            Copy { accumulate: false, .. } => "copy",
            Copy { accumulate: true, .. } => "add",
            Zero { .. } => "zero",
            CopyChannels { .. } | CopyChannelsBackward { .. } => "copy channels",
            MaxPool { .. } | MaxPoolBackward { .. } => "max pool",
            AvgPool { .. } | AvgPoolBackward { .. } => "average pool",
            AdaptiveAvgPool { .. } | AdaptiveAvgPoolBackward { .. } => "adaptive average pool",
            GlobalAvgPool { .. } | GlobalAvgPoolBackward { .. } => "global average pool",
            Dropout { .. } => "dropout",
            DropPath { .. } => "drop path",
            ConvWeights { .. } => "weights",
            ConvData { .. } => "data",
            BatchNormSums { .. } => "batch norm sums",
            BatchNormData { .. } => "batch norm data",
            ReluBackward { .. } => "relu",
        }
    }

    /// The kind of its op.
    pub(crate) fn kind(&self) -> Kind {
        use Instruction::*;
        match self {
            Conv { .. } | ConvWithStatistics { .. } | ConvWeights { .. } | ConvData { .. } => Kind::Convolution,
            BatchNorm { .. } | BatchNormSums { .. } | BatchNormData { .. } => Kind::Norm,
            LayerNorm { .. } | LayerNormBackward { .. } => Kind::Norm,
            Scale { .. } | ScaleData { .. } | LayerScaleSums { .. } | GateSums { .. } => Kind::Other,
            Activate { .. } | ActivateBackward { .. } | Relu { .. } | ReluBackward { .. } => Kind::Other,
            Copy { .. } | AccumulateRelu { .. } | Zero { .. } => Kind::Other,
            CopyChannels { .. } | CopyChannelsBackward { .. } | Dropout { .. } | DropPath { .. } => Kind::Other,
            MaxPool { .. } | AvgPool { .. } | AdaptiveAvgPool { .. } | GlobalAvgPool { .. } => Kind::Other,
            MaxPoolBackward { .. } | AvgPoolBackward { .. } => Kind::Other,
            AdaptiveAvgPoolBackward { .. } | GlobalAvgPoolBackward { .. } => Kind::Other,
        }
    }

    /// The kind of its result: a value, the gradient of one, or gradients of parameters.
    pub(crate) fn direction(&self, pass: Pass) -> Direction {
        use Instruction::*;
        match self {
            ConvWeights { .. } | BatchNormSums { .. } | LayerScaleSums { .. } => Direction::BackwardWeights,
            // In the backward pass these are recomputed activations.
            Conv { .. } | ConvWithStatistics { .. } | BatchNorm { .. } | LayerNorm { .. } => Direction::Forward,
            Scale { .. } | Activate { .. } | Relu { .. } | AccumulateRelu { .. } => Direction::Forward,
            CopyChannels { .. } | MaxPool { .. } | AvgPool { .. } => Direction::Forward,
            AdaptiveAvgPool { .. } | GlobalAvgPool { .. } => Direction::Forward,
            // These compute values in the forward pass and gradients in the backward pass.
            Copy { .. } | Zero { .. } | Dropout { .. } | DropPath { .. } => match pass {
                Pass::Forward => Direction::Forward,
                Pass::Backward => Direction::BackwardData,
            },
            ConvData { .. } | BatchNormData { .. } | LayerNormBackward { .. } => Direction::BackwardData,
            ScaleData { .. } | GateSums { .. } | ActivateBackward { .. } => Direction::BackwardData,
            ReluBackward { .. } | CopyChannelsBackward { .. } | MaxPoolBackward { .. } => Direction::BackwardData,
            AvgPoolBackward { .. } | AdaptiveAvgPoolBackward { .. } | GlobalAvgPoolBackward { .. } => {
                Direction::BackwardData
            }
        }
    }

    /// The convolution that it computes a pass of.
    pub(crate) fn convolution(&self) -> Option<(ConvId, Direction)> {
        match *self {
            Instruction::Conv { conv, .. } | Instruction::ConvWithStatistics { conv, .. } => {
                Some((conv, Direction::Forward))
            }
            Instruction::ConvData { conv, .. } => Some((conv, Direction::BackwardData)),
            Instruction::ConvWeights { conv, .. } => Some((conv, Direction::BackwardWeights)),
            _ => None,
        }
    }

    /// The buffer it writes, except gradients of parameters.
    pub(crate) fn result(&self) -> Option<BufferId> {
        use Instruction::*;
        match self {
            ConvWeights { .. } | BatchNormSums { .. } | LayerScaleSums { .. } => None,
            _ => self.buffers().pop(),
        }
    }

    /// Every buffer it reads or writes; the written one is last (max pooling also writes its index).
    pub(crate) fn buffers(&self) -> Vec<BufferId> {
        use Instruction::*;
        let gate = |factors: Factors| match factors {
            Factors::Gate(gate) => Some(gate),
            Factors::LayerScale(_) => None,
        };
        match *self {
            Conv { x, add, y, .. } | BatchNorm { x, add, y, .. } => {
                [Some(x), add, Some(y)].into_iter().flatten().collect()
            }
            Scale { factors, x, add, y, .. } => [gate(factors), Some(x), add, Some(y)].into_iter().flatten().collect(),
            ScaleData { factors, dy, dx, .. } => [gate(factors), Some(dy), Some(dx)].into_iter().flatten().collect(),
            MaxPool { x, index, y, .. } => [Some(x), index, Some(y)].into_iter().flatten().collect(),
            ConvWithStatistics { x, y, .. }
            | LayerNorm { x, y, .. }
            | Activate { x, y, .. }
            | Relu { x, y }
            | Copy { x, y, .. }
            | AccumulateRelu { x, y }
            | CopyChannels { x, y, .. }
            | AvgPool { x, y, .. }
            | AdaptiveAvgPool { x, y, .. }
            | GlobalAvgPool { x, y, .. }
            | Dropout { x, y, .. }
            | DropPath { x, y, .. } => vec![x, y],
            Zero { y } => vec![y],
            ConvWeights { x, dy, .. } | LayerScaleSums { x, dy, .. } => vec![x, dy],
            BatchNormSums { x, mask: Mask::Value(y), dy, .. } => vec![x, y, dy],
            BatchNormSums { x, dy, .. } => vec![x, dy],
            BatchNormData { x, dy, dx, .. } | LayerNormBackward { x, dy, dx, .. } => vec![x, dy, dx],
            GateSums { x, dy, dgate, .. } => vec![x, dy, dgate],
            ActivateBackward { value, dy, .. } => vec![value, dy],
            ReluBackward { y, dy } => vec![y, dy],
            MaxPoolBackward { index, dy, dx, .. } => vec![index, dy, dx],
            ConvData { dy, dx, .. }
            | CopyChannelsBackward { dy, dx, .. }
            | AvgPoolBackward { dy, dx, .. }
            | AdaptiveAvgPoolBackward { dy, dx, .. }
            | GlobalAvgPoolBackward { dy, dx, .. } => vec![dy, dx],
        }
    }
}
