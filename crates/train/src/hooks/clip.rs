//! Gradient clipping: by the norm of all gradients, by value, or by the norm of each unit.

use super::GradientHook;
use crate::optimizer::Device;
use crate::recipe::ClipMode;
use residual_engine::Flat;
use residual_kernels::optim::{clamp, clip_units, scale, sum_of_squares};

/// The least norm of a unit's values in adaptive clipping: timm's.
const LEAST_NORM: f64 = 1e-3;

/// Clips all gradients at a limit, whose meaning the mode says.
pub(super) struct Clip {
    mode: ClipMode,
    limit: f64,
}

impl Clip {
    pub(super) fn new(mode: ClipMode, limit: f64) -> Self {
        Self { mode, limit }
    }
}

impl GradientHook for Clip {
    fn before_update(&mut self, device: &Device, flat: &mut Flat<'_>) {
        let Device { isa, pool } = device;
        match self.mode {
            ClipMode::Norm => {
                let norm = sum_of_squares(*isa, pool, flat.gradients).sqrt();
                // Torch's epsilon, which keeps the factor finite.
                let factor = self.limit / (norm + 1e-6);
                if factor < 1.0 {
                    scale(*isa, pool, flat.gradients, factor as f32);
                }
            }
            ClipMode::Value => clamp(*isa, pool, flat.gradients, self.limit as f32),
            ClipMode::Agc => {
                for entry in flat.entries.iter().filter(|entry| !entry.is_head) {
                    let values = &flat.values[entry.range.clone()];
                    let gradients = &mut flat.gradients[entry.range.clone()];
                    clip_units(*isa, pool, values, gradients, entry.order(), self.limit, LEAST_NORM);
                }
            }
        }
    }
}
