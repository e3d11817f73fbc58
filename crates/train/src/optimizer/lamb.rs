//! LAMB, as timm's `Lamb` defines it (You et al. 2020): Adam's direction, scaled by the norm of each tensor.

use super::adam::MOMENTS;
use super::{Device, GroupStep, Update, entries_in};
use crate::recipe::Recipe;
use residual_engine::{Entry, Flat};
use residual_kernels::optim::{self, lamb_direction, step_along, sum_of_squares};
use residual_tensor::AlignedBuffer;

/// The norm of all gradients together that none of them is scaled up to: timm's default.
const MAX_GRAD_NORM: f64 = 1.0;

pub(super) struct Lamb {
    betas: [f64; 2],
    eps: f64,
    /// Whether the ratio of norms is at most 1.
    trust_clip: bool,
    /// Whether tensors without weight decay are scaled too.
    always_adapt: bool,
    /// The factor of the gradients of this update.
    clip: f64,
}

impl Lamb {
    pub(super) fn new(recipe: &Recipe) -> Self {
        Self {
            betas: recipe.betas(),
            eps: recipe.eps(),
            trust_clip: recipe.trust_clip,
            always_adapt: recipe.always_adapt,
            clip: 1.0,
        }
    }

    /// The norm of a tensor's values over that of its direction; 1 if either is zero.
    fn trust_ratio(&self, device: &Device, values: &[f32], direction: &[f32]) -> f64 {
        let [values, direction] = [values, direction].map(|x| sum_of_squares(device.isa, &device.pool, x).sqrt());
        let ratio = if values > 0.0 && direction > 0.0 { values / direction } else { 1.0 };
        if self.trust_clip { ratio.min(1.0) } else { ratio }
    }
}

impl Update for Lamb {
    fn initial(&self) -> &'static [f32] {
        &[0.0, 0.0]
    }

    fn names(&self, _entry: &Entry) -> &'static [&'static str] {
        MOMENTS
    }

    fn prepare(&mut self, device: &Device, gradients: &[f32]) {
        let norm = sum_of_squares(device.isa, &device.pool, gradients).sqrt();
        self.clip = (norm / MAX_GRAD_NORM).max(1.0).recip();
    }

    fn update(&mut self, device: &Device, group: &GroupStep, flat: &mut Flat<'_>, state: &mut [AlignedBuffer]) {
        let range = group.range.clone();
        let [exp_avg, exp_avg_sq] = state else { unreachable!("LAMB keeps two state tensors") };
        let ([beta1, beta2], eps, clip) = (self.betas, self.eps, self.clip);
        let rule = optim::Lamb { beta1, beta2, eps, weight_decay: group.weight_decay, clip };
        let (values, direction) = (&mut flat.values[range.clone()], &mut flat.gradients[range.clone()]);
        let (exp_avg, exp_avg_sq) = (&mut exp_avg[range.clone()], &mut exp_avg_sq[range.clone()]);
        lamb_direction(device.isa, &device.pool, values, direction, exp_avg, exp_avg_sq, group.step, &rule);
        if group.weight_decay == 0.0 && !self.always_adapt {
            return step_along(device.isa, &device.pool, values, direction, 0.0, -group.lr as f32);
        }
        for entry in entries_in(flat.entries, &range) {
            let (values, direction) = (&mut flat.values[entry.range.clone()], &flat.gradients[entry.range.clone()]);
            let rate = -group.lr * self.trust_ratio(device, values, direction);
            step_along(device.isa, &device.pool, values, direction, 0.0, rate as f32);
        }
    }
}
