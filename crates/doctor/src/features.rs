//! Features of images: of a trained network; or without one histograms, and responses of filters that are learned without labels.

use crate::histograms::{self, SIDE, histograms};
use crate::patches::{self, Filters};
use crate::scan::{in_parallel, pixels};
use crate::{Collection, DoctorError};
use residual_engine::Options;
use residual_infer::FeatureExtractor;
use residual_model::Model;
use residual_preprocess::{Image, Interpolation, resize};
use std::sync::atomic::AtomicBool;

/// The batch size of the network.
const BATCH: usize = 32;
/// The layer whose values are the features.
const LAYER: &str = "pooled";

/// Where features come from.
pub(crate) enum Features {
    /// The seed of the filters.
    Untrained(u64),
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
    /// Of a model's last layer but one, or without a model untrained ones.
    ///
    /// # Errors
    /// If the model cannot be run.
    pub(crate) fn new(model: Option<&Model>, seed: u64, options: &Options) -> Result<Self, DoctorError> {
        Ok(match model {
            None => Self::Untrained(seed),
            Some(model) => Self::Network(Box::new(FeatureExtractor::with_options(model.clone(), BATCH, options)?)),
        })
    }

    pub(crate) fn is_of_network(&self) -> bool {
        matches!(self, Self::Network(_))
    }

    /// What they are, for people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Untrained(_) => "histograms and filters learned without labels".into(),
            Self::Network(extractor) => format!("the last features of {}", extractor.model().graph.name),
        }
    }

    /// Values per image.
    ///
    /// # Errors
    /// If the network cannot be run.
    pub(crate) fn len(&mut self) -> Result<usize, DoctorError> {
        match self {
            Self::Untrained(_) => Ok(histograms::LEN + patches::LEN),
            Self::Network(extractor) => {
                Ok(extractor.shapes(&[LAYER])?.iter().map(|shape| shape.height * shape.width * shape.channels).sum())
            }
        }
    }

    /// The features of those of `indices` that can be read and converted, if they are finite; `None` if `stop` was set.
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
            Self::Untrained(seed) => {
                let read = |index| pixels(images, index).and_then(|image| small(&image));
                let Some(read) = in_parallel(indices, options, stop, on_images, read) else { return Ok(None) };
                let (kept, small): (Vec<usize>, Vec<Vec<u8>>) =
                    indices.iter().zip(read).filter_map(|(&index, small)| Some((index, small?))).unzip();
                if small.is_empty() {
                    return Ok(Some(found));
                }
                let filters = Filters::learn(&small.iter().map(Vec::as_slice).collect::<Vec<_>>(), *seed);
                let row = |at: usize| {
                    let mut row = Vec::with_capacity(histograms::LEN + patches::LEN);
                    histograms(&small[at], &mut row);
                    filters.features(&small[at], &mut row);
                    row
                };
                let all: Vec<usize> = (0..small.len()).collect();
                let Some(rows) = in_parallel(&all, options, stop, &mut |_| {}, row) else { return Ok(None) };
                found = FeatureRows { images: kept, values: rows.concat() };
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
                        let values = extractor.features(&batch, &[LAYER])?.swap_remove(0).values;
                        // Weights that are not finite, or overflow, give features that say nothing.
                        let rows = values.chunks_exact(values.len() / batch.len());
                        for (index, row) in
                            own.into_iter().zip(rows).filter(|(_, row)| row.iter().all(|value| value.is_finite()))
                        {
                            found.images.push(index);
                            found.values.extend_from_slice(row);
                        }
                    }
                    done += chunk.len();
                    on_images(done);
                }
            }
        }
        Ok(Some(found))
    }
}

/// The 32×32 pixels in RGB of an image of 1 to 4 channels; `None` for other ones.
fn small(image: &Image) -> Option<Vec<u8>> {
    let rgb = image.with_channels(3).ok()?;
    Some(resize(&rgb, [SIDE; 2], Interpolation::Bilinear).into_pixels())
}
