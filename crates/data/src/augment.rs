//! From a sample to the network's input, for training and for evaluation.

use residual_preprocess::{Image, Preprocessing, Preprocessor, Window, resize};
use residual_tensor::Stream;
use serde::{Deserialize, Serialize};

use crate::{DataError, Dataset, Sample};

/// How training images are varied. All chance comes from the stream of (seed, epoch, sample index).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Which part of the image is shown.
    pub crop: Crop,
    /// The probability of mirroring left to right.
    pub hflip: f32,
}

/// Which part of an image is shown while training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Crop {
    /// What evaluation shows: the centre of the resized image.
    #[default]
    None,
    /// The evaluation's crop, moved by up to so many pixels in each direction. For an image of the network's size this
    /// is torchvision's `RandomCrop(size, padding)`: what lies outside is black before normalisation.
    Pad(usize),
    /// A rectangle of random area and shape, resized to the network's input: torchvision's `RandomResizedCrop`.
    Resized {
        /// The least and the greatest share of the image's area.
        scale: [f32; 2],
        /// The least and the greatest width over height.
        ratio: [f32; 2],
    },
}

impl Crop {
    /// torchvision's defaults: 8 % to 100 % of the area, 3:4 to 4:3.
    pub fn resized() -> Self {
        Self::Resized { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] }
    }
}

impl Augmentation {
    /// The paper's augmentation of 32×32 images: four pixels of padding, and mirroring.
    pub fn small_images() -> Self {
        Self { crop: Crop::Pad(4), hflip: 0.5 }
    }

    /// The usual augmentation of photographs: random resized crops, and mirroring.
    pub fn photographs() -> Self {
        Self { crop: Crop::resized(), hflip: 0.5 }
    }

    /// Holds every field against its range.
    ///
    /// # Errors
    /// [`DataError::Invalid`] with the field's name.
    pub fn validate(&self) -> Result<(), DataError> {
        if !(0.0..=1.0).contains(&self.hflip) {
            return Err(DataError::invalid("augmentation: hflip", "a probability in [0, 1]", self.hflip));
        }
        match self.crop {
            Crop::None => {}
            Crop::Pad(padding) if padding > 4096 => {
                return Err(DataError::invalid("augmentation: crop.pad", "at most 4096 pixels", padding));
            }
            Crop::Pad(_) => {}
            Crop::Resized { scale, ratio } => {
                let rising = |[low, high]: [f32; 2], most: f32| low > 0.0 && low <= high && high <= most;
                if !rising(scale, 1.0) {
                    let got = format!("{scale:?}");
                    return Err(DataError::invalid("augmentation: crop.resized.scale", "0 < low <= high <= 1", got));
                }
                if !rising(ratio, 100.0) {
                    let got = format!("{ratio:?}");
                    return Err(DataError::invalid("augmentation: crop.resized.ratio", "0 < low <= high <= 100", got));
                }
            }
        }
        Ok(())
    }
}

/// Turns samples into the network's input: height × width × channels of normalised values.
#[derive(Clone, Debug)]
pub struct Transform {
    preprocessor: Preprocessor,
    augmentation: Option<Augmentation>,
}

impl Transform {
    /// Without chance, as evaluation and prediction do it.
    ///
    /// # Errors
    /// A field of `preprocessing` out of its range.
    pub fn evaluation(preprocessing: Preprocessing) -> Result<Self, DataError> {
        Ok(Self { preprocessor: Preprocessor::new(preprocessing)?, augmentation: None })
    }

    /// With random variations.
    ///
    /// # Errors
    /// A field of `preprocessing` or `augmentation` out of its range.
    pub fn training(preprocessing: Preprocessing, augmentation: Augmentation) -> Result<Self, DataError> {
        augmentation.validate()?;
        Ok(Self { preprocessor: Preprocessor::new(preprocessing)?, augmentation: Some(augmentation) })
    }

    /// Height and width of the network's input, in pixels.
    pub fn size(&self) -> [usize; 2] {
        self.preprocessor.description().size
    }

