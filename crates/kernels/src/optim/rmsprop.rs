//! RMSprop in torch's and in TensorFlow's form.

use super::step::{Rule, apply};
use crate::isa::{Isa, Simd};
use residual_threads::Pool;

/// RMSprop (Hinton, lecture 6e of his course), not centred.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the average of squares, below 1.
    pub alpha: f64,
    /// Added to the square root of the average, or in TensorFlow's form to the average.
    pub eps: f64,
    /// Factor of the momentum buffer.
    pub momentum: f64,
    /// Factor of the value that is added to its gradient.
    pub weight_decay: f64,
    /// TensorFlow's form, as timm's `RMSpropTF`: `eps` is added before the root, and the momentum buffer contains the learning
    /// rate.
    pub tensorflow: bool,
}

/// One step: `g = gradient + weight_decay · value`, `square_average = alpha · square_average + (1 − alpha) · g²`, and in torch's
/// form `momentum_buffer = momentum · momentum_buffer + g / (√square_average + eps)`, `value −= lr · momentum_buffer`; in
/// TensorFlow's `momentum_buffer = momentum · momentum_buffer + lr · g / √(square_average + eps)`, `value −= momentum_buffer`.
///
/// The average of squares starts at zero in torch's form, at one in TensorFlow's; the momentum buffer at zero.
///
/// # Panics
/// If the lengths differ.
pub fn rmsprop(
    isa: Isa,
    pool: &Pool,
    values: &mut [f32],
    gradients: &[f32],
    square_average: &mut [f32],
    momentum_buffer: &mut [f32],
    rule: &RmsProp,
) {
    let [in_buffer, out_of_buffer] = if rule.tensorflow { [rule.lr, -1.0] } else { [1.0, -rule.lr] };
    let step = Step {
        decay: rule.weight_decay as f32,
        into_average: (1.0 - rule.alpha) as f32,
        eps_in_root: if rule.tensorflow { rule.eps as f32 } else { 0.0 },
        eps: if rule.tensorflow { 0.0 } else { rule.eps as f32 },
        momentum: rule.momentum as f32,
        in_buffer: in_buffer as f32,
        out_of_buffer: out_of_buffer as f32,
    };
    apply(isa, pool, step, values, gradients, [square_average, momentum_buffer]);
}

#[derive(Clone, Copy)]
struct Step {
    decay: f32,
    into_average: f32,
    eps_in_root: f32,
    eps: f32,
    momentum: f32,
    /// Factor of the quotient that is added to the buffer.
    in_buffer: f32,
    /// Factor of the buffer that is added to the value.
    out_of_buffer: f32,
}

impl Rule<2> for Step {
    #[inline(always)]
    fn step<S: Simd>(self, s: S, value: S::Reg, gradient: S::Reg, state: [S::Reg; 2]) -> (S::Reg, [S::Reg; 2]) {
        let [average, buffer] = state;
        let g = s.mul_add(s.splat(self.decay), value, gradient);
        let average = s.mul_add(s.sub(s.mul(g, g), average), s.splat(self.into_average), average);
        let root = s.add(s.sqrt(s.add(average, s.splat(self.eps_in_root))), s.splat(self.eps));
        let quotient = s.mul(s.div(g, root), s.splat(self.in_buffer));
        let buffer = s.mul_add(s.splat(self.momentum), buffer, quotient);
        (s.mul_add(s.splat(self.out_of_buffer), buffer, value), [average, buffer])
    }
}
