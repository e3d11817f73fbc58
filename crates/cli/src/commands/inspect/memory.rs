//! The peak memory of a network: that of the engine's plans.

use crate::failure::Failure;
use crate::output::bytes;
use residual::engine::{Elements, Engine, GradientOptions, Mode, Options};
use residual::graph::{Graph, Role};
use residual::infer;
use residual::model::Model;
use residual::tensor::{AlignedBuffer, Floats, Tensor};
use residual::train::{Recipe, TrainStep};
use serde::Serialize;
use std::sync::Arc;

/// Bytes at a batch size.
#[derive(Serialize)]
pub(super) struct PeakMemory {
    pub(super) batch: usize,
    /// Values, packed weights and workspace of an inference plan.
    pub(super) inference_bytes: u64,
    /// Values, gradients, parameters, workspace and the state of SGD with momentum; `None` of a quantised network, which is not
    /// trained.
    pub(super) training_bytes: Option<u64>,
    /// The same in mixed precision (`train --amp`).
    pub(super) training_amp_bytes: Option<u64>,
}

impl PeakMemory {
    /// The memory for batches of `batch` images of `size` (height, width); none of it is allocated.
    pub(super) fn of(graph: &Graph, batch: usize, size: [usize; 2], options: &Options) -> Result<Self, Failure> {
        let model = without_values(graph)?;
        let inference = Engine::required_memory(&model, Mode::Infer, batch, size, &[], options)?;
        let training = |elements: Elements| match graph.is_quantized() {
            true => Ok(None),
            false => {
                let gradients = GradientOptions { elements, ..GradientOptions::default() };
                let options = Options { gradients, ..options.clone() };
                TrainStep::required_memory(&Recipe::default(), &model, batch, size, &options)
                    .map(|bytes| Some(bytes as u64))
            }
        };
        Ok(Self {
            batch,
            inference_bytes: inference.total() as u64,
            training_bytes: training(Elements::F32)?,
            training_amp_bytes: training(Elements::Bf16)?,
        })
    }
}

/// The network with tensors of zeros, which share the memory of the largest.
fn without_values(graph: &Graph) -> Result<Model, Failure> {
    let len = |shape: &[usize]| shape.iter().product::<usize>();
    let largest = graph.parameters().map(|(_, spec)| len(&spec.shape)).max().unwrap_or(0);
    let zeros = AlignedBuffer::try_zeros(largest).map(Arc::new);
    let zeros = zeros.ok_or_else(|| {
        Failure::new(format!("memory: expected {} for the largest tensor, got less", bytes(4 * largest as u64)))
    })?;
    let tensors = graph.parameters().map(|(key, spec)| {
        let tensor = match spec.role {
            Role::Counter => Tensor::i64(&spec.shape, vec![0; len(&spec.shape)]),
            Role::QuantizedWeight => Tensor::i8(&spec.shape, vec![0; len(&spec.shape)]),
            Role::ZeroPoint => Tensor::u8(&spec.shape, vec![0; len(&spec.shape)]),
            Role::Scale => Tensor::full(&spec.shape, 1.0),
            _ => Tensor::floats(&spec.shape, Floats::part(&zeros, 0..len(&spec.shape))),
        };
        (key, tensor)
    });
    Ok(Model::new(graph.clone(), tensors.collect(), infer::default_preprocessing(graph, None), Vec::new())?)
}
