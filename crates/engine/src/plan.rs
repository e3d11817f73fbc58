//! What a plan is made of: instructions, and the passes that make them (see [`compile`]).

mod algorithms;
mod checkpoint;
mod compile;
mod depth_first;
mod fuse;
mod schedule;

pub(crate) use algorithms::expected;
pub(crate) use compile::{Folded, Plan, fold};
pub(crate) use depth_first::DepthFirst;
use fuse::{Fused, Head, Step};

use crate::arena::BufferId;
use residual_graph::{NodeId, Pool2d};
use residual_kernels::conv::Direction;

/// The index of a convolution (or linear layer) among those of the plan.
pub(crate) type ConvId = usize;
/// The index of a batch norm among those of the plan.
pub(crate) type NormId = usize;

/// An instruction, and the node whose step it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Scheduled {
    pub(crate) node: NodeId,
    pub(crate) instruction: Instruction,
}

/// One kernel call or a few that belong together. Buffers are named by what the kernel calls them.
#[derive(Clone, Debug)]
pub(crate) enum Instruction {
    /// y = conv(x) + bias, + add, ReLU.
    Conv {
        conv: ConvId,
        x: BufferId,
        add: Option<BufferId>,
        relu: bool,
        y: BufferId,
    },
    /// y = conv(x) + bias, and on the way the statistics of y that the batch norm after it needs.
    ConvWithStatistics {
        conv: ConvId,
        norm: NormId,
        x: BufferId,
        y: BufferId,
    },
    /// y = batch norm of x, + add, ReLU. Whether it first `takes_statistics` of x: no convolution did, in training, and it is
    /// not computed again.
    BatchNorm {
        norm: NormId,
        takes_statistics: bool,
        x: BufferId,
        add: Option<BufferId>,
        relu: bool,
        y: BufferId,
    },
    /// y = max(x, 0).
    Relu {
        x: BufferId,
        y: BufferId,
    },
    /// y = x, or y += x.
    Copy {
        x: BufferId,
        accumulate: bool,
        y: BufferId,
    },
    /// y = max(y + x, 0).
    AccumulateRelu {
        x: BufferId,
        y: BufferId,
    },
    /// y = 0.
    Zero {
        y: BufferId,
    },
    /// Some channels of y = some channels of every `stride`-th pixel of x.
    CopyChannels {
        x: BufferId,
        slice: Slice,
        y: BufferId,
    },
    MaxPool {
        pool: Pooling,
        x: BufferId,
        y: BufferId,
    },
    AvgPool {
        pool: Pooling,
        count_include_pad: bool,
        x: BufferId,
        y: BufferId,
    },
    GlobalAvgPool {
        pixels: usize,
        channels: usize,
        x: BufferId,
        y: BufferId,
    },
    /// y = x with some elements dropped; its own gradient. `node` decides which, with the engine's seed.
    Dropout {
        node: usize,
        p: f32,
        x: BufferId,
        accumulate: bool,
        y: BufferId,
    },
    /// The gradients of weights and bias.
    ConvWeights {
        conv: ConvId,
        x: BufferId,
        dy: BufferId,
    },
    ConvData {
        conv: ConvId,
        dy: BufferId,
        accumulate: bool,
        dx: BufferId,
    },
    /// As `ConvData`, where `dx` is the gradient of what batch norm `norm` gave: with its mask applied, and on the way the sums
    /// that the batch norm needs of it and the gradients of its weight and bias.
    ConvDataWithSums {
        conv: ConvId,
        norm: NormId,
        x: BufferId,
        mask: Mask,
        dy: BufferId,
        accumulate: bool,
        dx: BufferId,
    },
    /// The sums over dy, and the gradients of weight and bias.
    BatchNormSums {
        norm: NormId,
        x: BufferId,
        mask: Mask,
        dy: BufferId,
    },
    /// dx from dy; in place if `dy` is `dx`. With `masked`, dy counts as zero where the batch norm's result is not positive.
    BatchNormData {
        norm: NormId,
        masked: bool,
        x: BufferId,
        dy: BufferId,
        accumulate: bool,
        dx: BufferId,
    },
    /// dy = 0 where y is not positive.
    ReluBackward {
        y: BufferId,
        dy: BufferId,
    },
    /// The gradient of [`Instruction::CopyChannels`], added to dx.
    CopyChannelsBackward {
        dy: BufferId,
        slice: Slice,
        dx: BufferId,
    },
    MaxPoolBackward {
        pool: Pooling,
        x: BufferId,
        y: BufferId,
        dy: BufferId,
        accumulate: bool,
        dx: BufferId,
    },
    AvgPoolBackward {
        pool: Pooling,
        count_include_pad: bool,
        dy: BufferId,
        accumulate: bool,
        dx: BufferId,
    },
    GlobalAvgPoolBackward {
        pixels: usize,
        channels: usize,
        dy: BufferId,
        accumulate: bool,
        dx: BufferId,
    },
}

