//! Lion: steps by the sign of an average of gradients.

use super::step::{Rule, apply};
use crate::isa::{Isa, Simd};
use residual_threads::Pool;

/// Lion (Chen et al., arXiv:2302.06675) as timm's `Lion` defines it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// Learning rate.
    pub lr: f64,
    /// Weight of the average, against the gradient's, in the direction of a step.
    pub beta1: f64,
    /// Decay of the average.
    pub beta2: f64,
    /// Weight decay; a step multiplies the value by 1 − lr · `weight_decay`.
    pub weight_decay: f64,
}

/// One step: `value = (1 − lr · weight_decay) · value − lr · sign(β₁ · average + (1 − β₁) · gradient)`, then
/// `average = β₂ · average + (1 − β₂) · gradient`. The average starts at zero; the sign of zero is zero. A gradient that is not
/// finite makes the value NaN.
///
/// # Panics
/// If the lengths differ.
pub fn lion(isa: Isa, pool: &Pool, values: &mut [f32], gradients: &[f32], average: &mut [f32], rule: &Lion) {
    let step = Step {
        decay: (-rule.lr * rule.weight_decay) as f32,
        into_direction: (1.0 - rule.beta1) as f32,
        into_average: (1.0 - rule.beta2) as f32,
        rate: -rule.lr as f32,
    };
    apply(isa, pool, step, values, gradients, [average]);
}

#[derive(Clone, Copy)]
struct Step {
    decay: f32,
    into_direction: f32,
    into_average: f32,
    rate: f32,
}

impl Rule<1> for Step {
    #[inline(always)]
    fn step<S: Simd>(self, s: S, value: S::Reg, gradient: S::Reg, [average]: [S::Reg; 1]) -> (S::Reg, [S::Reg; 1]) {
        let difference = s.sub(gradient, average);
        let direction = s.mul_add(difference, s.splat(self.into_direction), average);
        let zero = s.zero();
        let negative = s.where_above(zero, direction, s.splat(-1.0), zero);
        let sign = s.where_above(direction, zero, s.splat(1.0), negative);
        // Zero times a number that is not finite is NaN.
        let sign = s.mul_add(direction, zero, sign);
        let decayed = s.mul_add(s.splat(self.decay), value, value);
        let value = s.mul_add(s.splat(self.rate), sign, decayed);
        (value, [s.mul_add(difference, s.splat(self.into_average), average)])
    }
}
