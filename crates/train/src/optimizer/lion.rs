//! Lion, as timm's `Lion` defines it (Chen et al. 2023).

use super::{Device, GroupStep, Update};
use crate::recipe::Recipe;
use residual_engine::{Entry, Flat};
use residual_kernels::optim;
use residual_tensor::AlignedBuffer;

pub(super) struct Lion {
    betas: [f64; 2],
}

impl Lion {
    pub(super) fn new(recipe: &Recipe) -> Self {
        Self { betas: recipe.betas() }
    }
}

impl Update for Lion {
    fn initial(&self) -> &'static [f32] {
        &[0.0]
    }

    fn names(&self, _entry: &Entry) -> &'static [&'static str] {
        &["exp_avg"]
    }

    fn update(&mut self, device: &Device, group: &GroupStep, flat: &mut Flat<'_>, state: &mut [AlignedBuffer]) {
        let range = group.range.clone();
        let [exp_avg] = state else { unreachable!("Lion keeps one state tensor") };
        let [beta1, beta2] = self.betas;
        let rule = optim::Lion { lr: group.lr, beta1, beta2, weight_decay: group.weight_decay };
        let (values, gradients) = (&mut flat.values[range.clone()], &flat.gradients[range.clone()]);
        optim::lion(device.isa, &device.pool, values, gradients, &mut exp_avg[range], &rule);
    }
}
