//! Flags that override the preprocessing of the weights.

use super::PREPROCESSING;
use clap::Args;
use residual::model::{Model, ModelError};
use residual::preprocess::Interpolation;

#[derive(Args, Debug)]
pub(crate) struct ImageArgs {
    /// Mean of each channel, on a scale of 0 to 1
    #[arg(
        long,
        value_name = "R,G,B",
        value_delimiter = ',',
        allow_hyphen_values = true,
        help_heading = PREPROCESSING
    )]
    mean: Option<Vec<f32>>,
    /// Standard deviation of each channel, on the same scale
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', help_heading = PREPROCESSING)]
    std: Option<Vec<f32>>,
    /// Image size of the network's input in pixels
    #[arg(long, value_name = "PIXELS", help_heading = PREPROCESSING)]
    img_size: Option<usize>,
    /// Fraction of the resized image's side that the centre crop keeps
    #[arg(long, value_name = "FRACTION", help_heading = PREPROCESSING)]
    crop_pct: Option<f32>,
    /// Interpolation of resized images
    #[arg(long, value_parser = ["bilinear", "bicubic"], help_heading = PREPROCESSING)]
    interpolation: Option<String>,
}

impl ImageArgs {
    /// `model` with the typed preprocessing.
    pub(crate) fn apply(&self, model: Model) -> Result<Model, ModelError> {
        let mut preprocessing = model.preprocessing.clone();
        if let Some(mean) = &self.mean {
            preprocessing.mean.clone_from(mean);
        }
        if let Some(std) = &self.std {
            preprocessing.std.clone_from(std);
        }
        if let Some(side) = self.img_size {
            preprocessing.size = [side; 2];
        }
        preprocessing.crop_pct = self.crop_pct.unwrap_or(preprocessing.crop_pct);
        match self.interpolation.as_deref() {
            Some("bicubic") => preprocessing.interpolation = Interpolation::Bicubic,
            Some(_) => preprocessing.interpolation = Interpolation::Bilinear,
            None => {}
        }
        model.with_preprocessing(preprocessing)
    }
}