    /// height × width × channels of the network's input.
    pub fn output_len(&self) -> usize {
        self.preprocessor.output_len()
    }

    /// Whether the samples of `dataset` can be transformed at all.
    ///
    /// # Errors
    /// [`DataError::Invalid`] if already normalised samples do not have the network's size and channels, or
    /// would have to be resized.
    pub fn check(&self, dataset: &dyn Dataset) -> Result<(), DataError> {
        let format = dataset.format();
        if !format.normalized {
            return Ok(());
        }
        let (size, channels) = (self.size(), self.preprocessor.description().channels());
        if format.image_size != Some(size) || format.channels != channels {
            let expected = format!("images of {}x{} with {channels} channels", size[0], size[1]);
            let [height, width] = format.image_size.unwrap_or_default();
            let got = format!(
                "{height}x{width} with {} (values that are already normalised are not resized)",
                format.channels
            );
            return Err(DataError::invalid("dataset", expected, got));
        }
        if let Some(Augmentation { crop: Crop::Resized { .. }, .. }) = self.augmentation {
            let expected = "8-bit images for random resized crops";
            return Err(DataError::invalid("augmentation: crop", expected, "values that are already normalised"));
        }
        Ok(())
    }

    /// Writes `sample` to `output`; `place` names it in errors. All chance is drawn from `random`.
    ///
    /// # Errors
    /// [`DataError::Image`] if the image cannot be converted to the network's channels, is too large when
    /// resized, or `output` is not [`output_len`](Self::output_len) long; [`DataError::Invalid`] for a normalised sample of
    /// another size.
    pub fn apply(
        &self,
        sample: &Sample,
        random: &mut Stream,
        output: &mut [f32],
        place: &dyn Fn() -> String,
    ) -> Result<(), DataError> {
        let image_error = |cause| DataError::Image { place: place(), cause };
        match sample {
            Sample::Pixels(image) => match &self.augmentation {
                None => self.preprocessor.run(image, output).map_err(image_error),
                Some(augmentation) => self.vary(image, augmentation, random, output).map_err(image_error),
            },
            Sample::Normalized { height, width, channels, values } => {
                let size = self.size();
                if [*height, *width] != size || values.len() != output.len() {
                    let expected = format!("a normalised image of {}x{}", size[0], size[1]);
                    return Err(DataError::invalid(
                        place(),
                        expected,
                        format!("{height}x{width} with {channels} channels"),
                    ));
                }
                let window = self
                    .augmentation
                    .as_ref()
                    .map_or(Window::default(), |augmentation| augmentation.moved(Window::default(), random));
                window.copy(values, size, *channels, size, output);
                Ok(())
            }
        }
    }

    fn vary(
        &self,
        image: &Image,
        augmentation: &Augmentation,
        random: &mut Stream,
        output: &mut [f32],
    ) -> Result<(), residual_preprocess::ImageError> {
        if output.len() != self.output_len() {
            return Err(residual_preprocess::ImageError::Output { expected: self.output_len(), got: output.len() });
        }
        let size = self.size();
        let normalizer = self.preprocessor.normalizer();
        if let Crop::Resized { scale, ratio } = augmentation.crop {
            let [top, left, height, width] = rectangle([image.height(), image.width()], scale, ratio, random);
            let part = image.crop(top, left, height, width);
            let part = resize(&part, size, self.preprocessor.description().interpolation);
            let window = augmentation.moved(Window::default(), random);
            normalizer.write(&*self.preprocessor.convert(&part)?, window, size, output);
        } else {
            let image = self.preprocessor.scale(image)?;
            let window = augmentation.moved(self.preprocessor.centre(&image), random);
            normalizer.write(&image, window, size, output);
        }
        Ok(())
    }
}

