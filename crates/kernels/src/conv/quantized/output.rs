//! What becomes of the sums of products: requantised, and stored as bytes or as floats.

use super::{QuantizedConv, Requantize};
use crate::isa::Simd;
use crate::raw::SharedMut;

/// The destination of a convolution, which its tasks share.
#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    /// Bytes have a least result of zero or more.
    pub(super) requantize: Requantize<'a>,
    pub(super) channels: usize,
    pub(super) y: Target<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Bytes(SharedMut<'a, u8>),
    Floats(SharedMut<'a, f32>),
}

impl Output<'_> {
    /// What the sums of up to `left` channels from `channel` on begin with.
    #[inline(always)]
    pub(super) fn start<S: Simd, const NV: usize>(&self, s: S, channel: usize, left: usize) -> [S::Reg; NV] {
        let mut start = [s.zero(); NV];
        for (v, start) in start.iter_mut().enumerate() {
            if v * S::LANES < left {
                let at = channel + v * S::LANES;
                // SAFETY: there is a number for each channel.
                *start = unsafe { s.load_up_to(self.requantize.start.as_ptr().add(at).cast(), left - v * S::LANES) };
            }
        }
        start
    }

    /// Requantises a tile and stores up to `left` channels, from `channel` on, of these pixels of the target.
    #[inline(always)]
    pub(super) fn finish<S: Simd, const MR: usize, const NV: usize>(
        &self,
        s: S,
        pixels: &[usize],
        (channel, left): (usize, usize),
        sums: [[S::Reg; NV]; MR],
    ) {
        if left >= NV * S::LANES {
            self.store::<S, MR, NV, true>(s, pixels, (channel, left), sums);
        } else {
            self.store::<S, MR, NV, false>(s, pixels, (channel, left), sums);
        }
    }

    /// A `WHOLE` tile has all its channels.
    #[inline(always)]
    fn store<S: Simd, const MR: usize, const NV: usize, const WHOLE: bool>(
        &self,
        s: S,
        pixels: &[usize],
        (channel, left): (usize, usize),
        sums: [[S::Reg; NV]; MR],
    ) {
        let Requantize { scale, bias, add, least, .. } = self.requantize;
        let (least, most) = (s.splat(least), s.splat(255.0));
        // The channels left at vector v.
        let left = |v: usize| if WHOLE { S::LANES } else { left.saturating_sub(v * S::LANES) };
        let mut constants = [[s.zero(); 2]; NV];
        for (v, constants) in constants.iter_mut().enumerate() {
            if left(v) > 0 {
                // SAFETY: the constants have a number for each channel.
                let load = |list: &[f32]| unsafe { s.load_up_to(list.as_ptr().add(channel + v * S::LANES), left(v)) };
                *constants = [load(scale), load(bias)];
            }
        }
        for (sums, &pixel) in sums.into_iter().zip(pixels) {
            let at = pixel * QuantizedConv::pixel(self.channels) + channel;
            let mut values = sums;
            for (v, (value, [scale, bias])) in values.iter_mut().zip(constants).enumerate() {
                if left(v) == 0 {
                    break;
                }
                *value = s.add(s.mul(s.integers_to_floats(*value), scale), bias);
                if let Some((add, factor)) = add {
                    // SAFETY: a residual has the target's shape.
                    let add = unsafe { s.load_bytes(add.as_ptr().add(at + v * S::LANES), left(v)) };
                    *value = s.add(*value, s.mul(add, s.splat(factor)));
                }
                *value = s.max(*value, least);
            }
            // SAFETY: these are channels of one pixel of the target, which only this task writes.
            unsafe {
                match self.y {
                    Target::Bytes(y) if WHOLE => {
                        s.store_vectors_as_bytes(y.at(at), values.map(|value| s.min(value, most)));
                    }
                    Target::Bytes(y) => {
                        for (v, value) in values.into_iter().enumerate().take_while(|&(v, _)| left(v) > 0) {
                            s.store_bytes(y.at(at + v * S::LANES), left(v), s.min(value, most));
                        }
                    }
                    Target::Floats(y) => {
                        for (v, value) in values.into_iter().enumerate().take_while(|&(v, _)| left(v) > 0) {
                            s.store_up_to(y.at(pixel * self.channels + channel + v * S::LANES), left(v), value);
                        }
                    }
                }
            }
        }
    }

    /// Prefetches what [`Output::finish`] will add to these pixels, and where it will store them.
    #[inline(always)]
    pub(super) fn prefetch<S: Simd>(&self, s: S, pixels: &[usize], channel: usize) {
        let Target::Bytes(y) = self.y else { return };
        for &pixel in pixels {
            let at = pixel * QuantizedConv::pixel(self.channels) + channel;
            s.prefetch_to_write(y.at(0).wrapping_add(at).cast());
            if let Some((add, _)) = self.requantize.add {
                s.prefetch(add.as_ptr().wrapping_add(at).cast());
            }
        }
    }
}
