//! Max, average and global average pooling on NHWC.

use crate::isa::{Isa, Kernel, Simd};
use crate::raw::SharedMut;
use residual_threads::Pool;

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
}

impl PoolShape {
    /// Output height and width.
    pub fn output(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            (self.input[axis] + 2 * self.padding[axis] - self.kernel[axis]) / self.stride[axis] + 1
        })
    }

    fn input_len(&self) -> usize {
        self.input[0] * self.input[1] * self.channels
    }

    fn output_len(&self) -> usize {
        let [height, width] = self.output();
        height * width * self.channels
    }

    /// The part of window `index` along `axis` that lies inside the image.
    fn window(&self, axis: usize, index: usize) -> std::ops::Range<usize> {
        let start = index * self.stride[axis];
        start.saturating_sub(self.padding[axis])..(start + self.kernel[axis] - self.padding[axis]).min(self.input[axis])
    }

    /// What the mean over window (i, j) divides by: torch counts padding, but not what lies past it.
    fn divisor(&self, i: usize, j: usize, count_include_pad: bool) -> f32 {
        let extent = |axis: usize, index: usize| {
            if count_include_pad {
                let start = index * self.stride[axis];
                (start + self.kernel[axis]).min(self.input[axis] + 2 * self.padding[axis]) - start
            } else {
                self.window(axis, index).len()
            }
        };
        (extent(0, i) * extent(1, j)) as f32
    }
}

/// Calls `body(image, output row, row)` for each row of `y`.
fn for_output_rows(pool: &Pool, shape: &PoolShape, y: &mut [f32], body: impl Fn(usize, usize, &mut [f32]) + Sync) {
    let [height, width] = shape.output();
    let row = width * shape.channels;
    let rows = y.len() / row;
    let y = SharedMut::new(y);
    pool.run(rows, |task, _| {
        // SAFETY: every task has its own row.
        body(task / height, task % height, unsafe { y.part(task * row..(task + 1) * row) });
    });
}

/// The maximum over each window, NaN if it has one; padding never wins.
///
/// # Panics
/// If a slice has not the length stated.
pub fn max_pool(isa: Isa, pool: &Pool, shape: &PoolShape, images: usize, x: &[f32], y: &mut [f32]) {
    assert!(x.len() == images * shape.input_len() && y.len() == images * shape.output_len());
    for_output_rows(pool, shape, y, |image, i, y| {
        let x = &x[image * shape.input_len()..][..shape.input_len()];
        isa.run(MaxRow { shape, x, i, y });
    });
}

struct MaxRow<'a> {
    shape: &'a PoolShape,
    x: &'a [f32],
    i: usize,
    y: &'a mut [f32],
}

impl Kernel for MaxRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
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
                        value = s.max_or_nan(unsafe { s.load_up_to(self.x.as_ptr().add(at), n) }, value);
                    }
                }
                // SAFETY: `y` is one pixel with `n` channels from `c` on.
                unsafe { s.store_up_to(y.as_mut_ptr().add(c), n, value) };
                c += S::LANES;
            }
        }
    }
}

/// The gradient of [`max_pool`]: each window's goes to the first pixel that held its maximum, as in torch. Overwrites
/// `dx`, or adds to it if `accumulate`.
///
/// # Panics
/// If a slice has not the length stated.
pub fn max_pool_backward(
    isa: Isa,
    pool: &Pool,
    shape: &PoolShape,
    images: usize,
    x: &[f32],
    y: &[f32],
    dy: &[f32],
    accumulate: bool,
    dx: &mut [f32],
) {
    assert!(x.len() == images * shape.input_len() && dx.len() == x.len());
    assert!(y.len() == images * shape.output_len() && dy.len() == y.len());
    for_channel_blocks(pool, shape, images, accumulate, dx, |image, channels, dx| {
        let x = &x[image * shape.input_len()..][..shape.input_len()];
        let outputs = image * shape.output_len()..(image + 1) * shape.output_len();
        isa.run(MaxBackward { shape, channels, x, y: &y[outputs.clone()], dy: &dy[outputs], dx });
    });
}

/// Channels that one task of a backward pass takes: windows overlap in space, so channels are what can be shared out.
const CHANNEL_BLOCK: usize = 64;

/// Calls `body(image, channels, image's dx)`; only those channels may be touched. They are zeroed before unless
/// `accumulate`.
fn for_channel_blocks(
    pool: &Pool,
    shape: &PoolShape,
    images: usize,
    accumulate: bool,
    dx: &mut [f32],
    body: impl Fn(usize, std::ops::Range<usize>, SharedMut<'_>) + Sync,
) {
    let blocks = shape.channels.div_ceil(CHANNEL_BLOCK);
    let (image_len, all) = (shape.input_len(), SharedMut::new(dx));
    pool.run(images * blocks, |task, _| {
        let (image, block) = (task / blocks, task % blocks);
        let channels = block * CHANNEL_BLOCK..((block + 1) * CHANNEL_BLOCK).min(shape.channels);
        let dx = all.offset(image * image_len);
        if !accumulate {
            for pixel in 0..shape.input[0] * shape.input[1] {
                let at = pixel * shape.channels;
                // SAFETY: only this task touches these channels of this image.
                unsafe { dx.part(at + channels.start..at + channels.end) }.fill(0.0);
            }
        }
        body(image, channels, dx);
    });
}

struct MaxBackward<'a> {
    shape: &'a PoolShape,
    channels: std::ops::Range<usize>,
    x: &'a [f32],
    y: &'a [f32],
    dy: &'a [f32],
    dx: SharedMut<'a>,
}

