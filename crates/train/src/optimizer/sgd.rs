//! Stochastic gradient descent with momentum, as `torch.optim.SGD` defines it (no dampening).

use super::{Device, GroupStep, Update};
use crate::recipe::Recipe;
use residual_engine::{Entry, Flat};
use residual_kernels::optim;
use residual_tensor::AlignedBuffer;

pub(super) struct Sgd {
    momentum: f32,
    nesterov: bool,
}

impl Sgd {
    pub(super) fn new(recipe: &Recipe) -> Self {
        Self { momentum: recipe.momentum as f32, nesterov: recipe.is_nesterov() }
    }
}

impl Update for Sgd {
    fn initial(&self) -> &'static [f32] {
        &[0.0]
    }

    fn names(&self, _entry: &Entry) -> &'static [&'static str] {
        &["momentum_buffer"]
    }

    fn update(&mut self, device: &Device, group: &GroupStep, flat: &mut Flat<'_>, state: &mut [AlignedBuffer]) {
        let range = group.range.clone();
        let [momentum_buffer] = state else { unreachable!("SGD keeps one state tensor") };
        let rule = optim::Sgd {
            lr: group.lr as f32,
            momentum: self.momentum,
            weight_decay: group.weight_decay as f32,
            nesterov: self.nesterov,
        };
        let (values, gradients) = (&mut flat.values[range.clone()], &flat.gradients[range.clone()]);
        optim::sgd(device.isa, &device.pool, values, gradients, &mut momentum_buffer[range], &rule);
    }
}
