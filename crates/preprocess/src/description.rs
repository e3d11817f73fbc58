//! The description of preprocessing, as stored in checkpoints.

use serde::{Deserialize, Serialize};

/// The interpolation of resized images. Both filters widen with the scale when an image
/// shrinks, as Pillow's and torchvision's (`antialias=True`) do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Triangle filter.
    #[default]
    Bilinear,
    /// Catmull–Rom-like cubic with a = −0.5.
    Bicubic,
}

/// How an image is brought to the network's size, with timm's meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CropMode {
    /// The shorter side is resized to `input size / crop_pct`, the centre is cropped.
    #[default]
    Center,
    /// Both sides are resized to `input size / crop_pct`, whatever their ratio, and the centre is cropped: nothing is lost where
    /// `crop_pct` is 1.
    Squash,
    /// The longer side is resized to `input size / crop_pct`, and the mean colour fills what the image does not (letterbox).
    Border,
}

impl CropMode {
    fn is_center(&self) -> bool {
        *self == Self::Center
    }
}

/// The preprocessing of evaluation: upright if asked for, resized and cropped by [`CropMode`], values become
/// `(x / 255 − mean) / std`. A description that was stored without a field has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Height and width of the network's input, in pixels.
    pub size: [usize; 2],
    /// Fraction of the resized image's side that the centre crop keeps, in (0, 1].
    pub crop_pct: f32,
    /// How the image is resized and cropped.
    #[serde(default, skip_serializing_if = "CropMode::is_center")]
    pub crop_mode: CropMode,
    /// Whether photographs are turned upright by their EXIF orientation first. torchvision's and timm's loaders do not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exif_orientation: bool,
    /// The resizing filter.
    pub interpolation: Interpolation,
    /// Mean of each channel, on a scale of 0 to 1. Its length is the number of channels.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, on the same scale.
    pub std: Vec<f32>,
}

/// An invalid description.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("preprocessing: {field}: expected {expected}, got {got}")]
pub struct PreprocessingError {
    /// The field at fault.
    pub field: &'static str,
    /// The accepted values.
    pub expected: &'static str,
    /// The given value.
    pub got: String,
}

impl Preprocessing {
    /// The mean of ImageNet's channels.
    pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    /// The standard deviation of ImageNet's channels.
    pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

    /// torchvision's classification preset: resize to 256, crop 224, ImageNet statistics.
    pub fn imagenet() -> Self {
        Self { crop_pct: 0.875, ..Self::unscaled([224, 224], &Self::IMAGENET_MEAN, &Self::IMAGENET_STD) }
    }

    /// Images that are already `size` pixels high and wide, normalised with `mean` and `std`.
    pub fn unscaled(size: [usize; 2], mean: &[f32], std: &[f32]) -> Self {
        Self {
            size,
            crop_pct: 1.0,
            crop_mode: CropMode::Center,
            exif_orientation: false,
            interpolation: Interpolation::Bilinear,
            mean: mean.to_vec(),
            std: std.to_vec(),
        }
    }

    /// The default for a network with input `input` (channels, height, width). Images of one common `image_size` (height,
    /// width) are not resized. Others are resized and cropped to the network's size: as in torchvision's classification
    /// preset, but without cropping for networks for small images (below 64 pixels). `mean` and `std` are those of the
    /// images' channels; for a grey network their averages, for more channels repeated.
    pub fn default_for(input: [usize; 3], image_size: Option<[usize; 2]>, mean: &[f32], std: &[f32]) -> Self {
        let [channels, height, width] = input;
        let spread = |values: &[f32]| -> Vec<f32> {
            match values.len() {
                from if from != channels && channels == 1 => vec![values.iter().sum::<f32>() / from as f32],
                _ => values.iter().copied().cycle().take(channels).collect(),
            }
        };
        let small = image_size.is_some() || height.min(width) < 64;
        let unscaled = Self::unscaled(image_size.unwrap_or([height, width]), &spread(mean), &spread(std));
        Self { crop_pct: if small { 1.0 } else { 0.875 }, ..unscaled }
    }

    /// The number of channels of the network's input.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// The size whose centre crop has [`size`](Self::size): `floor(side / crop_pct)`, where `crop_pct` is the decimal number that
    /// was written down, not its nearest `f32`.
    pub fn uncropped_size(&self) -> [usize; 2] {
        let crop_pct = decimal(self.crop_pct);
        self.size.map(|side| (side as f64 / crop_pct).floor().min(f64::from(u32::MAX)) as usize)
    }

    /// The mean of each channel as the nearest 8-bit value, with which timm fills.
    pub fn mean_color(&self) -> Vec<u8> {
        self.mean.iter().map(|&mean| (255.0 * decimal(mean)).round_ties_even().clamp(0.0, 255.0) as u8).collect()
    }

