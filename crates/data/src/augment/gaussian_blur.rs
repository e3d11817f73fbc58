//! torchvision's `GaussianBlur`, as timm uses it.

use super::SampleRandom;
use super::canvas::Canvas;
use super::pixels::{PixelOperation, Resampling};
use crate::DataError;

/// Blurs the image with a probability: torchvision's `GaussianBlur(kernel_size=23)`, with a standard deviation of 0.1 to 2
/// pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianBlur {
    /// In [0, 1].
    pub probability: f32,
}

impl GaussianBlur {
    const SALT: u64 = u64::from_be_bytes(*b"gaussblu");

    pub(super) fn validate(&self) -> Result<(), DataError> {
        super::probability("gaussian_blur_prob", self.probability)
    }

    pub(super) fn apply(&self, canvas: &mut Canvas, random: SampleRandom) {
        let mut random = random.stream_of(Self::SALT);
        if random.chance(self.probability) {
            let sigma = random.range(0.1, 2.0);
            PixelOperation::GaussianBlur(sigma).apply(canvas, Resampling::Nearest, &[]);
        }
    }
}
