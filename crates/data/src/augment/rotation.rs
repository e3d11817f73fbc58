//! torchvision's `RandomRotation`.

use super::SampleRandom;
use super::canvas::Canvas;
use super::pixels::{PixelOperation, Resampling};
use crate::DataError;

/// Rotates the image about its centre by a random angle. As in torchvision's `RandomRotation(degrees)`, pixels are those
/// nearest to the rotated position, black outside the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotation {
    /// The greatest angle in either direction, in degrees, above 0 and at most 180.
    pub degrees: f32,
}

impl Rotation {
    const SALT: u64 = u64::from_be_bytes(*b"rotation");

    pub(super) fn validate(&self) -> Result<(), DataError> {
        let valid = self.degrees > 0.0 && self.degrees <= 180.0;
        valid.then_some(()).ok_or_else(|| DataError::invalid("degrees", "an angle above 0, at most 180", self.degrees))
    }

    pub(super) fn apply(&self, canvas: &mut Canvas, random: SampleRandom) {
        let degrees = random.stream_of(Self::SALT).range(-self.degrees, self.degrees);
        let black = [0; 3];
        let black = &black[..canvas.channels()];
        PixelOperation::Rotate(degrees.into()).apply(canvas, Resampling::Nearest, black);
    }
}
