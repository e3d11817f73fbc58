//! Sums over a convolution's output that are taken while it is stored, so that batch normalisation needs no pass over it:
//! forward the statistics of the output, backward what the gradient needs of a batch norm whose result was convolved.

use crate::isa::Simd;
use crate::norm::{Mask, join_moments, join_sums};
use crate::raw::SharedMut;
use residual_threads::Pool;

/// Where a convolution leaves the mean and the biased variance of each output channel.
#[derive(Debug)]
pub struct Statistics<'a> {
    /// A number for each output channel.
    pub mean: &'a mut [f32],
    /// A number for each output channel.
    pub variance: &'a mut [f32],
    /// As many floats as [`super::Conv::statistics_workspace_len`] says.
    pub workspace: &'a mut [f32],
}

/// The batch norm whose result a convolution read, and where the backward-data pass leaves what [`crate::norm::backward_sums`]
/// would: Σ dx and Σ dx · (x − mean) of each channel, with dx, which is the gradient of the batch norm's result, zero where
/// `mask` says so. Those zeros are stored.
#[derive(Debug)]
pub struct NormSums<'a> {
    /// What the batch norm read: as long as dx.
    pub x: &'a [f32],
    /// The ReLU behind the batch norm.
    pub mask: Mask<'a>,
    /// A number for each channel.
    pub mean: &'a [f32],
    /// A number for each channel: Σ dx.
    pub sum: &'a mut [f32],
    /// A number for each channel: Σ dx · (x − mean).
    pub sum_x: &'a mut [f32],
    /// As many floats as [`super::Conv::norm_sums_workspace_len`] says.
    pub workspace: &'a mut [f32],
}

/// What is summed over an output.
#[derive(Debug)]
pub(super) enum Collect<'a> {
    Statistics(Statistics<'a>),
    Norm(NormSums<'a>),
}

impl<'a> Collect<'a> {
    /// Two numbers of each channel for each block.
    pub(super) fn partial(&mut self, len: usize) -> SharedMut<'_> {
        match self {
            Collect::Statistics(Statistics { workspace, .. }) | Collect::Norm(NormSums { workspace, .. }) => {
                SharedMut::new(&mut workspace[..len])
            }
        }
    }

    /// The batch norm, where the sums are those of a gradient.
    pub(super) fn norm(&self) -> Option<NormInput<'a>> {
        match *self {
            Collect::Statistics(_) => None,
            Collect::Norm(NormSums { x, mask, mean, .. }) => Some(NormInput { x, mask, mean }),
        }
    }

    /// Joins what `blocks` blocks left, of `count(block)` pixels each.
    pub(super) fn join(self, pool: &Pool, blocks: usize, count: impl Fn(usize) -> usize + Sync) {
        match self {
            Collect::Statistics(Statistics { mean, variance, workspace }) => {
                join_moments(pool, &workspace[..2 * blocks * mean.len()], count, mean, variance);
            }
            Collect::Norm(NormSums { sum, sum_x, workspace, .. }) => {
                join_sums(pool, &workspace[..2 * blocks * sum.len()], sum, sum_x);
            }
        }
    }
}

/// The batch norm whose result's gradient is stored.
#[derive(Clone, Copy)]
pub(super) struct NormInput<'a> {
    pub(super) x: &'a [f32],
    mask: Mask<'a>,
    mean: &'a [f32],
}

impl NormInput<'_> {
    /// Asks for what [`NormInput::masked`] will read of the channels from `at` on.
    #[inline(always)]
    pub(super) fn prefetch<S: Simd>(&self, s: S, at: usize) {
        s.prefetch(self.x.as_ptr().wrapping_add(at));
        if let Mask::Result(y) = self.mask {
            s.prefetch(y.as_ptr().wrapping_add(at));
        }
    }

    /// `value` where the ReLU let something through, zero elsewhere, and x. `channel` is the first, `at` where it stands.
    ///
    /// # Safety
    /// `n` channels from `channel` on stand at `at`.
    #[inline(always)]
    pub(super) unsafe fn masked<S: Simd>(
        &self,
        s: S,
        value: S::Reg,
        (channel, at, n): (usize, usize, usize),
    ) -> (S::Reg, S::Reg) {
        // SAFETY: the caller's promise; x and mask fit the output.
        unsafe {
            let x = s.load_up_to(self.x.as_ptr().add(at), n);
            (self.mask.apply(s, value, x, (channel, at, n)), x)
        }
    }

    fn fits(&self, len: usize, channels: usize) -> bool {
        self.x.len() == len && self.mean.len() == channels && self.mask.fits(len, channels)
    }
}

/// Whether a batch norm fits an output of `len` floats with so many channels.
pub(super) fn fits(norm: Option<NormInput<'_>>, len: usize, channels: usize) -> bool {
    norm.is_none_or(|norm| norm.fits(len, channels))
}

/// Threads that the rows are cut for where sums are taken: blocks are then the same for any number, and so are the sums.
pub(super) const THREADS: usize = 4;

/// The sums of one block and NV vectors of channels. Statistics are taken around a shift that is a value of the channel
/// itself, so that a large mean takes no digits from the variance; of a gradient the shift is the mean of x.
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

    /// Of a gradient, if there is a `norm`, for `left` channels from `channel` on.
    #[inline(always)]
    pub(super) fn around(s: S, norm: Option<NormInput<'_>>, channel: usize, left: usize) -> Self {
        let mut moments = Self::new(s);
        if let Some(norm) = norm {
            assert!(channel + left <= norm.mean.len());
            for v in 0..NV {
                let at = v * S::LANES;
                if at >= left {
                    break;
                }
                // SAFETY: there are `left` means from `channel` on.
                moments.shift[v] = unsafe { s.load_up_to(norm.mean.as_ptr().add(channel + at), left - at) };
            }
        }
        moments
    }

    /// Adds one pixel's vector `v` of a gradient, and of x.
    #[inline(always)]
    pub(super) fn add_gradient(&mut self, s: S, v: usize, value: S::Reg, x: S::Reg) {
        self.sum[v] = s.add(self.sum[v], value);
        self.squares[v] = s.mul_add(value, s.sub(x, self.shift[v]), self.squares[v]);
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

    /// Writes what a block of `count` pixels gave: mean and squared deviations, or of a gradient both sums, of `left` channels
    /// from `channel` on of a block, whose `channels` first numbers stand in `to` before its second ones.
    ///
    /// # Safety
    /// No one else writes these channels of the block.
    #[inline(always)]
    pub(super) unsafe fn write(
        &self,
        s: S,
        (count, is_gradient): (usize, bool),
        (channel, left, channels): (usize, usize, usize),
        to: SharedMut<'_>,
    ) {
        let scale = s.splat(1.0 / count as f32);
        for v in 0..NV {
            if v * S::LANES >= left {
                break;
            }
            let (n, at) = (left - v * S::LANES, channel + v * S::LANES);
            let (first, second) = if is_gradient {
                (self.sum[v], self.squares[v])
            } else {
                let offset = s.mul(self.sum[v], scale);
                let squares = s.max(s.sub(self.squares[v], s.mul(self.sum[v], offset)), s.zero());
                (s.add(self.shift[v], offset), squares)
            };
            // SAFETY: the block has room for two numbers for each channel; the caller's promise.
            unsafe {
                s.store_up_to(to.at(at), n, first);
                s.store_up_to(to.at(channels + at), n, second);
            }
        }
    }
}
