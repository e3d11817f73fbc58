//! Transforms a sample to the network's input, for training and for evaluation.

use residual_preprocess::{Image, ImageError, Preprocessing, Preprocessor, Window};
use residual_tensor::Stream;

use crate::targets::TargetBuffer;
use crate::{Augmentation, DataError, Dataset, Sample, SampleRandom};

/// Turns samples into the network's input: height × width × channels of normalised values.
#[derive(Clone, Debug)]
pub struct Transform {
    preprocessor: Preprocessor,
    augmentation: Option<Augmentation>,
}

impl Transform {
    /// Without randomness, for evaluation and prediction.
    ///
    /// # Errors
    /// A field of `preprocessing` out of its range.
    pub fn evaluation(preprocessing: Preprocessing) -> Result<Self, DataError> {
        Ok(Self { preprocessor: Preprocessor::new(preprocessing)?, augmentation: None })
    }

    /// With random augmentation.
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
        if self.augmentation.as_ref().is_some_and(|augmentation| augmentation.resized_crop().is_some()) {
            let expected = "8-bit images for random resized crops";
            return Err(DataError::invalid("augmentation", expected, "values that are already normalised"));
        }
        Ok(())
    }

    /// Writes `sample` to `output`; `place` names it in errors. All randomness comes from `random`.
    ///
    /// # Errors
    /// [`DataError::Image`] if the image cannot be converted to the network's channels, is too large when
    /// resized, or `output` is not [`output_len`](Self::output_len) long; [`DataError::Invalid`] for a normalised sample of
    /// another size.
    pub fn apply(
        &self,
        sample: &Sample,
        random: SampleRandom,
        output: &mut [f32],
        place: &dyn Fn() -> String,
    ) -> Result<(), DataError> {
        let image_error = |cause| DataError::Image { place: place(), cause };
        match sample {
            Sample::Pixels(image) => match &self.augmentation {
                None => self.preprocessor.run(image, output).map_err(image_error),
                Some(augmentation) => self.augment(image, augmentation, random, output).map_err(image_error),
            },
            Sample::Normalized { height, width, channels, values } => {
                let size = self.size();
                if [*height, *width] != size || values.len() != output.len() {
                    let expected = format!("a normalised image of {}x{}", size[0], size[1]);
                    let got = format!("{height}x{width} with {channels} channels");
                    return Err(DataError::invalid(place(), expected, got));
                }
                let window = Window::default();
                let moved = |augmentation: &Augmentation| augmentation.window(window, &mut random.stream());
                let window = self.augmentation.as_ref().map_or(window, moved);
                window.copy(values, size, *channels, size, output);
                Ok(())
            }
        }
    }

    fn augment(
        &self,
        image: &Image,
        augmentation: &Augmentation,
        random: SampleRandom,
        output: &mut [f32],
    ) -> Result<(), ImageError> {
        if output.len() != self.output_len() {
            return Err(ImageError::Output { expected: self.output_len(), got: output.len() });
        }
        let (size, normalizer, mut random) = (self.size(), self.preprocessor.normalizer(), random.stream());
        if let Some(crop) = augmentation.resized_crop() {
            let part = crop.crop(image, size, self.preprocessor.description().interpolation, &mut random);
            let window = augmentation.window(Window::default(), &mut random);
            normalizer.write(&*self.preprocessor.convert(&part)?, window, size, output);
        } else {
            let image = self.preprocessor.scale(image)?;
            let window = augmentation.window(self.preprocessor.centre(&image), &mut random);
            normalizer.write(&image, window, size, output);
        }
        Ok(())
    }

    /// Mixes the images of a whole batch, n × height × width × channels, and their targets, if the augmentation mixes
    /// them. All randomness comes from `random`.
    pub(crate) fn mix(&self, images: &mut [f32], targets: &mut TargetBuffer, random: &mut Stream) {
        if let Some(augmentation) = &self.augmentation {
            augmentation.mix.apply(images, self.size(), targets, random);
        }
    }
}
