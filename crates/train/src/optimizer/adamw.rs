//! Adam with decoupled weight decay, as `torch.optim.AdamW` defines it (Loshchilov and Hutter 2019).

use super::{Device, Rates, Update};
use crate::recipe::Recipe;
use residual_kernels::optim;

pub(super) struct AdamW {
    betas: [f64; 2],
    eps: f64,
}

impl AdamW {
    pub(super) fn new(recipe: &Recipe) -> Self {
        Self { betas: recipe.opt_betas, eps: recipe.opt_eps }
    }
}

impl Update for AdamW {
    fn state(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    fn update(&self, device: &Device, rates: &Rates, values: &mut [f32], gradients: &[f32], state: &mut [&mut [f32]]) {
        let [exp_avg, exp_avg_sq] = state else { unreachable!("AdamW keeps two state tensors") };
        let ([beta1, beta2], eps) = (self.betas, self.eps);
        let rule = optim::AdamW { lr: rates.lr, beta1, beta2, eps, weight_decay: rates.weight_decay };
        optim::adamw(device.isa, &device.pool, values, gradients, exp_avg, exp_avg_sq, rates.step, &rule);
    }
}
