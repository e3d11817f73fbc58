//! The matrices of both algorithms, as sums. Interpolation points are 0, ±1, ∞ for F(2, 3), and ±2 besides for F(4, 3).

use crate::isa::Simd;

/// The one-dimensional transforms; a tile is transformed along its columns and then along its rows. Arrays have room for
/// the larger algorithm; the smaller uses their beginning.
pub(in crate::conv) trait Transform {
    /// Side of a tile of outputs.
    const M: usize;
    /// Side of a tile of inputs, M + 2.
    const N: usize;

    /// Bᵀ d.
    fn input<S: Simd>(s: S, d: [S::Reg; 6]) -> [S::Reg; 6];
    /// G g.
    fn filter<S: Simd>(s: S, g: [S::Reg; 3]) -> [S::Reg; 6];
    /// Aᵀ m.
    fn output<S: Simd>(s: S, m: [S::Reg; 6]) -> [S::Reg; 6];
    /// A y: the transform of dy when the gradient of the weights is computed.
    fn gradient_input<S: Simd>(s: S, y: [S::Reg; 6]) -> [S::Reg; 6];
    /// Gᵀ m: from summed products to the gradient of the weights.
    fn gradient_output<S: Simd>(s: S, m: [S::Reg; 6]) -> [S::Reg; 3];
}

/// F(2, 3).
pub(in crate::conv) struct F2;

impl Transform for F2 {
    const M: usize = 2;
    const N: usize = 4;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::Reg; 6]) -> [S::Reg; 6] {
        [s.sub(d[0], d[2]), s.add(d[1], d[2]), s.sub(d[2], d[1]), s.sub(d[1], d[3]), s.zero(), s.zero()]
    }

    #[inline(always)]
    fn filter<S: Simd>(s: S, g: [S::Reg; 3]) -> [S::Reg; 6] {
        let half = s.splat(0.5);
        let (even, odd) = (s.mul(half, s.add(g[0], g[2])), s.mul(half, g[1]));
        [g[0], s.add(even, odd), s.sub(even, odd), g[2], s.zero(), s.zero()]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::Reg; 6]) -> [S::Reg; 6] {
        let zero = s.zero();
        [s.add(m[0], s.add(m[1], m[2])), s.sub(s.sub(m[1], m[2]), m[3]), zero, zero, zero, zero]
    }

    #[inline(always)]
    fn gradient_input<S: Simd>(s: S, y: [S::Reg; 6]) -> [S::Reg; 6] {
        let zero = s.zero();
        [y[0], s.add(y[0], y[1]), s.sub(y[0], y[1]), s.sub(zero, y[1]), zero, zero]
    }

    #[inline(always)]
    fn gradient_output<S: Simd>(s: S, m: [S::Reg; 6]) -> [S::Reg; 3] {
        let half = s.splat(0.5);
        let even = s.mul(half, s.add(m[1], m[2]));
        [s.add(m[0], even), s.mul(half, s.sub(m[1], m[2])), s.add(even, m[3])]
    }
}

/// F(4, 3).
pub(in crate::conv) struct F4;

impl Transform for F4 {
    const M: usize = 4;
    const N: usize = 6;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::Reg; 6]) -> [S::Reg; 6] {
        let (two, four, five) = (s.splat(2.0), s.splat(4.0), s.splat(-5.0));
        let minus_four = s.splat(-4.0);
        let (a, b) = (s.mul_add(minus_four, d[2], d[4]), s.mul_add(minus_four, d[1], d[3]));
        let (c, e) = (s.sub(d[4], d[2]), s.mul(two, s.sub(d[3], d[1])));
        [
            s.mul_add(four, d[0], s.mul_add(five, d[2], d[4])),
            s.add(a, b),
            s.sub(a, b),
            s.add(c, e),
            s.sub(c, e),
            s.mul_add(four, d[1], s.mul_add(five, d[3], d[5])),
        ]
    }

    #[inline(always)]
    fn filter<S: Simd>(s: S, g: [S::Reg; 3]) -> [S::Reg; 6] {
        let (sixth, twelfth, quarter) = (s.splat(-1.0 / 6.0), s.splat(1.0 / 12.0), s.splat(0.25));
        let even = s.mul(sixth, s.add(g[0], g[2]));
        let odd = s.mul(sixth, g[1]);
        let outer = s.mul_add(s.splat(1.0 / 24.0), g[0], s.mul(s.splat(1.0 / 6.0), g[2]));
        let inner = s.mul(twelfth, g[1]);
        [s.mul(quarter, g[0]), s.add(even, odd), s.sub(even, odd), s.add(outer, inner), s.sub(outer, inner), g[2]]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::Reg; 6]) -> [S::Reg; 6] {
        let (a, b) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        let (c, d) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        [
            s.add(m[0], s.add(a, c)),
            s.mul_add(s.splat(2.0), d, b),
            s.mul_add(s.splat(4.0), c, a),
            s.add(m[5], s.mul_add(s.splat(8.0), d, b)),
            s.zero(),
            s.zero(),
        ]
    }

    #[inline(always)]
    fn gradient_input<S: Simd>(s: S, y: [S::Reg; 6]) -> [S::Reg; 6] {
        let (even, odd) = (s.add(y[0], y[2]), s.add(y[1], y[3]));
        let (two, four, eight) = (s.splat(2.0), s.splat(4.0), s.splat(8.0));
        let (outer, inner) = (s.mul_add(four, y[2], y[0]), s.mul_add(eight, y[3], s.mul(two, y[1])));
        [y[0], s.add(even, odd), s.sub(even, odd), s.add(outer, inner), s.sub(outer, inner), y[3]]
    }

    #[inline(always)]
    fn gradient_output<S: Simd>(s: S, m: [S::Reg; 6]) -> [S::Reg; 3] {
        let (sixth, twelfth) = (s.splat(1.0 / 6.0), s.splat(1.0 / 12.0));
        let (a, b) = (s.add(m[1], m[2]), s.sub(m[2], m[1]));
        let (c, d) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        let minus_sixth = s.splat(-1.0 / 6.0);
        [
            s.mul_add(s.splat(0.25), m[0], s.mul_add(minus_sixth, a, s.mul(s.splat(1.0 / 24.0), c))),
            s.mul_add(sixth, b, s.mul(twelfth, d)),
            s.mul_add(minus_sixth, a, s.mul_add(sixth, c, m[5])),
        ]
    }
}
