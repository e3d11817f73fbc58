//! The decoded image, and its conversion between channel counts.

use std::borrow::Cow;

use crate::{Decoding, Orientation, memory};

/// A decoded image: 8-bit values, rows of pixels of interleaved channels (height × width × channels).
///
/// One channel is grey, two are grey and alpha, three are red, green, blue, four are those and alpha.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    height: usize,
    width: usize,
    channels: usize,
    pixels: Vec<u8>,
    orientation: Orientation,
}

/// An image that cannot be made, converted or prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The number of values is not height × width × channels, or one of these is zero.
    #[error("image of {height}x{width} with {channels} channels: expected that many values, got {got}")]
    Size {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Values per pixel.
        channels: usize,
        /// The given number of values.
        got: usize,
    },
    /// There is no conversion between the two numbers of channels.
    #[error("expected an image of {}, got {}", channels_named(*expected), channels_named(*got))]
    Channels {
        /// The requested number.
        expected: usize,
        /// The image's number.
        got: usize,
    },
    /// The bytes are no image of a supported format, or a damaged one.
    #[error("not a readable image: {0}")]
    Decode(String),
    /// The bytes are an image of a kind that is not read, or that [`Decoding::sixteen_bit`](crate::Decoding::sixteen_bit) refuses.
    #[error("not a supported image: {0}")]
    Unsupported(String),
    /// The image is larger than [`Decoding::max_pixels`](crate::Decoding::max_pixels) allows.
    #[error("image of {height}x{width}: expected sides of at most {max_side} and at most {max_pixels} pixels")]
    TooLarge {
        /// Rows.
        height: u64,
        /// Columns.
        width: u64,
        /// The most rows or columns.
        max_side: u64,
        /// The most pixels.
        max_pixels: u64,
    },
    /// The output slice has the wrong length.
    #[error("output: expected room for {expected} values, got {got}")]
    Output {
        /// height × width × channels of the network's input.
        expected: usize,
        /// The length of the given slice.
        got: usize,
    },
}

impl ImageError {
    /// The error of an image that `decoding` does not allow.
    pub(crate) fn too_large(height: u64, width: u64, decoding: &Decoding) -> Self {
        Self::TooLarge { height, width, max_side: decoding.max_side(), max_pixels: decoding.max_pixels }
    }
}

impl Image {
    /// Maximum number of rows and of columns, by default.
    pub const MAX_SIDE: u32 = 16_384;
    /// Maximum number of pixels, by default (also Pillow's limit): 256 MiB of RGB.
    pub const MAX_PIXELS: u64 = 89_478_485;

    /// An image of the given size.
    ///
    /// # Errors
    /// [`ImageError::Size`] if `pixels` does not hold exactly height × width × channels values, or none.
    pub fn new(height: usize, width: usize, channels: usize, pixels: Vec<u8>) -> Result<Self, ImageError> {
        let count = height.checked_mul(width).and_then(|area| area.checked_mul(channels));
        if pixels.is_empty() || count != Some(pixels.len()) {
            return Err(ImageError::Size { height, width, channels, got: pixels.len() });
        }
        Ok(Self { height, width, channels, pixels, orientation: Orientation::default() })
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Values per pixel.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// How the pixels have to be turned to be upright, as the file says.
    pub fn orientation(&self) -> Orientation {
        self.orientation
    }

    /// The same pixels with another orientation.
    #[must_use]
    pub fn with_orientation(self, orientation: Orientation) -> Self {
        Self { orientation, ..self }
    }

    /// The upright image: Pillow's `ImageOps.exif_transpose`.
    pub fn upright(&self) -> Cow<'_, Self> {
        if self.orientation.is_upright() { Cow::Borrowed(self) } else { Cow::Owned(self.orientation.apply(self)) }
    }

    /// The values, row by row, channels interleaved.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The values, taken out of the image.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// Gives the image's memory back, for the next image that this thread decodes, crops or resizes.
    pub fn recycle(self) {
        memory::give(self.pixels);
    }

