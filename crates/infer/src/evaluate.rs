//! How well a model does on a dataset.

use crate::InferError;
use crate::metrics::Metrics;
use residual_data::{Dataset, Loader, LoaderOptions, Skipped, Transform};
use residual_engine::{Engine, Mode, Options};
use residual_kernels::loss::{Targets, cross_entropy_sum};
use residual_model::Model;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// How an evaluation is run. Nothing here changes its result but `skip_bad_images`.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// Instruction set and threads.
    pub engine: Options,
    /// Images at a time.
    pub batch_size: usize,
    /// Threads that prepare images.
    pub workers: usize,
    /// Whether images that cannot be read are left out and listed, instead of ending the evaluation.
    pub skip_bad_images: bool,
}

/// What a model does on a dataset. Accuracies are in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Images evaluated.
    pub images: u64,
    /// Share of images whose label has the highest logit.
    pub top1: f64,
    /// Share of images whose label is among the five highest logits.
    pub top5: f64,
    /// Mean cross-entropy of an image.
    pub loss: f64,
    /// Images a second, everything counted.
    pub images_per_second: f64,
    /// Images that were left out, and why.
    pub skipped: Vec<String>,
}

/// Evaluates `model` on every image of `dataset`, in order, with the model's own preprocessing.
///
/// Returns `None` if `stop` was set before the end. `on_progress` hears after every batch how many images are done, and of
/// how many.
///
/// # Errors
/// If the dataset does not fit the model (channels, labels), an image cannot be read, or the network cannot be run.
pub fn evaluate(
    model: &Model,
    dataset: &Arc<dyn Dataset>,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Evaluation>, InferError> {
    let began = Instant::now();
    let Some((metrics, skipped)) = count(model, dataset, options, stop, on_progress)? else { return Ok(None) };
    Ok(Some(Evaluation {
        images: metrics.images,
        top1: metrics.top1_percent(),
        top5: metrics.top5_percent(),
        loss: metrics.mean_loss(),
        images_per_second: metrics.images as f64 / began.elapsed().as_secs_f64().max(1e-9),
        skipped: skipped.into_iter().map(|skipped| skipped.reason).collect(),
    }))
}

/// The counts of [`evaluate`], and the images that were skipped; `None` if `stop` was set before the end.
///
/// # Errors
/// As [`evaluate`].
pub fn count(
    model: &Model,
    dataset: &Arc<dyn Dataset>,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<(Metrics, Vec<Skipped>)>, InferError> {
    let classes = model.graph.output_channels()?;
    check_labels(&**dataset, classes)?;
    let size = model.preprocessing.size;
    let transform = Transform::evaluation(model.preprocessing.clone())?;
    let batch_size = options.batch_size.clamp(1, dataset.len().max(1));
    let loader_options = LoaderOptions {
        batch_size,
        workers: options.workers,
        skip_bad_images: options.skip_bad_images,
        ..LoaderOptions::default()
    };
    let mut loader = Loader::new(dataset.clone(), transform, loader_options)?;
    let mut engine = Engine::new(model, Mode::Infer, batch_size, size, &[], &options.engine)?;
    let mut metrics = Metrics::default();
    for batch in loader.by_ref() {
        let batch = batch?;
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if !batch.is_empty() {
            engine.forward(batch.images())?;
            let loss = cross_entropy_sum(engine.output(), Targets::Hard(batch.labels()), classes, 0.0);
            metrics.add(engine.output(), batch.labels(), classes, loss);
        }
        on_progress(metrics.images, dataset.len() as u64);
    }
    if metrics.images == 0 {
        return Err(InferError::NoImages { what: "evaluation".into() });
    }
    Ok(Some((metrics, loader.skipped().to_vec())))
}

/// Whether a network of `classes` outputs has one for every label of `dataset`.
///
/// # Errors
/// [`InferError::Label`] with the first image whose label is too high.
pub fn check_labels(dataset: &dyn Dataset, classes: usize) -> Result<(), InferError> {
    match (0..dataset.len()).find(|&index| dataset.label(index) as usize >= classes) {
        None => Ok(()),
        Some(index) => Err(InferError::Label { place: dataset.describe(index), classes, label: dataset.label(index) }),
    }
}
