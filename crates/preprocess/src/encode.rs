//! Encodes an [`Image`] as a PNG file.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::{Image, ImageError};

impl Image {
    /// The bytes of a PNG file of an image of 1 to 4 channels (see [`decode`](Self::decode)).
    ///
    /// # Errors
    /// [`ImageError::Channels`] for an image of more channels.
    pub fn to_png(&self) -> Result<Vec<u8>, ImageError> {
        let kind = match self.channels() {
            1 => ExtendedColorType::L8,
            2 => ExtendedColorType::La8,
            3 => ExtendedColorType::Rgb8,
            4 => ExtendedColorType::Rgba8,
            got => return Err(ImageError::Channels { expected: 4, got }),
        };
        let mut bytes = Vec::new();
        let encoder = PngEncoder::new(&mut bytes);
        let [height, width] = [self.height(), self.width()].map(|side| side as u32);
        encoder
            .write_image(self.pixels(), width, height, kind)
            .map_err(|cause| ImageError::Decode(cause.to_string()))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_file_is_decoded_as_it_was_encoded() {
        for channels in 1..=4 {
            let pixels = (0..2 * 3 * channels).map(|value| (value * 9) as u8).collect();
            let image = Image::new(2, 3, channels, pixels).unwrap();
            let png = image.to_png().unwrap();
            assert!(Image::is_file_start(&png[..12]));
            assert_eq!(Image::decode(&png).unwrap(), image);
        }
        let image = Image::new(1, 1, 5, vec![0; 5]).unwrap();
        assert!(matches!(image.to_png(), Err(ImageError::Channels { .. })));
        for text in ["photos/a.jpg", "P1000234.JPG", "P1 a.bmp", "BMW in the garage.jpg"] {
            assert!(!Image::is_file_start(text.as_bytes()), "{text}");
        }
        assert!(Image::is_file_start(b"P6\n640 480\n255\n"));
    }
}
