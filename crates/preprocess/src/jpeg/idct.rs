//! The inverse cosine transform of a block: libjpeg's accurate integer method (`jidctint.c`; Loeffler, Ligtenberg and
//! Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications", 1989), to the bit.

use std::num::Wrapping;

/// Bits after the point in the constants.
const CONST_BITS: usize = 13;
/// Bits after the point between the passes.
const PASS1_BITS: usize = 2;

type Number = Wrapping<i32>;

/// Dequantises and transforms `block` (row by row) and writes its 8×8 samples to `output`, whose rows are `stride` apart.
/// Values that no encoder writes wrap around.
pub(super) fn inverse(block: &[i16; 64], table: &[u16; 64], output: &mut [u8], stride: usize) {
    let value = |at: usize| Wrapping(i32::from(block[at])) * Wrapping(i32::from(table[at]));
    if block[1..].iter().all(|&coefficient| coefficient == 0) {
        let grey = sample(((value(0) << PASS1_BITS) + Wrapping(1 << (PASS1_BITS + 2))) >> (PASS1_BITS + 3));
        for row in output.chunks_mut(stride).take(8) {
            row[..8].fill(grey);
        }
        return;
    }
    let mut between = [Wrapping(0); 64];
    for column in 0..8 {
        let value = |row: usize| value(row * 8 + column);
        let values = [value(0), value(1), value(2), value(3), value(4), value(5), value(6), value(7)];
        let transformed = pass(values, CONST_BITS - PASS1_BITS);
        for row in 0..8 {
            between[row * 8 + column] = transformed[row];
        }
    }
    for (values, row) in between.as_chunks::<8>().0.iter().zip(output.chunks_mut(stride)) {
        let transformed = pass(*values, CONST_BITS + PASS1_BITS + 3);
        for (output, value) in row[..8].iter_mut().zip(transformed) {
            *output = sample(value);
        }
    }
}

/// From a signed sample to one around 128.
fn sample(value: Number) -> u8 {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in floating point.
    fn by_definition(block: &[i16; 64], table: &[u16; 64]) -> [f64; 64] {
        let scale = |at: usize| if at == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
        let wave = |x: usize, u: usize| ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos();
        std::array::from_fn(|place| {
            let term = |at: usize| {
                let (v, u) = (at / 8, at % 8);
                let value = f64::from(block[at]) * f64::from(table[at]);
                0.25 * scale(u) * scale(v) * value * wave(place % 8, u) * wave(place / 8, v)
            };
            (0..64).map(term).sum::<f64>() + 128.0
        })
    }

    #[test]
    fn the_transform_is_the_cosine_transform() {
        let mut random = residual_tensor::Stream::new(1, &[]);
        for round in 0..200 {
            let mut block = [0; 64];
            for _ in 0..1 + round % 20 {
                block[random.below(64) as usize] = random.below(41) as i16 - 20;
            }
            let table = std::array::from_fn(|at| 1 + at as u16 / 4);
            let mut output = [0; 64];
            inverse(&block, &table, &mut output, 8);
            for (got, expected) in output.iter().zip(by_definition(&block, &table)) {
                assert!((f64::from(*got) - expected.clamp(0.0, 255.0)).abs() < 0.6, "{got} {expected}");
            }
        }
    }

    #[test]
    fn absurd_coefficients_wrap_around() {
        inverse(&[i16::MIN; 64], &[u16::MAX; 64], &mut [0; 64], 8);
        inverse(&std::array::from_fn(|at| if at == 0 { i16::MAX } else { 0 }), &[u16::MAX; 64], &mut [0; 64], 8);
    }
}
