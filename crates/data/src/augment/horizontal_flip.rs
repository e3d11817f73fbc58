//! torchvision's `RandomHorizontalFlip`, and the alternating flip of airbench.

use residual_preprocess::Window;
use residual_tensor::Stream;

use super::SampleRandom;
use crate::DataError;

/// Flips the image horizontally with a probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HorizontalFlip {
    /// In [0, 1].
    pub probability: f32,
    /// Whether the images that are flipped in the first epoch are drawn once, and every image alternates from epoch to epoch
    /// (Jordan 2024, arXiv:2404.00498, section 3.6): two epochs show both versions of each image.
    pub alternating: bool,
}

impl HorizontalFlip {
    const SALT: u64 = u64::from_be_bytes(*b"alterflp");

    /// Flips each image in each epoch with `probability`.
    pub fn new(probability: f32) -> Self {
        Self { probability, alternating: false }
    }

    pub(super) fn validate(&self) -> Result<(), DataError> {
        super::probability("hflip", self.probability)
    }

    pub(super) fn flip(&self, window: Window, random: SampleRandom, stream: &mut Stream) -> Window {
        let flip = if self.alternating {
            let odd_epoch = random.epoch % 2 == 1;
            random.stream_of_sample(Self::SALT).chance(self.probability) ^ odd_epoch
        } else {
            stream.chance(self.probability)
        };
        Window { flip: window.flip ^ flip, ..window }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{image, run, unscaled};
    use super::*;
    use crate::{Augmentation, Operation, Sample, Transform};

    fn flip(probability: f32) -> Augmentation {
        Augmentation::new([Operation::HorizontalFlip(HorizontalFlip::new(probability))])
    }

    #[test]
    fn half_of_the_images_are_flipped_and_nothing_else_changes() {
        let transform = Transform::training(unscaled([4, 4]), flip(0.5)).unwrap();
        let sample = Sample::Pixels(image(4, 4));
        let plain = run(&Transform::evaluation(unscaled([4, 4])).unwrap(), &sample, SampleRandom::new(0, 0, 0));
        let rows = plain.chunks_exact(12);
        let flipped: Vec<f32> = rows.flat_map(|row| row.chunks_exact(3).rev().flatten()).copied().collect();
        let outputs = (0..1000).map(|index| run(&transform, &sample, SampleRandom::new(5, 0, index)));
        let flips = outputs.inspect(|output| assert!(*output == plain || *output == flipped));
        let flips = flips.filter(|output| *output == flipped).count();
        assert!((450..550).contains(&flips), "{flips} of 1000");
    }

    #[test]
    fn alternating_flips_show_both_versions_in_two_epochs() {
        let alternating = HorizontalFlip { probability: 0.5, alternating: true };
        let flip = |epoch, index| {
            let random = SampleRandom::new(8, epoch, index);
            alternating.flip(Window::default(), random, &mut random.stream()).flip
        };
        let first = (0..1000).filter(|&index| {
            // airbench: bit(sample) xor (epoch & 1).
            (0..6).for_each(|epoch| assert_eq!(flip(epoch, index), flip(0, index) ^ (epoch % 2 == 1)));
            flip(0, index)
        });
        let first = first.count();
        assert!((450..550).contains(&first), "{first} of 1000");
    }

    #[test]
    fn normalised_samples_are_flipped_but_never_normalised_again() {
        let values: Vec<f32> = (0..12).map(|value| value as f32 - 6.0).collect();
        let sample = Sample::Normalized { height: 2, width: 2, channels: 3, values: values.clone() };
        let preprocessing = residual_preprocess::Preprocessing::unscaled([2, 2], &[0.5; 3], &[0.1; 3]);
        let plain = Transform::evaluation(preprocessing.clone()).unwrap();
        assert_eq!(run(&plain, &sample, SampleRandom::new(0, 0, 0)), values);
        let flipped = Transform::training(preprocessing, flip(1.0)).unwrap();
        assert_eq!(run(&flipped, &sample, SampleRandom::new(0, 0, 0))[..3], values[3..6]);
    }
}
