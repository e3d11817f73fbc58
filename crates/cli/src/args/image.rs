//! Flags that override the preprocessing of the weights.

use super::PREPROCESSING;
use clap::Args;
use residual::model::{Model, ModelError};
use residual::preprocess::{CropMode, Interpolation};

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
    #[arg(long, visible_alias = "test-size", value_name = "PIXELS", help_heading = PREPROCESSING)]
    img_size: Option<usize>,
    /// Fraction of the resized image's side that the centre crop keeps
    #[arg(long, value_name = "FRACTION", help_heading = PREPROCESSING)]
    crop_pct: Option<f32>,
    /// How images of another shape than the network's input are brought to its size: centre crop, squashed or letterboxed
    #[arg(long, value_parser = ["center", "squash", "border"], help_heading = PREPROCESSING)]
    crop_mode: Option<String>,
    /// Turn photographs upright by their EXIF orientation
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false", help_heading = PREPROCESSING)]
    exif_orientation: Option<bool>,
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
        match self.crop_mode.as_deref() {
            Some("squash") => preprocessing.crop_mode = CropMode::Squash,
            Some("border") => preprocessing.crop_mode = CropMode::Border,
            Some(_) => preprocessing.crop_mode = CropMode::Center,
            None => {}
        }
        preprocessing.exif_orientation = self.exif_orientation.unwrap_or(preprocessing.exif_orientation);
        match self.interpolation.as_deref() {
            Some("bicubic") => preprocessing.interpolation = Interpolation::Bicubic,
            Some(_) => preprocessing.interpolation = Interpolation::Bilinear,
            None => {}
        }
        model.with_preprocessing(preprocessing)
    }
}
