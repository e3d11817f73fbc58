//! Images of pixels inside pictures.

use crate::ReportError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

/// An RGB image of at least one pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
    is_photograph: bool,
}

/// The JPEG quality of photographs.
const QUALITY: u8 = 85;

impl Picture {
    /// An image from its pixels: row by row, three bytes each.
    ///
    /// # Errors
    /// If the bytes are not `width` × `height` × 3, or none.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self, ReportError> {
        let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        let side = u32::MAX as usize;
        if bytes != Some(rgb.len()) || rgb.is_empty() || width > side || height > side {
            return Err(ReportError::Pixels { width, height, bytes: rgb.len() });
        }
        Ok(Self { width, height, rgb, is_photograph: false })
    }

    /// Inside other files as a JPEG file, which is several times smaller than a PNG file.
    pub fn photograph(self) -> Self {
        Self { is_photograph: true, ..self }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Its pixels.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// As a PNG file inside a URI; a [photograph](Self::photograph) as a JPEG file.
    pub fn data_uri(&self) -> String {
        // JPEG files have sides of 16 bits.
        match self.is_photograph && self.width.max(self.height) <= usize::from(u16::MAX) {
            true => format!("data:image/jpeg;base64,{}", STANDARD.encode(self.to_jpeg())),
            false => format!("data:image/png;base64,{}", STANDARD.encode(self.to_png())),
        }
    }

    fn to_jpeg(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let (width, height) = (self.width as u32, self.height as u32);
        JpegEncoder::new_with_quality(&mut file, QUALITY)
            .write_image(&self.rgb, width, height, ExtendedColorType::Rgb8)
            .expect("the bytes fit the size, and memory takes them");
        file
    }

    /// As a PNG file.
    pub fn to_png(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let encoder = PngEncoder::new_with_quality(&mut file, CompressionType::Best, FilterType::Adaptive);
        let (width, height) = (self.width as u32, self.height as u32);
        encoder
            .write_image(&self.rgb, width, height, ExtendedColorType::Rgb8)
            .expect("the bytes fit the size, and memory takes them");
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_come_back_from_the_file() {
        let rgb: Vec<u8> = (0..36).map(|value| value * 7).collect();
        let picture = Picture::new(4, 3, rgb.clone()).unwrap();
        let read = image::load_from_memory(&picture.to_png()).unwrap().to_rgb8();
        assert_eq!((read.dimensions(), read.into_raw()), ((4, 3), rgb));
    }

    #[test]
    fn pixels_that_do_not_fit_are_refused() {
        let error = Picture::new(4, 3, vec![0; 35]).unwrap_err().to_string();
        assert_eq!(error, "picture: expected 4x3 pixels of 3 bytes, got 35 bytes");
        assert!(Picture::new(0, 3, vec![]).is_err());
        assert!(Picture::new(usize::MAX, usize::MAX, vec![0; 3]).is_err());
    }
}
