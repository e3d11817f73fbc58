//! Evaluation of a model on a dataset.

use crate::metrics::{Metrics, finite_loss};
use crate::{ClassList, InferError, map_classes};
use residual_data::{ClassMap, Dataset, Loader, LoaderOptions, Skipped, Transform};
use residual_engine::{Engine, Mode, Options};
use residual_model::Model;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The default batch size.
const BATCH: usize = 100;

/// Options of an evaluation. Only `skip_bad_images` and `class_map` change its result by more than rounding.
#[derive(Clone, Debug, Default)]
pub struct EvaluateOptions {
    /// Instruction set and threads.
    pub engine: Options,
    /// Batch size; 0 means 100.
    pub batch_size: usize,
    /// Data-loading threads; with 0 images are loaded on the caller's thread.
    pub workers: usize,
    /// Whether images that cannot be read are skipped and listed, instead of ending the evaluation.
    pub skip_bad_images: bool,
    /// The outputs of the dataset's class names, if the model has other names.
    pub class_map: Option<ClassList>,
}

/// Metrics of a model on a dataset. Accuracies are in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// The name of the evaluated dataset; empty if unknown.
    pub data: String,
    /// The evaluated part of it.
    pub split: String,
    /// Images evaluated.
    pub images: u64,
    /// Top-1 accuracy: fraction of images whose label has the highest logit.
    pub top1: f64,
    /// Top-5 accuracy: fraction of images whose label is among the five highest logits.
    pub top5: f64,
    /// Mean cross-entropy of the images with finite logits. Not a number (null in JSON) if there are none.
    pub loss: f64,
    /// Images with non-finite logits. They count as misclassified.
    pub non_finite: u64,
    /// Whether classes were matched by name. If model or data have no names, indices are compared.
    pub classes_by_name: bool,
    /// Classes of the model that the data does not have.
    pub absent_classes: Vec<String>,
    /// Images per second, including data loading.
    pub images_per_second: f64,
    /// Skipped images and their errors.
    pub skipped: Vec<String>,
}

struct Counted {
    metrics: Metrics,
    /// The mapping of the dataset's classes to the model's outputs.
    classes: ClassMap,
    skipped: Vec<Skipped>,
}

/// Evaluates `model` on every image of `dataset`, in order, with the model's own preprocessing. The dataset's classes
/// become the model's by name (see [`map_classes`]).
///
/// Returns `None` if `stop` was set before the end. `on_progress` is called after every batch with the number of finished
/// images and the total.
///
/// # Errors
/// If the dataset does not fit the model (channels, classes), an image cannot be read, or the network cannot be run.
pub fn evaluate(
    model: &Model,
    dataset: &Arc<dyn Dataset>,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Evaluation>, InferError> {
    let began = Instant::now();
    let counted = count_by_class(model, dataset, options, stop, on_progress)?;
    let Some(Counted { metrics, classes, skipped }) = counted else { return Ok(None) };
    Ok(Some(Evaluation {
        data: String::new(),
        split: String::new(),
        images: metrics.images,
        top1: metrics.top1_percent(),
        top5: metrics.top5_percent(),
        loss: metrics.mean_loss(),
        non_finite: metrics.non_finite,
        classes_by_name: classes.by_name,
        absent_classes: classes.absent,
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
    let counted = count_by_class(model, dataset, options, stop, on_progress)?;
    Ok(counted.map(|Counted { metrics, skipped, .. }| (metrics, skipped)))
}

fn count_by_class(
    model: &Model,
    dataset: &Arc<dyn Dataset>,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Counted>, InferError> {
    let outputs = model.graph.output_channels()?;
    let classes = map_classes(&**dataset, &model.labels, outputs, options.class_map.as_ref())?;
    let size = model.preprocessing.size;
    let transform = Transform::evaluation(model.preprocessing.clone())?;
    let batch_size = if options.batch_size == 0 { BATCH } else { options.batch_size };
    let batch_size = batch_size.min(dataset.len().max(1));
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
            let labels: Vec<u32> = batch.labels().iter().map(|&label| classes.to[label as usize]).collect();
            let loss = finite_loss(engine.output(), &labels, outputs);
            metrics.add(engine.output(), &labels, outputs, loss);
        }
        on_progress(metrics.images, dataset.len() as u64);
    }
    if metrics.images == 0 {
        return Err(InferError::NoImages { what: "evaluation".into() });
    }
    Ok(Some(Counted { metrics, classes, skipped: loader.skipped().to_vec() }))
}
