//! Running statistics of batch norms for changed weights.

use crate::{CompressError, TrainingImages};
use residual_engine::{Engine, Mode, Options};
use residual_graph::Op;
use residual_model::Model;
use std::sync::atomic::{AtomicBool, Ordering};

/// Images in a batch, whose mean and variance are one estimate.
const BATCH: usize = 64;

/// `model` with the running statistics of its own weights: the mean over batches of `images` of each batch's mean and variance (Wu &
/// Johnson, arXiv:2105.07576, "precise batch norm"). Pruned channels change those of all layers after them. A network without batch
/// norms stays as it is. `None` if `stop` was set. `on_progress` gets the numbers of images so far and in all.
///
/// # Errors
/// If an image cannot be read, there are none, or the network cannot be run.
pub fn recalibrate_batch_norms(
    model: &Model,
    images: &TrainingImages,
    options: &Options,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(usize, usize),
) -> Result<Option<Model>, CompressError> {
    let mut measured = model.clone();
    let mut has_norms = false;
    for node in &mut measured.graph.nodes {
        match &mut node.op {
            // The running statistics are those of the last batch.
            Op::BatchNorm2d { momentum, .. } => (*momentum, has_norms) = (1.0, true),
            // As in evaluation.
            Op::Dropout { p } | Op::DropPath { p } => *p = 0.0,
            _ => {}
        }
    }
    if !has_norms {
        return Ok(Some(measured));
    }
    let total = images.dataset.len();
    let batch = BATCH.min(total.max(1));
    let mut engine = Engine::new(&measured, Mode::Train, batch, model.preprocessing.size, &[], options)?;
    let mut sums = vec![0.0; engine.weights()[1].len()];
    let (mut batches, mut done) = (0, 0);
    for batch in images.loader(model, batch)? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let batch = batch?;
        done += batch.len();
        on_progress(done, total);
        if batch.is_empty() {
            continue;
        }
        engine.forward(batch.images())?;
        sums.iter_mut().zip(engine.weights()[1]).for_each(|(sum, &value)| *sum += f64::from(value));
        batches += 1;
    }
    if batches == 0 {
        return Err(CompressError::NoImages);
    }
    let means: Vec<f32> = sums.iter().map(|sum| (sum / f64::from(batches)) as f32).collect();
    let [weights, _] = engine.weights();
    let tensors = engine.state_dict_of([weights, &means]);
    Ok(Some(model.with_tensors(tensors)?))
}
