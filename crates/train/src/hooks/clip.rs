//! Gradient clipping by the global norm, as `torch.nn.utils.clip_grad_norm_` (Pascanu et al. 2013).

use super::GradientHook;
use crate::optimizer::Device;
use residual_kernels::optim::{scale, sum_of_squares};

/// Scales all gradients so that their common L2 norm is at most a maximum.
pub(super) struct ClipNorm {
    max_norm: f64,
}

impl ClipNorm {
    pub(super) fn new(max_norm: f64) -> Self {
        Self { max_norm }
    }
}

impl GradientHook for ClipNorm {
    fn before_update(&mut self, device: &Device, gradients: &mut [f32]) {
        let norm = sum_of_squares(device.isa, &device.pool, gradients).sqrt();
        // Torch's epsilon, which keeps the factor finite.
        let factor = self.max_norm / (norm + 1e-6);
        if factor < 1.0 {
            scale(device.isa, &device.pool, gradients, factor as f32);
        }
    }
}
