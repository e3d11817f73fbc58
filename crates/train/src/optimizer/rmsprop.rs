//! RMSprop, as `torch.optim.RMSprop` and timm's `RMSpropTF` define it, not centred.

use super::{Device, GroupStep, Update};
use crate::recipe::{Opt, Recipe};
use residual_engine::{Entry, Flat};
use residual_kernels::optim;
use residual_tensor::AlignedBuffer;

pub(super) struct RmsProp {
    alpha: f64,
    eps: f64,
    momentum: f64,
    /// timm's `RMSpropTF`.
    tensorflow: bool,
}

impl RmsProp {
    pub(super) fn new(recipe: &Recipe) -> Self {
        Self {
            alpha: recipe.opt_alpha,
            eps: recipe.eps(),
            momentum: recipe.momentum,
            tensorflow: recipe.opt == Opt::RmsPropTf,
        }
    }
}

impl Update for RmsProp {
    fn initial(&self) -> &'static [f32] {
        if self.tensorflow { &[1.0, 0.0] } else { &[0.0, 0.0] }
    }

    fn names(&self, _entry: &Entry) -> &'static [&'static str] {
        &["square_avg", "momentum_buffer"]
    }

    fn update(&mut self, device: &Device, group: &GroupStep, flat: &mut Flat<'_>, state: &mut [AlignedBuffer]) {
        let range = group.range.clone();
        let [square_avg, momentum_buffer] = state else { unreachable!("RMSprop keeps two state tensors") };
        let Self { alpha, eps, momentum, tensorflow } = *self;
        let rule = optim::RmsProp { lr: group.lr, alpha, eps, momentum, weight_decay: group.weight_decay, tensorflow };
        let (values, gradients) = (&mut flat.values[range.clone()], &flat.gradients[range.clone()]);
        let (square_avg, momentum_buffer) = (&mut square_avg[range.clone()], &mut momentum_buffer[range]);
        optim::rmsprop(device.isa, &device.pool, values, gradients, square_avg, momentum_buffer, &rule);
    }
}
