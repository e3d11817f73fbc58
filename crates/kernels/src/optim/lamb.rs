//! The direction of LAMB's step.

use super::adam::{Moments, correction};
use super::step::{Rule, apply};
use crate::isa::{Isa, Simd};
use residual_threads::Pool;

/// LAMB (You et al., arXiv:1904.00962) as timm's `Lamb` defines it, up to the direction of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lamb {
    /// Decay of the first moment, below 1.
    pub beta1: f64,
    /// Decay of the second moment, below 1.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Factor of the value that is added to its direction.
    pub weight_decay: f64,
    /// Factor of the gradient: 1 / max(norm of all gradients / maximum, 1).
    pub clip: f64,
}

/// Turns `gradients` into the direction of step number `step`, which counts from 1: `g = clip · gradient`, moments as in
/// [`adam`](super::adam()), and `direction = (first / (1 − β₁ˢᵗᵉᵖ)) / (√(second / (1 − β₂ˢᵗᵉᵖ)) + eps) + weight_decay · value`. The
/// step itself subtracts lr · ratio · direction, where the ratio is the norm of a tensor's values over that of its direction.
///
/// # Panics
/// If the lengths differ or `step` is zero.
pub fn lamb_direction(
    isa: Isa,
    pool: &Pool,
    values: &[f32],
    gradients: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    step: u64,
    rule: &Lamb,
) {
    assert!(step > 0, "lamb: steps count from 1");
    let direction = Direction {
        clip: rule.clip as f32,
        moments: Moments {
            into_first: (1.0 - rule.beta1) as f32,
            of_second: rule.beta2 as f32,
            into_second: (1.0 - rule.beta2) as f32,
        },
        of_first: correction(rule.beta1, step).recip() as f32,
        of_root: correction(rule.beta2, step).sqrt().recip() as f32,
        eps: rule.eps as f32,
        decay: rule.weight_decay as f32,
    };
    apply(isa, pool, direction, gradients, values, [first, second]);
}

#[derive(Clone, Copy)]
struct Direction {
    clip: f32,
    moments: Moments,
    of_first: f32,
    of_root: f32,
    eps: f32,
    decay: f32,
}

/// The gradient takes the place of the value that a rule changes, and the value that of the gradient, which it only reads.
impl Rule<2> for Direction {
    #[inline(always)]
    fn step<S: Simd>(self, s: S, gradient: S::Reg, value: S::Reg, state: [S::Reg; 2]) -> (S::Reg, [S::Reg; 2]) {
        let [m, v] = self.moments.step(s, s.mul(gradient, s.splat(self.clip)), state);
        let denominator = s.mul_add(s.sqrt(v), s.splat(self.of_root), s.splat(self.eps));
        let adaptive = s.div(s.mul(m, s.splat(self.of_first)), denominator);
        (s.mul_add(s.splat(self.decay), value, adaptive), [m, v])
    }
}
