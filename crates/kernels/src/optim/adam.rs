//! Adam, with weight decay in the gradient or decoupled from it, and with Nesterov momentum.

use super::step::{Rule, apply};
use crate::isa::{Isa, Simd};
use residual_threads::Pool;

/// The hyperparameters of [`adam`] and [`nadam`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment, below 1.
    pub beta1: f64,
    /// Decay of the second moment, below 1.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether the weight decay multiplies the value by 1 − lr · `weight_decay`, instead of adding `weight_decay` · value to
    /// the gradient.
    pub decoupled: bool,
}

impl Adam {
    /// The factor of the decoupled decay of the value, and that of the value in its gradient.
    fn decays(&self) -> [f32; 2] {
        if self.decoupled { [(-self.lr * self.weight_decay) as f32, 0.0] } else { [0.0, self.weight_decay as f32] }
    }

    fn moments(&self) -> Moments {
        Moments {
            into_first: (1.0 - self.beta1) as f32,
            of_second: self.beta2 as f32,
            into_second: (1.0 - self.beta2) as f32,
        }
    }

    /// The factor of the second moment's root that corrects its bias.
    fn of_root(&self, step: u64) -> f32 {
        correction(self.beta2, step).sqrt().recip() as f32
    }
}

/// 1 − βˢᵗᵉᵖ.
pub(super) fn correction(beta: f64, step: u64) -> f64 {
    1.0 - beta.powf(step as f64)
}

/// The factors of the running averages.
#[derive(Clone, Copy)]
pub(super) struct Moments {
    /// The gradient's difference from the first moment, before it is added to it.
    pub(super) into_first: f32,
    /// The second moment.
    pub(super) of_second: f32,
    /// The gradient's square, before it is added to the second moment.
    pub(super) into_second: f32,
}

impl Moments {
    #[inline(always)]
    pub(super) fn step<S: Simd>(self, s: S, g: S::Reg, [first, second]: [S::Reg; 2]) -> [S::Reg; 2] {
        let first = s.mul_add(s.sub(g, first), s.splat(self.into_first), first);
        let decayed = s.mul(second, s.splat(self.of_second));
        [first, s.mul_add(s.mul(g, g), s.splat(self.into_second), decayed)]
    }
}

/// Step number `step`, which counts from 1, of torch's `Adam` (Kingma & Ba, arXiv:1412.6980) or, with decoupled decay, of its
/// `AdamW` (Loshchilov & Hutter, arXiv:1711.05101, algorithm 2), without `amsgrad`: `g = gradient + weight_decay · value` where
/// the decay is not decoupled, `first = β₁ · first + (1 − β₁) · g`, `second = β₂ · second + (1 − β₂) · g²`, and
/// `value −= lr · (first / (1 − β₁ˢᵗᵉᵖ)) / (√(second / (1 − β₂ˢᵗᵉᵖ)) + eps)` after the decoupled decay. Both moments start at
/// zero.
///
/// # Panics
/// If the lengths differ or `step` is zero.
pub fn adam(
    isa: Isa,
    pool: &Pool,
    values: &mut [f32],
    gradients: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    step: u64,
    rule: &Adam,
) {
    assert!(step > 0, "adam: steps count from 1");
    let step = Step {
        decays: rule.decays(),
        moments: rule.moments(),
        of_root: rule.of_root(step),
        eps: rule.eps as f32,
        rate: (-rule.lr / correction(rule.beta1, step)) as f32,
    };
    apply(isa, pool, step, values, gradients, [first, second]);
}

#[derive(Clone, Copy)]
struct Step {
    decays: [f32; 2],
    moments: Moments,
    of_root: f32,
    eps: f32,
    /// Of the quotient of first moment and corrected root.
    rate: f32,
}

impl Rule<2> for Step {
    #[inline(always)]
    fn step<S: Simd>(self, s: S, value: S::Reg, gradient: S::Reg, state: [S::Reg; 2]) -> (S::Reg, [S::Reg; 2]) {
        let [decoupled, coupled] = self.decays;
        let g = s.mul_add(s.splat(coupled), value, gradient);
        let [m, v] = self.moments.step(s, g, state);
        let direction = s.div(m, s.mul_add(s.sqrt(v), s.splat(self.of_root), s.splat(self.eps)));
        let decayed = s.mul_add(s.splat(decoupled), value, value);
        (s.mul_add(s.splat(self.rate), direction, decayed), [m, v])
    }
}

/// Decay of the momentum schedule of [`nadam`]: torch's default.
const MOMENTUM_DECAY: f64 = 4e-3;

/// Step number `step`, which counts from 1, of torch's `NAdam` (Dozat 2016) with its default momentum decay ψ of 0.004: moments
/// as in [`adam`], `μₜ = β₁ · (1 − 0.5 · 0.96^(t ψ))`, and
/// `value −= lr · ((1 − μₜ) / (1 − Π μ₁…ₜ) · g + μₜ₊₁ / (1 − Π μ₁…ₜ₊₁) · first) / (√(second / (1 − β₂ᵗ)) + eps)`. Torch's state
/// `mu_product` is the product, which is computed from the step.
///
/// # Panics
/// If the lengths differ or `step` is zero.
pub fn nadam(
    isa: Isa,
    pool: &Pool,
    values: &mut [f32],
    gradients: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    step: u64,
    rule: &Adam,
) {
    assert!(step > 0, "nadam: steps count from 1");
    let mu = |step: u64| rule.beta1 * (1.0 - 0.5 * 0.96f64.powf(step as f64 * MOMENTUM_DECAY));
    let product = mu_product(mu, step);
    let next = mu(step + 1);
    let step = NesterovStep {
        decays: rule.decays(),
        moments: rule.moments(),
        of_root: rule.of_root(step),
        eps: rule.eps as f32,
        gradient_rate: (-rule.lr * (1.0 - mu(step)) / (1.0 - product)) as f32,
        moment_rate: (-rule.lr * next / (1.0 - product * next)) as f32,
    };
    apply(isa, pool, step, values, gradients, [first, second]);
}

/// Π μ₁…ₛₜₑₚ. Factors begin near one half, so that the product soon vanishes beside 1.
fn mu_product(mu: impl Fn(u64) -> f64, step: u64) -> f64 {
    let mut product = 1.0;
    for t in 1..=step {
        product *= mu(t);
        if product < f64::EPSILON / 4.0 {
            return 0.0;
        }
    }
    product
}

#[derive(Clone, Copy)]
struct NesterovStep {
    decays: [f32; 2],
    moments: Moments,
    of_root: f32,
    eps: f32,
    /// Of the quotient of gradient and corrected root.
    gradient_rate: f32,
    /// Of the quotient of first moment and corrected root.
    moment_rate: f32,
}

impl Rule<2> for NesterovStep {
    #[inline(always)]
    fn step<S: Simd>(self, s: S, value: S::Reg, gradient: S::Reg, state: [S::Reg; 2]) -> (S::Reg, [S::Reg; 2]) {
        let [decoupled, coupled] = self.decays;
        let g = s.mul_add(s.splat(coupled), value, gradient);
        let [m, v] = self.moments.step(s, g, state);
        let direction = s.mul_add(g, s.splat(self.gradient_rate), s.mul(m, s.splat(self.moment_rate)));
        let denominator = s.mul_add(s.sqrt(v), s.splat(self.of_root), s.splat(self.eps));
        let decayed = s.mul_add(s.splat(decoupled), value, value);
        (s.add(decayed, s.div(direction, denominator)), [m, v])
    }
}
