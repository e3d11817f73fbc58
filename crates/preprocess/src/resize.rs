//! Antialiased resizing: Pillow's `Image.resize` to the bit (`libImaging/Resample.c`, 8 bits per channel).
//!
//! One direction is resized first and rounded to bytes, then the other. The order and the fixed point matter
//! where the bicubic filter overshoots; crates with another order differ by up to 5 grey levels.

use crate::{Image, Interpolation};

/// Bits after the point in the weights: a sum of 255 times weights fits an `i32`.
const PRECISION: u32 = 32 - 8 - 2;
/// One half.
const HALF: i32 = 1 << (PRECISION - 1);

/// `image` at `size` (height, width) pixels, as Pillow's `Image.resize` with the same filter gives it. An image
/// that already has the size is returned as it is.
///
/// # Panics
/// If a side of `size` is zero.
pub fn resize(image: &Image, size: [usize; 2], interpolation: Interpolation) -> Image {
    let [height, width] = size;
    assert!(height > 0 && width > 0, "a resized image has at least one pixel");
    let [from_height, from_width] = [image.height(), image.width()];
    let pixels = match (from_height == height, from_width == width) {
        (true, true) => image.pixels().to_vec(),
        (true, false) => columns(image.pixels(), image.channels(), from_width, width, interpolation),
        (false, true) => rows(image.pixels(), from_height, height, interpolation),
        (false, false) if rows_first([from_height, from_width], size) => {
            let flattened = rows(image.pixels(), from_height, height, interpolation);
            columns(&flattened, image.channels(), from_width, width, interpolation)
        }
        (false, false) => {
            let narrowed = columns(image.pixels(), image.channels(), from_width, width, interpolation);
            rows(&narrowed, from_height, height, interpolation)
        }
    };
    Image::new(height, width, image.channels(), pixels).expect("as many values as were computed")
}

/// Whether the height shrinks so much more than the width that Pillow, since version 13, resizes it first. Earlier
/// versions always began with the width.
fn rows_first(from: [usize; 2], to: [usize; 2]) -> bool {
    let [height, width] = [0, 1].map(|side| from[side] as i64 - to[side] as i64);
    height > 0 && height > 2 * width
}

/// The source range and weights of one resized value.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`.
fn taps(from: usize, to: usize, interpolation: Interpolation) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = stretch
        * match interpolation {
            Interpolation::Bilinear => 1.0,
            Interpolation::Bicubic => 2.0,
        };
    let tap = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        // Conversion to an integer truncates, and clamps negative values to 0.
        let first = (centre - support + 0.5) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weight = |x: usize| filter((x as f64 - centre + 0.5) / stretch, interpolation);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (weight / sum * f64::from(1 << PRECISION)).round() as i32;
        Taps { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(tap).collect()
}

fn filter(x: f64, interpolation: Interpolation) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match interpolation {
        Interpolation::Bilinear => (1.0 - x).max(0.0),
        Interpolation::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        Interpolation::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        Interpolation::Bicubic => 0.0,
    }
}

fn columns(pixels: &[u8], channels: usize, from: usize, to: usize, interpolation: Interpolation) -> Vec<u8> {
    match channels {
        1 => columns_of::<1>(pixels, from, to, interpolation),
        3 => columns_of::<3>(pixels, from, to, interpolation),
        4 => columns_of::<4>(pixels, from, to, interpolation),
        _ => columns_of_any(pixels, channels, from, to, interpolation),
    }
}

fn columns_of<const CHANNELS: usize>(pixels: &[u8], from: usize, to: usize, interpolation: Interpolation) -> Vec<u8> {
    let taps = taps(from, to, interpolation);
    let (pixels, _) = pixels.as_chunks::<CHANNELS>();
    let mut output = vec![0; pixels.len() / from * to * CHANNELS];
    let (outputs, _) = output.as_chunks_mut::<CHANNELS>();
    for (row, outputs) in pixels.chunks_exact(from).zip(outputs.chunks_exact_mut(to)) {
        for (output, Taps { first, weights }) in outputs.iter_mut().zip(&taps) {
            let mut sums = [HALF; CHANNELS];
            for (pixel, &weight) in row[*first..].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (output, sum) in output.iter_mut().zip(sums) {
                *output = rounded(sum);
            }
        }
    }
    output
}

fn columns_of_any(pixels: &[u8], channels: usize, from: usize, to: usize, interpolation: Interpolation) -> Vec<u8> {
    let taps = taps(from, to, interpolation);
    let mut output = Vec::with_capacity(pixels.len() / from * to);
    for row in pixels.chunks_exact(from * channels) {
        for Taps { first, weights } in &taps {
            for channel in 0..channels {
                let values = row[first * channels + channel..].iter().step_by(channels);
                let sum = values.zip(weights).map(|(&value, &weight)| i32::from(value) * weight).sum::<i32>();
                output.push(rounded(HALF + sum));
            }
        }
    }
    output
}

fn rows(pixels: &[u8], from: usize, to: usize, interpolation: Interpolation) -> Vec<u8> {
    let row_len = pixels.len() / from;
    let mut output = Vec::with_capacity(row_len * to);
    let mut sums = vec![0; row_len];
    for Taps { first, weights } in taps(from, to, interpolation) {
        sums.fill(HALF);
        for (row, weight) in pixels.chunks_exact(row_len).skip(first).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        output.extend(sums.iter().map(|&sum| rounded(sum)));
    }
    output
}

fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
