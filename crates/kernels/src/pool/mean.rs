//! Means over windows: average pooling, adaptive and global.

use super::{CHANNEL_BLOCK, PoolShape, for_channel_blocks, for_output_rows};
use crate::extents::{is_batch, is_product};
use crate::isa::Element;
use crate::raw::SharedMut;
use residual_threads::Pool;
use std::ops::Range;

/// The windows that means are taken over.
trait Windows: Sync {
    fn input(&self) -> [usize; 2];
    fn output(&self) -> [usize; 2];
    fn channels(&self) -> usize;
    /// The part of window `index` along `axis` that lies inside the image.
    fn window(&self, axis: usize, index: usize) -> Range<usize>;
    /// What the mean over window (i, j) divides by.
    fn divisor(&self, i: usize, j: usize) -> f32;
}

/// The windows of an average pooling.
struct Strided<'a> {
    shape: &'a PoolShape,
    count_include_pad: bool,
}

impl Windows for Strided<'_> {
    fn input(&self) -> [usize; 2] {
        self.shape.input
    }

    fn output(&self) -> [usize; 2] {
        self.shape.output()
    }

    fn channels(&self) -> usize {
        self.shape.channels
    }

    fn window(&self, axis: usize, index: usize) -> Range<usize> {
        self.shape.window(axis, index)
    }

    /// torch counts padding, but not pixels past the padding.
    fn divisor(&self, i: usize, j: usize) -> f32 {
        let shape = self.shape;
        let extent = |axis: usize, index: usize| {
            if self.count_include_pad {
                let start = index * shape.stride[axis];
                (start + shape.kernel[axis]).min(shape.input[axis] + 2 * shape.padding[axis]) - start
            } else {
                shape.window(axis, index).len()
            }
        };
        (extent(0, i) * extent(1, j)) as f32
    }
}

/// The extents of an adaptive average pooling: along each axis window i of n spans ⌊i · size / n⌋ to ⌈(i + 1) · size / n⌉.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveShape {
    /// Input height and width.
    pub input: [usize; 2],
    /// Output height and width.
    pub output: [usize; 2],
    /// Channels.
    pub channels: usize,
}

impl Windows for AdaptiveShape {
    fn input(&self) -> [usize; 2] {
        self.input
    }

    fn output(&self) -> [usize; 2] {
        self.output
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn window(&self, axis: usize, index: usize) -> Range<usize> {
        let (size, count) = (self.input[axis], self.output[axis]);
        index * size / count..((index + 1) * size).div_ceil(count)
    }

    fn divisor(&self, i: usize, j: usize) -> f32 {
        (self.window(0, i).len() * self.window(1, j).len()) as f32
    }
}

/// Whether the slices are as long as `images` inputs and outputs.
fn fit(windows: &impl Windows, images: usize, input: &[f32], output: &[f32]) -> bool {
    let fits = |len: usize, size: [usize; 2]| is_batch(len, images, size, windows.channels());
    fits(input.len(), windows.input()) && fits(output.len(), windows.output())
}

fn forward(pool: &Pool, windows: &impl Windows, images: usize, x: &[f32], y: &mut [f32]) {
    assert!(fit(windows, images, x, y), "slices of {} and {}", x.len(), y.len());
    let (channels, [height, width]) = (windows.channels(), windows.input());
    for_output_rows(pool, windows.output(), channels, y, |image, i, y| {
        let x = &x[image * height * width * channels..];
        for (j, y) in y.chunks_exact_mut(channels).enumerate() {
            y.fill(0.0);
            for row in windows.window(0, i) {
                for column in windows.window(1, j) {
                    let x = &x[(row * width + column) * channels..][..channels];
                    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
                }
            }
            let divisor = windows.divisor(i, j);
            y.iter_mut().for_each(|y| *y /= divisor);
        }
    });
}

fn backward(pool: &Pool, windows: &impl Windows, images: usize, dy: &[f32], accumulate: bool, dx: &mut [f32]) {
    assert!(fit(windows, images, dx, dy), "slices of {} and {}", dx.len(), dy.len());
    let (channels, input, [height, width]) = (windows.channels(), windows.input(), windows.output());
    for_channel_blocks(pool, input, channels, images, accumulate, dx, |image, own, dx| {
        for i in 0..height {
            for j in 0..width {
                let dy = &dy[((image * height + i) * width + j) * channels..][own.clone()];
                let scale = 1.0 / windows.divisor(i, j);
                for row in windows.window(0, i) {
                    for column in windows.window(1, j) {
                        let at = (row * input[1] + column) * channels;
                        // SAFETY: only this task touches these channels of this image.
                        let dx = unsafe { dx.part(at + own.start..at + own.end) };
                        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy * scale);
                    }
                }
            }
        }
    });
}

