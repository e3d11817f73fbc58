//! Antialiased resizing: Pillow's `Image.resize` to the bit (`libImaging/Resample.c`, 8 bits per channel).
//!
//! One direction is resized first and rounded to bytes, then the other. The order and the fixed point matter
//! where the bicubic filter overshoots; crates with another order differ by up to 5 grey levels.

use residual_kernels::image::{PRECISION, Taps, resample_columns, resample_rows};

use crate::instructions::isa;
use crate::{Image, Interpolation, memory};

/// `image` at `size` (height, width) pixels, as Pillow's `Image.resize` with the same filter gives it. An image
/// that already has the size is returned as it is.
///
/// # Panics
/// If a side of `size` is zero.
pub fn resize(image: &Image, size: [usize; 2], interpolation: Interpolation) -> Image {
    let [height, width] = size;
    assert!(height > 0 && width > 0, "a resized image has at least one pixel");
    let ([from_height, from_width], channels) = ([image.height(), image.width()], image.channels());
    let columns = |pixels: &[u8]| {
        let taps = Weights::new(from_width, width, interpolation);
        let mut output = zeros(pixels.len() / from_width * width);
        resample_columns(isa(), pixels, channels, from_width, taps.taps(), &mut output);
        output
    };
    let rows = |pixels: &[u8]| {
        let taps = Weights::new(from_height, height, interpolation);
        let mut output = zeros(pixels.len() / from_height * height);
        resample_rows(isa(), pixels, pixels.len() / from_height, taps.taps(), &mut output);
        output
    };
    let both = |between: Vec<u8>, last: &dyn Fn(&[u8]) -> Vec<u8>| {
        let pixels = last(&between);
        memory::give(between);
        pixels
    };
    let pixels = match (from_height == height, from_width == width) {
        (true, true) => image.pixels().to_vec(),
        (true, false) => columns(image.pixels()),
        (false, true) => rows(image.pixels()),
        (false, false) if rows_first([from_height, from_width], size) => both(rows(image.pixels()), &columns),
        (false, false) => both(columns(image.pixels()), &rows),
    };
    Image::new(height, width, channels, pixels).expect("as many values as were computed")
}

fn zeros(len: usize) -> Vec<u8> {
    let mut vector = memory::take(len);
    vector.resize(len, 0);
    vector
}

/// Whether the height shrinks so much more than the width that Pillow, since version 13, resizes it first. Earlier
/// versions always began with the width.
fn rows_first(from: [usize; 2], to: [usize; 2]) -> bool {
    let [height, width] = [0, 1].map(|side| from[side] as i64 - to[side] as i64);
    height > 0 && height > 2 * width
}

/// The taps of a side.
struct Weights {
    starts: Vec<u32>,
    size: usize,
    weights: Vec<i32>,
}

impl Weights {
    /// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`, with as many weights for each position: zeros, inside the image, where
    /// there are fewer.
    fn new(from: usize, to: usize, interpolation: Interpolation) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = stretch
            * match interpolation {
                Interpolation::Bilinear => 1.0,
                Interpolation::Bicubic => 2.0,
            };
        // Conversion to an integer truncates, and clamps negative values to 0.
        let range = |at: usize| {
            let centre = (at as f64 + 0.5) * scale;
            ((centre - support + 0.5) as usize, ((centre + support + 0.5) as usize).min(from), centre)
        };
        let size = (0..to).map(range).map(|(first, end, _)| end - first).max().unwrap_or(0);
        let (mut starts, mut weights) = (Vec::with_capacity(to), vec![0; to * size]);
        let mut exact = Vec::with_capacity(size);
        for (at, weights) in weights.chunks_exact_mut(size).enumerate() {
            let (first, end, centre) = range(at);
            exact.clear();
            exact.extend((first..end).map(|x| filter((x as f64 - centre + 0.5) / stretch, interpolation)));
            let sum: f64 = exact.iter().sum();
            let start = first.min(from - size);
            for (weight, exact) in weights[first - start..].iter_mut().zip(&exact) {
                *weight = (exact / sum * f64::from(1 << PRECISION)).round() as i32;
            }
            starts.push(start as u32);
        }
        Self { starts, size, weights }
    }

    fn taps(&self) -> Taps<'_> {
        Taps { starts: &self.starts, size: self.size, weights: &self.weights }
    }
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
