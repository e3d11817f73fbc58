//! What each layer's quantisation costs.

use super::Calibration;
use crate::{CalibrationImages, CompressError};
use residual_engine::{Engine, Mode, Options};
use residual_model::Model;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};

/// Images in a batch.
const BATCH: usize = 32;

/// What a network's outputs lose if one layer alone is quantised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerDamage {
    /// The layer.
    pub layer: String,
    /// The squared error of the logits over their variance, on the calibration images.
    pub noise: f64,
}

impl Calibration {
    /// What each layer costs on the first `count` of `images`, the most expensive first. `None` if `stop` was set. `on_progress` gets the
    /// numbers of finished layers and of all.
    ///
    /// # Errors
    /// If a network cannot be run.
    pub fn sensitivity(
        &self,
        images: &CalibrationImages,
        count: usize,
        engine: &Options,
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Vec<LayerDamage>>, CompressError> {
        let images = images.first(count);
        let exact = logits(&self.folded, &images, engine)?;
        let layers = self.layers();
        let mut damages = Vec::with_capacity(layers.len());
        for (index, layer) in layers.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let rounded = logits(&self.model_of(&[layer])?, &images, engine)?;
            damages.push(LayerDamage { layer: (*layer).to_owned(), noise: noise(&exact, &rounded) });
            on_progress(index + 1, layers.len());
        }
        damages.sort_by(|a, b| b.noise.total_cmp(&a.noise));
        Ok(Some(damages))
    }

    /// The layers to keep in f32 so that the highest logit of all but `drop` percent of `images` is that of the network in f32: the first
    /// of `damages`, as few as it takes. If half of them are not enough, as few as agree most. `on_step` gets the number of layers
    /// and the percentage of images that agree. `None` if `stop` was set.
    ///
    /// # Errors
    /// If a network cannot be run.
    pub fn fallback(
        &self,
        damages: &[LayerDamage],
        images: &CalibrationImages,
        drop: f64,
        engine: &Options,
        stop: &AtomicBool,
        on_step: &mut dyn FnMut(usize, f64),
    ) -> Result<Option<Vec<String>>, CompressError> {
        let predicted =
            |model: &Model| Ok::<_, CompressError>(predictions(&logits(model, images, engine)?, images.len()));
        let exact = predicted(&self.folded)?;
        let names: Vec<String> = damages.iter().map(|damage| damage.layer.clone()).collect();
        let (mut kept, mut best) = (0, f64::NEG_INFINITY);
        for count in 0..=names.len() / 2 {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let rounded = predicted(&self.model(&names[..count])?)?;
            let same = exact.iter().zip(&rounded).filter(|(exact, rounded)| exact == rounded).count();
            let agreement = 100.0 * same as f64 / images.len() as f64;
            on_step(count, agreement);
            if agreement > best {
                (kept, best) = (count, agreement);
            }
            if agreement >= 100.0 - drop {
                break;
            }
        }
        Ok(Some(names[..kept].to_vec()))
    }
}

/// The class of the highest logit of each image.
fn predictions(logits: &[f32], images: usize) -> Vec<usize> {
    let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
    logits.chunks_exact(logits.len() / images).map(best).collect()
}

fn logits(model: &Model, images: &CalibrationImages, options: &Options) -> Result<Vec<f32>, CompressError> {
    let batch = BATCH.min(images.len());
    let mut engine = Engine::new(model, Mode::Infer, batch, model.preprocessing.size, &[], options)?;
    let mut logits = Vec::new();
    for images in images.batches(batch) {
        engine.forward(images)?;
        logits.extend_from_slice(engine.output());
    }
    Ok(logits)
}

/// The squared error over the variance.
fn noise(exact: &[f32], rounded: &[f32]) -> f64 {
    let mean = exact.iter().map(|&x| f64::from(x)).sum::<f64>() / exact.len() as f64;
    let variance: f64 = exact.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
    let error: f64 = exact.iter().zip(rounded).map(|(&x, &y)| f64::from(x - y).powi(2)).sum();
    error / variance.max(f64::MIN_POSITIVE)
}
