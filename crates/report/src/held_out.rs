//! A trained model judged on images that it was not trained on: metrics, mistakes, label issues, slices, embeddings.

use crate::embedding::Embedding;
use crate::reliability::Reliability;
use crate::samples::thumbnail;
use crate::slices::{Judged, Properties, Slice, slices};
use crate::{Picture, ReportError};
use residual_data::Dataset;
use residual_doctor::{LabelScore, label_scores};
use residual_engine::Options;
use residual_infer::{EvaluateOptions, Evaluation, ImageResult, InferError, evaluate_with};
use residual_model::Model;
use residual_tensor::Stream;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Images in each list of mistakes and label issues.
pub(crate) const SHOWN: usize = 16;
/// Slices by property and the map of embeddings take at most so many images, drawn at random.
const SAMPLED: usize = 1000;
/// Salt of that draw.
const SALT: u64 = u64::from_be_bytes(*b"sampled.");
/// The batch size of the evaluation.
const BATCH: usize = 100;

/// An image with its result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Shown {
    /// Its index in the dataset.
    pub(crate) index: usize,
    /// Its source.
    pub(crate) place: String,
    /// Its class.
    pub(crate) label: String,
    /// The predicted class.
    pub(crate) predicted: String,
    /// The probability of the predicted class.
    pub(crate) probability: f32,
    /// The probability of its class.
    pub(crate) label_probability: f32,
    /// Its loss.
    pub(crate) loss: f64,
    /// How well its label agrees with the probabilities.
    pub(crate) score: Option<LabelScore>,
    #[serde(skip)]
    pub(crate) picture: Option<Picture>,
}

/// A model's results on held-out images.
pub(crate) struct HeldOut {
    /// Description of the images.
    pub(crate) data: String,
    pub(crate) evaluation: Evaluation,
    pub(crate) reliability: Option<Reliability>,
    /// The misclassified images with the highest loss.
    pub(crate) worst: Vec<Shown>,
    /// The misclassified images whose predicted class has the highest probability.
    pub(crate) confident: Vec<Shown>,
    /// The images whose label is probably wrong, by their margin; and how many there are.
    pub(crate) issues: Vec<Shown>,
    pub(crate) issue_count: usize,
    pub(crate) slices: Vec<Slice>,
    /// Images that the slices were computed from.
    pub(crate) sliced: usize,
    pub(crate) embedding: Option<Embedding>,
}

/// Judges `model` on `images`; `None` if `stop` was set before the end.
pub(crate) fn judge(
    model: &Model,
    images: &Arc<dyn Dataset>,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<HeldOut>, ReportError> {
    let classes = model.graph.output_channels().map_err(InferError::from)?;
    let mut logits: Vec<f32> = Vec::new();
    // Without the memory for all logits, what needs them is left out.
    let keeps = !images.is_multi_label() && logits.try_reserve_exact(images.len().saturating_mul(classes)).is_ok();
    let options = &EvaluateOptions { batch_size: BATCH, ..options.clone() };
    let evaluation = evaluate_with(model, images, options, stop, on_progress, &mut |batch| {
        if keeps {
            logits.extend_from_slice(batch);
        }
    })?;
    let Some(evaluation) = evaluation else { return Ok(None) };
    let results = &evaluation.results;
    let labels: Vec<u32> = results.iter().map(|result| result.label).collect();
    let (reliability, scores) = match keeps {
        true => (Reliability::of(&logits, &labels, classes), label_scores(&logits, &labels, classes)),
        false => (None, Vec::new()),
    };
    drop(logits);

    let shown = |chosen: Vec<usize>| -> Vec<Shown> {
        let show = |at: usize| self::shown(&evaluation, model, &**images, at, scores.get(at).copied());
        chosen.into_iter().take(SHOWN).map(show).collect()
    };
    let wrong = || (0..results.len()).filter(|&at| !results[at].correct && results[at].predicted.is_some());
    let worst = sorted(wrong(), |at| -results[at].loss);
    let confident = sorted(wrong(), |at| -f64::from(results[at].probability));
    let suspects = (0..scores.len()).filter(|&at| scores[at].is_issue);
    let issues = sorted(suspects, |at| scores[at].normalized_margin);
    let issue_count = issues.len();
    let (worst, confident, issues) = (shown(worst), shown(confident), shown(issues));

    let sampled = sample(results.len());
    let class = |result: &ImageResult| evaluation.classes[result.label as usize].name.as_str();
    let judged =
        results.iter().map(|result| Judged { class: class(result), correct: result.correct, properties: None });
    let mut judged: Vec<Judged<'_>> = judged.collect();
    let is_sliced = evaluation.multi_label.is_none();
    for &at in sampled.iter().filter(|_| is_sliced) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        judged[at].properties = images.sample(results[at].index).ok().as_ref().and_then(Properties::of);
    }
    let slices = if is_sliced { slices(&judged) } else { Vec::new() };
    let sliced = judged.iter().filter(|image| image.properties.is_some()).count();
    drop(judged);
    let sampled: Vec<&ImageResult> = sampled.into_iter().map(|at| &results[at]).collect();
    let embedding = Embedding::of(model, images, &sampled, options, stop)?;
    if stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    Ok(Some(HeldOut {
        data: images.describe_set(),
        reliability,
        worst,
        confident,
        issues,
        issue_count,
        slices,
        sliced,
        embedding,
        evaluation,
    }))
}

/// The engine's options of a report's evaluation.
pub(crate) fn evaluation_options(engine: &Options, workers: usize, skip_bad_images: bool) -> EvaluateOptions {
    EvaluateOptions { engine: engine.clone(), workers, skip_bad_images, ..EvaluateOptions::default() }
}

/// At most [`SAMPLED`] of `count` places, the same for each run, in order.
fn sample(count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    if count > SAMPLED {
        let mut random = Stream::new(SALT, &[]);
        for index in 0..SAMPLED {
            places.swap(index, index + random.below((count - index) as u32) as usize);
        }
        places.truncate(SAMPLED);
        places.sort_unstable();
    }
    places
}

fn sorted(indices: impl Iterator<Item = usize>, key: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut indices: Vec<usize> = indices.collect();
    indices.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
    indices
}

fn shown(evaluation: &Evaluation, model: &Model, images: &dyn Dataset, at: usize, score: Option<LabelScore>) -> Shown {
    let result = &evaluation.results[at];
    let class = |class: u32| evaluation.classes[class as usize].name.clone();
    let sample = images.sample(result.index).ok();
    Shown {
        index: result.index,
        place: images.describe(result.index),
        label: class(result.label),
        predicted: result.predicted.map(class).unwrap_or_default(),
        probability: result.probability,
        label_probability: result.label_probability,
        loss: result.loss,
        score,
        picture: sample.and_then(|sample| thumbnail(&sample, &model.preprocessing).ok()),
    }
}
