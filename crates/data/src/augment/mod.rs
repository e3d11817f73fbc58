//! Training-time data augmentation: one list of operations on an image, and one on a whole batch.
//!
//! An operation is a file here, a variant of [`Operation`], and the range of its settings; recipes lower to the list. All
//! randomness is counter-based: the augmentation of an image is a function of (seed, epoch, sample index, how often the epoch
//! had the sample before), that of a batch of (seed, epoch, batch index), and neither depends on the order in which workers
//! run.

mod auto;
mod canvas;
mod color_jitter;
mod gaussian_blur;
mod horizontal_flip;
mod pad_and_crop;
mod pixels;
mod random_erasing;
mod random_resized_crop;
mod resize_keep_ratio;
mod rotation;
mod vertical_flip;

use residual_preprocess::{Interpolation, Window};
use residual_tensor::Stream;

pub use auto::{AutoAugment, TrainInterpolation};
pub(crate) use canvas::Canvas;
pub use canvas::Padding;
pub use color_jitter::{ColorJitter, Grayscale};
pub use gaussian_blur::GaussianBlur;
pub use horizontal_flip::HorizontalFlip;
pub use pad_and_crop::PadAndCrop;
pub use random_erasing::{ErasingMode, RandomErasing};
pub use random_resized_crop::RandomResizedCrop;
pub use resize_keep_ratio::ResizeKeepRatio;
pub use rotation::Rotation;
pub use vertical_flip::VerticalFlip;

use crate::{DataError, Mix};

/// The augmentation of training images. The default does nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Augmentation {
    /// The operations on each image, in order.
    pub operations: Vec<Operation>,
    /// The interpolation of operations that resize or move an image; `None` for that of the evaluation.
    pub interpolation: Option<TrainInterpolation>,
    /// The mixing of whole batches after that.
    pub mix: Mix,
}

/// One operation of an [`Augmentation`].
///
/// Crops and flips choose the window of the image; the following ones change the pixels of that window, and random erasing
/// the normalised values. They take place in the order in which they are listed here, which is timm's and torchvision's.
///
/// Crops and horizontal flips take their random numbers in order from the sample's [first stream](SampleRandom::stream). Any
/// other operation uses a [separate stream](SampleRandom::stream_of), so that adding it does not change the random numbers of
/// the others.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Random resized crop, in place of the evaluation's resize and crop; must be first.
    RandomResizedCrop(RandomResizedCrop),
    /// Resizing with slight changes of scale and shape, in place of the evaluation's resize and crop; must be first.
    ResizeKeepRatio(ResizeKeepRatio),
    /// Pad and crop at random.
    PadAndCrop(PadAndCrop),
    /// Horizontal flip.
    HorizontalFlip(HorizontalFlip),
    /// Vertical flip.
    VerticalFlip(VerticalFlip),
    /// Rotation.
    Rotation(Rotation),
    /// One of the automatic augmentations.
    AutoAugment(AutoAugment),
    /// Brightness, contrast, saturation and hue.
    ColorJitter(ColorJitter),
    /// Grey in all channels.
    Grayscale(Grayscale),
    /// Blur.
    GaussianBlur(GaussianBlur),
    /// Erasing of rectangles.
    RandomErasing(RandomErasing),
}

