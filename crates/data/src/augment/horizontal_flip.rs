//! torchvision's `RandomHorizontalFlip`.

use residual_preprocess::Window;
use residual_tensor::Stream;

use crate::DataError;

/// Flips the image horizontally with a probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HorizontalFlip {
    /// In [0, 1].
    pub probability: f32,
}

impl HorizontalFlip {
    pub(super) fn validate(&self) -> Result<(), DataError> {
        super::probability("hflip", self.probability)
    }

    pub(super) fn flip(&self, window: Window, random: &mut Stream) -> Window {
        Window { flip: window.flip ^ random.chance(self.probability), ..window }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{image, run, unscaled};
    use super::*;
    use crate::{Augmentation, Operation, Sample, SampleRandom, Transform};

    fn flip(probability: f32) -> Augmentation {
        Augmentation::new([Operation::HorizontalFlip(HorizontalFlip { probability })])
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
