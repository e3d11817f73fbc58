//! Evaluation of a model on a dataset.

use crate::forward::Forward;
use crate::metrics::{
    Calibration, CalibrationSums, ClassMetrics, Comparison, ImageResult, Interval, Metrics, MultiLabel,
    MultiLabelMetrics, PrecisionRecall, compare, confusion, counts, finite_loss, fit_temperature, intervals,
    macro_average, named, weighted_average,
};
use crate::{ClassList, InferError, map_classes};
use residual_data::{Batch, ClassMap, Dataset, Loader, LoaderOptions, Skipped, Targets, Transform};
use residual_engine::Options;
use residual_model::Model;
use residual_preprocess::Views;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The default batch size.
const BATCH: usize = 100;

/// Options of an evaluation. Only `skip_bad_images`, `views` and `class_map` change its result by more than rounding.
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
    /// Test-time augmentation: the views of each image, whose logits are averaged.
    pub views: Views,
    /// The outputs of the dataset's class names, if the model has other names.
    pub class_map: Option<ClassList>,
}

/// Metrics of a model on a dataset. Accuracies are in percent; all other metrics are fractions, as in scikit-learn.
///
/// Losses and probabilities are those of softmax(logits / temperature), or of sigmoids for multi-label data. `docs/evaluation.md`
/// has the definitions.
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
    /// The 95 % confidence interval of `top1`, in percent: percentile bootstrap over the images, 1000 resamples.
    pub top1_interval: Interval,
    /// Top-5 accuracy: fraction of images whose label is among the five highest logits.
    pub top5: f64,
    /// Loss, ECE and Brier score of the model's probabilities.
    #[serde(flatten)]
    pub calibration: Calibration,
    /// The temperature of the probabilities.
    pub temperature: f32,
    /// The same at the temperature 1, if the model has another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncalibrated: Option<Calibration>,
    /// The mean of the classes that occur, as a label or as a prediction.
    pub macro_average: PrecisionRecall,
    /// The 95 % confidence interval of the macro mean of F1; `None` for multi-label data.
    pub macro_f1_interval: Option<Interval>,
    /// The mean of the classes, weighted by their numbers of images.
    pub weighted_average: PrecisionRecall,
    /// The metrics of each output of the model, also of those that do not occur.
    pub classes: Vec<ClassMetrics>,
    /// The metrics of multi-label data; `None` if every image has one class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multi_label: Option<MultiLabelMetrics>,
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
    /// The result of each image, in the order of the dataset.
    #[serde(skip)]
    pub results: Vec<ImageResult>,
}

impl Evaluation {
    /// The confusion matrix: the number of images of each class (row) by predicted class (column), with a row and a column
    /// for each output of the model. Images with non-finite logits are not in it. `None` for multi-label data, or if there
    /// is not enough memory for it.
    pub fn confusion(&self) -> Option<Vec<Vec<u64>>> {
        if self.multi_label.is_some() { None } else { confusion(&self.results, self.classes.len()) }
    }

    /// Compares this model with another one that was evaluated on the same images. `options` say the threads; the result
    /// does not depend on them.
    ///
    /// # Panics
    /// If the images differ.
    pub fn compare(&self, other: &Self, options: &Options) -> Comparison {
        let run = |tasks, task: &(dyn Fn(usize) + Sync)| options.pool.run(tasks, |index, _| task(index));
        compare(&self.results, &other.results, &run)
    }

    /// The misclassified images, those with the highest probabilities first.
    pub fn wrong(&self) -> Vec<&ImageResult> {
        let mut wrong: Vec<&ImageResult> = self.results.iter().filter(|result| !result.correct).collect();
        wrong.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        wrong
    }

    /// All images, the least certain ones first: those whose predicted class has the lowest probability.
    pub fn uncertain(&self) -> Vec<&ImageResult> {
        let mut results: Vec<&ImageResult> = self.results.iter().collect();
        results.sort_by(|a, b| a.probability.total_cmp(&b.probability));
        results
    }
}

