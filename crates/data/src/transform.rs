//! Transforms a sample to the network's input, for training and for evaluation.

use std::borrow::Cow;

use residual_preprocess::{Image, ImageError, Preprocessing, Preprocessor, Views, Window};
use residual_tensor::Stream;

use crate::augment::{Canvas, Padding, TrainingCrop};
use crate::targets::TargetBuffer;
use crate::{Augmentation, DataError, Dataset, Sample, SampleRandom};

/// Turns samples into the network's input: height × width × channels of normalised values.
#[derive(Clone, Debug)]
pub struct Transform {
    preprocessor: Preprocessor,
    augmentation: Option<Augmentation>,
    /// The mean colour, which some augmentations fill with.
    mean: Vec<u8>,
    views: Views,
}

/// The pixels of a sample, decoded or not.
pub(crate) enum Pixels<'a> {
    Image(&'a Image),
    File(&'a [u8]),
}

impl<'a> Pixels<'a> {
    fn decode(self) -> Result<Cow<'a, Image>, ImageError> {
        match self {
            Self::Image(image) => Ok(Cow::Borrowed(image)),
            Self::File(file) => Image::decode(file).map(Cow::Owned),
        }
    }
}

impl Transform {
    /// Without randomness, for evaluation and prediction.
    ///
    /// # Errors
    /// A field of `preprocessing` out of its range.
    pub fn evaluation(preprocessing: Preprocessing) -> Result<Self, DataError> {
        Ok(Self {
            preprocessor: Preprocessor::new(preprocessing)?,
            augmentation: None,
            mean: Vec::new(),
            views: Views::Single,
        })
    }

    /// With random augmentation.
    ///
    /// # Errors
    /// A field of `preprocessing` or `augmentation` out of its range, or operations on pixels that are neither grey nor RGB.
    pub fn training(preprocessing: Preprocessing, augmentation: Augmentation) -> Result<Self, DataError> {
        augmentation.validate()?;
        augmentation.check_channels(preprocessing.channels())?;
        let mean = preprocessing.mean_color();
        Ok(Self {
            preprocessor: Preprocessor::new(preprocessing)?,
            augmentation: Some(augmentation),
            mean,
            views: Views::Single,
        })
    }

    /// The same for a network's input of another `size` (height, width), as in training at increasing sizes.
    ///
    /// # Errors
    /// If the size is out of its range.
    pub fn with_size(self, size: [usize; 2]) -> Result<Self, DataError> {
        let description = Preprocessing { size, ..self.preprocessor.description().clone() };
        Ok(Self { preprocessor: Preprocessor::new(description)?, ..self })
    }

    /// Height and width of the network's input, in pixels.
    pub fn size(&self) -> [usize; 2] {
        self.preprocessor.description().size
    }

    /// The same with several views of each image, one after another, for test-time augmentation. The views of a sample that is
    /// already normalised are limited to its mirror image.
    ///
    /// # Errors
    /// [`DataError::Invalid`] for the transform of training images.
    pub fn with_views(self, views: Views) -> Result<Self, DataError> {
        if self.augmentation.is_some() && views != Views::Single {
            return Err(DataError::invalid("views", "the transform of evaluation", "that of training"));
        }
        Ok(Self { views, ..self })
    }

    /// The views of each image.
    pub fn views(&self) -> Views {
        self.views
    }

    /// height × width × channels of the network's input, for each of the [views](Self::views).
    pub fn output_len(&self) -> usize {
        self.views.count() * self.preprocessor.output_len()
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
        let augmentation = self.augmentation.as_ref();
        let needs_pixels = augmentation.and_then(|augmentation| match augmentation.crop() {
            TrainingCrop::Resized(_) | TrainingCrop::KeepRatio(_) => Some("random resized crops"),
            TrainingCrop::Evaluation if augmentation.padding() == Padding::Reflect => Some("reflected padding"),
            TrainingCrop::Evaluation => augmentation.changes_pixels().then_some("operations on pixels"),
        });
        let needs_pixels = needs_pixels.or(match self.views {
            Views::Single | Views::Flip => None,
            Views::FiveCrop | Views::TenCrop => Some("several crops"),
        });
        match needs_pixels {
            Some(what) => {
                let expected = format!("8-bit images for {what}");
                Err(DataError::invalid("augmentation", expected, "values that are already normalised"))
            }
            None => Ok(()),
        }
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
        self.apply_on(&mut Canvas::default(), sample, random, output, place)
    }

