//! Applies a [`Preprocessing`] to decoded images.

use std::borrow::Cow;

use crate::normalize::{Normalizer, Window};
use crate::{CropMode, Decoding, Image, ImageError, Preprocessing, PreprocessingError, Views, resize};

/// A checked [`Preprocessing`], ready to be run on any number of images from any number of threads.
///
/// ```
/// use residual_preprocess::{Image, Preprocessing, Preprocessor};
/// let preprocessor = Preprocessor::new(Preprocessing::imagenet())?;
/// let image = Image::new(300, 400, 3, vec![128; 300 * 400 * 3])?;
/// let mut input = vec![0.0; preprocessor.output_len()];
/// preprocessor.run(&image, &mut input)?;
/// assert!((input[0] - (128.0 / 255.0 - 0.485) / 0.229).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Preprocessor {
    description: Preprocessing,
    normalizer: Normalizer,
    scaled: [usize; 2],
    fill: Vec<u8>,
}

impl Preprocessor {
    /// Checks the description and prepares its tables.
    ///
    /// # Errors
    /// The first field of the description that is out of range.
    pub fn new(description: Preprocessing) -> Result<Self, PreprocessingError> {
        description.validate()?;
        let normalizer = Normalizer::new(&description.mean, &description.std);
        let scaled = description.uncropped_size();
        let fill = match description.crop_mode {
            CropMode::Border => description.mean_color(),
            CropMode::Center | CropMode::Squash => vec![0; description.channels()],
        };
        Ok(Self { description, normalizer, scaled, fill })
    }

    /// The description.
    pub fn description(&self) -> &Preprocessing {
        &self.description
    }

    /// The table that normalises a pixel.
    pub fn normalizer(&self) -> &Normalizer {
        &self.normalizer
    }

    /// The colour of pixels outside the image: the mean for [`CropMode::Border`], else black, as torchvision's `CenterCrop`
    /// pads.
    pub fn fill(&self) -> &[u8] {
        &self.fill
    }

    /// height × width × channels of the network's input.
    pub fn output_len(&self) -> usize {
        self.description.size.iter().product::<usize>() * self.description.channels()
    }

    /// Resizes, crops the centre and normalises, as timm's evaluation transform does: the result is one image of
    /// height × width × channels (NHWC), in `output`. Grey and transparent images are converted to the
    /// description's number of channels first.
    ///
    /// # Errors
    /// [`ImageError::Output`] if `output` is not [`output_len`](Self::output_len) long, [`ImageError::Channels`] if the
    /// image cannot be converted to the number of channels, [`ImageError::TooLarge`] if a very long image would exceed
    /// [`Decoding::max_pixels`] when resized.
    pub fn run(&self, image: &Image, output: &mut [f32]) -> Result<(), ImageError> {
        self.run_views(image, Views::Single, output)
    }

    /// The views of an image for test-time augmentation, one after another in `output`: as [`run`](Self::run), but with
    /// several crops of the resized image.
    ///
    /// # Errors
    /// As [`run`](Self::run); `output` has room for [`Views::count`] images.
    pub fn run_views(&self, image: &Image, views: Views, output: &mut [f32]) -> Result<(), ImageError> {
        let len = self.output_len();
        if output.len() != views.count() * len {
            return Err(ImageError::Output { expected: views.count() * len, got: output.len() });
        }
        let (upright, size) = (self.orient(image), self.description.size);
        let image = self.scale(&upright)?;
        let windows = views.windows(self.centre(&image), [image.height(), image.width()], size);
        for (window, output) in windows.zip(output.chunks_exact_mut(len)) {
            self.normalizer.write(&image, window, size, &self.fill, output);
        }
        if let Cow::Owned(scaled) = image {
            scaled.recycle();
        }
        Ok(())
    }

