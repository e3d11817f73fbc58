//! Features of images: of a trained network, or without one histograms.

use crate::histograms;
use crate::scan::{in_parallel, pixels};
use crate::{Collection, DoctorError};
use residual_engine::Options;
use residual_infer::FeatureExtractor;
use residual_model::Model;
use residual_preprocess::Image;
use std::sync::atomic::AtomicBool;

/// The batch size of the network.
const BATCH: usize = 32;
/// The layer whose values are the features.
const LAYER: &str = "pooled";

/// Where features come from.
pub(crate) enum Features {
    Histograms,
    Network(Box<FeatureExtractor>),
}

/// Features of some images.
#[derive(Default)]
pub(crate) struct FeatureRows {
    /// The images that could be read and converted.
    pub(crate) images: Vec<usize>,
    /// Images × features.
    pub(crate) values: Vec<f32>,
}

impl Features {
    /// Of a model's last layer but one, or without a model histograms.
    ///
    /// # Errors
    /// If the model cannot be run.
    pub(crate) fn new(model: Option<&Model>, options: &Options) -> Result<Self, DoctorError> {
        Ok(match model {
            None => Self::Histograms,
            Some(model) => Self::Network(Box::new(FeatureExtractor::with_options(model.clone(), BATCH, options)?)),
        })
    }

    pub(crate) fn is_of_network(&self) -> bool {
        matches!(self, Self::Network(_))
    }

    /// What they are, for people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Histograms => "histograms of gradients and colours".into(),
            Self::Network(extractor) => format!("the last features of {}", extractor.model().graph.name),
        }
    }

    /// Values per image.
    ///
    /// # Errors
    /// If the network cannot be run.
    pub(crate) fn len(&mut self) -> Result<usize, DoctorError> {
        match self {
            Self::Histograms => Ok(histograms::LEN),
            Self::Network(extractor) => {
                Ok(extractor.shapes(&[LAYER])?.iter().map(|shape| shape.height * shape.width * shape.channels).sum())
            }
        }
    }

    /// The features of those of `indices` that can be read and converted; `None` if `stop` was set.
    ///
    /// # Errors
    /// If the network cannot be run.
    pub(crate) fn of(
        &mut self,
        images: &Collection,
        indices: &[usize],
        options: &Options,
        stop: &AtomicBool,
        on_images: &mut dyn FnMut(usize),
    ) -> Result<Option<FeatureRows>, DoctorError> {
        let mut found = FeatureRows::default();
        match self {
            Self::Histograms => {
                let read = |index| pixels(images, index).and_then(|image| histograms::histograms(&image));
                let Some(rows) = in_parallel(indices, options, stop, on_images, read) else { return Ok(None) };
                for (&index, row) in indices.iter().zip(rows) {
                    if let Some(row) = row {
                        found.images.push(index);
                        found.values.extend(row);
                    }
                }
            }
            Self::Network(extractor) => {
                let channels = extractor.model().preprocessing.channels();
                let mut done = 0;
                for chunk in indices.chunks(BATCH) {
                    let fits = |image: &Image| image.with_channels(channels).is_ok();
                    let read = |index| pixels(images, index).filter(fits);
                    let Some(read) = in_parallel(chunk, options, stop, &mut |_| {}, read) else { return Ok(None) };
                    let (own, batch): (Vec<usize>, Vec<Image>) =
                        chunk.iter().zip(read).filter_map(|(&index, image)| Some((index, image?))).unzip();
                    if !batch.is_empty() {
                        found.values.extend(extractor.features(&batch, &[LAYER])?.swap_remove(0).values);
                    }
                    found.images.extend(own);
                    done += chunk.len();
                    on_images(done);
                }
            }
        }
        Ok(Some(found))
    }
}
