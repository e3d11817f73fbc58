//! The kernels of images in AVX2.
//!
//! SAFETY of every load and store below: a comment says which slice has the bytes; lengths were compared in [`super`].

use std::arch::x86_64::*;

use super::normalization::{PERIOD, RECIPROCAL, Steps};
use super::plain::{self, HALF};
use super::{CHROMA, Normalization, PRECISION, Taps};
use crate::reference;

/// Bits after the point in the constants of the transform, and between its passes.
const CONST_BITS: i32 = 13;
const PASS1_BITS: i32 = 2;

/// 16 bytes of `bytes` from `at` on.
#[inline]
#[target_feature(enable = "avx2")]
fn load_16(bytes: &[u8], at: usize) -> __m128i {
    let bytes = &bytes[at..at + 16];
    // SAFETY: the slice has 16 bytes.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// 16 bytes of `bytes` from `at` on as 16-bit integers.
#[inline]
#[target_feature(enable = "avx2")]
fn load_16_wide(bytes: &[u8], at: usize) -> __m256i {
    _mm256_cvtepu8_epi16(load_16(bytes, at))
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_16(bytes: &mut [u8], at: usize, x: __m128i) {
    let bytes = &mut bytes[at..at + 16];
    // SAFETY: the slice has 16 bytes.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), x) }
}

#[target_feature(enable = "avx2")]
pub(super) fn inverse_cosine(blocks: &[[i16; 64]], table: &[u16; 64], output: &mut [u8], stride: usize) {
    // SAFETY: both arrays have eight rows of eight 16-bit integers.
    let row = |values: *const i16, row: usize| unsafe { _mm_loadu_si128(values.add(8 * row).cast()) };
    let table: [__m256i; 8] = std::array::from_fn(|at| _mm256_cvtepu16_epi32(row(table.as_ptr().cast(), at)));
    for (number, block) in blocks.iter().enumerate() {
        let rows: [__m128i; 8] = std::array::from_fn(|at| row(block.as_ptr(), at));
        let output = &mut output[8 * number..];
        let others = rows[1..].iter().fold(_mm_bsrli_si128::<2>(rows[0]), |all, &row| _mm_or_si128(all, row));
        if _mm_testz_si128(others, others) == 1 {
            let value = i32::from(block[0]).wrapping_mul(_mm256_cvtsi256_si32(table[0]));
            let grey = (value << PASS1_BITS).wrapping_add(1 << (PASS1_BITS + 2)) >> (PASS1_BITS + 3);
            let grey = (grey.clamp(-128, 127) + 128) as u8;
            output.chunks_mut(stride).take(8).for_each(|row| row[..8].fill(grey));
            continue;
        }
        let mut lanes: [__m256i; 8] =
            std::array::from_fn(|at| _mm256_mullo_epi32(_mm256_cvtepi16_epi32(rows[at]), table[at]));
        pass::<{ CONST_BITS - PASS1_BITS }>(&mut lanes);
        transpose(&mut lanes);
        pass::<{ CONST_BITS + PASS1_BITS + 3 }>(&mut lanes);
        // Each vector is a column. In 16 bits, which hold the values, then in 8 with saturation; then around 128.
        let [a, b, c, d] = [0, 2, 4, 6].map(|at| _mm256_packs_epi32(lanes[at], lanes[at + 1]));
        let around = _mm256_set1_epi8(CHROMA as i8);
        let quads = [_mm256_packs_epi16(a, b), _mm256_packs_epi16(c, d)];
        // A half has four rows of four columns, column by column.
        let by_rows = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        let [left, right] = quads.map(|quad| _mm256_shuffle_epi8(_mm256_xor_si256(quad, around), by_rows));
        let (first, second) = (_mm256_unpacklo_epi32(left, right), _mm256_unpackhi_epi32(left, right));
        let pairs = [
            _mm256_castsi256_si128(first),
            _mm256_castsi256_si128(second),
            _mm256_extracti128_si256::<1>(first),
            _mm256_extracti128_si256::<1>(second),
        ];
        let rows = pairs.iter().flat_map(|&pair| [_mm_cvtsi128_si64(pair), _mm_extract_epi64::<1>(pair)]);
        for (output, row) in output.chunks_mut(stride).zip(rows) {
            output[..8].copy_from_slice(&row.to_le_bytes());
        }
    }
}

/// The one-dimensional transform of each lane, divided by two to the power of `SHIFT`. See [`crate::reference`].
#[inline]
#[target_feature(enable = "avx2")]
fn pass<const SHIFT: i32>(values: &mut [__m256i; 8]) {
    let times = |x: __m256i, constant: i32| _mm256_mullo_epi32(x, _mm256_set1_epi32(constant));
    let add = |a: __m256i, b: __m256i| _mm256_add_epi32(a, b);
    let sub = |a: __m256i, b: __m256i| _mm256_sub_epi32(a, b);
    let [v0, v1, v2, v3, v4, v5, v6, v7] = *values;

    let z1 = times(add(v2, v6), 4433);
    let t2 = sub(z1, times(v6, 15137));
    let t3 = add(z1, times(v2, 6270));
    // The rounding is added here once, for both results of each pair.
    let half = _mm256_set1_epi32(1 << (SHIFT - 1));
    let t0 = add(_mm256_slli_epi32::<CONST_BITS>(add(v0, v4)), half);
    let t1 = add(_mm256_slli_epi32::<CONST_BITS>(sub(v0, v4)), half);
    let even = [add(t0, t3), add(t1, t2), sub(t1, t2), sub(t0, t3)];

    let (v71, v53, v73, v51) = (add(v7, v1), add(v5, v3), add(v7, v3), add(v5, v1));
    let z5 = times(add(v73, v51), 9633);
    let z1 = times(v71, -7373);
    let z2 = times(v53, -20995);
    let z3 = sub(z5, times(v73, 16069));
    let z4 = sub(z5, times(v51, 3196));
    let odd = [
        add(times(v1, 12299), add(z1, z4)),
        add(times(v3, 25172), add(z2, z3)),
        add(times(v5, 16819), add(z2, z4)),
        add(times(v7, 2446), add(z1, z3)),
    ];
    for at in 0..4 {
        values[at] = _mm256_srai_epi32::<SHIFT>(add(even[at], odd[at]));
        values[7 - at] = _mm256_srai_epi32::<SHIFT>(sub(even[at], odd[at]));
    }
}

/// Transposes 8×8 integers.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: &mut [__m256i; 8]) {
    let [a, b, c, d] = [0, 2, 4, 6]
        .map(|at| (_mm256_unpacklo_epi32(rows[at], rows[at + 1]), _mm256_unpackhi_epi32(rows[at], rows[at + 1])));
    let quads = |(l0, h0): (__m256i, __m256i), (l1, h1): (__m256i, __m256i)| {
        [
            _mm256_unpacklo_epi64(l0, l1),
            _mm256_unpackhi_epi64(l0, l1),
            _mm256_unpacklo_epi64(h0, h1),
            _mm256_unpackhi_epi64(h0, h1),
        ]
    };
    let (upper, lower) = (quads(a, b), quads(c, d));
    for at in 0..4 {
        rows[at] = _mm256_permute2x128_si256::<0x20>(upper[at], lower[at]);
        rows[at + 4] = _mm256_permute2x128_si256::<0x31>(upper[at], lower[at]);
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn widen(row: &[u8], output: &mut [u8]) {
    plain::widen(row, output);
}

#[target_feature(enable = "avx2")]
pub(super) fn widen_between(near: &[u8], far: &[u8], sums: &mut [u16], output: &mut [u8]) {
    plain::widen_between(near, far, sums, output);
}

#[target_feature(enable = "avx2")]
pub(super) fn ycc_to_rgb(y: &[u8], cb: &[u8], cr: &[u8], rgb: &mut [u8]) {
    let whole = y.len() / 16 * 16;
    let grey = _mm256_set1_epi16(CHROMA as i16);
    let (one, half) = (_mm256_set1_epi16(1), _mm256_set1_epi32(1 << 15));
    let green_weights = _mm256_set1_epi32((18_734 << 16) | (-22_554 & 0xffff));
    // (weight · x + 2¹⁵) >> 16, by the upper half of the product with 2 · x.
    let scaled = |x: __m256i, weight: i16| {
        let product = _mm256_mulhi_epi16(_mm256_add_epi16(x, x), _mm256_set1_epi16(weight));
        _mm256_srai_epi16::<1>(_mm256_add_epi16(product, one))
    };
    for at in (0..whole).step_by(16) {
        let luma = load_16_wide(y, at);
        let [cb, cr] = [cb, cr].map(|chroma| _mm256_sub_epi16(load_16_wide(chroma, at), grey));
        // 91 881 = 2¹⁶ + 26 345; 116 130 = 2 · 2¹⁶ − 14 942; −46 802 = −2¹⁶ + 18 734.
        let red = _mm256_add_epi16(luma, _mm256_add_epi16(cr, scaled(cr, 26_345)));
        let blue = _mm256_add_epi16(luma, _mm256_add_epi16(_mm256_add_epi16(cb, cb), scaled(cb, -14_942)));
        let [low, high] = [_mm256_unpacklo_epi16(cb, cr), _mm256_unpackhi_epi16(cb, cr)]
            .map(|pairs| _mm256_srai_epi32::<16>(_mm256_add_epi32(_mm256_madd_epi16(pairs, green_weights), half)));
        let green = _mm256_add_epi16(luma, _mm256_sub_epi16(_mm256_packs_epi32(low, high), cr));
        let red_green = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(red, green));
        let blue = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(blue, blue));
        let (red, green) = (_mm256_castsi256_si128(red_green), _mm256_extracti128_si256::<1>(red_green));
        let blue = _mm256_castsi256_si128(blue);
        for (part, [r, g, b]) in INTERLEAVED.iter().enumerate() {
            let pick = |x: __m128i, from: &[i8; 16]| {
                // SAFETY: the array has 16 bytes.
                _mm_shuffle_epi8(x, unsafe { _mm_loadu_si128(from.as_ptr().cast()) })
            };
            let pixels = _mm_or_si128(_mm_or_si128(pick(red, r), pick(green, g)), pick(blue, b));
            store_16(rgb, 3 * at + 16 * part, pixels);
        }
    }
    reference::ycc_to_rgb(&y[whole..], &cb[whole..], &cr[whole..], &mut rgb[3 * whole..]);
}

/// For each third of 16 interleaved pixels, where each byte comes from in red, green and blue; −1 for another one of these.
const INTERLEAVED: [[[i8; 16]; 3]; 3] = {
    let mut tables = [[[-1; 16]; 3]; 3];
    let mut at = 0;
    while at < 48 {
        tables[at / 16][at % 3][at % 16] = (at / 3) as i8;
        at += 1;
    }
    tables
};

/// Sums of weighted values to bytes: eight in the lower half of the result.
#[inline]
#[target_feature(enable = "avx2")]
fn rounded(sums: __m256i) -> __m128i {
    let whole = _mm256_srai_epi32::<{ PRECISION as i32 }>(sums);
    let words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
    _mm_packus_epi16(words, words)
}

#[target_feature(enable = "avx2")]
pub(super) fn resample_columns_of_3(pixels: &[u8], width: usize, taps: Taps<'_>, output: &mut [u8]) {
    const ROWS: usize = 4;
    let (row_len, to_len) = (3 * width, 3 * taps.starts.len());
    let half = _mm256_set1_epi32(HALF);
    // Pixels are read with the byte that follows them, which the last one of the image does not have.
    let (mut rows, mut outputs) = (pixels, output);
    while rows.len() > ROWS * row_len {
        let (output, others) = outputs.split_at_mut(ROWS * to_len);
        for (at, (&start, weights)) in taps.starts.iter().zip(taps.weights.chunks_exact(taps.size)).enumerate() {
            let mut sums = [half; ROWS / 2];
            for (tap, &weight) in weights.iter().enumerate() {
                let weight = _mm256_set1_epi32(weight);
                for (pair, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: four bytes from a pixel of one of the first `ROWS` rows on; taps are inside the rows, and a byte follows
                    // these rows.
                    let pixel = |row: usize| unsafe {
                        let place = (2 * pair + row) * row_len + 3 * (start as usize + tap);
                        rows.as_ptr().add(place).cast::<i32>().read_unaligned()
                    };
                    let both = _mm_insert_epi32::<1>(_mm_cvtsi32_si128(pixel(0)), pixel(1));
                    *sums = _mm256_add_epi32(*sums, _mm256_mullo_epi32(_mm256_cvtepu8_epi32(both), weight));
                }
            }
            for (pair, sums) in sums.into_iter().enumerate() {
                let bytes = _mm_cvtsi128_si64(rounded(sums)).to_le_bytes();
                for row in 0..2 {
                    let place = (2 * pair + row) * to_len + 3 * at;
                    output[place..place + 3].copy_from_slice(&bytes[4 * row..4 * row + 3]);
                }
            }
        }
        (rows, outputs) = (&rows[ROWS * row_len..], others);
    }
    plain::resample_columns::<3>(rows, width, taps, outputs);
}

#[target_feature(enable = "avx2")]
pub(super) fn resample_rows(pixels: &[u8], row_len: usize, taps: Taps<'_>, output: &mut [u8]) {
    let half = _mm256_set1_epi32(HALF);
    let whole = row_len / 16 * 16;
    for (at, output) in output.chunks_exact_mut(row_len).enumerate() {
        for column in (0..whole).step_by(16) {
            let mut sums = [half; 2];
            for (row, weight) in taps.of(at) {
                let values = load_16(pixels, row * row_len + column);
                let weight = _mm256_set1_epi32(weight);
                let [low, high] = [values, _mm_bsrli_si128::<8>(values)].map(|values| _mm256_cvtepu8_epi32(values));
                sums[0] = _mm256_add_epi32(sums[0], _mm256_mullo_epi32(low, weight));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_mullo_epi32(high, weight));
            }
            store_16(output, column, _mm_unpacklo_epi64(rounded(sums[0]), rounded(sums[1])));
        }
        for (column, output) in output.iter_mut().enumerate().skip(whole) {
            let terms = taps.of(at).map(|(row, weight)| i32::from(pixels[row * row_len + column]) * weight);
            *output = ((HALF + terms.sum::<i32>()) >> PRECISION).clamp(0, 255) as u8;
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn normalize(steps: &Steps, normalization: &Normalization, pixels: &[u8], output: &mut [f32]) {
    // SAFETY: three vectors of eight floats.
    let load = |values: &[f32; PERIOD]| [0, 8, 16].map(|at| unsafe { _mm256_loadu_ps(values.as_ptr().add(at)) });
    let [mean, std, reciprocal] = [&steps.mean, &steps.std, &steps.reciprocal].map(load);
    let (byte, of_byte) = (_mm256_set1_ps(255.0), _mm256_set1_ps(RECIPROCAL));
    let quotient = |x: __m256, divisor: __m256, reciprocal: __m256| {
        let near = _mm256_mul_ps(x, reciprocal);
        _mm256_fmadd_ps(_mm256_fnmadd_ps(near, divisor, x), reciprocal, near)
    };
    let (pixels, last_pixels) = pixels.as_chunks::<PERIOD>();
    let (output, last_output) = output.as_chunks_mut::<PERIOD>();
    for (pixels, output) in pixels.iter().zip(output) {
        for part in 0..3 {
            // SAFETY: three times eight bytes.
            let bytes = unsafe { _mm_loadl_epi64(pixels.as_ptr().add(8 * part).cast()) };
            let x = quotient(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)), byte, of_byte);
            let y = quotient(_mm256_sub_ps(x, mean[part]), std[part], reciprocal[part]);
            // SAFETY: three vectors of eight floats.
            unsafe { _mm256_storeu_ps(output.as_mut_ptr().add(8 * part), y) }
        }
    }
    normalization.look_up(last_pixels, last_output);
}
