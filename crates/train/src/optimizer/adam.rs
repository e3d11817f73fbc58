//! Adam, AdamW and NAdam, as torch's classes of these names define them (Kingma and Ba 2014; Loshchilov and Hutter 2019; Dozat
//! 2016).

use super::{Device, GroupStep, Update};
use crate::recipe::{Opt, Recipe};
use residual_engine::{Entry, Flat};
use residual_kernels::optim;
use residual_tensor::AlignedBuffer;

/// The names of the state tensors, in torch.
pub(super) const MOMENTS: &[&str] = &["exp_avg", "exp_avg_sq"];

pub(super) struct Adam {
    betas: [f64; 2],
    eps: f64,
    /// Whether weight decay is applied to the values instead of the gradients (AdamW).
    decoupled: bool,
    nesterov: bool,
}

impl Adam {
    pub(super) fn new(recipe: &Recipe) -> Self {
        Self {
            betas: recipe.betas(),
            eps: recipe.eps(),
            decoupled: recipe.opt == Opt::AdamW,
            nesterov: recipe.opt == Opt::NAdam,
        }
    }
}

impl Update for Adam {
    fn initial(&self) -> &'static [f32] {
        &[0.0, 0.0]
    }

    fn names(&self, _entry: &Entry) -> &'static [&'static str] {
        MOMENTS
    }

    fn update(&mut self, device: &Device, group: &GroupStep, flat: &mut Flat<'_>, state: &mut [AlignedBuffer]) {
        let range = group.range.clone();
        let [exp_avg, exp_avg_sq] = state else { unreachable!("Adam keeps two state tensors") };
        let ([beta1, beta2], eps, decoupled) = (self.betas, self.eps, self.decoupled);
        let rule = optim::Adam { lr: group.lr, beta1, beta2, eps, weight_decay: group.weight_decay, decoupled };
        let (values, gradients) = (&mut flat.values[range.clone()], &flat.gradients[range.clone()]);
        let (exp_avg, exp_avg_sq) = (&mut exp_avg[range.clone()], &mut exp_avg_sq[range]);
        let kernel = if self.nesterov { optim::nadam } else { optim::adam };
        kernel(device.isa, &device.pool, values, gradients, exp_avg, exp_avg_sq, group.step, &rule);
    }
}
