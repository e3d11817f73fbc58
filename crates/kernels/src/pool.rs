//! Pooling on NHWC: maxima of floats here, means in `mean`, both of bytes in `quantized`.

use crate::extents::{elements, is_product, travel};
use crate::isa::{Element, ElementKernel, ElementProduct, Isa, Sealed, Simd};
use crate::raw::SharedMut;
use half::bf16;
use residual_threads::Pool;

mod mean;
mod quantized;

pub use mean::{
    AdaptiveShape, adaptive_avg_pool, adaptive_avg_pool_backward, avg_pool, avg_pool_backward, global_avg_pool,
    global_avg_pool_backward,
};
pub(crate) use mean::{global_avg_pool_backward_of, global_avg_pool_of};
pub use quantized::{TOO_MANY_PIXELS, global_avg_pool_bytes, max_pool_bytes};

/// Most pixels of a window whose places fit a byte.
const MAX_WINDOW: usize = 256;

/// The extents of a pooling. `[usize; 2]` is height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Input height and width.
    pub input: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Padding on either side.
    pub padding: [usize; 2],
    /// Whether a last window that is only partly filled counts too (torch's `ceil_mode`): it must begin inside the input or
    /// the padding before it.
    pub ceil_mode: bool,
}

impl PoolShape {
    /// Output height and width.
    ///
    /// # Panics
    /// If the padded input is smaller than the window, or the stride is zero.
    pub fn output(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let (size, padding, stride) = (self.input[axis], self.padding[axis], self.stride[axis]);
            let round = if self.ceil_mode { stride.saturating_sub(1) } else { 0 };
            let windows = travel(size.saturating_add(round), padding, self.kernel[axis]) / stride + 1;
            windows - usize::from(self.ceil_mode && (windows - 1) * stride >= size + padding)
        })
    }

    /// Whether the place of a maximum in its window can be noted: windows have at most 256 pixels.
    pub fn has_index(&self) -> bool {
        self.kernel[0].checked_mul(self.kernel[1]).is_some_and(|pixels| pixels <= MAX_WINDOW)
    }

    /// Bytes that the places of one image's maxima take: one each.
    pub fn index_len(&self) -> usize {
        self.output_len()
    }

    fn input_len(&self) -> usize {
        elements(&[self.input[0], self.input[1], self.channels])
    }

    fn output_len(&self) -> usize {
        let [height, width] = self.output();
        elements(&[height, width, self.channels])
    }

    /// The part of window `index` along `axis` that lies inside the image.
    fn window(&self, axis: usize, index: usize) -> std::ops::Range<usize> {
        let start = index * self.stride[axis];
        start.saturating_sub(self.padding[axis])
            ..(start + self.kernel[axis]).saturating_sub(self.padding[axis]).min(self.input[axis])
    }

    /// The windows, of `count` along `axis`, that input pixel `index` lies in.
    fn windows_of(&self, axis: usize, index: usize, count: usize) -> std::ops::Range<usize> {
        let (at, stride) = (index + self.padding[axis], self.stride[axis]);
        (at + 1).saturating_sub(self.kernel[axis]).div_ceil(stride)..(at / stride + 1).min(count)
    }

    /// The place in window `at` of an input pixel: row by row from the window's first, be it in the padding.
    fn place(&self, at: [usize; 2], pixel: [usize; 2]) -> usize {
        let [row, column] = std::array::from_fn(|axis| pixel[axis] + self.padding[axis] - at[axis] * self.stride[axis]);
        row * self.kernel[1] + column
    }
}

/// Calls `body(image, output row, row)` for each row of `y`.
fn for_output_rows<T: Copy + Send>(
    pool: &Pool,
    [height, width]: [usize; 2],
    channels: usize,
    y: &mut [T],
    body: impl Fn(usize, usize, &mut [T]) + Sync,
) {
    let row = width * channels;
    let rows = y.len() / row;
    let y = SharedMut::new(y);
    pool.run(rows, |task, _| {
        // SAFETY: every task has its own row.
        body(task / height, task % height, unsafe { y.part(task * row..(task + 1) * row) });
    });
}

/// Channels that one task of a backward pass takes: windows overlap in space, so channels are what can be partitioned.
const CHANNEL_BLOCK: usize = 64;

