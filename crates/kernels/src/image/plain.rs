//! The kernels of images without instructions of their own, in loops that compilers vectorise.

use super::{PRECISION, Taps};

/// One half, in the fixed point of weights.
pub(super) const HALF: i32 = 1 << (PRECISION - 1);

#[inline(always)]
pub(super) fn widen(row: &[u8], output: &mut [u8]) {
    let (pairs, _) = output.as_chunks_mut::<2>();
    let at_end = |at: usize, neighbour: usize, bias: u16| {
        ((3 * u16::from(row[at]) + u16::from(row[neighbour]) + bias) >> 2) as u8
    };
    ends(row.len(), pairs, at_end, [1, 2]);
    let Some(inner) = row.len().checked_sub(2) else { return };
    let neighbours = row[..inner].iter().zip(&row[1..]).zip(&row[2..]);
    for (((&before, &here), &after), pair) in neighbours.zip(&mut pairs[1..]) {
        let here = 3 * u16::from(here);
        let (even, odd) = ((here + u16::from(before) + 1) >> 2, (here + u16::from(after) + 2) >> 2);
        *pair = (even | odd << 8).to_le_bytes();
    }
}

#[inline(always)]
pub(super) fn widen_between(near: &[u8], far: &[u8], sums: &mut [u16], output: &mut [u8]) {
    for (sum, (&near, &far)) in sums.iter_mut().zip(near.iter().zip(far)) {
        *sum = 3 * u16::from(near) + u16::from(far);
    }
    let (pairs, _) = output.as_chunks_mut::<2>();
    ends(sums.len(), pairs, |at, neighbour, bias| ((3 * sums[at] + sums[neighbour] + bias) >> 4) as u8, [8, 7]);
    let Some(inner) = sums.len().checked_sub(2) else { return };
    let neighbours = sums[..inner].iter().zip(&sums[1..]).zip(&sums[2..]);
    for (((&before, &here), &after), pair) in neighbours.zip(&mut pairs[1..]) {
        let (even, odd) = ((3 * here + before + 8) >> 4, (3 * here + after + 7) >> 4);
        *pair = (even | odd << 8).to_le_bytes();
    }
}

/// The first and the last pair of a row of `len` samples, whose missing neighbours are the samples themselves.
#[inline(always)]
fn ends(len: usize, pairs: &mut [[u8; 2]], sample: impl Fn(usize, usize, u16) -> u8, bias: [u16; 2]) {
    for at in [0, len.saturating_sub(1)] {
        if let Some(pair) = pairs.get_mut(at) {
            let neighbours = [at.saturating_sub(1), (at + 1).min(len - 1)];
            *pair = [0, 1].map(|side| sample(at, neighbours[side], bias[side]));
        }
    }
}

#[inline(always)]
pub(super) fn resample_columns<const CHANNELS: usize>(pixels: &[u8], width: usize, taps: Taps<'_>, output: &mut [u8]) {
    let (pixels, _) = pixels.as_chunks::<CHANNELS>();
    let (outputs, _) = output.as_chunks_mut::<CHANNELS>();
    for (row, outputs) in pixels.chunks_exact(width).zip(outputs.chunks_exact_mut(taps.starts.len())) {
        let taps = taps.starts.iter().zip(taps.weights.chunks_exact(taps.size));
        for (output, (&start, weights)) in outputs.iter_mut().zip(taps) {
            let mut sums = [HALF; CHANNELS];
            for (pixel, &weight) in row[start as usize..].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            *output = sums.map(rounded);
        }
    }
}

#[inline(always)]
pub(super) fn resample_rows(pixels: &[u8], row_len: usize, taps: Taps<'_>, output: &mut [u8]) {
    const STRIP: usize = 64;
    for (at, output) in output.chunks_exact_mut(row_len).enumerate() {
        for (strip, output) in output.chunks_mut(STRIP).enumerate() {
            let mut sums = [HALF; STRIP];
            for (row, weight) in taps.of(at) {
                let values = &pixels[row * row_len + strip * STRIP..][..output.len()];
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (output, sum) in output.iter_mut().zip(sums) {
                *output = rounded(sum);
            }
        }
    }
}

/// A sum, with [`HALF`] in it, as a byte.
#[inline(always)]
fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
