//! Convolution of bytes: unsigned activations, signed weights, exact sums in 32-bit integers, requantised in the epilogue.
//!
//! Sums are of products of lanes of 32 bits, each a few numbers ([`crate::isa::ByteProduct::GROUP`]): neighbouring channels, or
//! in depthwise convolutions neighbouring tap columns. Activations are NHWC bytes whose pixels have a multiple of four channels
//! ([`QuantizedConv::pixel`]); numbers that are only padding have weights of zero.

mod dense;
mod grouped;
mod output;

use super::ConvShape;
use crate::extents::is_batch;
use crate::isa::Isa;
use crate::raw::SharedMut;
use dense::Dense;
use grouped::Grouped;
use output::{Output, Target};
use residual_threads::Pool;

/// Channels of a lane in memory.
const LANE: usize = 4;

/// A convolution of bytes, planned for one instruction set.
#[derive(Clone, Debug)]
pub struct QuantizedConv {
    shape: ConvShape,
    isa: Isa,
    plan: Plan,
}

#[derive(Clone, Debug)]
enum Plan {
    Dense(Dense),
    Grouped(Grouped),
}

/// How the sums of products become the result: `sum · scale + bias`, plus the residual, in floats with a rounding after every
/// multiplication and every addition, so that all instruction sets compute the same. The constants include the result's scale and
/// zero point where it is bytes.
#[derive(Clone, Copy, Debug)]
pub struct Requantize<'a> {
    /// What the sums begin with, for each output channel: minus the input's zero point times the sum of the weights.
    pub start: &'a [i32],
    /// For each output channel.
    pub scale: &'a [f32],
    /// For each output channel; includes minus the residual's zero point times its scale.
    pub bias: &'a [f32],
    /// Bytes of the output's shape, each times the scale.
    pub add: Option<(&'a [u8], f32)>,
    /// The least result: the zero point after a ReLU. Bytes are never below zero.
    pub least: f32,
}

/// The result of a [`QuantizedConv`].
#[derive(Debug)]
pub enum Quantized<'a> {
    /// Bytes: rounded to the nearest, halves to the even one, at most 255.
    Bytes(&'a mut [u8]),
    /// Floats, without padding between pixels.
    Floats(&'a mut [f32]),
}

impl QuantizedConv {
    /// Plans a convolution.
    ///
    /// # Panics
    /// As [`super::Conv::new`].
    pub fn new(isa: Isa, shape: ConvShape) -> Self {
        let divides = |channels: usize| channels.is_multiple_of(shape.groups);
        assert!(divides(shape.in_channels) && divides(shape.out_channels), "{shape:?}");
        let _ = (shape.input_len(), shape.output_len(), shape.weight_len());
        let plan = match shape.groups {
            1 => Plan::Dense(Dense::new(&shape)),
            _ => Plan::Grouped(Grouped::new(isa, &shape)),
        };
        Self { shape, isa, plan }
    }

    /// The extents.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Bytes of a pixel with `channels` channels.
    pub fn pixel(channels: usize) -> usize {
        channels.next_multiple_of(LANE)
    }

    /// Floats of the packed weights.
    pub fn packed_len(&self) -> usize {
        match &self.plan {
            Plan::Dense(plan) => plan.packed_len(self.isa),
            Plan::Grouped(plan) => plan.packed_len(),
        }
    }

    /// Floats of workspace for so many threads.
    pub fn workspace_len(&self, threads: usize) -> usize {
        threads
            * match &self.plan {
                Plan::Dense(plan) => plan.thread_len(self.isa),
                Plan::Grouped(plan) => plan.thread_len(),
            }
    }

    /// Lays out weights, `[group][tap row][tap column][input channel][output channel]`, for [`QuantizedConv::forward`].
    ///
    /// # Panics
    /// If a slice has not the length this plan states.
    pub fn pack(&self, pool: &Pool, weights: &[i8], packed: &mut [f32]) {
        assert_eq!(weights.len(), self.shape.weight_len());
        assert_eq!(packed.len(), self.packed_len());
        match &self.plan {
            Plan::Dense(plan) => plan.pack(self.isa, pool, &self.shape, weights, packed),
            Plan::Grouped(plan) => plan.pack(pool, weights, packed),
        }
    }

    /// y = x ∗ w for `images` images, where `zero` is the input's zero point, which stands outside the image.
    ///
    /// # Panics
    /// If a slice has not the length this plan states, or `x` is not aligned to four bytes.
    pub fn forward(
        &self,
        pool: &Pool,
        images: usize,
        (x, zero): (&[u8], u8),
        packed: &[f32],
        requantize: Requantize<'_>,
        y: Quantized<'_>,
        workspace: &mut [f32],
    ) {
        let (shape, channels) = (&self.shape, self.shape.out_channels);
        let (pixel, len) = match &y {
            Quantized::Bytes(y) => (Self::pixel(channels), y.len()),
            Quantized::Floats(y) => (channels, y.len()),
        };
        assert!(is_batch(x.len(), images, shape.input, Self::pixel(shape.in_channels)), "x of {}", x.len());
        assert!(is_batch(len, images, shape.output(), pixel), "y of {len}");
        assert!(x.as_ptr().cast::<f32>().is_aligned(), "x at {:?}", x.as_ptr());
        assert_eq!(packed.len(), self.packed_len());
        assert!(workspace.len() >= self.workspace_len(pool.threads()), "workspace of {}", workspace.len());
        let Requantize { start, scale, bias, add, least } = requantize;
        assert!([start.len(), scale.len(), bias.len()] == [channels; 3], "constants of {channels} channels");
        let add_len = images * shape.output().iter().product::<usize>() * Self::pixel(channels);
        assert!(add.is_none_or(|(add, _)| add.len() == add_len), "a residual of {add_len}");
        let (y, least) = match y {
            Quantized::Bytes(y) => (Target::Bytes(SharedMut::new(y)), least.max(0.0)),
            Quantized::Floats(y) => (Target::Floats(SharedMut::new(y)), least),
        };
        let output = Output { requantize: Requantize { least, ..requantize }, channels, y };
        match &self.plan {
            Plan::Dense(plan) => plan.forward(self.isa, pool, images, (x, zero), packed, output, workspace),
            Plan::Grouped(plan) => plan.forward(self.isa, pool, images, (x, zero), packed, output, workspace),
        }
    }
}

/// A lane of 32 bits with so many numbers, the first in the lowest bits.
#[inline(always)]
fn lane(numbers: usize, number: impl Fn(usize) -> i32) -> u32 {
    let bits = 32 / numbers;
    (0..numbers).fold(0, |lane, index| lane | (number(index) as u32 & (u32::MAX >> (32 - bits))) << (index * bits))
}
