//! Adam with decoupled weight decay, as `torch.optim.AdamW` defines it (Loshchilov and Hutter 2019).

use super::{Device, Rates, Update};
use crate::recipe::Recipe;
use residual_engine::Flat;
use residual_kernels::optim;
use residual_tensor::AlignedBuffer;
use std::ops::Range;

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

    fn update(
        &self,
        device: &Device,
        rates: &Rates,
        range: Range<usize>,
        flat: &mut Flat<'_>,
        state: &mut [AlignedBuffer],
    ) {
        let [exp_avg, exp_avg_sq] = state else { unreachable!("AdamW keeps two state tensors") };
        let ([beta1, beta2], eps) = (self.betas, self.eps);
        let rule = optim::AdamW { lr: rates.lr, beta1, beta2, eps, weight_decay: rates.weight_decay };
        let (values, gradients) = (&mut flat.values[range.clone()], &flat.gradients[range.clone()]);
        let (exp_avg, exp_avg_sq) = (&mut exp_avg[range.clone()], &mut exp_avg_sq[range]);
        optim::adamw(device.isa, &device.pool, values, gradients, exp_avg, exp_avg_sq, rates.step, &rule);
    }
}
