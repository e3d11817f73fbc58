//! Training-time data augmentation: one list of operations on an image, and one on a whole batch.
//!
//! An operation is a file here, a variant of [`Operation`], and the range of its settings; recipes lower to the list. All
//! randomness is counter-based: the augmentation of an image is a function of (seed, epoch, sample index), that of a batch
//! of (seed, epoch, batch index), and neither depends on the order in which workers run.

mod horizontal_flip;
mod pad_and_crop;
mod random_resized_crop;

use residual_preprocess::Window;
use residual_tensor::Stream;

pub use horizontal_flip::HorizontalFlip;
pub use pad_and_crop::PadAndCrop;
pub use random_resized_crop::RandomResizedCrop;

use crate::{DataError, Mix};

/// The augmentation of training images. The default does nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Augmentation {
    /// The operations on each image, in order.
    pub operations: Vec<Operation>,
    /// The mixing of whole batches after that.
    pub mix: Mix,
}

/// One operation of an [`Augmentation`].
///
/// Crops and flips choose the window of the image, before normalisation, and take their random numbers in order from the
/// sample's [first stream](SampleRandom::stream). Any other operation uses a
/// [separate stream](SampleRandom::stream_of), so that adding it does not change the random numbers of the others.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Pad and crop at random.
    PadAndCrop(PadAndCrop),
    /// Random resized crop, in place of the evaluation's resize and crop; must be first.
    RandomResizedCrop(RandomResizedCrop),
    /// Horizontal flip.
    HorizontalFlip(HorizontalFlip),
}

impl Augmentation {
    /// The operations, without mixing.
    pub fn new(operations: impl Into<Vec<Operation>>) -> Self {
        Self { operations: operations.into(), mix: Mix::default() }
    }

    /// Checks the range of every setting, and the order of the operations.
    ///
    /// # Errors
    /// [`DataError::Invalid`] with the setting's name in a recipe.
    pub fn validate(&self) -> Result<(), DataError> {
        for (position, operation) in self.operations.iter().enumerate() {
            match operation {
                Operation::PadAndCrop(crop) => crop.validate()?,
                Operation::HorizontalFlip(flip) => flip.validate()?,
                Operation::RandomResizedCrop(crop) if position == 0 => crop.validate()?,
                Operation::RandomResizedCrop(_) => {
                    let got = format!("operation {}", position + 1);
                    return Err(DataError::invalid("random resized crop", "the first operation", got));
                }
            }
        }
        self.mix.validate()
    }

    /// The crop that takes the place of the evaluation's resizing, if there is one.
    pub(crate) fn resized_crop(&self) -> Option<&RandomResizedCrop> {
        match self.operations.first() {
            Some(Operation::RandomResizedCrop(crop)) => Some(crop),
            _ => None,
        }
    }

    /// The window after every shift and flip.
    pub(crate) fn window(&self, window: Window, random: &mut Stream) -> Window {
        self.operations.iter().fold(window, |window, operation| match operation {
            Operation::PadAndCrop(crop) => crop.shift(window, random),
            Operation::HorizontalFlip(flip) => flip.flip(window, random),
            Operation::RandomResizedCrop(_) => window,
        })
    }
}

/// The random streams of one sample in one epoch.
#[derive(Clone, Copy, Debug)]
pub struct SampleRandom {
    seed: u64,
    epoch: u64,
    index: u64,
}

impl SampleRandom {
    /// The random numbers of sample `index` in `epoch`, under `seed`.
    pub fn new(seed: u64, epoch: u64, index: usize) -> Self {
        Self { seed, epoch, index: index as u64 }
    }

    /// The stream of crops and flips.
    pub fn stream(self) -> Stream {
        Stream::new(self.seed, &[self.epoch, self.index])
    }

    /// The stream of another purpose, identified by `salt`.
    pub fn stream_of(self, salt: u64) -> Stream {
        Stream::new(self.seed, &[self.epoch, self.index, salt])
    }
}

/// Checks that `value` is in [0, 1].
pub(crate) fn probability(setting: &str, value: f32) -> Result<(), DataError> {
    let valid = (0.0..=1.0).contains(&value);
    valid.then_some(()).ok_or_else(|| DataError::invalid(setting, "a probability of 0 to 1", value))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::SampleRandom;
    use crate::{Sample, Transform};
    use residual_preprocess::{Image, Preprocessing};

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
        let flip = |probability| Operation::HorizontalFlip(HorizontalFlip { probability });
        assert_eq!(message(flip(1.5)), "hflip: expected a probability of 0 to 1, got 1.5");
        assert!(message(Operation::PadAndCrop(PadAndCrop { padding: 1025 })).starts_with("crop_padding: "));
        assert_eq!(message(crop([0.0, 1.0], [1.0, 1.0])), "scale: expected 0 < low <= high <= 1, got [0, 1]");
        assert!(message(crop([0.5, 1.0], [f32::NAN, 1.0])).starts_with("ratio: "));
        let order = Augmentation::new([flip(0.5), crop([0.1, 1.0], [1.0, 1.0])]).validate().unwrap_err().to_string();
        assert_eq!(order, "random resized crop: expected the first operation, got operation 2");
    }

    /// The random numbers of the first release, so that runs started with it resume with the same images.
    #[test]
    fn the_draws_of_crop_and_flip_are_the_recorded_ones() {
        let augmentation = Augmentation::new([
            Operation::PadAndCrop(PadAndCrop { padding: 4 }),
            Operation::HorizontalFlip(HorizontalFlip { probability: 0.5 }),
        ]);
        let windows: Vec<_> = (0..4)
            .map(|index| augmentation.window(Window::default(), &mut SampleRandom::new(7, 3, index).stream()))
            .map(|window| (window.top, window.left, window.flip))
            .collect();
        assert_eq!(windows, RECORDED);
    }

    const RECORDED: [(isize, isize, bool); 4] = [(-2, 3, false), (1, 2, false), (-2, -4, false), (-2, -2, true)];
}