impl Operation {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.place().0
    }

    /// Its name in errors, and its place in the order.
    fn place(&self) -> (&'static str, u8) {
        match self {
            Self::RandomResizedCrop(_) => ("random resized crop", 0),
            Self::ResizeKeepRatio(_) => ("resize keep ratio", 0),
            Self::PadAndCrop(_) => ("pad and crop", 1),
            Self::HorizontalFlip(_) => ("horizontal flip", 1),
            Self::VerticalFlip(_) => ("vertical flip", 1),
            Self::Rotation(_) => ("rotation", 2),
            Self::AutoAugment(_) => ("automatic augmentation", 3),
            Self::ColorJitter(_) => ("colour jitter", 4),
            Self::Grayscale(_) => ("grayscale", 5),
            Self::GaussianBlur(_) => ("Gaussian blur", 6),
            Self::RandomErasing(_) => ("random erasing", 7),
        }
    }

    fn validate(&self) -> Result<(), DataError> {
        match self {
            Self::RandomResizedCrop(crop) => crop.validate(),
            Self::ResizeKeepRatio(crop) => crop.validate(),
            Self::PadAndCrop(crop) => crop.validate(),
            Self::HorizontalFlip(flip) => flip.validate(),
            Self::VerticalFlip(flip) => flip.validate(),
            Self::Rotation(rotation) => rotation.validate(),
            Self::AutoAugment(_) => Ok(()),
            Self::ColorJitter(jitter) => jitter.validate(),
            Self::Grayscale(grayscale) => grayscale.validate(),
            Self::GaussianBlur(blur) => blur.validate(),
            Self::RandomErasing(erasing) => erasing.validate(),
        }
    }

    /// Whether it changes 8-bit pixels, not only the choice of the window or the normalised values.
    fn changes_pixels(&self) -> bool {
        match self {
            Self::Rotation(_)
            | Self::AutoAugment(_)
            | Self::ColorJitter(_)
            | Self::Grayscale(_)
            | Self::GaussianBlur(_) => true,
            Self::RandomResizedCrop(_)
            | Self::ResizeKeepRatio(_)
            | Self::PadAndCrop(_)
            | Self::HorizontalFlip(_)
            | Self::VerticalFlip(_)
            | Self::RandomErasing(_) => false,
        }
    }
}

/// The crop that takes the place of the evaluation's resize and crop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TrainingCrop<'a> {
    Evaluation,
    Resized(&'a RandomResizedCrop),
    KeepRatio(&'a ResizeKeepRatio),
}

impl Augmentation {
    /// The operations, without mixing.
    pub fn new(operations: impl Into<Vec<Operation>>) -> Self {
        Self { operations: operations.into(), ..Self::default() }
    }

    /// Checks the range of every setting, and the order of the operations.
    ///
    /// # Errors
    /// [`DataError::Invalid`] with the setting's name in a recipe.
    pub fn validate(&self) -> Result<(), DataError> {
        let mut before = ("", 0);
        for (position, operation) in self.operations.iter().enumerate() {
            operation.validate()?;
            let (name, place) = operation.place();
            // Crops and flips may come in any order; every other operation comes once.
            if position > 0 && (place < before.1 || (place == before.1 && place != 1)) {
                let expected = if place == 0 { "the first operation" } else { "operations in their order, each once" };
                let got = match place {
                    0 => format!("operation {}", position + 1),
                    _ => format!("it after {}", before.0),
                };
                return Err(DataError::invalid(name, expected, got));
            }
            before = (name, place);
        }
        self.mix.validate()
    }

    /// Checks that images of `channels` can be augmented.
    ///
    /// # Errors
    /// [`DataError::Invalid`] for operations on pixels that are neither grey nor RGB.
    pub(crate) fn check_channels(&self, channels: usize) -> Result<(), DataError> {
        match self.operations.iter().find(|operation| operation.changes_pixels()) {
            Some(operation) if !matches!(channels, 1 | 3) => {
                Err(DataError::invalid(operation.name(), "images of 1 (grey) or 3 (RGB) channels", channels))
            }
            _ => Ok(()),
        }
    }

    /// The crop that takes the place of the evaluation's resizing, if there is one.
    pub(crate) fn crop(&self) -> TrainingCrop<'_> {
        match self.operations.first() {
            Some(Operation::RandomResizedCrop(crop)) => TrainingCrop::Resized(crop),
            Some(Operation::ResizeKeepRatio(crop)) => TrainingCrop::KeepRatio(crop),
            _ => TrainingCrop::Evaluation,
        }
    }

    /// The interpolation of the crop.
    pub(crate) fn crop_interpolation(&self, evaluation: Interpolation, random: SampleRandom) -> Interpolation {
        const SALT: u64 = u64::from_be_bytes(*b"interpol");
        let choice = self.interpolation.unwrap_or(TrainInterpolation::Fixed(evaluation));
        choice.draw(&mut random.stream_of(SALT))
    }

    /// The window after every shift and flip; `stream` is the sample's first one.
    pub(crate) fn window(&self, window: Window, random: SampleRandom, stream: &mut Stream) -> Window {
        self.operations.iter().fold(window, |window, operation| match operation {
            Operation::PadAndCrop(crop) => crop.shift(window, stream),
            Operation::HorizontalFlip(flip) => flip.flip(window, random, stream),
            Operation::VerticalFlip(flip) => flip.flip(window, random),
            _ => window,
        })
    }

    /// What a window shows outside the image.
    pub(crate) fn padding(&self) -> Padding {
        let padding = self.operations.iter().find_map(|operation| match operation {
            Operation::PadAndCrop(crop) => Some(crop.mode),
            Operation::ResizeKeepRatio(_) => Some(Padding::Reflect),
            _ => None,
        });
        padding.unwrap_or_default()
    }

    /// Whether the 8-bit pixels of the window are changed.
    pub(crate) fn changes_pixels(&self) -> bool {
        self.operations.iter().any(Operation::changes_pixels)
    }

    /// Changes the pixels of a window. `mean` is the mean colour, `evaluation` the interpolation of the evaluation.
    pub(crate) fn change_pixels(
        &self,
        canvas: &mut Canvas,
        mean: &[u8],
        evaluation: Interpolation,
        random: SampleRandom,
    ) {
        let interpolation = self.interpolation.unwrap_or(TrainInterpolation::Fixed(evaluation));
        for operation in &self.operations {
            match operation {
                Operation::Rotation(rotation) => rotation.apply(canvas, random),
                Operation::AutoAugment(auto) => {
                    const SALT: u64 = u64::from_be_bytes(*b"autoaugm");
                    auto.apply(canvas, auto::Context { interpolation, mean }, &mut random.stream_of(SALT));
                }
                Operation::ColorJitter(jitter) => jitter.apply(canvas, random),
                Operation::Grayscale(grayscale) => grayscale.apply(canvas, random),
                Operation::GaussianBlur(blur) => blur.apply(canvas, random),
                _ => {}
            }
        }
    }

    /// Erases parts of a normalised image of `size`.
    pub(crate) fn erase(&self, image: &mut [f32], size: [usize; 2], random: SampleRandom) {
        if let Some(Operation::RandomErasing(erasing)) = self.operations.last() {
            erasing.apply(image, size, random);
        }
    }
}