/// The mean over each window, with padding in the divisor if `count_include_pad`.
///
/// # Panics
/// If a slice has not the length stated.
pub fn avg_pool(pool: &Pool, shape: &PoolShape, count_include_pad: bool, images: usize, x: &[f32], y: &mut [f32]) {
    forward(pool, &Strided { shape, count_include_pad }, images, x, y);
}

/// The gradient of [`avg_pool`]. Overwrites `dx`, or adds to it if `accumulate`.
///
/// # Panics
/// If a slice has not the length stated.
pub fn avg_pool_backward(
    pool: &Pool,
    shape: &PoolShape,
    count_include_pad: bool,
    images: usize,
    dy: &[f32],
    accumulate: bool,
    dx: &mut [f32],
) {
    backward(pool, &Strided { shape, count_include_pad }, images, dy, accumulate, dx);
}

/// The mean over each window of an adaptive pooling (torch's `AdaptiveAvgPool2d`).
///
/// # Panics
/// If a slice has not the length stated.
pub fn adaptive_avg_pool(pool: &Pool, shape: &AdaptiveShape, images: usize, x: &[f32], y: &mut [f32]) {
    forward(pool, shape, images, x, y);
}

/// The gradient of [`adaptive_avg_pool`]. Overwrites `dx`, or adds to it if `accumulate`.
///
/// # Panics
/// If a slice has not the length stated.
pub fn adaptive_avg_pool_backward(
    pool: &Pool,
    shape: &AdaptiveShape,
    images: usize,
    dy: &[f32],
    accumulate: bool,
    dx: &mut [f32],
) {
    backward(pool, shape, images, dy, accumulate, dx);
}

/// The mean over all pixels of each image, in floats. `x` is images × pixels × channels, `y` images × channels.
///
/// # Panics
/// If a slice has not the length stated.
pub fn global_avg_pool<E: Element>(pool: &Pool, pixels: usize, channels: usize, x: &[E], y: &mut [f32]) {
    assert!(y.len().is_multiple_of(channels) && is_product(x.len(), &[y.len(), pixels]));
    E::global_avg_pool(pool, pixels, channels, x, y);
}

/// [`global_avg_pool`] of slices that have been checked.
pub(crate) fn global_avg_pool_of<E: Element>(pool: &Pool, pixels: usize, channels: usize, x: &[E], y: &mut [f32]) {
    let images = y.len() / channels;
    let blocks = channels.div_ceil(CHANNEL_BLOCK);
    let y = SharedMut::new(y);
    pool.run(images * blocks, |task, _| {
        let (image, block) = (task / blocks, task % blocks);
        let own = block * CHANNEL_BLOCK..((block + 1) * CHANNEL_BLOCK).min(channels);
        let mut sums = [0.0; CHANNEL_BLOCK];
        let sums = &mut sums[..own.len()];
        for x in x[image * pixels * channels..][..pixels * channels].chunks_exact(channels) {
            sums.iter_mut().zip(&x[own.clone()]).for_each(|(sum, &x)| *sum += x.into());
        }
        // SAFETY: every task has its own channels of an image.
        let y = unsafe { y.part(image * channels + own.start..image * channels + own.end) };
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y = *sum / pixels as f32);
    });
}

/// The gradient of [`global_avg_pool`]. Overwrites `dx`, or adds to it if `accumulate`.
///
/// # Panics
/// If a slice has not the length stated.
pub fn global_avg_pool_backward<E: Element>(
    pool: &Pool,
    pixels: usize,
    channels: usize,
    dy: &[f32],
    accumulate: bool,
    dx: &mut [E],
) {
    assert!(dy.len().is_multiple_of(channels) && is_product(dx.len(), &[dy.len(), pixels]));
    E::global_avg_pool_backward(pool, pixels, channels, dy, accumulate, dx);
}

/// [`global_avg_pool_backward`] of slices that have been checked.
pub(crate) fn global_avg_pool_backward_of<E: Element>(
    pool: &Pool,
    pixels: usize,
    channels: usize,
    dy: &[f32],
    accumulate: bool,
    dx: &mut [E],
) {
    let images = dy.len() / channels;
    let dx = SharedMut::new(dx);
    let scale = 1.0 / pixels as f32;
    pool.run(images, |image, _| {
        let dy = &dy[image * channels..][..channels];
        // SAFETY: every task has its own image.
        let dx = unsafe { dx.part(image * pixels * channels..(image + 1) * pixels * channels) };
        for dx in dx.chunks_exact_mut(channels) {
            for (dx, dy) in dx.iter_mut().zip(dy) {
                let value = dy * scale;
                *dx = E::rounded(if accumulate { (*dx).into() + value } else { value });
            }
        }
    });
}