/// Calls `body(image, channels, image's dx)` for every image and block of channels of an input of this height, width and
/// `channels`. The body may only write its own channels, which are zeroed before unless `accumulate`.
fn for_channel_blocks(
    pool: &Pool,
    [height, width]: [usize; 2],
    channels: usize,
    images: usize,
    accumulate: bool,
    dx: &mut [f32],
    body: impl Fn(usize, std::ops::Range<usize>, SharedMut<'_>) + Sync,
) {
    let blocks = channels.div_ceil(CHANNEL_BLOCK);
    let (image_len, all) = (height * width * channels, SharedMut::new(dx));
    pool.run(images * blocks, |task, _| {
        let (image, block) = (task / blocks, task % blocks);
        let own = block * CHANNEL_BLOCK..((block + 1) * CHANNEL_BLOCK).min(channels);
        let dx = all.offset(image * image_len);
        if !accumulate {
            for pixel in 0..height * width {
                let at = pixel * channels;
                // SAFETY: only this task touches these channels of this image.
                unsafe { dx.part(at + own.start..at + own.end) }.fill(0.0);
            }
        }
        body(image, own, dx);
    });
}

/// The maximum over each window, NaN if it has one; padding never wins.
///
/// # Panics
/// If a slice has not the length stated.
pub fn max_pool<E: Element>(isa: Isa, pool: &Pool, shape: &PoolShape, images: usize, x: &[E], y: &mut [E]) {
    assert!(is_product(x.len(), &[images, shape.input_len()]), "x of {}", x.len());
    assert!(is_product(y.len(), &[images, shape.output_len()]), "y of {}", y.len());
    E::max_pool(isa, pool, shape, x, y);
}

/// [`max_pool`] of slices that have been checked.
pub(crate) fn max_pool_of<E: Element>(isa: Isa, pool: &Pool, shape: &PoolShape, x: &[E], y: &mut [E]) {
    for_output_rows(pool, shape.output(), shape.channels, y, |image, i, y| {
        E::run(isa, MaxRow { shape, x: &x[image * shape.input_len()..][..shape.input_len()], i, y });
    });
}

/// As [`max_pool`]; `index`, as long as [`PoolShape::index_len`] says for each image, gets the place of the maximum in each window,
/// for [`max_pool_backward`].
///
/// # Panics
/// As [`max_pool`], or if an index does not fit a byte.
pub fn max_pool_with_index<E: Element>(
    isa: Isa,
    pool: &Pool,
    shape: &PoolShape,
    images: usize,
    x: &[E],
    y: &mut [E],
    index: &mut [u8],
) {
    assert!(is_product(x.len(), &[images, shape.input_len()]), "x of {}", x.len());
    assert!(is_product(y.len(), &[images, shape.output_len()]), "y of {}", y.len());
    assert!(shape.has_index() && is_product(index.len(), &[images, shape.index_len()]), "index of {}", index.len());
    E::max_pool_with_index(isa, pool, shape, x, y, index);
}

/// [`max_pool_with_index`] of slices that have been checked.
pub(crate) fn max_pool_with_index_of<E: Element>(
    isa: Isa,
    pool: &Pool,
    shape: &PoolShape,
    x: &[E],
    y: &mut [E],
    index: &mut [u8],
) {
    let index = SharedMut::new(index);
    for_output_rows(pool, shape.output(), shape.channels, y, |image, i, y| {
        let start = image * shape.index_len() + i * y.len();
        // SAFETY: every task has its own row.
        let index = unsafe { index.part(start..start + y.len()) };
        let x = &x[image * shape.input_len()..][..shape.input_len()];
        E::run(isa, IndexedMaxRow { shape, x, i, y, index });
    });
}

/// One row of maxima.
struct MaxRow<'a, E> {
    shape: &'a PoolShape,
    x: &'a [E],
    i: usize,
    y: &'a mut [E],
}

