//! Adam with decoupled weight decay.

use super::GRAIN;
use crate::isa::{Isa, Kernel, Simd};
use crate::raw::SharedMut;
use residual_threads::Pool;

/// Adam with decoupled weight decay (Loshchilov & Hutter, arXiv:1711.05101, algorithm 2) as torch's `AdamW` defines it,
/// without `amsgrad`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment, below 1.
    pub beta1: f64,
    /// Decay of the second moment, below 1.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Weight decay; a step multiplies the value by 1 − lr · `weight_decay`.
    pub weight_decay: f64,
}

/// Step number `step`, which counts from 1: `first = β₁ · first + (1 − β₁) · gradient`,
/// `second = β₂ · second + (1 − β₂) · gradient²`, and
/// `value = (1 − lr · weight_decay) · value − lr · (first / (1 − β₁ˢᵗᵉᵖ)) / (√(second / (1 − β₂ˢᵗᵉᵖ)) + eps)`. Both moments
/// start at zero.
///
/// # Panics
/// If the lengths differ or `step` is zero.
pub fn adamw(
    isa: Isa,
    pool: &Pool,
    values: &mut [f32],
    gradients: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    step: u64,
    rule: &AdamW,
) {
    let len = values.len();
    assert!(gradients.len() == len && first.len() == len && second.len() == len, "adamw: slices of different lengths");
    assert!(step > 0, "adamw: steps count from 1");
    let correction = |beta: f64| 1.0 - beta.powf(step as f64);
    let factors = Factors {
        decay: (-rule.lr * rule.weight_decay) as f32,
        into_first: (1.0 - rule.beta1) as f32,
        of_second: rule.beta2 as f32,
        into_second: (1.0 - rule.beta2) as f32,
        of_root: correction(rule.beta2).sqrt().recip() as f32,
        eps: rule.eps as f32,
        rate: (-rule.lr / correction(rule.beta1)) as f32,
    };
    let (values, first, second) = (SharedMut::new(values), SharedMut::new(first), SharedMut::new(second));
    pool.run(len.div_ceil(GRAIN), |task, _| {
        let range = task * GRAIN..((task + 1) * GRAIN).min(len);
        let gradients = &gradients[range.clone()];
        // SAFETY: every task has its own range.
        let (values, first, second) =
            unsafe { (values.part(range.clone()), first.part(range.clone()), second.part(range)) };
        isa.run(Step { values, gradients, first, second, factors });
    });
}

/// The factors of a step.
#[derive(Clone, Copy)]
struct Factors {
    /// The value, before it is added to itself.
    decay: f32,
    /// The gradient's difference from the first moment, before it is added to it.
    into_first: f32,
    /// The second moment.
    of_second: f32,
    /// The gradient's square, before it is added to the second moment.
    into_second: f32,
    /// The root of the second moment.
    of_root: f32,
    /// Added to the corrected root.
    eps: f32,
    /// The quotient of first moment and corrected root.
    rate: f32,
}

struct Step<'a> {
    values: &'a mut [f32],
    gradients: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    factors: Factors,
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Factors { decay, into_first, of_second, into_second, of_root, eps, rate } = self.factors;
        let (decay, rate) = (s.splat(decay), s.splat(rate));
        let (into_first, of_second, into_second) = (s.splat(into_first), s.splat(of_second), s.splat(into_second));
        let (of_root, eps) = (s.splat(of_root), s.splat(eps));
        let mut i = 0;
        while i < self.values.len() {
            let n = self.values.len() - i;
            // SAFETY: all four slices have `n` floats from `i` on.
            unsafe {
                let value = self.values.as_mut_ptr().add(i);
                let (first, second) = (self.first.as_mut_ptr().add(i), self.second.as_mut_ptr().add(i));
                let g = s.load_up_to(self.gradients.as_ptr().add(i), n);
                let m = s.load_up_to(first, n);
                let m = s.mul_add(s.sub(g, m), into_first, m);
                let v = s.mul_add(s.mul(g, g), into_second, s.mul(s.load_up_to(second, n), of_second));
                let direction = s.div(m, s.mul_add(s.sqrt(v), of_root, eps));
                s.store_up_to(first, n, m);
                s.store_up_to(second, n, v);
                let old = s.load_up_to(value, n);
                s.store_up_to(value, n, s.mul_add(rate, direction, s.mul_add(decay, old, old)));
            }
            i += S::LANES;
        }
    }
}