/// What a ReLU after a batch norm does to its gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// There is none.
    None,
    /// dy = 0 where this value, the ReLU's, is not positive.
    Value(BufferId),
    /// dy counts as zero where x, normalised again, is not positive: cheaper than to read the ReLU's value.
    Again,
}

/// The windows of a pooling op and what they run over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pooling {
    pub(crate) window: Pool2d,
    pub(crate) input: [usize; 2],
    pub(crate) channels: usize,
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
    /// What it does, in a word or two.
    pub(crate) fn work(&self) -> &'static str {
        use Instruction::*;
        match self {
            Conv { .. } | ConvWithStatistics { .. } => "convolution",
            BatchNorm { .. } => "batch norm",
            Relu { .. } | AccumulateRelu { .. } => "relu",
            Copy { accumulate: false, .. } => "copy",
            Copy { accumulate: true, .. } => "add",
            Zero { .. } => "zero",
            CopyChannels { .. } | CopyChannelsBackward { .. } => "copy channels",
            MaxPool { .. } | MaxPoolBackward { .. } => "max pool",
            AvgPool { .. } | AvgPoolBackward { .. } => "average pool",
            GlobalAvgPool { .. } | GlobalAvgPoolBackward { .. } => "global average pool",
            Dropout { .. } => "dropout",
            ConvWeights { .. } => "weights",
            ConvData { .. } | ConvDataWithSums { .. } => "data",
            BatchNormSums { .. } => "batch norm sums",
            BatchNormData { .. } => "batch norm data",
            ReluBackward { .. } => "relu",
        }
    }

    /// The convolution that it computes a pass of.
    pub(crate) fn convolution(&self) -> Option<(ConvId, Direction)> {
        match *self {
            Instruction::Conv { conv, .. } | Instruction::ConvWithStatistics { conv, .. } => {
                Some((conv, Direction::Forward))
            }
            Instruction::ConvData { conv, .. } | Instruction::ConvDataWithSums { conv, .. } => {
                Some((conv, Direction::Data))
            }
            Instruction::ConvWeights { conv, .. } => Some((conv, Direction::Weights)),
            _ => None,
        }
    }

    /// The buffer it writes, but for gradients of parameters.
    pub(crate) fn result(&self) -> Option<BufferId> {
        match self {
            Instruction::ConvWeights { .. } | Instruction::BatchNormSums { .. } => None,
            _ => self.buffers().pop(),
        }
    }

    /// Every buffer it touches, the one it writes last.
    pub(crate) fn buffers(&self) -> Vec<BufferId> {
        use Instruction::*;
        match *self {
            Conv { x, add, y, .. } | BatchNorm { x, add, y, .. } => {
                [Some(x), add, Some(y)].into_iter().flatten().collect()
            }
            ConvWithStatistics { x, y, .. }
            | Relu { x, y }
            | Copy { x, y, .. }
            | AccumulateRelu { x, y }
            | CopyChannels { x, y, .. }
            | MaxPool { x, y, .. }
            | AvgPool { x, y, .. }
            | GlobalAvgPool { x, y, .. }
            | Dropout { x, y, .. } => vec![x, y],
            Zero { y } => vec![y],
            ConvWeights { x, dy, .. } => vec![x, dy],
            BatchNormSums { x, mask: Mask::Value(y), dy, .. } => vec![x, y, dy],
            BatchNormSums { x, dy, .. } => vec![x, dy],
            ConvDataWithSums { x, mask: Mask::Value(y), dy, dx, .. } => vec![x, y, dy, dx],
            ConvDataWithSums { x, dy, dx, .. } => vec![x, dy, dx],
            BatchNormData { x, dy, dx, .. } => vec![x, dy, dx],
            ReluBackward { y, dy } => vec![y, dy],
            MaxPoolBackward { x, y, dy, dx, .. } => vec![x, y, dy, dx],
            ConvData { dy, dx, .. }
            | CopyChannelsBackward { dy, dx, .. }
            | AvgPoolBackward { dy, dx, .. }
            | GlobalAvgPoolBackward { dy, dx, .. } => vec![dy, dx],
        }
    }
}
