//! The kernels of 8-bit images, by their definitions: libjpeg's (`jidctint.c`, `jdsample.c`, `jdcolor.c`) and Pillow's (`Resample.c`).

use std::num::Wrapping;

use crate::image::{CHROMA, PRECISION, Taps};

/// [`crate::image::inverse_cosine`], block by block. The method is libjpeg's accurate one: Loeffler, Ligtenberg and Moschytz,
/// "Practical fast 1-D DCT algorithms with 11 multiplications", 1989.
pub fn inverse_cosine(blocks: &[[i16; 64]], table: &[u16; 64], output: &mut [u8], stride: usize) {
    for (at, block) in blocks.iter().enumerate() {
        inverse_block(block, table, &mut output[8 * at..], stride);
    }
}

/// Bits after the point in the constants.
const CONST_BITS: usize = 13;
/// Bits after the point between the passes.
const PASS1_BITS: usize = 2;

type Number = Wrapping<i32>;

fn inverse_block(block: &[i16; 64], table: &[u16; 64], output: &mut [u8], stride: usize) {
    let value = |at: usize| Wrapping(i32::from(block[at])) * Wrapping(i32::from(table[at]));
    // libjpeg's shortcut: the same but for values that wrap around.
    if block[1..].iter().all(|&coefficient| coefficient == 0) {
        let grey = ((value(0) << PASS1_BITS) + Wrapping(1 << (PASS1_BITS + 2))) >> (PASS1_BITS + 3);
        output.chunks_mut(stride).take(8).for_each(|row| row[..8].fill(around_128(grey)));
        return;
    }
    let mut between = [Wrapping(0); 64];
    for column in 0..8 {
        let transformed = pass(std::array::from_fn(|row| value(row * 8 + column)), CONST_BITS - PASS1_BITS);
        for row in 0..8 {
            between[row * 8 + column] = transformed[row];
        }
    }
    for (values, row) in between.as_chunks::<8>().0.iter().zip(output.chunks_mut(stride)) {
        let transformed = pass(*values, CONST_BITS + PASS1_BITS + 3);
        for (output, value) in row[..8].iter_mut().zip(transformed) {
            *output = around_128(value);
        }
    }
}

/// From a signed sample to one around 128.
fn around_128(value: Number) -> u8 {
    (value.0.clamp(-128, 127) + 128) as u8
}

/// The one-dimensional transform, divided by two to the power of `shift`.
#[inline(always)]
fn pass(values: [Number; 8], shift: usize) -> [Number; 8] {
    const fn fixed(value: i32) -> Number {
        Wrapping(value)
    }
    let [v0, v1, v2, v3, v4, v5, v6, v7] = values;

    // The even part.
    let z1 = (v2 + v6) * fixed(4433);
    let t2 = z1 - v6 * fixed(15137);
    let t3 = z1 + v2 * fixed(6270);
    let t0 = (v0 + v4) << CONST_BITS;
    let t1 = (v0 - v4) << CONST_BITS;
    let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];

    // The odd part.
    let z5 = (v7 + v3 + v5 + v1) * fixed(9633);
    let z1 = -(v7 + v1) * fixed(7373);
    let z2 = -(v5 + v3) * fixed(20995);
    let z3 = z5 - (v7 + v3) * fixed(16069);
    let z4 = z5 - (v5 + v1) * fixed(3196);
    let odd = [
        v1 * fixed(12299) + z1 + z4,
        v3 * fixed(25172) + z2 + z3,
        v5 * fixed(16819) + z2 + z4,
        v7 * fixed(2446) + z1 + z3,
    ];

    let half = Wrapping(1 << (shift - 1));
    [
        (even[0] + odd[0] + half) >> shift,
        (even[1] + odd[1] + half) >> shift,
        (even[2] + odd[2] + half) >> shift,
        (even[3] + odd[3] + half) >> shift,
        (even[3] - odd[3] + half) >> shift,
        (even[2] - odd[2] + half) >> shift,
        (even[1] - odd[1] + half) >> shift,
        (even[0] - odd[0] + half) >> shift,
    ]
}

/// [`crate::image::widen`].
pub fn widen(row: &[u8], output: &mut [u8]) {
    let sample = |at: usize| u16::from(row[at.min(row.len() - 1)]);
    for at in 0..row.len() {
        let here = 3 * sample(at);
        output[2 * at] = ((here + sample(at.saturating_sub(1)) + 1) >> 2) as u8;
        output[2 * at + 1] = ((here + sample(at + 1) + 2) >> 2) as u8;
    }
}

/// [`crate::image::widen_between`].
pub fn widen_between(near: &[u8], far: &[u8], output: &mut [u8]) {
    let sum = |at: usize| {
        let at = at.min(near.len() - 1);
        3 * u16::from(near[at]) + u16::from(far[at])
    };
    for at in 0..near.len() {
        let here = 3 * sum(at);
        output[2 * at] = ((here + sum(at.saturating_sub(1)) + 8) >> 4) as u8;
        output[2 * at + 1] = ((here + sum(at + 1) + 7) >> 4) as u8;
    }
}

/// [`crate::image::ycc_to_rgb`]: ITU-R 601 in 16-bit fixed point.
pub fn ycc_to_rgb(y: &[u8], cb: &[u8], cr: &[u8], rgb: &mut [u8]) {
    const HALF: i32 = 1 << 15;
    for (((&y, &cb), &cr), pixel) in y.iter().zip(cb).zip(cr).zip(rgb.chunks_exact_mut(3)) {
        let (y, cb, cr) = (i32::from(y), i32::from(cb) - CHROMA, i32::from(cr) - CHROMA);
        let red = y + ((91_881 * cr + HALF) >> 16);
        let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
        let blue = y + ((116_130 * cb + HALF) >> 16);
        pixel.copy_from_slice(&[red, green, blue].map(|value| value.clamp(0, 255) as u8));
    }
}

/// [`crate::image::resample_columns`].
pub fn resample_columns(pixels: &[u8], channels: usize, width: usize, taps: Taps<'_>, output: &mut [u8]) {
    let to = taps.starts.len();
    for (row, output) in pixels.chunks_exact(width * channels).zip(output.chunks_exact_mut(to * channels)) {
        for (at, output) in output.chunks_exact_mut(channels).enumerate() {
            for (channel, output) in output.iter_mut().enumerate() {
                let value = |pixel: usize| row[pixel * channels + channel];
                *output = sample(taps.of(at).map(|(pixel, weight)| (value(pixel), weight)));
            }
        }
    }
}

/// [`crate::image::resample_rows`].
pub fn resample_rows(pixels: &[u8], row_len: usize, taps: Taps<'_>, output: &mut [u8]) {
    for (at, output) in output.chunks_exact_mut(row_len).enumerate() {
        for (column, output) in output.iter_mut().enumerate() {
            *output = sample(taps.of(at).map(|(row, weight)| (pixels[row * row_len + column], weight)));
        }
    }
}

/// The weighted sum, rounded and clamped.
fn sample(terms: impl Iterator<Item = (u8, i32)>) -> u8 {
    let sum: i32 = terms.map(|(value, weight)| i32::from(value) * weight).sum();
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

/// [`crate::image::normalize`], of channels of the given means and standard deviations.
pub fn normalize(mean: &[f32], std: &[f32], pixels: &[u8], output: &mut [f32]) {
    for (at, (output, &value)) in output.iter_mut().zip(pixels).enumerate() {
        let channel = at % mean.len();
        *output = (f32::from(value) / 255.0 - mean[channel]) / std[channel];
    }
}