    /// The image with `channels` channels, as Pillow's `convert` to `L`, `LA`, `RGB` or `RGBA`: grey is repeated, alpha
    /// is dropped, colour becomes grey with ITU-R 601 weights. Alpha is not added to images without it.
    ///
    /// # Errors
    /// [`ImageError::Channels`] for any other pair of numbers.
    pub fn with_channels(&self, channels: usize) -> Result<Cow<'_, Self>, ImageError> {
        let Self { height, width, channels: from, ref pixels, orientation } = *self;
        let pixels = match (from, channels) {
            (from, to) if from == to => return Ok(Cow::Borrowed(self)),
            (1, 3) => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
            (2, 1) => pixels.chunks_exact(2).map(|pixel| pixel[0]).collect(),
            (2, 3) => pixels.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
            (2, 4) => pixels.chunks_exact(2).flat_map(|pixel| [pixel[0], pixel[0], pixel[0], pixel[1]]).collect(),
            (4, 2) => pixels.chunks_exact(4).flat_map(|pixel| [luma(pixel), pixel[3]]).collect(),
            (4, 3) => pixels.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
            (3 | 4, 1) => pixels.chunks_exact(from).map(luma).collect(),
            (from, to) => return Err(ImageError::Channels { expected: to, got: from }),
        };
        Ok(Cow::Owned(Self { height, width, channels, pixels, orientation }))
    }

    /// A copy of the rectangle whose upper left corner is at (`top`, `left`), in the coordinates of the stored pixels.
    ///
    /// # Panics
    /// If the rectangle is empty or not inside the image.
    pub fn crop(&self, top: usize, left: usize, height: usize, width: usize) -> Self {
        check_crop([self.height, self.width], [top, left, height, width]);
        let (row, from, count) = (self.width * self.channels, left * self.channels, width * self.channels);
        let mut pixels = memory::take(height * count);
        for row in self.pixels.chunks_exact(row).skip(top).take(height) {
            pixels.extend_from_slice(&row[from..from + count]);
        }
        Self { height, width, channels: self.channels, pixels, orientation: self.orientation }
    }
}

/// Panics if the rectangle (top, left, height, width) is empty or not inside an image of `size`.
pub(crate) fn check_crop(size: [usize; 2], [top, left, height, width]: [usize; 4]) {
    assert!(height > 0 && width > 0 && top + height <= size[0] && left + width <= size[1], "crop outside");
}

fn channels_named(channels: usize) -> String {
    let kind = match channels {
        1 => " (grey)",
        2 => " (grey and alpha)",
        3 => " (RGB)",
        4 => " (RGB and alpha)",
        _ => "",
    };
    let plural = if channels == 1 { "" } else { "s" };
    format!("{channels} channel{plural}{kind}")
}

/// The grey of a pixel of red, green and blue: Pillow's `L = R * 299/1000 + G * 587/1000 + B * 114/1000`, in its 16-bit fixed point.
///
/// # Panics
/// If the pixel has fewer than three values.
pub fn luma(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_convert_as_pillow_converts_them() {
        let image = |channels, pixels: &[u8]| Image::new(1, 2, channels, pixels.to_vec()).unwrap();
        let converted = |image: Image, to| image.with_channels(to).unwrap().into_owned().into_pixels();
        assert_eq!(converted(image(1, &[3, 9]), 3), [3, 3, 3, 9, 9, 9]);
        assert_eq!(converted(image(4, &[1, 2, 3, 0, 4, 5, 6, 255]), 3), [1, 2, 3, 4, 5, 6]);
        assert_eq!(converted(image(2, &[1, 2, 3, 4]), 1), [1, 3]);
        // Image.new("LA", (1, 1), (9, 3)).convert("RGBA") and Image.new("RGBA", (1, 1), (200, 100, 50, 3)).convert("LA").
        assert_eq!(converted(image(2, &[9, 3, 1, 2]), 4), [9, 9, 9, 3, 1, 1, 1, 2]);
        assert_eq!(converted(image(4, &[200, 100, 50, 3, 7, 7, 7, 9]), 2), [124, 3, 7, 9]);
        // Image.new("RGB", (1, 1), (200, 100, 50)).convert("L") is 124; grey survives the round trip.
        assert_eq!(converted(image(3, &[200, 100, 50, 77, 77, 77]), 1), [124, 77]);
        assert_eq!(
            image(3, &[0; 6]).with_channels(4),
            Err(ImageError::Channels { expected: 4, got: 3 }),
            "no alpha is invented"
        );
    }

    #[test]
    fn a_crop_copies_its_rectangle() {
        let image = Image::new(3, 3, 1, (0..9).collect()).unwrap();
        assert_eq!(image.crop(1, 1, 2, 2).pixels(), [4, 5, 7, 8]);
    }

    #[test]
    fn a_size_that_does_not_fit_its_values_is_refused() {
        assert!(Image::new(2, 2, 3, vec![0; 11]).is_err());
        assert!(Image::new(0, 2, 3, vec![]).is_err());
        assert!(Image::new(usize::MAX, 2, 3, vec![0; 6]).is_err());
    }
}