impl<E: Element> ElementKernel<E> for MaxRow<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        let s = product.simd();
        let channels = self.shape.channels;
        let rows = self.shape.window(0, self.i);
        for (j, y) in self.y.chunks_exact_mut(channels).enumerate() {
            let columns = self.shape.window(1, j);
            let mut c = 0;
            while c < channels {
                let n = channels - c;
                let mut value = s.splat(f32::NEG_INFINITY);
                for row in rows.clone() {
                    for column in columns.clone() {
                        let at = (row * self.shape.input[1] + column) * channels + c;
                        // SAFETY: the window was clipped to the image, so the pixel has `n` channels from `c` on.
                        value = s.max_or_nan(unsafe { product.load_up_to(self.x.as_ptr().add(at), n) }, value);
                    }
                }
                // SAFETY: `y` is one pixel with `n` channels from `c` on.
                unsafe { product.store_up_to(y.as_mut_ptr().add(c), n, value) };
                c += P::Simd::LANES;
            }
        }
    }
}

/// One row of maxima and their places in the windows.
struct IndexedMaxRow<'a, E> {
    shape: &'a PoolShape,
    x: &'a [E],
    i: usize,
    y: &'a mut [E],
    index: &'a mut [u8],
}

impl<E: Element> ElementKernel<E> for IndexedMaxRow<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        let s = product.simd();
        let shape = self.shape;
        let channels = shape.channels;
        let rows = shape.window(0, self.i);
        let outputs = self.y.chunks_exact_mut(channels).zip(self.index.chunks_exact_mut(channels));
        for (j, (y, index)) in outputs.enumerate() {
            let columns = shape.window(1, j);
            let first = shape.place([self.i, j], [rows.start, columns.start]);
            let mut c = 0;
            while c < channels {
                let n = channels - c;
                let (mut value, mut winner) = (s.splat(f32::NEG_INFINITY), s.splat(first as f32));
                for row in rows.clone() {
                    let places = shape.place([self.i, j], [row, columns.start])..;
                    for (column, place) in columns.clone().zip(places) {
                        let at = (row * shape.input[1] + column) * channels + c;
                        // SAFETY: the window was clipped to the image, so the pixel has `n` channels from `c` on.
                        let x = unsafe { product.load_up_to(self.x.as_ptr().add(at), n) };
                        winner = s.where_above(x, value, s.splat(place as f32), winner);
                        value = s.where_above(x, value, x, value);
                    }
                }
                // SAFETY: `y` and `index` are one pixel with `n` channels from `c` on; places are below 256.
                unsafe {
                    product.store_up_to(y.as_mut_ptr().add(c), n, value);
                    s.store_bytes(index.as_mut_ptr().add(c), n, winner);
                }
                c += P::Simd::LANES;
            }
        }
    }
}

/// The offset of a place that is no pixel of its window: past the end of every tensor, wherever the window begins.
const OUTSIDE: usize = usize::MAX / 2;

/// The gradient of [`max_pool`], whose `index` it reads: each window's goes to the first pixel that held its maximum, or
/// to its last NaN, as in torch. Overwrites `dx`, or adds to it if `accumulate`.
///
/// # Panics
/// If a slice has not the length stated, or `index` names a pixel that is not in its window or the window's image.
pub fn max_pool_backward(
    pool: &Pool,
    shape: &PoolShape,
    images: usize,
    index: &[u8],
    dy: &[f32],
    accumulate: bool,
    dx: &mut [f32],
) {
    assert!(is_product(dx.len(), &[images, shape.input_len()]), "dx of {}", dx.len());
    assert!(is_product(dy.len(), &[images, shape.output_len()]), "dy of {}", dy.len());
    assert!(shape.has_index() && is_product(index.len(), &[images, shape.index_len()]), "index of {}", index.len());
    let [height, width] = shape.output();
    // The distance of each place from the first pixel of its window, in elements.
    let pixels = shape.kernel[0] * shape.kernel[1];
    let mut offsets = [OUTSIDE; MAX_WINDOW];
    for (place, offset) in offsets.iter_mut().enumerate().take(pixels) {
        *offset = (place / shape.kernel[1] * shape.input[1] + place % shape.kernel[1]) * shape.channels;
    }
    for_channel_blocks(pool, shape.input, shape.channels, images, accumulate, dx, |image, channels, dx| {
        let index = &index[image * shape.index_len()..];
        let dy = &dy[image * shape.output_len()..];
        let mut clipped_offsets = offsets;
        for i in 0..height {
            let rows = shape.window(0, i);
            for j in 0..width {
                let columns = shape.window(1, j);
                let offsets = if rows.len() * columns.len() == pixels {
                    &offsets
                } else {
                    let at = |axis: usize, index: usize, step: usize| {
                        (index * shape.stride[axis] + step).wrapping_sub(shape.padding[axis])
                    };
                    for (place, offset) in clipped_offsets.iter_mut().enumerate().take(pixels) {
                        let inside = rows.contains(&at(0, i, place / shape.kernel[1]))
                            && columns.contains(&at(1, j, place % shape.kernel[1]));
                        *offset = if inside { offsets[place] } else { OUTSIDE };
                    }
                    &clipped_offsets
                };
                let at = (i * width + j) * shape.channels;
                let (index, dy) = (&index[at..][channels.clone()], &dy[at..][channels.clone()]);
                // Of the first pixel's first channel; before the image where the window begins in the padding.
                let row = (i * shape.stride[0]).wrapping_sub(shape.padding[0]);
                let column = (j * shape.stride[1]).wrapping_sub(shape.padding[1]);
                let start = row.wrapping_mul(shape.input[1]).wrapping_add(column).wrapping_mul(shape.channels);
                for ((channel, &place), dy) in channels.clone().zip(index).zip(dy) {
                    let to = start.wrapping_add(offsets[usize::from(place)]).wrapping_add(channel);
                    // SAFETY: only this task touches this channel of this image, where the pixel lies: a place outside
                    // of it is outside of all of `dx`.
                    let dx = unsafe { dx.part(to..to.wrapping_add(1)) };
                    dx[0] += dy;
                }
            }
        }
    });
}