    /// [`apply`](Self::apply) with memory for the pixels that is used again for the next image.
    pub(crate) fn apply_on(
        &self,
        canvas: &mut Canvas,
        sample: &Sample,
        random: SampleRandom,
        output: &mut [f32],
        place: &dyn Fn() -> String,
    ) -> Result<(), DataError> {
        match sample {
            Sample::Pixels(image) => self.apply_to_pixels(canvas, Pixels::Image(image), random, output, place),
            Sample::Normalized { height, width, channels, values } => {
                let size = self.size();
                if [*height, *width] != size || values.len() * self.views.count() != output.len() {
                    let expected = format!("a normalised image of {}x{}", size[0], size[1]);
                    let got = format!("{height}x{width} with {channels} channels");
                    return Err(DataError::invalid(place(), expected, got));
                }
                let window = Window::default();
                let moved = |augmentation: &Augmentation| augmentation.window(window, random, &mut random.stream());
                let window = self.augmentation.as_ref().map_or(window, moved);
                for (view, output) in output.chunks_exact_mut(values.len()).enumerate() {
                    let window = Window { flip: window.flip ^ (view == 1), ..window };
                    window.copy(values, size, *channels, size, &vec![0.0; *channels], output);
                }
                if let Some(augmentation) = &self.augmentation {
                    augmentation.erase(output, size, random);
                }
                Ok(())
            }
        }
    }

    /// [`apply_on`](Self::apply_on) of the pixels of an image, or of the file that it is decoded from.
    pub(crate) fn apply_to_pixels(
        &self,
        canvas: &mut Canvas,
        pixels: Pixels<'_>,
        random: SampleRandom,
        output: &mut [f32],
        place: &dyn Fn() -> String,
    ) -> Result<(), DataError> {
        let done = match &self.augmentation {
            None => self.evaluate(pixels, output),
            Some(augmentation) => self.augment(canvas, pixels, augmentation, random, output),
        };
        done.map_err(|cause| DataError::Image { place: place(), cause })
    }

    fn evaluate(&self, pixels: Pixels<'_>, output: &mut [f32]) -> Result<(), ImageError> {
        let image = pixels.decode()?;
        self.preprocessor.run_views(&image, self.views, output)?;
        if let Cow::Owned(decoded) = image {
            decoded.recycle();
        }
        Ok(())
    }

    fn augment(
        &self,
        canvas: &mut Canvas,
        pixels: Pixels<'_>,
        augmentation: &Augmentation,
        random: SampleRandom,
        output: &mut [f32],
    ) -> Result<(), ImageError> {
        if output.len() != self.output_len() {
            return Err(ImageError::Output { expected: self.output_len(), got: output.len() });
        }
        let (size, mut stream) = (self.size(), random.stream());
        let description = self.preprocessor.description();
        let interpolation = augmentation.crop_interpolation(description.interpolation, random);
        if let (TrainingCrop::Resized(crop), Pixels::File(file), false) =
            (augmentation.crop(), &pixels, description.exif_orientation)
        {
            let image = crop.decode(file, size, interpolation, &mut stream)?;
            let window = augmentation.window(Window::default(), random, &mut stream);
            self.change(canvas, &image, window, augmentation, random, output)?;
            image.recycle();
            return Ok(());
        }
        let decoded = pixels.decode()?;
        let upright = self.preprocessor.orient(&decoded);
        let (image, window) = match augmentation.crop() {
            TrainingCrop::Evaluation => {
                let image = self.preprocessor.scale(&upright)?;
                let window = self.preprocessor.centre(&image);
                (image, window)
            }
            TrainingCrop::Resized(crop) => {
                (Cow::Owned(crop.crop(&upright, size, interpolation, &mut stream)), Window::default())
            }
            TrainingCrop::KeepRatio(crop) => {
                let centre = |image: &Image| self.preprocessor.centre(image);
                let (image, window) = crop.resize(&upright, size, interpolation, random, centre);
                (Cow::Owned(image), window)
            }
        };
        let window = augmentation.window(window, random, &mut stream);
        self.change(canvas, &image, window, augmentation, random, output)?;
        if let Cow::Owned(image) = image {
            image.recycle();
        }
        drop(upright);
        if let Cow::Owned(decoded) = decoded {
            decoded.recycle();
        }
        Ok(())
    }

    /// The steps behind the crop: the window of `image`, its pixels changed, normalised and erased.
    fn change(
        &self,
        canvas: &mut Canvas,
        image: &Image,
        window: Window,
        augmentation: &Augmentation,
        random: SampleRandom,
        output: &mut [f32],
    ) -> Result<(), ImageError> {
        let image = self.preprocessor.convert(image)?;
        let (size, padding, fill) = (self.size(), augmentation.padding(), self.preprocessor.fill());
        if !augmentation.changes_pixels() && padding == Padding::Zero {
            self.preprocessor.normalizer().write(&image, window, size, fill, output);
        } else {
            canvas.load(&image, window, size, padding, fill);
            let evaluation = self.preprocessor.description().interpolation;
            augmentation.change_pixels(canvas, &self.mean, evaluation, random);
            self.preprocessor.normalizer().write_all(canvas.pixels(), output);
        }
        augmentation.erase(output, size, random);
        Ok(())
    }

    /// Mixes the images of a whole batch, n × height × width × channels, and their targets, if the augmentation mixes
    /// them in `epoch`. All randomness comes from `random`.
    pub(crate) fn mix(&self, images: &mut [f32], targets: &mut TargetBuffer, epoch: u64, random: &mut Stream) {
        let mix = self.augmentation.as_ref().map(|augmentation| &augmentation.mix);
        if let Some(mix) = mix.filter(|mix| mix.is_on(epoch)) {
            mix.apply(images, self.size(), targets, random);
        }
    }
}