/// Evaluates `model` on every image of `dataset`, in order, with the model's own preprocessing. The dataset's classes
/// become the model's by name (see [`map_classes`]). Multi-label data ([`Dataset::is_multi_label`]) have
/// [`MultiLabelMetrics`] too.
///
/// It keeps about 70 bytes for each image, and for multi-label data 5 for each image and class. With a fixed instruction
/// set the result does not depend on the numbers of threads and workers.
///
/// Returns `None` if `stop` was set before the end. `on_progress` is called after every batch with the number of finished
/// images and the total.
///
/// ```
/// use residual_data::{Shapes, Split};
/// use residual_infer::{EvaluateOptions, evaluate};
/// use std::sync::{Arc, atomic::AtomicBool};
/// # use {residual_data as data, residual_model as model, residual_preprocess as preprocess, residual_zoo as zoo};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let graph = zoo::build("resnet20", 10)?;
/// # let tensors = model::initialise(&graph, model::Initialisation::Torch, 0);
/// # let preprocessing = preprocess::Preprocessing::unscaled([32, 32], &[0.5; 3], &[0.25; 3]);
/// # let model = model::Model::new(graph, tensors, preprocessing, Vec::new())?;
/// let images: Arc<dyn data::Dataset> = Arc::new(data::Subset::new(Arc::new(Shapes::new(0, Split::Test)), (0..50).collect()));
/// let options = EvaluateOptions { workers: 2, ..EvaluateOptions::default() };
/// let evaluation = evaluate(&model, &images, &options, &AtomicBool::new(false), &mut |_, _| ())?.expect("nothing stops it");
/// println!("{:.2} % of {} images, ECE {:.4}", evaluation.top1, evaluation.images, evaluation.calibration.ece);
/// for class in &evaluation.classes {
///     println!("{}: precision {:.2}, recall {:.2}", class.name, class.values.precision, class.values.recall);
/// }
/// # assert_eq!(evaluation.confusion().unwrap().iter().flatten().sum::<u64>(), 50);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If the dataset does not fit the model (channels, classes), an image cannot be read, the network cannot be run, or there
/// is not enough memory for the results.
pub fn evaluate(
    model: &Model,
    dataset: &Arc<dyn Dataset>,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Evaluation>, InferError> {
    evaluate_with(model, dataset, options, stop, on_progress, &mut |_| ())
}

/// As [`evaluate`]; `on_logits` is also given the logits of every batch: images × outputs, in the order of
/// [`Evaluation::results`].
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_with(
    model: &Model,
    dataset: &Arc<dyn Dataset>,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(u64, u64),
    on_logits: &mut dyn FnMut(&[f32]),
) -> Result<Option<Evaluation>, InferError> {
    let began = Instant::now();
    let outputs = model.graph.output_channels()?;
    let mut tally = Tally::new(model, &**dataset, outputs)?;
    let passed = pass(model, &mut None, dataset, options, stop, on_progress, &mut |batch, logits, classes| {
        tally.add(batch, logits, classes);
        on_logits(logits);
    })?;
    Ok(passed.map(|passed| tally.finish(model, passed, &options.engine, began)))
}

/// Evaluations of one state of a network after another, as training makes them: the network is compiled once, and gets the weights
/// of each model.
pub struct Evaluator {
    options: EvaluateOptions,
    network: Option<Forward>,
}

impl Evaluator {
    /// An evaluator with these options.
    pub fn new(options: EvaluateOptions) -> Self {
        Self { options, network: None }
    }

    /// As [`evaluate`], without results per image: top-1, top-5 and loss at the temperature 1, and the skipped images; `None` if
    /// `stop` was set before the end. Of multi-label data top-1 and top-5 count the images one of whose classes is among the highest
    /// logits, and the loss is the mean binary cross-entropy of the classes.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn count(
        &mut self,
        model: &Model,
        dataset: &Arc<dyn Dataset>,
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<(Metrics, Vec<Skipped>)>, InferError> {
        let outputs = model.graph.output_channels()?;
        let mut metrics = Metrics::default();
        let mut targets = vec![0.0; outputs];
        let Self { options, network } = self;
        let passed = pass(model, network, dataset, options, stop, on_progress, &mut |batch, logits, classes| {
            if dataset.is_multi_label() {
                multi_label_rows(batch, logits, classes, &mut targets, |index, logits, targets| {
                    metrics.add_image(&ImageResult::multi_label(index, logits, targets, 1.0));
                });
                return;
            }
            let labels: Vec<u32> = batch.labels().iter().map(|&label| classes.to[label as usize]).collect();
            metrics.add(logits, &labels, outputs, finite_loss(logits, &labels, outputs));
        })?;
        Ok(passed.map(|passed| (metrics, passed.skipped)))
    }
}

/// The temperature that calibrates `model` on the images of `dataset` (see [`fit_temperature`]), which must be others than
/// those that the model was trained on. `None` if `stop` was set before the end. It keeps the logits of all images.
///
/// # Errors
/// As [`evaluate`]; for multi-label data; or if no temperature has the lowest loss.
pub fn calibrate(
    model: &Model,
    dataset: &Arc<dyn Dataset>,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<f32>, InferError> {
    if dataset.is_multi_label() {
        return Err(InferError::MultiLabelTemperature);
    }
    let outputs = model.graph.output_channels()?;
    let len = dataset.len().saturating_mul(outputs);
    let (mut all, mut labels) = (Vec::new(), Vec::new());
    all.try_reserve_exact(len).map_err(|_| InferError::Memory {
        what: format!("the logits of {} images", dataset.len()),
        bytes: len.saturating_mul(size_of::<f32>()),
    })?;
    let passed = pass(model, &mut None, dataset, options, stop, on_progress, &mut |batch, logits, classes| {
        all.extend_from_slice(logits);
        labels.extend(batch.labels().iter().map(|&label| classes.to[label as usize]));
    })?;
    match passed {
        Some(_) => Ok(Some(fit_temperature(&all, &labels, outputs)?)),
        None => Ok(None),
    }
}

/// Calls `take` with the index, the logits and the targets of each multi-label image. `targets` is workspace, one for each
/// output of the model.
fn multi_label_rows(
    batch: &Batch,
    logits: &[f32],
    classes: &ClassMap,
    targets: &mut [f32],
    mut take: impl FnMut(usize, &[f32], &[f32]),
) {
    let Targets::Soft { values, classes: count } = batch.targets() else {
        unreachable!("a dataset has soft labels for all samples or for none");
    };
    let rows = logits.chunks_exact(targets.len()).zip(values.chunks_exact(count));
    for ((logits, values), &index) in rows.zip(batch.indices()) {
        targets.fill(0.0);
        for (&value, &output) in values.iter().zip(&classes.to) {
            let target = &mut targets[output as usize];
            *target = target.max(value);
        }
        take(index, logits, targets);
    }
}

/// The results of the images so far.
struct Tally {
    outputs: usize,
    temperature: f32,
    results: Vec<ImageResult>,
    calibration: CalibrationSums,
    /// At the temperature 1, if that is another one.
    uncalibrated: Option<CalibrationSums>,
    multi_label: Option<MultiLabel>,
    /// The targets of a multi-label image, by output.
    targets: Vec<f32>,
}

impl Tally {
    fn new(model: &Model, dataset: &dyn Dataset, outputs: usize) -> Result<Self, InferError> {
        let images = dataset.len();
        let memory = |bytes: usize| InferError::Memory { what: format!("the results of {images} images"), bytes };
        let mut results = Vec::new();
        let result = size_of::<ImageResult>();
        results.try_reserve_exact(images).map_err(|_| memory(result.saturating_mul(images)))?;
        let multi_label = match dataset.is_multi_label() {
            false => None,
            true => {
                let bytes = images.saturating_mul(outputs).saturating_mul(size_of::<(f32, bool)>());
                Some(MultiLabel::new(images, outputs).ok_or_else(|| memory(bytes))?)
            }
        };
        let temperature = model.temperature;
        Ok(Self {
            outputs,
            temperature,
            results,
            calibration: CalibrationSums::default(),
            uncalibrated: (temperature != 1.0).then(CalibrationSums::default),
            multi_label,
            targets: vec![0.0; outputs],
        })
    }

    fn add(&mut self, batch: &Batch, logits: &[f32], classes: &ClassMap) {
        if self.multi_label.is_none() {
            let rows = logits.chunks_exact(self.outputs).zip(batch.indices());
            for ((logits, &index), &label) in rows.zip(batch.labels()) {
                let label = classes.to[label as usize];
                self.push(|temperature| ImageResult::single_label(index, logits, label, temperature));
            }
            return;
        }
        let mut targets = std::mem::take(&mut self.targets);
        multi_label_rows(batch, logits, classes, &mut targets, |index, logits, targets| {
            self.push(|temperature| ImageResult::multi_label(index, logits, targets, temperature));
            if let Some(multi_label) = &mut self.multi_label {
                multi_label.push(logits, targets);
            }
        });
        self.targets = targets;
    }

    /// Adds an image, whose result is a function of the temperature.
    fn push(&mut self, result: impl Fn(f32) -> ImageResult) {
        let own = result(self.temperature);
        self.calibration.add(&own);
        if let Some(uncalibrated) = &mut self.uncalibrated {
            uncalibrated.add(&result(1.0));
        }
        self.results.push(own);
    }

    fn finish(self, model: &Model, passed: Passed, options: &Options, began: Instant) -> Evaluation {
        let Self { outputs, temperature, results, calibration, uncalibrated, multi_label, .. } = self;
        let images = results.len();
        let percent = |is: fn(&ImageResult) -> bool| {
            100.0 * results.iter().filter(|result| is(result)).count() as f64 / images as f64
        };
        let counts = match &multi_label {
            Some(multi_label) => multi_label.counts(),
            None => counts(results.iter(), outputs),
        };
        let classes = match &multi_label {
            Some(multi_label) => multi_label.classes(&counts, &model.labels),
            None => named(&counts, &model.labels),
        };
        let images_per_second = images as f64 / began.elapsed().as_secs_f64().max(1e-9);
        let [top1_interval, macro_f1] =
            intervals(&results, outputs, &|tasks, task| options.pool.run(tasks, |index, _| task(index)));
        Evaluation {
            data: String::new(),
            split: String::new(),
            images: images as u64,
            top1: percent(|result| result.correct),
            top1_interval,
            top5: percent(|result| result.in_top5),
            calibration: calibration.finish(),
            temperature,
            uncalibrated: uncalibrated.map(|sums| sums.finish()),
            macro_average: macro_average(&counts),
            macro_f1_interval: multi_label.is_none().then_some(macro_f1),
            weighted_average: weighted_average(&counts),
            multi_label: multi_label.map(|multi_label| multi_label.metrics(&counts, &classes)),
            classes,
            non_finite: results.iter().filter(|result| result.predicted.is_none()).count() as u64,
            classes_by_name: passed.classes.by_name,
            absent_classes: passed.classes.absent,
            images_per_second,
            skipped: passed.skipped.into_iter().map(|skipped| skipped.reason).collect(),
            results,
        }
    }
}

/// What a pass over a dataset says besides its logits.
struct Passed {
    /// The mapping of the dataset's classes to the model's outputs.
    classes: ClassMap,
    skipped: Vec<Skipped>,
}

/// Computes the logits of every image, in order, and gives them to `take` batch by batch. `None` if `stop` was set before
/// the end.
fn pass(
    model: &Model,
    network: &mut Option<Forward>,
    dataset: &Arc<dyn Dataset>,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(u64, u64),
    take: &mut dyn FnMut(&Batch, &[f32], &ClassMap),
) -> Result<Option<Passed>, InferError> {
    let outputs = model.graph.output_channels()?;
    let classes = map_classes(&**dataset, &model.labels, outputs, options.class_map.as_ref())?;
    let transform = Transform::evaluation(model.preprocessing.clone())?.with_views(options.views)?;
    let batch_size = if options.batch_size == 0 { BATCH } else { options.batch_size };
    let batch_size = batch_size.min(dataset.len().max(1));
    let loader_options = LoaderOptions {
        batch_size,
        workers: options.workers,
        skip_bad_images: options.skip_bad_images,
        ..LoaderOptions::default()
    };
    let mut loader = Loader::new(dataset.clone(), transform, loader_options)?;
    let is_loaded = match network {
        Some(network) => network.load(model, batch_size, options.views)?,
        None => false,
    };
    if !is_loaded {
        // The memory of the other network first.
        *network = None;
    }
    let network = match network {
        Some(network) => network,
        None => network.insert(Forward::new(model, batch_size, options.views, &options.engine)?),
    };
    let mut images = 0;
    for batch in loader.by_ref() {
        let batch = batch?;
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if !batch.is_empty() {
            take(&batch, network.logits(batch.images())?, &classes);
            images += batch.len() as u64;
        }
        on_progress(images, dataset.len() as u64);
    }
    if images == 0 {
        return Err(InferError::NoImages { what: "evaluation".into() });
    }
    Ok(Some(Passed { classes, skipped: loader.skipped().to_vec() }))
}
