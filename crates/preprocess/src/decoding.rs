//! What is accepted of image files, and how 16-bit values become bytes: one setting for the whole process.

use std::sync::OnceLock;

use crate::Image;

/// How image files are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoding {
    /// How the values of 16-bit images become bytes.
    pub sixteen_bit: SixteenBit,
    /// Maximum number of pixels of an image, at most [`MOST_PIXELS`](Self::MOST_PIXELS). Above [`Image::MAX_PIXELS`] the sides may
    /// be as long as those of a JPEG can be, 65,535.
    pub max_pixels: u64,
}

/// How the values of 16-bit images become bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SixteenBit {
    /// The upper byte: 65,535 becomes 255.
    #[default]
    UpperByte,
    /// The smallest value of an image's colours becomes 0 and the largest 255, for values of fewer than 16 bits in fact. Alpha keeps
    /// its upper byte.
    Scale,
    /// Such an image is an error.
    Refuse,
}

impl SixteenBit {
    /// Every one with its name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("upper-byte", Self::UpperByte), ("scale", Self::Scale), ("refuse", Self::Refuse)];
}

impl Default for Decoding {
    /// The upper byte, and [`Image::MAX_PIXELS`].
    fn default() -> Self {
        Self { sixteen_bit: SixteenBit::default(), max_pixels: Image::MAX_PIXELS }
    }
}

/// The setting of the process, like Pillow's `Image.MAX_IMAGE_PIXELS`.
static PROCESS: OnceLock<Decoding> = OnceLock::new();

impl Decoding {
    /// The most pixels that can be allowed: 12 GiB of RGB.
    pub const MOST_PIXELS: u64 = 1 << 32;

    /// The setting of the process.
    pub fn of_process() -> Self {
        PROCESS.get().copied().unwrap_or_default()
    }

    /// Makes this the setting of the process, which [`Image::decode`] follows. Returns whether it is: the first call decides.
    pub fn set_for_process(self) -> bool {
        PROCESS.set(self).is_ok() || Self::of_process() == self
    }

    /// Maximum number of rows and of columns.
    pub(crate) fn max_side(&self) -> u64 {
        if self.max_pixels > Image::MAX_PIXELS { u16::MAX.into() } else { Image::MAX_SIDE.into() }
    }

    /// Whether an image is larger than allowed.
    pub(crate) fn refuses(&self, height: u64, width: u64) -> bool {
        height.max(width) > self.max_side() || height.saturating_mul(width) > self.max_pixels
    }

    /// A limit that is meant for [`Image::MAX_PIXELS`], for as many pixels as are allowed.
    pub(crate) fn scaled(&self, limit: u64) -> u64 {
        let factor = self.max_pixels.div_ceil(Image::MAX_PIXELS).max(1);
        limit.saturating_mul(factor)
    }
}
