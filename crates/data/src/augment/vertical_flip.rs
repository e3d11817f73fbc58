//! torchvision's `RandomVerticalFlip`.

use residual_preprocess::Window;

use super::SampleRandom;
use crate::DataError;

/// Flips the image vertically with a probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VerticalFlip {
    /// In [0, 1].
    pub probability: f32,
}

impl VerticalFlip {
    const SALT: u64 = u64::from_be_bytes(*b"vertflip");

    pub(super) fn validate(&self) -> Result<(), DataError> {
        super::probability("vflip", self.probability)
    }

    pub(super) fn flip(&self, window: Window, random: SampleRandom) -> Window {
        let flip = random.stream_of(Self::SALT).chance(self.probability);
        Window { vertical_flip: window.vertical_flip ^ flip, ..window }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{image, run, unscaled};
    use super::*;
    use crate::{Augmentation, HorizontalFlip, Operation, Sample, Transform};

    #[test]
    fn half_of_the_images_are_turned_upside_down_and_other_draws_stay() {
        let horizontal = Operation::HorizontalFlip(HorizontalFlip::new(0.5));
        let vertical = Operation::VerticalFlip(VerticalFlip { probability: 0.5 });
        let transform =
            |operations: Vec<Operation>| Transform::training(unscaled([3, 3]), Augmentation::new(operations)).unwrap();
        let (plain, both) = (transform(vec![horizontal.clone()]), transform(vec![horizontal, vertical]));
        let sample = Sample::Pixels(image(3, 3));
        let flips = (0..1000).filter(|&index| {
            let random = SampleRandom::new(5, 0, index);
            let (plain, both) = (run(&plain, &sample, random), run(&both, &sample, random));
            let turned: Vec<f32> = plain.chunks_exact(9).rev().flatten().copied().collect();
            assert!(both == plain || both == turned);
            both == turned
        });
        let flips = flips.count();
        assert!((450..550).contains(&flips), "{flips} of 1000");
    }
}