/// The random streams of one sample in one epoch.
#[derive(Clone, Copy, Debug)]
pub struct SampleRandom {
    seed: u64,
    epoch: u64,
    index: u64,
    /// How often the epoch has had the sample before.
    repeat: u64,
}

impl SampleRandom {
    /// The random numbers of sample `index` in `epoch`, under `seed`.
    pub fn new(seed: u64, epoch: u64, index: usize) -> Self {
        Self { seed, epoch, index: index as u64, repeat: 0 }
    }

    /// Those of the sample when the epoch has had it `repeat` times before.
    #[must_use]
    pub fn repeated(self, repeat: u32) -> Self {
        Self { repeat: repeat.into(), ..self }
    }

    /// The stream of crops and flips.
    pub fn stream(self) -> Stream {
        match self.repeat {
            0 => Stream::new(self.seed, &[self.epoch, self.index]),
            repeat => Stream::new(self.seed, &[self.epoch, self.index, REPEAT, repeat]),
        }
    }

    /// The stream of another purpose, identified by `salt`.
    pub fn stream_of(self, salt: u64) -> Stream {
        match self.repeat {
            0 => Stream::new(self.seed, &[self.epoch, self.index, salt]),
            repeat => Stream::new(self.seed, &[self.epoch, self.index, salt, repeat]),
        }
    }

    /// The stream of a purpose that is the same in every epoch.
    fn stream_of_sample(self, salt: u64) -> Stream {
        Stream::new(self.seed, &[self.index, salt])
    }
}

/// Salt of the first stream of repeated samples.
const REPEAT: u64 = u64::from_be_bytes(*b"repeated");

