//! Pooling of bytes, whose pixels have a multiple of four channels ([`QuantizedConv::pixel`]).

use super::{CHANNEL_BLOCK, PoolShape, for_output_rows};
use crate::conv::QuantizedConv;
use crate::extents::is_product;
use crate::isa::{Isa, Kernel, Simd};
use crate::quantize::Quantization;
use crate::raw::SharedMut;
use residual_threads::Pool;

/// The maximum over each window of bytes; padding never wins. The result's bytes stand for what those of `x` do.
///
/// # Panics
/// If a slice has not the length stated.
pub fn max_pool_bytes(isa: Isa, pool: &Pool, shape: &PoolShape, images: usize, x: &[u8], y: &mut [u8]) {
    // What is between pixels is treated as channels are.
    let shape = &PoolShape { channels: QuantizedConv::pixel(shape.channels), ..*shape };
    assert!(is_product(x.len(), &[images, shape.input_len()]), "x of {}", x.len());
    assert!(is_product(y.len(), &[images, shape.output_len()]), "y of {}", y.len());
    for_output_rows(pool, shape.output(), shape.channels, y, |image, i, y| {
        isa.run(MaxRow { shape, x: &x[image * shape.input_len()..][..shape.input_len()], i, y });
    });
}

/// One row of maxima.
struct MaxRow<'a> {
    shape: &'a PoolShape,
    x: &'a [u8],
    i: usize,
    y: &'a mut [u8],
}

impl Kernel for MaxRow<'_> {
    type Output = ();

    /// The compiler turns the innermost loop into vectors of the set.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { shape, x, i, y } = self;
        for (j, y) in y.chunks_exact_mut(shape.channels).enumerate() {
            y.fill(0);
            for row in shape.window(0, i) {
                for column in shape.window(1, j) {
                    let x = &x[(row * shape.input[1] + column) * shape.channels..][..shape.channels];
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = (*y).max(x);
                    }
                }
            }
        }
    }
}

/// Images of [`global_avg_pool_bytes`] have fewer pixels: their sums are exact in 32 bits.
pub const TOO_MANY_PIXELS: usize = 1 << 24;

/// The mean over all pixels of each image: the exact sum of byte − zero, as a float, times the scale, divided by `pixels`. `x` is
/// images × pixels of bytes, `y` images × channels.
///
/// # Panics
/// If a slice has not the length stated, or an image has [`TOO_MANY_PIXELS`].
pub fn global_avg_pool_bytes(pool: &Pool, pixels: usize, channels: usize, x: &[u8], from: Quantization, y: &mut [f32]) {
    let pixel = QuantizedConv::pixel(channels);
    assert!(y.len().is_multiple_of(channels) && is_product(x.len(), &[y.len() / channels, pixels, pixel]));
    assert!(pixels < TOO_MANY_PIXELS, "{pixels} pixels");
    let (blocks, image_len) = (channels.div_ceil(CHANNEL_BLOCK), pixels * pixel);
    let tasks = y.len() / channels * blocks;
    let y = SharedMut::new(y);
    pool.run(tasks, |task, _| {
        let (image, block) = (task / blocks, task % blocks);
        let own = block * CHANNEL_BLOCK..((block + 1) * CHANNEL_BLOCK).min(channels);
        let mut sums = [0u32; CHANNEL_BLOCK];
        let sums = &mut sums[..own.len()];
        for x in x[image * image_len..][..image_len].chunks_exact(pixel) {
            sums.iter_mut().zip(&x[own.clone()]).for_each(|(sum, x)| *sum += u32::from(*x));
        }
        // SAFETY: every task has its own channels of an image.
        let y = unsafe { y.part(image * channels + own.start..image * channels + own.end) };
        for (y, sum) in y.iter_mut().zip(sums) {
            let sum = i64::from(*sum) - pixels as i64 * i64::from(from.zero);
            *y = sum as f32 * from.scale / pixels as f32;
        }
    });
}