    /// The image turned upright, if the description says so: the first step of [`run`](Self::run).
    pub fn orient<'a>(&self, image: &'a Image) -> Cow<'a, Image> {
        if self.description.exif_orientation { image.upright() } else { Cow::Borrowed(image) }
    }

    /// The second step of [`run`](Self::run): the image with the description's number of channels, resized so that the centre
    /// crop keeps its fraction.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn scale<'a>(&self, image: &'a Image) -> Result<Cow<'a, Image>, ImageError> {
        let image = self.convert(image)?;
        let target = self.resized_size([image.height(), image.width()]);
        let [height, width] = target.map(|side| side as u64);
        let decoding = Decoding::of_process();
        if height.saturating_mul(width) > decoding.max_pixels {
            return Err(ImageError::too_large(height, width, &decoding));
        }
        if target == [image.height(), image.width()] {
            return Ok(image);
        }
        Ok(Cow::Owned(resize(&image, target, self.description.interpolation)))
    }

    /// The image with the description's number of channels.
    ///
    /// # Errors
    /// [`ImageError::Channels`] if there is no such conversion.
    pub fn convert<'a>(&self, image: &'a Image) -> Result<Cow<'a, Image>, ImageError> {
        image.with_channels(self.description.channels())
    }

    /// The window of the network's input in the middle of `image`.
    pub fn centre(&self, image: &Image) -> Window {
        let [height, width] = self.description.size;
        Window { top: centre(image.height(), height), left: centre(image.width(), width), ..Window::default() }
    }

    /// The size to which an image of the given height and width is resized before the crop: torchvision's
    /// `Resize(side)` for a square input, timm's `ResizeKeepRatio` for any other.
    fn resized_size(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        let [target_height, target_width] = self.scaled;
        let ratios = [height as f64 / target_height as f64, width as f64 / target_width as f64];
        let ratio = match self.description.crop_mode {
            CropMode::Squash => return self.scaled,
            CropMode::Border => ratios[0].max(ratios[1]),
            CropMode::Center if target_height == target_width => {
                let side = target_height;
                return if width <= height { [side * height / width, side] } else { [side, side * width / height] };
            }
            CropMode::Center => ratios[0].min(ratios[1]),
        };
        [height, width].map(|side| ((side as f64 / ratio).round_ties_even() as usize).max(1))
    }
}

/// The first row (or column) of a centred crop, negative where the image is smaller, with torchvision's rounding:
/// half to even inside the image, the smaller half of the padding in front.
fn centre(image: usize, crop: usize) -> isize {
    if crop > image {
        return -(((crop - image) / 2) as isize);
    }
    ((image - crop) as f64 / 2.0).round_ties_even() as isize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_are_centred_as_torchvision_centres_them() {
        // CenterCrop(4) of 7 and 9 rows starts at round(1.5) and round(2.5).
        assert_eq!([centre(7, 4), centre(9, 4), centre(4, 4), centre(3, 6)], [2, 2, 0, -1]);
    }

    #[test]
    fn an_image_of_the_exact_size_is_only_normalised() {
        let preprocessor = Preprocessor::new(Preprocessing::unscaled([2, 3], &[0.5; 3], &[0.25; 3])).unwrap();
        let pixels: Vec<u8> = (0..18).map(|value| value * 14).collect();
        let image = Image::new(2, 3, 3, pixels.clone()).unwrap();
        let mut output = vec![0.0; 18];
        preprocessor.run(&image, &mut output).unwrap();
        let expected: Vec<f32> = pixels.iter().map(|&x| (f32::from(x) / 255.0 - 0.5) / 0.25).collect();
        assert_eq!(output, expected);
    }

    #[test]
    fn an_output_of_the_wrong_size_and_an_absurd_strip_are_refused() {
        let preprocessor = Preprocessor::new(Preprocessing::imagenet()).unwrap();
        let image = Image::new(1, 1, 1, vec![0]).unwrap();
        assert!(matches!(preprocessor.run(&image, &mut [0.0; 3]), Err(ImageError::Output { .. })));
        let strip = Image::new(1, 16_384, 3, vec![0; 3 * 16_384]).unwrap();
        let mut output = vec![0.0; preprocessor.output_len()];
        assert!(matches!(preprocessor.run(&strip, &mut output), Err(ImageError::TooLarge { .. })));
        preprocessor.run(&image, &mut output).unwrap();
    }
}