/// Checks that `value` is in [0, 1].
pub(crate) fn probability(setting: &str, value: f32) -> Result<(), DataError> {
    let valid = (0.0..=1.0).contains(&value);
    valid.then_some(()).ok_or_else(|| DataError::invalid(setting, "a probability of 0 to 1", value))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{Canvas, Padding, SampleRandom};
    use crate::{Sample, Transform};
    use residual_preprocess::{Image, Preprocessing, Window};

    /// An image as the operations on pixels see it.
    pub(crate) fn canvas(image: &Image) -> Canvas {
        let mut canvas = Canvas::default();
        canvas.load(image, Window::default(), [image.height(), image.width()], Padding::Zero, &[0; 3]);
        canvas
    }

    pub(crate) fn image(height: usize, width: usize) -> Image {
        let pixels = (0..height * width).flat_map(|at| [(at % 251) as u8, (at / 251) as u8, 7]).collect();
        Image::new(height, width, 3, pixels).unwrap()
    }

    /// Takes images of `size` as they are, and pixels as numbers of 0 to 255.
    pub(crate) fn unscaled(size: [usize; 2]) -> Preprocessing {
        Preprocessing::unscaled(size, &[0.0; 3], &[1.0 / 255.0; 3])
    }

    pub(crate) fn run(transform: &Transform, sample: &Sample, random: SampleRandom) -> Vec<f32> {
        let mut output = vec![0.0; transform.output_len()];
        transform.apply(sample, random, &mut output, &|| "sample".into()).unwrap();
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_range_is_named_as_a_recipe_names_it() {
        let message = |operation| Augmentation::new([operation]).validate().unwrap_err().to_string();
        let crop = |scale, ratio| Operation::RandomResizedCrop(RandomResizedCrop { scale, ratio });
        let flip = |probability| Operation::HorizontalFlip(HorizontalFlip::new(probability));
        assert_eq!(message(flip(1.5)), "hflip: expected a probability of 0 to 1, got 1.5");
        assert!(
            message(Operation::PadAndCrop(PadAndCrop { padding: 1025, mode: Padding::Zero }))
                .starts_with("crop_padding: ")
        );
        assert_eq!(message(crop([0.0, 1.0], [1.0, 1.0])), "scale: expected 0 < low <= high <= 1, got [0, 1]");
        assert!(message(crop([0.5, 1.0], [f32::NAN, 1.0])).starts_with("ratio: "));
        let order = Augmentation::new([flip(0.5), crop([0.1, 1.0], [1.0, 1.0])]).validate().unwrap_err().to_string();
        assert_eq!(order, "random resized crop: expected the first operation, got operation 2");
        let jitter = || Operation::ColorJitter(ColorJitter::new(&[0.4], 1.0).unwrap());
        let auto = Operation::AutoAugment("ta_wide".parse().unwrap());
        let order = Augmentation::new([jitter(), auto.clone()]).validate().unwrap_err().to_string();
        assert_eq!(
            order,
            "automatic augmentation: expected operations in their order, each once, got it after colour jitter"
        );
        assert!(Augmentation::new([auto, jitter(), jitter()]).validate().is_err());
    }

    #[test]
    fn operations_on_pixels_need_grey_or_rgb() {
        let augmentation = Augmentation::new([Operation::Grayscale(Grayscale { probability: 0.2 })]);
        let preprocessing = residual_preprocess::Preprocessing::unscaled([8, 8], &[0.5; 4], &[0.5; 4]);
        let error = crate::Transform::training(preprocessing, augmentation).unwrap_err().to_string();
        assert_eq!(error, "grayscale: expected images of 1 (grey) or 3 (RGB) channels, got 4");
    }

    /// The random numbers of the first release, so that runs started with it resume with the same images.
    #[test]
    fn the_draws_of_crop_and_flip_are_the_recorded_ones() {
        let augmentation = Augmentation::new([
            Operation::PadAndCrop(PadAndCrop { padding: 4, mode: Padding::Zero }),
            Operation::HorizontalFlip(HorizontalFlip::new(0.5)),
        ]);
        let windows: Vec<_> = (0..4)
            .map(|index| SampleRandom::new(7, 3, index))
            .map(|random| augmentation.window(Window::default(), random, &mut random.stream()))
            .map(|window| (window.top, window.left, window.flip))
            .collect();
        assert_eq!(windows, RECORDED);
    }

    const RECORDED: [(isize, isize, bool); 4] = [(-2, 3, false), (1, 2, false), (-2, -4, false), (-2, -2, true)];
}