    /// Checks the range of every field.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), PreprocessingError> {
        let fail = |field, expected, got: String| Err(PreprocessingError { field, expected, got });
        if self.size.iter().any(|&side| side == 0 || side > 16_384) {
            return fail("size", "a height and a width of 1 to 16384", format!("{:?}", self.size));
        }
        if !(self.crop_pct > 0.0 && self.crop_pct <= 1.0) {
            return fail("crop_pct", "a fraction in (0, 1]", self.crop_pct.to_string());
        }
        if self.mean.is_empty() || self.mean.iter().any(|value| !value.is_finite()) {
            return fail("mean", "one finite number per channel", format!("{:?}", self.mean));
        }
        // A mean and a standard deviation of values between 0 and 1 are at most 1; those of 0 to 255 are far above.
        let scaled = |values: &[f32]| values.iter().any(|value| value.abs() > 2.0);
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            if scaled(values) {
                return fail(
                    field,
                    "numbers on a scale of 0 to 1 (divide those of 0 to 255 by 255)",
                    format!("{values:?}"),
                );
            }
        }
        if self.std.len() != self.mean.len() || self.std.iter().any(|&value| !(value.is_finite() && value > 0.0)) {
            return fail("std", "one positive number per channel, as many as in mean", format!("{:?}", self.std));
        }
        Ok(())
    }
}

/// The decimal number that was written down, of which `value` is the nearest `f32`.
pub(crate) fn decimal(value: f32) -> f64 {
    value.to_string().parse().expect("a float prints as a float")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_suits_the_network_and_the_images() {
        let default = |input, size, values: &[f32]| Preprocessing::default_for(input, size, values, values);
        let (mean, std) = (Preprocessing::IMAGENET_MEAN, Preprocessing::IMAGENET_STD);
        assert_eq!(Preprocessing::default_for([3, 224, 224], None, &mean, &std), Preprocessing::imagenet());
        // A network for 32x32 images sees an image of that size without cropping.
        assert_eq!(default([3, 32, 32], None, &mean), Preprocessing::unscaled([32, 32], &mean, &mean));
        assert_eq!(default([3, 224, 224], Some([48, 40]), &mean).size, [48, 40]);
        // Image.convert("L") weighs the channels, the average does not: torchvision's users take the average.
        let grey = default([1, 28, 28], None, &mean).mean[0];
        assert!((grey - 0.449).abs() < 1e-6, "{grey}");
        assert_eq!(default([3, 28, 28], Some([28, 28]), &[0.5]).mean, [0.5; 3]);
        assert_eq!(default([4, 64, 64], None, &mean).mean, [0.485, 0.456, 0.406, 0.485]);
    }

    #[test]
    fn the_uncropped_size_is_rounded_as_timm_rounds_it() {
        // math.floor(288 / 0.9), math.floor(224 / 0.8): the nearest f32 of 0.8 would give 279.
        for (side, crop_pct, expected) in [(288, 0.9, 320), (224, 0.8, 280), (224, 0.875, 256), (224, 0.95, 235)] {
            let description = Preprocessing { crop_pct, ..Preprocessing::unscaled([side, 1], &[0.5], &[0.5]) };
            assert_eq!(description.uncropped_size()[0], expected);
        }
    }

    #[test]
    fn the_mean_colour_is_the_one_that_timm_fills_with() {
        // [min(255, round(255 * x)) for x in mean]
        assert_eq!(Preprocessing::imagenet().mean_color(), [124, 116, 104]);
        assert_eq!(Preprocessing::unscaled([1, 1], &[0.5, 0.1, 1.0], &[1.0; 3]).mean_color(), [128, 26, 255]);
    }

    #[test]
    fn a_description_of_an_earlier_version_keeps_its_meaning_and_its_form() {
        let text = r#"{"size":[224,224],"crop_pct":0.875,"interpolation":"bilinear","mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}"#;
        let description: Preprocessing = serde_json::from_str(text).unwrap();
        assert_eq!(description, Preprocessing::imagenet());
        assert_eq!(serde_json::to_string(&description).unwrap(), text);
        let new = Preprocessing { crop_mode: CropMode::Border, exif_orientation: true, ..description };
        let text = serde_json::to_string(&new).unwrap();
        assert!(text.contains(r#""crop_mode":"border","exif_orientation":true"#), "{text}");
        assert_eq!(serde_json::from_str::<Preprocessing>(&text).unwrap(), new);
    }

    #[test]
    fn a_field_out_of_range_is_named() {
        let good = Preprocessing::imagenet();
        assert_eq!(good.validate(), Ok(()));
        let cases = [
            ("size", Preprocessing { size: [0, 224], ..good.clone() }),
            ("crop_pct", Preprocessing { crop_pct: f32::NAN, ..good.clone() }),
            ("mean", Preprocessing { mean: vec![f32::INFINITY; 3], ..good.clone() }),
            ("std", Preprocessing { std: vec![1.0, 0.0, 1.0], ..good.clone() }),
            ("std", Preprocessing { std: vec![1.0], ..good.clone() }),
            ("mean", Preprocessing { mean: vec![123.675, 116.28, 103.53], ..good.clone() }),
            ("std", Preprocessing { std: vec![58.395, 57.12, 57.375], ..good }),
        ];
        for (field, case) in cases {
            assert_eq!(case.validate().unwrap_err().field, field);
        }
    }
}