/// As [`max_pool_backward`] for values of bf16: each pixel sums up in floats what its windows give it, and is rounded once. A place
/// that is no pixel of its window counts for none.
///
/// # Panics
/// If a slice has not the length stated.
pub fn max_pool_backward_bf16(
    isa: Isa,
    pool: &Pool,
    shape: &PoolShape,
    images: usize,
    index: &[u8],
    dy: &[bf16],
    accumulate: bool,
    dx: &mut [bf16],
) {
    assert!(is_product(dx.len(), &[images, shape.input_len()]), "dx of {}", dx.len());
    assert!(is_product(dy.len(), &[images, shape.output_len()]), "dy of {}", dy.len());
    assert!(shape.has_index() && is_product(index.len(), &[images, shape.index_len()]), "index of {}", index.len());
    for_output_rows(pool, shape.input, shape.channels, dx, |image, row, dx| {
        let (index, dy) = (&index[image * shape.index_len()..], &dy[image * shape.output_len()..]);
        bf16::run(isa, MaxRowBackward { shape, index, dy, row, accumulate, dx });
    });
}

/// One row of the input's gradient.
struct MaxRowBackward<'a> {
    shape: &'a PoolShape,
    /// Those of an image.
    index: &'a [u8],
    dy: &'a [bf16],
    row: usize,
    accumulate: bool,
    dx: &'a mut [bf16],
}

impl ElementKernel<bf16> for MaxRowBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = bf16>>(self, product: P) {
        let s = product.simd();
        let shape = self.shape;
        let (channels, output) = (shape.channels, shape.output());
        let rows = shape.windows_of(0, self.row, output[0]);
        for (column, dx) in self.dx.chunks_exact_mut(channels).enumerate() {
            let columns = shape.windows_of(1, column, output[1]);
            for c in (0..channels).step_by(P::Simd::LANES) {
                let n = channels - c;
                let to = dx.as_mut_ptr().wrapping_add(c);
                // SAFETY: the pixel has `n` channels from `c` on.
                let mut sum = if self.accumulate { unsafe { product.load_up_to(to, n) } } else { s.zero() };
                for i in rows.clone() {
                    for j in columns.clone() {
                        let place = s.splat(shape.place([i, j], [self.row, column]) as f32);
                        let at = (i * output[1] + j) * channels + c;
                        // SAFETY: window (i, j) is one of the image's, and has `n` channels from `c` on.
                        unsafe {
                            let distance = s.sub(s.load_bytes(self.index.as_ptr().add(at), n), place);
                            let is_here = s.sub(s.splat(0.5), s.mul(distance, distance));
                            let dy = product.load_up_to(self.dy.as_ptr().add(at), n);
                            sum = s.add(sum, s.where_positive(is_here, dy));
                        }
                    }
                }
                // SAFETY: as above.
                unsafe { product.store_up_to(to, n, sum) };
            }
        }
    }
}