impl Kernel for MaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let [height, width] = self.shape.output();
        for i in 0..height {
            for j in 0..width {
                let at = (i * width + j) * self.shape.channels;
                let (y, dy) = (&self.y[at..][self.channels.clone()], &self.dy[at..][self.channels.clone()]);
                let mut left = [0.0; CHANNEL_BLOCK];
                let left = &mut left[..dy.len()];
                left.copy_from_slice(dy);
                for row in self.shape.window(0, i) {
                    for column in self.shape.window(1, j) {
                        let at = (row * self.shape.input[1] + column) * self.shape.channels;
                        let x = &self.x[at..][self.channels.clone()];
                        // SAFETY: only this task touches these channels of this image.
                        let dx = unsafe { self.dx.part(at + self.channels.start..at + self.channels.end) };
                        for (((x, y), left), dx) in x.iter().zip(y).zip(left.iter_mut()).zip(dx) {
                            let won = x == y;
                            *dx += if won { *left } else { 0.0 };
                            *left = if won { 0.0 } else { *left };
                        }
                    }
                }
            }
        }
    }
}

/// The mean over each window, with padding in the divisor if `count_include_pad`.
///
/// # Panics
/// If a slice has not the length stated.
pub fn avg_pool(pool: &Pool, shape: &PoolShape, count_include_pad: bool, images: usize, x: &[f32], y: &mut [f32]) {
    assert!(x.len() == images * shape.input_len() && y.len() == images * shape.output_len());
    let channels = shape.channels;
    for_output_rows(pool, shape, y, |image, i, y| {
        let x = &x[image * shape.input_len()..][..shape.input_len()];
        for (j, y) in y.chunks_exact_mut(channels).enumerate() {
            y.fill(0.0);
            for row in shape.window(0, i) {
                for column in shape.window(1, j) {
                    let x = &x[(row * shape.input[1] + column) * channels..][..channels];
                    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
                }
            }
            let divisor = shape.divisor(i, j, count_include_pad);
            y.iter_mut().for_each(|y| *y /= divisor);
        }
    });
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
    assert!(dx.len() == images * shape.input_len() && dy.len() == images * shape.output_len());
    let [height, width] = shape.output();
    for_channel_blocks(pool, shape, images, accumulate, dx, |image, channels, dx| {
        for i in 0..height {
            for j in 0..width {
                let dy = &dy[((image * height + i) * width + j) * shape.channels..][channels.clone()];
                let scale = 1.0 / shape.divisor(i, j, count_include_pad);
                for row in shape.window(0, i) {
                    for column in shape.window(1, j) {
                        let at = (row * shape.input[1] + column) * shape.channels;
                        // SAFETY: only this task touches these channels of this image.
                        let dx = unsafe { dx.part(at + channels.start..at + channels.end) };
                        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy * scale);
                    }
                }
            }
        }
    });
}

/// The mean over all pixels of each image. `x` is images × pixels × channels, `y` images × channels.
///
/// # Panics
/// If a slice has not the length stated.
pub fn global_avg_pool(pool: &Pool, pixels: usize, channels: usize, x: &[f32], y: &mut [f32]) {
    assert!(y.len().is_multiple_of(channels) && x.len() == y.len() * pixels);
    let images = y.len() / channels;
    let y = SharedMut::new(y);
    pool.run(images, |image, _| {
        // SAFETY: every task has its own image.
        let y = unsafe { y.part(image * channels..(image + 1) * channels) };
        y.fill(0.0);
        for x in x[image * pixels * channels..][..pixels * channels].chunks_exact(channels) {
            y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
        }
        y.iter_mut().for_each(|y| *y /= pixels as f32);
    });
}

/// The gradient of [`global_avg_pool`]. Overwrites `dx`, or adds to it if `accumulate`.
///
/// # Panics
/// If a slice has not the length stated.
pub fn global_avg_pool_backward(
    pool: &Pool,
    pixels: usize,
    channels: usize,
    dy: &[f32],
    accumulate: bool,
    dx: &mut [f32],
) {
    assert!(dy.len().is_multiple_of(channels) && dx.len() == dy.len() * pixels);
    let images = dy.len() / channels;
    let dx = SharedMut::new(dx);
    let scale = 1.0 / pixels as f32;
    pool.run(images, |image, _| {
        let dy = &dy[image * channels..][..channels];
        // SAFETY: every task has its own image.
        let dx = unsafe { dx.part(image * pixels * channels..(image + 1) * pixels * channels) };
        for dx in dx.chunks_exact_mut(channels) {
            for (dx, dy) in dx.iter_mut().zip(dy) {
                *dx = if accumulate { *dx + dy * scale } else { dy * scale };
            }
        }
    });
}
