//! Pooling by its definition.

use super::narrow;
use crate::conv::QuantizedConv;
use crate::pool::{AdaptiveShape, PoolShape};
use crate::quantize::Quantization;

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

/// The gradient of [`max_pool`]: each window's goes to the first pixel that held its maximum, or to its last NaN.
pub fn max_pool_backward(shape: &PoolShape, images: usize, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let [input, output] = lens(shape);
    let mut first = vec![None; images * output];
    taps(shape, images, |xi, yi| {
        if first[yi].is_none_or(|first: usize| x[xi] > x[first] || x[xi].is_nan()) {
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
        let counted = |axis: usize, index: usize| {
            let end = shape.input[axis] + 2 * shape.padding[axis];
            (0..shape.kernel[axis]).filter(|tap| index * shape.stride[axis] + tap < end).count()
        };
        let [_, width] = shape.output();
        let pixels = (0..outputs / shape.channels).map(|pixel| pixel % (lens(shape)[1] / shape.channels));
        let divisors = pixels.map(|pixel| (counted(0, pixel / width) * counted(1, pixel % width)) as f64);
        return divisors.flat_map(|divisor| vec![divisor; shape.channels]).collect();
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

/// Calls `visit(x index, y index, pixels of the window)` for every pixel of every window.
fn adaptive_taps(shape: &AdaptiveShape, images: usize, mut visit: impl FnMut(usize, usize, f64)) {
    let AdaptiveShape { input: [height, width], output: [out_height, out_width], channels } = *shape;
    let window = |index: usize, size: usize, count: usize| -> Vec<usize> {
        // Pixel p is in window i where p < (i + 1) · size / count and p + 1 > i · size / count.
        (0..size).filter(|p| p * count < (index + 1) * size && (p + 1) * count > index * size).collect()
    };
    for image in 0..images {
        for oy in 0..out_height {
            for ox in 0..out_width {
                let (rows, columns) = (window(oy, height, out_height), window(ox, width, out_width));
                for &y in &rows {
                    for &x in &columns {
                        for channel in 0..channels {
                            visit(
                                ((image * height + y) * width + x) * channels + channel,
                                ((image * out_height + oy) * out_width + ox) * channels + channel,
                                (rows.len() * columns.len()) as f64,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// The mean over each window of an adaptive pooling.
pub fn adaptive_avg_pool(shape: &AdaptiveShape, images: usize, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; images * shape.output[0] * shape.output[1] * shape.channels];
    adaptive_taps(shape, images, |xi, yi, count| y[yi] += f64::from(x[xi]) / count);
    narrow(y)
}

/// The gradient of [`adaptive_avg_pool`].
pub fn adaptive_avg_pool_backward(shape: &AdaptiveShape, images: usize, dy: &[f32]) -> Vec<f32> {
    let mut dx = vec![0.0; images * shape.input[0] * shape.input[1] * shape.channels];
    adaptive_taps(shape, images, |xi, yi, count| dx[xi] += f64::from(dy[yi]) / count);
    narrow(dx)
}

/// The window that covers images of `pixels` pixels.
fn whole(pixels: usize, channels: usize) -> PoolShape {
    PoolShape { input: [1, pixels], channels, kernel: [1, pixels], stride: [1; 2], padding: [0; 2], ceil_mode: false }
}

/// The mean over all pixels of each image.
pub fn global_avg_pool(pixels: usize, channels: usize, x: &[f32]) -> Vec<f32> {
    avg_pool(&whole(pixels, channels), false, x.len() / (pixels * channels), x)
}

/// The gradient of [`global_avg_pool`].
pub fn global_avg_pool_backward(pixels: usize, channels: usize, dy: &[f32]) -> Vec<f32> {
    avg_pool_backward(&whole(pixels, channels), false, dy.len() / channels, dy)
}

/// The maximum over each window of bytes, without what is between pixels.
pub fn max_pool_bytes(shape: &PoolShape, images: usize, x: &[u8]) -> Vec<u8> {
    let (channels, pixel) = (shape.channels, QuantizedConv::pixel(shape.channels));
    let mut y = vec![0; images * lens(shape)[1]];
    taps(shape, images, |xi, yi| y[yi] = x[xi / channels * pixel + xi % channels].max(y[yi]));
    y
}

/// The mean over all pixels of each image of bytes: the sum of byte − zero, times the scale, divided by the pixels.
pub fn global_avg_pool_bytes(pixels: usize, channels: usize, x: &[u8], from: Quantization) -> Vec<f32> {
    let pixel = QuantizedConv::pixel(channels);
    let images = x.chunks_exact(pixels * pixel);
    let sum = |image: &[u8], channel: usize| -> i64 {
        image.chunks_exact(pixel).map(|pixel| i64::from(pixel[channel]) - i64::from(from.zero)).sum()
    };
    let means = images.flat_map(|image| (0..channels).map(move |channel| sum(image, channel)));
    means.map(|sum| sum as f32 * from.scale / pixels as f32).collect()
}
