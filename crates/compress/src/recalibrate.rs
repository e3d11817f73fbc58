//! Running statistics of batch norms for changed weights.

use crate::{CompressError, TrainingImages};
use residual_engine::{Engine, Mode, Options};
use residual_graph::Op;
use residual_model::Model;
use std::sync::atomic::{AtomicBool, Ordering};

/// Images in a batch, whose mean and variance are one estimate.
const BATCH: usize = 64;

/// `model` with the running statistics of its own weights over `images`
/// ([`recalibrate_batch_norms`](residual_infer::recalibrate_batch_norms)), without dropout. Pruned channels change those of all
/// layers after them. A network without batch norms stays as it is. `None` if `stop` was set. `on_progress` gets the numbers of images
/// so far and in all.
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
    if !model.graph.nodes.iter().any(|node| matches!(node.op, Op::BatchNorm2d { .. })) {
        return Ok(Some(model.clone()));
    }
    let mut measured = model.clone();
    for node in &mut measured.graph.nodes {
        if let Op::Dropout { p } | Op::DropPath { p } = &mut node.op {
            *p = 0.0;
        }
    }
    let total = images.dataset.len();
    let batch = BATCH.min(total.max(1));
    let mut engine = Engine::new(&measured, Mode::Train, batch, model.preprocessing.size, &[], options)?;
    let mut done = 0;
    let batches = images.loader(model, batch)?.map_while(|batch| (!stop.load(Ordering::Relaxed)).then_some(batch));
    let batches = batches.map(|batch| {
        let batch = batch?;
        done += batch.len();
        on_progress(done, total);
        Ok::<_, CompressError>(batch)
    });
    let tensors =
        residual_infer::recalibrate_batch_norms(&mut engine, &model.graph, model.tensors.clone(), batches, 0)?;
    if stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    match done {
        0 => Err(CompressError::NoImages),
        _ => Ok(Some(model.with_tensors(tensors)?)),
    }
}
