//! Stochastic gradient descent.

use super::step::{Rule, apply};
use crate::isa::{Isa, Simd};
use residual_threads::Pool;

/// Stochastic gradient descent as torch's `SGD` defines it (no dampening).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f32,
    /// Factor of the velocity (momentum buffer).
    pub momentum: f32,
    /// Factor of the value that is added to its gradient.
    pub weight_decay: f32,
    /// Whether to use Nesterov's momentum.
    pub nesterov: bool,
}

/// One step: `g = gradient + weight_decay · value`, `velocity = momentum · velocity + g`, and
/// `value −= lr · (nesterov ? g + momentum · velocity : velocity)`. The velocity starts at zero.
///
/// # Panics
/// If the lengths differ.
pub fn sgd(isa: Isa, pool: &Pool, values: &mut [f32], gradients: &[f32], velocity: &mut [f32], step: &Sgd) {
    apply(isa, pool, *step, values, gradients, [velocity]);
}

impl Rule<1> for Sgd {
    #[inline(always)]
    fn step<S: Simd>(self, s: S, value: S::Reg, gradient: S::Reg, [velocity]: [S::Reg; 1]) -> (S::Reg, [S::Reg; 1]) {
        let momentum = s.splat(self.momentum);
        let g = s.mul_add(s.splat(self.weight_decay), value, gradient);
        let v = s.mul_add(momentum, velocity, g);
        let direction = if self.nesterov { s.mul_add(momentum, v, g) } else { v };
        (s.mul_add(s.splat(-self.lr), direction, value), [v])
    }
}
