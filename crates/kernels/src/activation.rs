//! GELU and the logistic sigmoid, with their gradients.

use crate::elementwise::Map;
use crate::isa::{Element, Function, Isa, Simd};
use residual_threads::Pool;

/// e^x for x ≤ 0, zero to rounding from −87 on; NaN stays NaN. As Cephes' `expf`: 2ⁿ · e^r with |r| ≤ ln 2 / 2.
#[inline(always)]
fn exp_of_negative<S: Simd>(s: S, x: S::Reg) -> S::Reg {
    /// Adding and subtracting it rounds a float to a whole number.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts: products of the first with small whole numbers are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const SERIES: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5];
    let x = s.max(x, s.splat(-87.0));
    let n = s.mul_add(x, s.splat(std::f32::consts::LOG2_E), s.splat(ROUND));
    let n = s.sub(n, s.splat(ROUND));
    let r = s.mul_add(n, s.splat(-LN_2[0]), x);
    let r = s.mul_add(n, s.splat(-LN_2[1]), r);
    let mut y = s.splat(SERIES[0]);
    for factor in &SERIES[1..] {
        y = s.mul_add(y, r, s.splat(*factor));
    }
    let y = s.add(s.mul_add(y, s.mul(r, r), r), s.splat(1.0));
    s.mul(y, s.pow2(n))
}

/// Φ(x) and e^(−x²/2). The error function is formula 7.1.26 of Abramowitz and Stegun, whose error is below 1.5e-7.
#[inline(always)]
fn normal_distribution<S: Simd>(s: S, x: S::Reg) -> [S::Reg; 2] {
    const P: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
    const SERIES: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    let (one, half) = (s.splat(1.0), s.splat(0.5));
    let size = s.max(x, s.sub(s.zero(), x));
    let t = s.div(one, s.mul_add(size, s.splat(P), one));
    let density = exp_of_negative(s, s.mul(s.mul(x, x), s.splat(-0.5)));
    let mut y = s.splat(SERIES[0]);
    for factor in &SERIES[1..] {
        y = s.mul_add(y, t, s.splat(*factor));
    }
    let tail = s.mul(s.mul(y, t), s.mul(half, density));
    [s.where_above(x, s.zero(), s.sub(one, tail), tail), density]
}

#[derive(Clone, Copy)]
pub(crate) struct Gelu;
impl Map for Gelu {
    #[inline(always)]
    fn map<S: Simd>(self, s: S, x: S::Reg, _: S::Reg) -> S::Reg {
        s.mul(x, normal_distribution(s, x)[0])
    }
}

/// y = x · Φ(x), with the distribution function of the standard normal: torch's `GELU` (Hendrycks & Gimpel,
/// arXiv:1606.08415).
///
/// # Panics
/// If the lengths differ.
pub fn gelu<E: Element>(isa: Isa, pool: &Pool, x: &[E], y: &mut [E]) {
    E::apply(isa, pool, Function::Gelu, x, y);
}

#[derive(Clone, Copy)]
pub(crate) struct GeluSlope;
impl Map for GeluSlope {
    #[inline(always)]
    fn map<S: Simd>(self, s: S, x: S::Reg, dy: S::Reg) -> S::Reg {
        /// 1 / √(2π)
        const DENSITY_AT_0: f32 = 0.398_942_3;
        let [distribution, density] = normal_distribution(s, x);
        s.mul(dy, s.mul_add(s.mul(x, density), s.splat(DENSITY_AT_0), distribution))
    }
}

/// dy · (Φ(x) + x · φ(x)), the gradient of [`gelu`] with respect to its argument `x`, in place.
///
/// # Panics
/// If the lengths differ.
pub fn gelu_backward<E: Element>(isa: Isa, pool: &Pool, x: &[E], dy: &mut [E]) {
    E::apply(isa, pool, Function::GeluSlope, x, dy);
}

#[derive(Clone, Copy)]
pub(crate) struct Sigmoid;
impl Map for Sigmoid {
    #[inline(always)]
    fn map<S: Simd>(self, s: S, x: S::Reg, _: S::Reg) -> S::Reg {
        let size = s.max(x, s.sub(s.zero(), x));
        let power = exp_of_negative(s, s.sub(s.zero(), size));
        let upper = s.div(s.splat(1.0), s.add(s.splat(1.0), power));
        s.where_above(x, s.zero(), upper, s.mul(power, upper))
    }
}

/// y = 1 / (1 + e⁻ˣ).
///
/// # Panics
/// If the lengths differ.
pub fn sigmoid<E: Element>(isa: Isa, pool: &Pool, x: &[E], y: &mut [E]) {
    E::apply(isa, pool, Function::Sigmoid, x, y);
}

#[derive(Clone, Copy)]
pub(crate) struct SigmoidSlope;
impl Map for SigmoidSlope {
    #[inline(always)]
    fn map<S: Simd>(self, s: S, y: S::Reg, dy: S::Reg) -> S::Reg {
        s.mul(dy, s.mul(y, s.sub(s.splat(1.0), y)))
    }
}

/// dy · y · (1 − y), the gradient of [`sigmoid`] with respect to its argument, where `y` is its result, in place.
///
/// # Panics
/// If the lengths differ.
pub fn sigmoid_backward<E: Element>(isa: Isa, pool: &Pool, y: &[E], dy: &mut [E]) {
    E::apply(isa, pool, Function::SigmoidSlope, y, dy);
}
