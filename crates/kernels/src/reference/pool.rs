//! Pooling by its definition.

use super::narrow;
use crate::pool::PoolShape;

/// Elements of the input and of the output of one image.
fn lens(shape: &PoolShape) -> [usize; 2] {
    [shape.input, shape.output()].map(|[height, width]| height * width * shape.channels)
}

/// Calls `visit(x index, y index)` for every pixel inside the image of every window, in row-major order of the window.
fn taps(shape: &PoolShape, images: usize, mut visit: impl FnMut(usize, usize)) {
    let [height, width] = shape.input;
    let [out_height, out_width] = shape.output();
    for image in 0..images {
        for oy in 0..out_height {
            for ox in 0..out_width {
                for ky in 0..shape.kernel[0] {
                    for kx in 0..shape.kernel[1] {
                        let y = (oy * shape.stride[0] + ky).wrapping_sub(shape.padding[0]);
                        let x = (ox * shape.stride[1] + kx).wrapping_sub(shape.padding[1]);
                        if y >= height || x >= width {
                            continue;
                        }
                        for channel in 0..shape.channels {
                            visit(
                                ((image * height + y) * width + x) * shape.channels + channel,
                                ((image * out_height + oy) * out_width + ox) * shape.channels + channel,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// The maximum over each window; NaN if it has one.
pub fn max_pool(shape: &PoolShape, images: usize, x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NEG_INFINITY; images * lens(shape)[1]];
    taps(shape, images, |xi, yi| {
        if x[xi] > y[yi] || x[xi].is_nan() {
            y[yi] = x[xi];
        }
    });
    y
}

/// The gradient of [`max_pool`]: each window's goes to the first pixel that held its maximum.
pub fn max_pool_backward(shape: &PoolShape, images: usize, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let [input, output] = lens(shape);
    let mut first = vec![None; images * output];
    taps(shape, images, |xi, yi| {
        if first[yi].is_none_or(|first: usize| x[xi] > x[first]) {
            first[yi] = Some(xi);
        }
    });
    let mut dx = vec![0.0; images * input];
    for (first, dy) in first.into_iter().zip(dy) {
        dx[first.expect("a window has a pixel inside the image")] += f64::from(*dy);
    }
    narrow(dx)
}

/// What the mean of each window divides by.
fn divisors(shape: &PoolShape, count_include_pad: bool, images: usize) -> Vec<f64> {
    let outputs = images * lens(shape)[1];
    if count_include_pad {
        return vec![(shape.kernel[0] * shape.kernel[1]) as f64; outputs];
    }
    let mut inside = vec![0.0; outputs];
    taps(shape, images, |_, yi| inside[yi] += 1.0);
    inside
}

/// The mean over each window, with padding in the divisor if `count_include_pad`.
pub fn avg_pool(shape: &PoolShape, count_include_pad: bool, images: usize, x: &[f32]) -> Vec<f32> {
    let divisors = divisors(shape, count_include_pad, images);
    let mut y = vec![0.0; divisors.len()];
    taps(shape, images, |xi, yi| y[yi] += f64::from(x[xi]) / divisors[yi]);
    narrow(y)
}

/// The gradient of [`avg_pool`].
pub fn avg_pool_backward(shape: &PoolShape, count_include_pad: bool, images: usize, dy: &[f32]) -> Vec<f32> {
    let divisors = divisors(shape, count_include_pad, images);
    let mut dx = vec![0.0; images * lens(shape)[0]];
    taps(shape, images, |xi, yi| dx[xi] += f64::from(dy[yi]) / divisors[yi]);
    narrow(dx)
}

/// The window that covers images of `pixels` pixels.
fn whole(pixels: usize, channels: usize) -> PoolShape {
    PoolShape { input: [1, pixels], channels, kernel: [1, pixels], stride: [1; 2], padding: [0; 2] }
}

/// The mean over all pixels of each image.
pub fn global_avg_pool(pixels: usize, channels: usize, x: &[f32]) -> Vec<f32> {
    avg_pool(&whole(pixels, channels), false, x.len() / (pixels * channels), x)
}

/// The gradient of [`global_avg_pool`].
pub fn global_avg_pool_backward(pixels: usize, channels: usize, dy: &[f32]) -> Vec<f32> {
    avg_pool_backward(&whole(pixels, channels), false, dy.len() / channels, dy)
}
