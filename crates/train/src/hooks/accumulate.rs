//! Gradient accumulation: the gradients of several batches are summed before one update.

use super::GradientHook;
use crate::TrainError;
use crate::optimizer::Device;
use residual_engine::Flat;
use residual_kernels::elementwise::accumulate;
use residual_tensor::AlignedBuffer;

/// Sums the gradients of an update's backward passes, in their order.
pub(super) struct Accumulate {
    sum: AlignedBuffer,
    /// Whether `sum` holds gradients of the current update.
    is_begun: bool,
}

impl Accumulate {
    pub(super) fn new(len: usize) -> Result<Self, TrainError> {
        let memory = || TrainError::Memory { what: "accumulated gradients".into(), bytes: 4 * len as u64 };
        Ok(Self { sum: AlignedBuffer::try_zeros(len).ok_or_else(memory)?, is_begun: false })
    }
}

impl GradientHook for Accumulate {
    fn after_backward(&mut self, device: &Device, gradients: &mut [f32]) {
        if std::mem::replace(&mut self.is_begun, true) {
            accumulate(device.isa, &device.pool, gradients, &mut self.sum);
        } else {
            self.sum.copy_from_slice(gradients);
        }
    }

    fn before_update(&mut self, _device: &Device, flat: &mut Flat<'_>) {
        flat.gradients.copy_from_slice(&self.sum);
        self.is_begun = false;
    }
}
