//! The statistics of a convolution's output, computed in the epilogue: batch normalisation needs no separate pass for them.

use crate::isa::Simd;
use crate::raw::SharedMut;

/// The mean and the biased variance of each output channel, which a convolution writes.
#[derive(Debug)]
pub struct Statistics<'a> {
    /// The mean of each output channel.
    pub mean: &'a mut [f32],
    /// The biased variance of each output channel.
    pub variance: &'a mut [f32],
    /// At least [`super::Conv::statistics_workspace_len`] floats.
    pub workspace: &'a mut [f32],
}

/// The number of threads for which rows are partitioned if statistics are computed: blocks and their sums are then the same
/// for any actual number.
pub(super) const THREADS: usize = 4;

/// The sums of one block and NV vectors of channels around a shift that is a value of the channel itself, so that a large
/// mean costs the variance no precision.
pub(super) struct Moments<S: Simd, const NV: usize> {
    shift: [S::Reg; NV],
    sum: [S::Reg; NV],
    squares: [S::Reg; NV],
}

impl<S: Simd, const NV: usize> Moments<S, NV> {
    #[inline(always)]
    pub(super) fn new(s: S) -> Self {
        Self { shift: [s.zero(); NV], sum: [s.zero(); NV], squares: [s.zero(); NV] }
    }

    /// Adds one pixel's vector `v`.
    #[inline(always)]
    pub(super) fn add(&mut self, s: S, v: usize, value: S::Reg, is_first: bool) {
        if is_first {
            self.shift[v] = value;
        }
        let value = s.sub(value, self.shift[v]);
        self.sum[v] = s.add(self.sum[v], value);
        self.squares[v] = s.mul_add(value, value, self.squares[v]);
    }

    /// Writes mean and squared deviations of `count` pixels: those of `left` channels from `channel` on of a block, whose
    /// `channels` means precede its squared deviations in `to`.
    ///
    /// # Safety
    /// No one else writes these channels of the block.
    #[inline(always)]
    pub(super) unsafe fn write(
        &self,
        s: S,
        count: usize,
        (channel, left, channels): (usize, usize, usize),
        to: SharedMut<'_>,
    ) {
        let scale = s.splat(1.0 / count as f32);
        for v in 0..NV {
            if v * S::LANES >= left {
                break;
            }
            let (n, at) = (left - v * S::LANES, channel + v * S::LANES);
            let offset = s.mul(self.sum[v], scale);
            let squares = s.max(s.sub(self.squares[v], s.mul(self.sum[v], offset)), s.zero());
            // SAFETY: the block has room for two numbers for each channel; the caller's promise.
            unsafe {
                s.store_up_to(to.at(at), n, s.add(self.shift[v], offset));
                s.store_up_to(to.at(channels + at), n, squares);
            }
        }
    }
}
