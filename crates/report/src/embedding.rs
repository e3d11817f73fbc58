//! The map of embeddings: the vectors that the head reads, in two dimensions.

use crate::{ReportError, ScatterPoint, Svg, scatter};
use residual_data::{Dataset, Loader, LoaderOptions, Subset, Transform};
use residual_explain::{TsneOptions, principal_components, tsne};
use residual_infer::{EvaluateOptions, FeatureExtractor, ImageResult};
use residual_model::Model;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first two principal components of embeddings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Embedding {
    /// The share of the variance along each component, 0 to 1.
    pub(crate) explained: [f64; 2],
    /// The coordinates of each image, its class, and whether it is classified correctly.
    pub(crate) points: Vec<(f64, f64, String, bool)>,
    /// The same of some of them by t-SNE; empty if there are too few.
    pub(crate) tsne: Vec<(f64, f64, String, bool)>,
}

/// The map of t-SNE has at most so many images: its time grows with their square.
const TSNE: usize = 400;

/// The map of some of the vectors by t-SNE.
fn neighbours(
    vectors: &[f32],
    dimensions: usize,
    results: &[&ImageResult],
    name: &dyn Fn(u32) -> String,
    stop: &AtomicBool,
) -> Vec<(f64, f64, String, bool)> {
    // Evenly spaced.
    let count = results.len().min(TSNE);
    let chosen = || (0..count).map(|point| point * results.len() / count);
    let values: Vec<f32> = chosen().flat_map(|row| &vectors[row * dimensions..][..dimensions]).copied().collect();
    let map = tsne(&values, dimensions, TsneOptions::default(), |_| !stop.load(Ordering::Relaxed));
    let points = map.map(|map| map.points).unwrap_or_default();
    points
        .iter()
        .zip(chosen())
        .map(|(&[x, y], row)| (x.into(), y.into(), name(results[row].label), results[row].correct))
        .collect()
}

impl Embedding {
    /// The map of some results on `images`; `None` if there are fewer than three, or `stop` was set.
    pub(crate) fn of(
        model: &Model,
        images: &Arc<dyn Dataset>,
        results: &[&ImageResult],
        options: &EvaluateOptions,
        stop: &AtomicBool,
    ) -> Result<Option<Self>, ReportError> {
        if results.len() < 3 {
            return Ok(None);
        }
        let indices = results.iter().map(|result| result.index).collect();
        let images: Arc<dyn Dataset> = Arc::new(Subset::new(images.clone(), indices));
        let transform = Transform::evaluation(model.preprocessing.clone())?;
        let loader = LoaderOptions {
            batch_size: options.batch_size.max(1),
            workers: options.workers,
            skip_bad_images: options.skip_bad_images,
            ..LoaderOptions::default()
        };
        let mut extractor = FeatureExtractor::with_options(model.clone(), loader.batch_size, &options.engine)?;
        let (mut vectors, mut dimensions) = (Vec::new(), 0);
        for batch in Loader::new(images, transform, loader)? {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let batch = batch?;
            let features = extractor.features_nhwc(batch.images(), &["pooled"])?;
            dimensions = features[0].shape.channels * features[0].shape.height * features[0].shape.width;
            vectors.extend_from_slice(&features[0].values);
        }
        let whole = dimensions > 0 && vectors.len() == results.len() * dimensions;
        if !whole || vectors.iter().any(|value| !value.is_finite()) {
            return Ok(None);
        }
        let components = principal_components(&vectors, dimensions, 2, 0);
        if components.count < 2 {
            return Ok(None);
        }
        let share = |index: usize| components.variances[index] / components.total_variance.max(f64::MIN_POSITIVE);
        let name = |class: u32| model.labels.get(class as usize).cloned().unwrap_or_else(|| class.to_string());
        let scores = components.scores.chunks_exact(2).zip(results);
        let points = scores.map(|(score, result)| (score[0], score[1], name(result.label), result.correct)).collect();
        let tsne = neighbours(&vectors, dimensions, results, &name, stop);
        Ok(Some(Self { explained: [share(0), share(1)], points, tsne }))
    }

    /// The maps: of principal components, and by t-SNE.
    pub(crate) fn draw(&self) -> Vec<(&'static str, Svg)> {
        let axis =
            |number: usize| format!("component {} ({:.0} % of variance)", number + 1, 100.0 * self.explained[number]);
        let point = |(x, y, class, correct): &(f64, f64, String, bool)| ScatterPoint {
            place: [*x, *y],
            class: Some(class.clone()),
            title: if *correct { "classified correctly" } else { "misclassified" }.to_owned(),
        };
        let points = |map: &[(f64, f64, String, bool)]| map.iter().map(point).collect::<Vec<_>>();
        let components = scatter("Principal components", [axis(0), axis(1)], &points(&self.points));
        let neighbours = scatter("t-SNE", [String::new(), String::new()], &points(&self.tsne));
        let maps = [("embeddings", components), ("embeddings-tsne", neighbours)];
        maps.into_iter().filter_map(|(name, map)| Some((name, map.ok()?))).collect()
    }
}
