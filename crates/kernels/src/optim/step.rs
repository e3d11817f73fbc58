//! One pass over a bucket: every element of the values and of the optimiser's state from its old ones and its gradient.

use super::GRAIN;
use crate::isa::{Isa, Kernel, Simd};
use crate::raw::SharedMut;
use residual_threads::Pool;
use std::ops::Range;

/// A step that treats every element alike, with `N` state tensors.
pub(super) trait Rule<const N: usize>: Copy + Sync {
    /// The new value and state of a vector of elements.
    fn step<S: Simd>(self, s: S, value: S::Reg, gradient: S::Reg, state: [S::Reg; N]) -> (S::Reg, [S::Reg; N]);
}

/// Applies `rule` to all elements.
///
/// # Panics
/// If the lengths differ.
pub(super) fn apply<R: Rule<N>, const N: usize>(
    isa: Isa,
    pool: &Pool,
    rule: R,
    values: &mut [f32],
    gradients: &[f32],
    state: [&mut [f32]; N],
) {
    let len = values.len();
    let fits = gradients.len() == len && state.iter().all(|state| state.len() == len);
    assert!(fits, "optimiser step: slices of different lengths");
    let (values, state) = (SharedMut::new(values), state.map(SharedMut::new));
    pool.run(len.div_ceil(GRAIN), |task, _| {
        let range = task * GRAIN..((task + 1) * GRAIN).min(len);
        isa.run(Elements { rule, range, values, gradients, state });
    });
}

struct Elements<'a, R, const N: usize> {
    rule: R,
    /// The task's own range of all slices.
    range: Range<usize>,
    values: SharedMut<'a>,
    gradients: &'a [f32],
    state: [SharedMut<'a>; N],
}

impl<R: Rule<N>, const N: usize> Kernel for Elements<'_, R, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rule, range, values, gradients, state } = self;
        let mut i = range.start;
        while i < range.end {
            let n = range.end - i;
            // SAFETY: all slices have `n` floats from `i` on, whose lengths `apply` has compared; every task has its own
            // range.
            unsafe {
                let mut old = [s.zero(); N];
                for (old, state) in old.iter_mut().zip(&state) {
                    *old = s.load_up_to(state.at(i), n);
                }
                let (value, gradient) = (s.load_up_to(values.at(i), n), s.load_up_to(gradients.as_ptr().add(i), n));
                let (value, new) = rule.step(s, value, gradient, old);
                for (new, state) in new.into_iter().zip(&state) {
                    s.store_up_to(state.at(i), n, new);
                }
                s.store_up_to(values.at(i), n, value);
            }
            i += S::LANES;
        }
    }
}

/// value += decay · value + rate · direction.
///
/// # Panics
/// If the lengths differ.
pub fn step_along(isa: Isa, pool: &Pool, values: &mut [f32], direction: &[f32], decay: f32, rate: f32) {
    apply(isa, pool, Along { decay, rate }, values, direction, []);
}

#[derive(Clone, Copy)]
struct Along {
    decay: f32,
    rate: f32,
}

impl Rule<0> for Along {
    #[inline(always)]
    fn step<S: Simd>(self, s: S, value: S::Reg, direction: S::Reg, _: [S::Reg; 0]) -> (S::Reg, [S::Reg; 0]) {
        let decayed = s.mul_add(s.splat(self.decay), value, value);
        (s.mul_add(s.splat(self.rate), direction, decayed), [])
    }
}
