//! Stochastic gradient descent.

use super::GRAIN;
use crate::isa::{Isa, Kernel, Simd};
use crate::raw::SharedMut;
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
    let len = values.len();
    assert!(gradients.len() == len && velocity.len() == len);
    let (values, velocity) = (SharedMut::new(values), SharedMut::new(velocity));
    pool.run(len.div_ceil(GRAIN), |task, _| {
        let range = task * GRAIN..((task + 1) * GRAIN).min(len);
        let gradients = &gradients[range.clone()];
        // SAFETY: every task has its own range.
        let (values, velocity) = unsafe { (values.part(range.clone()), velocity.part(range)) };
        isa.run(Step { values, gradients, velocity, step });
    });
}

struct Step<'a> {
    values: &'a mut [f32],
    gradients: &'a [f32],
    velocity: &'a mut [f32],
    step: &'a Sgd,
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (momentum, decay) = (s.splat(self.step.momentum), s.splat(self.step.weight_decay));
        let lr = s.splat(-self.step.lr);
        let mut i = 0;
        while i < self.values.len() {
            let n = self.values.len() - i;
            // SAFETY: all three slices have `n` floats from `i` on.
            unsafe {
                let (value, velocity) = (self.values.as_mut_ptr().add(i), self.velocity.as_mut_ptr().add(i));
                let old = s.load_up_to(value, n);
                let g = s.mul_add(decay, old, s.load_up_to(self.gradients.as_ptr().add(i), n));
                let v = s.mul_add(momentum, s.load_up_to(velocity, n), g);
                let direction = if self.step.nesterov { s.mul_add(momentum, v, g) } else { v };
                s.store_up_to(velocity, n, v);
                s.store_up_to(value, n, s.mul_add(lr, direction, old));
            }
            i += S::LANES;
        }
    }
}
