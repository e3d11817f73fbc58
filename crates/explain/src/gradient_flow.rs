//! Gradient flow: the gradients of every parameter tensor for one batch, without training.

use crate::ExplainError;
use residual_engine::{Engine, Mode, Options};
use residual_infer::GradientStatistics;
use residual_kernels::loss::{Targets, cross_entropy};
use residual_model::Model;

/// The gradients of the loss of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientFlow {
    /// The mean cross-entropy of the batch.
    pub loss: f64,
    /// The gradients of all parameter tensors, in state-dict order.
    pub tensors: Vec<GradientStatistics>,
}

/// The gradients of the mean cross-entropy of `images` (n × height × width × channels, normalised) with these `labels`, in
/// training mode: batch norms use the statistics of the batch, dropout is active, `seed` draws what it drops. The model is not
/// changed.
///
/// # Errors
/// If there is not a label for each image, a label is no class, the batch is too small for a batch norm, or the network cannot
/// be run.
pub fn gradient_flow(
    model: &Model,
    images: &[f32],
    labels: &[u32],
    seed: u64,
    options: &Options,
) -> Result<GradientFlow, ExplainError> {
    let size = model.preprocessing.size;
    let len = size.iter().product::<usize>() * model.graph.input_size()[0];
    let classes = model.graph.output_channels()?;
    if labels.is_empty() || images.len() != labels.len() * len {
        return Err(ExplainError::Images { expected: labels.len().max(1) * len, got: images.len() });
    }
    if let Some(&label) = labels.iter().find(|&&label| label as usize >= classes) {
        return Err(ExplainError::Class { classes, got: label as usize });
    }
    let mut engine = Engine::new(model, Mode::Train, labels.len(), size, &[], options)?;
    engine.set_seed(seed);
    engine.forward(images)?;
    let mut gradient = vec![0.0; labels.len() * classes];
    let loss = cross_entropy(engine.output(), Targets::Hard(labels), classes, 0.0, Some(&mut gradient));
    engine.backward_output(&gradient)?;
    let flat = engine.flat_mut();
    Ok(GradientFlow { loss, tensors: GradientStatistics::of(flat.entries, flat.values, flat.gradients) })
}
