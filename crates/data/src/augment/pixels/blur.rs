//! Two Gaussian blurs: Pillow's approximation by box blurs, and torchvision's convolution.

use crate::augment::canvas::{Canvas, reflected};

/// The passes of Pillow's approximation.
const PASSES: u32 = 3;
/// The number of values of torchvision's kernel, in each direction.
const KERNEL: usize = 23;

/// `ImageFilter.GaussianBlur(radius)`: three box blurs of the same variance in each direction.
pub(super) fn box_blur(canvas: &mut Canvas, radius: f32) {
    let radius = box_radius(radius);
    if radius == 0.0 {
        return;
    }
    let ([height, width], channels) = (canvas.size(), canvas.channels());
    for ([rows, row_step], [values, step]) in
        [([height, width * channels], [width, channels]), ([width, channels], [height, width * channels])]
    {
        for _ in 0..PASSES {
            canvas.replace(|from, to| {
                for row in 0..rows {
                    for channel in 0..channels {
                        let start = row * row_step + channel;
                        box_line(&from[start..], &mut to[start..], values, step, radius);
                    }
                }
            });
        }
    }
}

/// Blurs `count` values `step` apart. The box has the fractional `radius`; the values at the ends continue outside.
fn box_line(from: &[u8], to: &mut [u8], count: usize, step: usize, radius: f32) {
    let whole = radius as usize;
    let weight = ((1 << 24) as f32 / (radius * 2.0 + 1.0)) as u32;
    // The weight of the two values at the ends of the box, which are only partly in it.
    let end_weight = ((1 << 24) - (2 * whole as u32 + 1) * weight) / 2;
    let value = |at: usize, below: usize| u32::from(from[at.saturating_sub(below).min(count - 1) * step]);
    // The sum of the box around the position before the first.
    let mut sum = value(0, 0) * (whole as u32 + 1) + (0..whole).map(|at| value(at, 0)).sum::<u32>();
    for at in 0..count {
        sum = sum + value(at + whole, 0) - value(at, whole + 1);
        let ends = value(at, whole + 1) + value(at + whole + 1, 0);
        to[at * step] = ((sum * weight + ends * end_weight + (1 << 23)) >> 24) as u8;
    }
}

/// The radius of the box whose repeated blur has the standard deviation `radius` (Gwosdek et al. 2011, equations 7, 11, 14).
fn box_radius(radius: f32) -> f32 {
    let variance = radius * radius / PASSES as f32;
    let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
    let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
    let mut part = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance);
    part /= 6.0 * (variance - (whole + 1.0) * (whole + 1.0));
    whole + part
}

/// torchvision's `gaussian_blur(kernel_size=23, sigma)`; outside, the image is mirrored at its border.
pub(super) fn gaussian(canvas: &mut Canvas, sigma: f32) {
    const HALF: isize = (KERNEL / 2) as isize;
    let density: [f32; KERNEL] = std::array::from_fn(|at| {
        let x = (at as isize - HALF) as f32 / sigma;
        (-0.5 * x * x).exp()
    });
    let sum: f32 = density.iter().sum();
    let kernel = density.map(|value| value / sum);
    let ([height, width], channels) = (canvas.size(), canvas.channels());
    let row_len = width * channels;
    let mut blurred = std::mem::take(&mut canvas.buffers.sums);
    blurred.clear();
    blurred.resize(canvas.pixels().len(), 0.0);
    for (y, output) in blurred.chunks_exact_mut(row_len).enumerate() {
        for (offset, weight) in (-HALF..).zip(kernel) {
            let row = &canvas.pixels()[reflected(y as isize + offset, height) * row_len..][..row_len];
            output.iter_mut().zip(row).for_each(|(sum, &value)| *sum += weight * f32::from(value));
        }
    }
    for (row, output) in blurred.chunks_exact(row_len).zip(canvas.pixels_mut().chunks_exact_mut(row_len)) {
        for (x, pixel) in output.chunks_exact_mut(channels).enumerate() {
            for (channel, value) in pixel.iter_mut().enumerate() {
                let taps = (-HALF..)
                    .zip(kernel)
                    .map(|(offset, weight)| weight * row[reflected(x as isize + offset, width) * channels + channel]);
                *value = taps.sum::<f32>().round_ties_even() as u8;
            }
        }
    }
    canvas.buffers.sums = blurred;
}
