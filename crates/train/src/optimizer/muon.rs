//! Muon, as `torch.optim.Muon` defines it (Jordan 2024), on weights as matrices of outputs × the rest; the other parameters are on
//! AdamW.
//!
//! On AdamW are the head, biases, the parameters of norms, layer scales, and weights of a single output or of a single input
//! channel per group, as those of depthwise convolutions.

use super::adam::MOMENTS;
use super::{Device, GroupStep, Update};
use crate::TrainError;
use crate::recipe::{MuonAdjustLr, Recipe};
use residual_engine::{Entry, Flat, Options};
use residual_graph::{Graph, Role};
use residual_kernels::optim::{self, BucketOrder, Orthogonalisation, lerp, step_along};
use residual_tensor::AlignedBuffer;

pub(super) struct Muon {
    momentum: f64,
    nesterov: bool,
    adjust_lr: MuonAdjustLr,
    betas: [f64; 2],
    eps: f64,
    /// AdamW's learning rate relative to Muon's.
    fallback_lr_scale: f64,
    /// One for each entry; `None` is on AdamW.
    plans: Vec<Option<Orthogonalisation>>,
    workspace: AlignedBuffer,
}

impl Muon {
    pub(super) fn new(recipe: &Recipe, entries: &[Entry], device: &Device) -> Result<Self, TrainError> {
        let plan = |entry: &Entry| is_matrix(entry).then(|| Orthogonalisation::new(device.isa, entry.order()));
        let plans: Vec<_> = entries.iter().map(plan).collect();
        let len = workspace_len(plans.iter().flatten(), device.pool.threads());
        let memory = || TrainError::Memory { what: "Muon's workspace".into(), bytes: 4 * len as u64 };
        Ok(Self {
            momentum: recipe.momentum,
            nesterov: recipe.is_nesterov(),
            adjust_lr: recipe.muon_adjust_lr,
            betas: recipe.betas(),
            eps: recipe.eps(),
            fallback_lr_scale: recipe.fallback_lr_scale,
            plans,
            workspace: AlignedBuffer::try_zeros(len).ok_or_else(memory)?,
        })
    }
}

/// The learning rate of a matrix of outputs × inputs relative to the group's.
fn lr_ratio(adjust: MuonAdjustLr, [outputs, inputs]: [usize; 2]) -> f64 {
    let [outputs, inputs] = [outputs, inputs].map(|extent| extent as f64);
    match adjust {
        MuonAdjustLr::Original => (outputs / inputs).max(1.0).sqrt(),
        MuonAdjustLr::MatchRmsAdamW => 0.2 * outputs.max(inputs).sqrt(),
        MuonAdjustLr::SpectralUnclamped => (outputs / inputs).sqrt(),
    }
}

/// Floats of the workspace of the largest matrix.
fn workspace_len<'a>(plans: impl Iterator<Item = &'a Orthogonalisation>, threads: usize) -> usize {
    plans.map(|plan| plan.workspace_len(threads)).max().unwrap_or(0)
}

/// Bytes of the workspace for all weights of a network, including those that are left to AdamW.
pub(super) fn workspace_bytes(graph: &Graph, options: &Options) -> usize {
    let plan = |shape: &[usize]| {
        let (outputs, rows) = (shape[0], shape[1..].iter().product());
        Orthogonalisation::new(options.isa, BucketOrder { groups: 1, rows, outputs })
    };
    let weights = graph.parameters().filter(|(_, spec)| spec.role == Role::Weight);
    let plans: Vec<_> = weights.map(|(_, spec)| plan(&spec.shape)).collect();
    4 * workspace_len(plans.iter(), options.pool.threads())
}

/// Whether Muon updates a parameter.
fn is_matrix(entry: &Entry) -> bool {
    let is_wide = entry.shape.len() > 1 && entry.shape[0] > 1 && entry.shape[1] > 1;
    entry.role == Role::Weight && !entry.is_head && is_wide
}

impl Update for Muon {
    fn initial(&self) -> &'static [f32] {
        &[0.0, 0.0]
    }

    fn names(&self, entry: &Entry) -> &'static [&'static str] {
        if is_matrix(entry) { &["momentum_buffer"] } else { MOMENTS }
    }

    fn update(&mut self, device: &Device, group: &GroupStep, flat: &mut Flat<'_>, state: &mut [AlignedBuffer]) {
        let [first, second] = state else { unreachable!("Muon keeps two buffers") };
        let (isa, pool) = (device.isa, &device.pool);
        let is_inside = |entry: &Entry| group.range.contains(&entry.range.start);
        for (index, entry) in flat.entries.iter().enumerate().filter(|(_, entry)| is_inside(entry)) {
            let range = entry.range.clone();
            let (values, gradients) = (&mut flat.values[range.clone()], &mut flat.gradients[range.clone()]);
            let (first, second) = (&mut first[range.clone()], &mut second[range]);
            if let Some(plan) = &self.plans[index] {
                lerp(isa, pool, first, gradients, (1.0 - self.momentum) as f32);
                // Without Nesterov's momentum the direction is the buffer.
                lerp(isa, pool, gradients, first, if self.nesterov { self.momentum as f32 } else { 1.0 });
                plan.run(pool, gradients, &mut self.workspace);
                let decay = -group.lr * group.weight_decay;
                let shape = [entry.shape[0], entry.range.len() / entry.shape[0]];
                let rate = -group.lr * lr_ratio(self.adjust_lr, shape);
                step_along(isa, pool, values, gradients, decay as f32, rate as f32);
            } else {
                let ([beta1, beta2], eps, weight_decay) = (self.betas, self.eps, group.weight_decay);
                let lr = group.lr * self.fallback_lr_scale;
                let rule = optim::Adam { lr, beta1, beta2, eps, weight_decay, decoupled: true };
                optim::adam(isa, pool, values, gradients, first, second, group.step, &rule);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.optim._muon._adjust_lr(1.0, name, torch.Size(shape))`.
    #[test]
    fn learning_rates_depend_on_the_shape_as_in_torch() {
        for (shape, expected) in [
            ([64, 27], [1.539_600_717_839_002, 1.6, 1.539_600_717_839_002]),
            ([16, 144], [1.0, 2.400_000_000_000_000_4, 0.333_333_333_333_333_3]),
        ] {
            let rules = [MuonAdjustLr::Original, MuonAdjustLr::MatchRmsAdamW, MuonAdjustLr::SpectralUnclamped];
            assert_eq!(rules.map(|rule| lr_ratio(rule, shape)), expected, "{shape:?}");
        }
    }
}
