//! The copy of a slice: source channels of a band of rows and of the padding around it, as operands.

use super::{Block, Operand, Slice};
use crate::conv::ConvShape;
use crate::conv::im2col::{CopyLanes, Gather};
use crate::conv::quantized::{LANE, QuantizedConv, lane};
use crate::isa::{ByteProduct, MAX_LANES, Simd};

impl Block<'_> {
    /// Copies a slice of the rows that this band reads.
    #[inline(always)]
    pub(super) fn copy<P: ByteProduct>(&self, product: P, slice: Slice) {
        let (s, plan) = (product.simd(), self.plan);
        let ConvShape { input: [height, width], padding, stride, in_channels, .. } = plan.shape;
        let outside = CopyLanes(lane(P::GROUP, |_| i32::from(self.zero)));
        let row_len = plan.width * plan.pixel;
        for row in 0..plan.copied_rows(self.rows.len()) {
            let to = self.copy.wrapping_add(row * row_len);
            let y = (self.rows.start * stride[0] + row).wrapping_sub(padding[0]);
            if y >= height {
                // SAFETY: a row of the copy, which belongs to this thread.
                unsafe { outside.pad(s, to, row_len) };
                continue;
            }
            let from = (self.image * height + y) * width * QuantizedConv::pixel(in_channels) + slice.source;
            let from = self.x.as_ptr().wrapping_add(from);
            if plan.operand == Operand::Own {
                // SAFETY: a row of the image, which `x` was checked to be, and one of the copy. With a constant the channels
                // of a pixel are a vector.
                unsafe {
                    match slice.outputs {
                        n if n == P::Simd::LANES => self.join_columns(product, from, P::Simd::LANES, to),
                        n => self.join_columns(product, from, n, to),
                    }
                }
                continue;
            }
            // The columns inside the image.
            let start = padding[1].min(plan.width);
            let end = (padding[1] + width).clamp(start, plan.width);
            // SAFETY: these pixels lie inside the image, which `x` was checked to be, with the slice's channels from here on;
            // the copy and the row after it have room for a row.
            unsafe {
                outside.pad(s, to, start * plan.pixel);
                outside.pad(s, to.add(end * plan.pixel), (plan.width - end) * plan.pixel);
                let to = to.add(start * plan.pixel);
                if plan.operand == Operand::Splat {
                    self.gather(product, from, end - start, 1, to);
                } else {
                    let gathered = self.copy.add(plan.copied_rows(plan.band) * row_len);
                    self.gather(product, from, end - start, slice.groups, gathered);
                    self.repeat(s, gathered, end - start, slice.groups, to);
                }
            }
        }
    }

    /// Writes a row of vectors of `n` channels, each lane with neighbouring tap columns of its channel.
    ///
    /// # Safety
    /// `from` is the first of `n` channels of a row of the image, and `to` a row of the copy.
    #[inline(always)]
    unsafe fn join_columns<P: ByteProduct>(&self, product: P, from: *const u8, n: usize, to: *mut f32) {
        let (s, plan, outside) = (product.simd(), self.plan, [self.zero; MAX_LANES]);
        let (stride, next) = (QuantizedConv::pixel(plan.shape.in_channels), plan.shape.dilation[1]);
        let [width, padding] = [plan.shape.input[1], plan.shape.padding[1]];
        // The pixels whose lanes lie inside the image as a whole.
        let start = padding.min(plan.width);
        let end = (padding + width).saturating_sub((P::GROUP - 1) * next).clamp(start, plan.width);
        for pixel in (0..start).chain(end..plan.width) {
            let channels = |number: usize| {
                let column = (pixel + number * next).wrapping_sub(padding);
                if column < width { from.wrapping_add(column * stride) } else { outside.as_ptr() }
            };
            // SAFETY: the caller's promise; the column is inside the image.
            unsafe { join::<P>(s, channels, n, to.add(pixel * P::Simd::LANES)) };
        }
        for pixel in start..end {
            let from = from.wrapping_add((pixel - padding) * stride);
            // SAFETY: as above.
            unsafe {
                join::<P>(s, |number| from.wrapping_add(number * next * stride), n, to.add(pixel * P::Simd::LANES));
            }
        }
    }

    /// Writes the channels of the groups of each pixel as lanes, those of a group beginning with a lane of their own.
    ///
    /// # Safety
    /// `from` is the first of the groups' channels of so many pixels, all of whose lanes can be written at `to`.
    #[inline(always)]
    unsafe fn gather<P: ByteProduct>(&self, product: P, from: *const u8, pixels: usize, groups: usize, to: *mut f32) {
        let (s, plan) = (product.simd(), self.plan);
        let (stride, lanes) = (QuantizedConv::pixel(plan.shape.in_channels), groups * plan.depth);
        for pixel in 0..pixels {
            // SAFETY: the caller's promise; without padding in lanes, their bytes are those of the pixel.
            unsafe {
                let (from, to) = (from.add(pixel * stride), to.add(pixel * lanes));
                if !plan.inputs.is_multiple_of(P::GROUP) {
                    for index in 0..lanes {
                        let (group, first) = (index / plan.depth, index % plan.depth * P::GROUP);
                        let number = |number: usize| match first + number {
                            input if input < plan.inputs => i32::from(*from.add(group * plan.inputs + input)),
                            _ => 0,
                        };
                        to.add(index).write(f32::from_bits(lane(P::GROUP, number)));
                    }
                } else if P::GROUP == LANE {
                    CopyLanes::FLOATS.copy(s, from.cast(), to, lanes);
                } else {
                    s.widen_bytes(from, to.cast(), P::GROUP * lanes);
                }
            }
        }
    }

    /// Writes a vector for every lane of a group: this lane of each group, repeated for the outputs of the group.
    ///
    /// # Safety
    /// So many pixels, of the lanes of so many groups, can be read at `from`, and their vectors written at `to`.
    #[inline(always)]
    unsafe fn repeat<S: Simd>(&self, s: S, from: *const f32, pixels: usize, groups: usize, to: *mut f32) {
        let (depth, lanes) = (self.plan.depth, groups * self.plan.depth);
        for k in 0..depth {
            let repeated = s.lanes(|lane| lane / self.plan.outputs * depth + k);
            for pixel in 0..pixels {
                // SAFETY: the caller's promise.
                unsafe {
                    let vector = s.load_up_to(from.add(pixel * lanes), lanes);
                    s.store(to.add((pixel * depth + k) * S::LANES), s.pick(vector, repeated));
                }
            }
        }
    }
}

/// Writes a vector: number i of its first `n` lanes is a byte of those at `from(i)`.
///
/// # Safety
/// `n` bytes can be read at each, and a vector written at `to`.
#[inline(always)]
unsafe fn join<P: ByteProduct>(s: P::Simd, from: impl Fn(usize) -> *const u8, n: usize, to: *mut f32) {
    let mut lanes = [0u32; MAX_LANES];
    for number in 0..P::GROUP {
        let from = from(number);
        for (index, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: the caller's promise.
            *lane |= u32::from(unsafe { *from.add(index) }) << (number * 32 / P::GROUP);
        }
    }
    // SAFETY: there are as many lanes as the widest vector has, and the caller's promise.
    unsafe { s.store(to, s.load(lanes.as_ptr().cast())) }
}