impl Augmentation {
    /// The window after a random shift and mirroring.
    fn moved(&self, window: Window, random: &mut Stream) -> Window {
        let Window { mut top, mut left, .. } = window;
        if let Crop::Pad(padding) = self.crop {
            let mut shift = || random.below(2 * padding as u32 + 1) as isize - padding as isize;
            top += shift();
            left += shift();
        }
        Window { top, left, flip: random.chance(self.hflip) }
    }
}

/// Top, left, height and width of torchvision's `RandomResizedCrop.get_params`: ten tries, then the largest
/// centred rectangle within the ratios.
fn rectangle([height, width]: [usize; 2], scale: [f32; 2], ratio: [f32; 2], random: &mut Stream) -> [usize; 4] {
    let (area, [low, high]) = ((height * width) as f64, ratio.map(f64::from));
    for _ in 0..10 {
        let target = area * f64::from(random.range(scale[0], scale[1]));
        let aspect = f64::from(random.range(low.ln() as f32, high.ln() as f32)).exp();
        let w = (target * aspect).sqrt().round_ties_even() as usize;
        let h = (target / aspect).sqrt().round_ties_even() as usize;
        if 0 < w && w <= width && 0 < h && h <= height {
            let top = random.below((height - h) as u32 + 1) as usize;
            return [top, random.below((width - w) as u32 + 1) as usize, h, w];
        }
    }
    let whole = width as f64 / height as f64;
    let (h, w) = if whole < low {
        (((width as f64 / low).round_ties_even() as usize).clamp(1, height), width)
    } else if whole > high {
        (height, ((height as f64 * high).round_ties_even() as usize).clamp(1, width))
    } else {
        (height, width)
    };
    [(height - h) / 2, (width - w) / 2, h, w]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(height: usize, width: usize) -> Image {
        let pixels = (0..height * width).flat_map(|at| [(at % 251) as u8, (at / 251) as u8, 7]).collect();
        Image::new(height, width, 3, pixels).unwrap()
    }

    fn unscaled(size: [usize; 2]) -> Preprocessing {
        Preprocessing::unscaled(size, &[0.0; 3], &[1.0 / 255.0; 3])
    }

    fn run(transform: &Transform, sample: &Sample, random: &mut Stream) -> Vec<f32> {
        let mut output = vec![0.0; transform.output_len()];
        transform.apply(sample, random, &mut output, &|| "sample".into()).unwrap();
        output
    }

    #[test]
    fn a_padded_crop_is_a_shift_with_black_outside() {
        let augmentation = Augmentation { crop: Crop::Pad(4), hflip: 0.0 };
        let transform = Transform::training(unscaled([8, 8]), augmentation).unwrap();
        let source = image(8, 8);
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..2000 {
            let output = run(&transform, &Sample::Pixels(source.clone()), &mut Stream::new(1, &[0, index]));
            let shift = (-4..=4).flat_map(|top| (-4..=4).map(move |left| (top, left))).find(|&(top, left)| {
                (0..8isize).all(|y| {
                    (0..8isize).all(|x| {
                        let inside = (0..8).contains(&(y + top)) && (0..8).contains(&(x + left));
                        let at = ((y + top) * 8 + x + left) as usize;
                        let expected = if inside { [(at % 251) as f32, 0.0, 7.0] } else { [0.0; 3] };
                        let got = &output[(y * 8 + x) as usize * 3..][..3];
                        got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-3)
                    })
                })
            });
            seen.insert(shift.expect("some shift of the image"));
        }
        assert_eq!(seen.len(), 81, "every shift occurs");
    }

    #[test]
    fn mirroring_happens_half_the_time_and_only_mirrors() {
        let augmentation = Augmentation { crop: Crop::None, hflip: 0.5 };
        let transform = Transform::training(unscaled([4, 4]), augmentation).unwrap();
        let plain = run(
            &Transform::evaluation(unscaled([4, 4])).unwrap(),
            &Sample::Pixels(image(4, 4)),
            &mut Stream::new(0, &[]),
        );
        let mirrored: Vec<f32> =
            plain.chunks_exact(12).flat_map(|row| row.chunks_exact(3).rev().flatten()).copied().collect();
        let outputs =
            (0..1000).map(|index| run(&transform, &Sample::Pixels(image(4, 4)), &mut Stream::new(5, &[0, index])));
        let flips = outputs.inspect(|output| assert!(*output == plain || *output == mirrored));
        let flips = flips.filter(|output| *output == mirrored).count();
        assert!((450..550).contains(&flips), "{flips} of 1000");
    }

    #[test]
    fn resized_crops_keep_to_their_area_and_shape() {
        let mut random = Stream::new(2, &[]);
        for _ in 0..2000 {
            let [top, left, h, w] = rectangle([375, 500], [0.08, 1.0], [0.75, 4.0 / 3.0], &mut random);
            assert!(top + h <= 375 && left + w <= 500);
            let (share, ratio) = ((h * w) as f64 / (375.0 * 500.0), w as f64 / h as f64);
            assert!(share > 0.078 && (0.74..1.35).contains(&ratio), "{share} {ratio}");
        }
    }

    #[test]
    fn a_strip_falls_back_to_its_largest_centred_part() {
        // torchvision: RandomResizedCrop.get_params on 10x1000 with scale (1, 1) always falls back.
        let mut random = Stream::new(2, &[]);
        assert_eq!(rectangle([10, 1000], [1.0, 1.0], [0.75, 4.0 / 3.0], &mut random), [0, 493, 10, 13]);
        assert_eq!(rectangle([1000, 10], [1.0, 1.0], [0.75, 4.0 / 3.0], &mut random), [493, 0, 13, 10]);
        assert_eq!(rectangle([1, 1], [0.08, 0.08], [1.0, 1.0], &mut random), [0, 0, 1, 1]);
    }

    #[test]
    fn normalised_samples_are_moved_and_mirrored_but_never_normalised_again() {
        let values: Vec<f32> = (0..12).map(|value| value as f32 - 6.0).collect();
        let sample = Sample::Normalized { height: 2, width: 2, channels: 3, values: values.clone() };
        let preprocessing = Preprocessing::unscaled([2, 2], &[0.5; 3], &[0.1; 3]);
        let plain = Transform::evaluation(preprocessing.clone()).unwrap();
        assert_eq!(run(&plain, &sample, &mut Stream::new(0, &[])), values);
        let flip = Transform::training(preprocessing, Augmentation { crop: Crop::None, hflip: 1.0 }).unwrap();
        assert_eq!(run(&flip, &sample, &mut Stream::new(0, &[]))[..3], values[3..6]);
    }

    #[test]
    fn a_recipe_holds_an_augmentation_and_unknown_fields_are_refused() {
        let from = |text| serde_json::from_str::<Augmentation>(text);
        assert_eq!(from(r#"{"crop":{"pad":4},"hflip":0.5}"#).unwrap(), Augmentation::small_images());
        assert_eq!(from(r#"{"crop":"none"}"#).unwrap(), Augmentation::default());
        let text = serde_json::to_string(&Augmentation::photographs()).unwrap();
        assert_eq!(from(&text).unwrap(), Augmentation::photographs());
        assert!(from(r#"{"crop":"none","vflip":0.5}"#).is_err());
        assert!(from(r#"{"crop":{"resized":{"scale":[0.1,1],"ratio":[1,1],"tries":3}}}"#).is_err());
    }

    #[test]
    fn a_field_out_of_range_is_named() {
        let message = |crop, hflip| Augmentation { crop, hflip }.validate().unwrap_err().to_string();
        assert!(message(Crop::None, 1.5).contains("hflip"));
        assert!(message(Crop::Pad(1 << 20), 0.0).contains("crop.pad"));
        assert!(message(Crop::Resized { scale: [0.0, 1.0], ratio: [1.0, 1.0] }, 0.0).contains("scale"));
        assert!(message(Crop::Resized { scale: [0.5, 1.0], ratio: [f32::NAN, 1.0] }, 0.0).contains("ratio"));
    }
}
