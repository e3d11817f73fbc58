//! Labelled training images, prepared as for evaluation.

use crate::CompressError;
use residual_data::{Dataset, Loader, LoaderOptions, Transform};
use residual_model::Model;
use std::sync::Arc;

/// Training images that a network is scored or recalibrated on.
#[derive(Clone)]
pub struct TrainingImages {
    /// The images.
    pub dataset: Arc<dyn Dataset>,
    /// Data-loading threads.
    pub workers: usize,
    /// Whether images that cannot be read are skipped.
    pub skip_bad_images: bool,
}

impl TrainingImages {
    /// Batches in order, with the preprocessing of `model`'s evaluation. A last batch that is a single image is dropped.
    pub(crate) fn loader(&self, model: &Model, batch_size: usize) -> Result<Loader, CompressError> {
        let transform = Transform::evaluation(model.preprocessing.clone())?;
        let count = self.dataset.len();
        let drop_last = count > batch_size && count % batch_size == 1;
        let Self { workers, skip_bad_images, .. } = *self;
        let options = LoaderOptions { batch_size, workers, skip_bad_images, drop_last, ..LoaderOptions::default() };
        Ok(Loader::new(Arc::clone(&self.dataset), transform, options)?)
    }
}
