//! From a file's bytes to an [`Image`]: JPEG, PNG, WebP and BMP.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::{Image, ImageError, jpeg};

impl Image {
    /// The most memory that a decoder may take beside the file's bytes.
    pub const MAX_DECODER_BYTES: u64 = 512 << 20;

    /// Decodes a JPEG, PNG, WebP or BMP file to RGB, as Pillow's `Image.open(file).convert("RGB")`. The content decides the
    /// format. Transparency is dropped, colour profiles and the EXIF orientation are not applied (torchvision's
    /// `ImageFolder` does not either), of an animation the first frame is taken, and 16-bit values give
    /// their upper byte.
    ///
    /// # Errors
    /// [`ImageError::TooLarge`] before anything is allocated for an image beyond [`Image::MAX_SIDE`] or
    /// [`Image::MAX_PIXELS`]; [`ImageError::Decode`] for bytes of any other format and for damaged or truncated files.
    pub fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
        let format = image::guess_format(bytes).ok();
        let format = format.filter(|format| {
            matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Bmp)
        });
        let format = format.ok_or_else(|| fault("expected a JPEG, PNG, WebP or BMP file"))?;
        if format == ImageFormat::Jpeg {
            if !jpeg_is_complete(bytes) {
                return Err(fault("the JPEG data end before the end-of-image marker"));
            }
            if let Some(image) = jpeg::decode(bytes)? {
                return Ok(image);
            }
        }
        let mut limits = Limits::default();
        limits.max_alloc = Some(Self::MAX_DECODER_BYTES);
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(fault)?;
        let (width, height) = decoder.dimensions();
        if width.max(height) > Self::MAX_SIDE || u64::from(width) * u64::from(height) > Self::MAX_PIXELS {
            return Err(ImageError::TooLarge { height: height.into(), width: width.into() });
        }
        let mut limits = Limits::default();
        limits.max_alloc = Some(Self::MAX_DECODER_BYTES);
        decoder.set_limits(limits).map_err(fault)?;
        let decoded = DynamicImage::from_decoder(decoder).map_err(fault)?;
        Self::new(height as usize, width as usize, 3, rgb(decoded))
    }
}

fn fault(cause: impl std::fmt::Display) -> ImageError {
    // Some decoders' messages run over several lines.
    ImageError::Decode(cause.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Three bytes a pixel.
fn rgb(decoded: DynamicImage) -> Vec<u8> {
    let upper = |value: &u16| (value >> 8) as u8;
    match decoded {
        DynamicImage::ImageLuma16(grey) => grey.iter().flat_map(|value| [upper(value); 3]).collect(),
        DynamicImage::ImageLumaA16(grey) => grey.chunks_exact(2).flat_map(|pixel| [upper(&pixel[0]); 3]).collect(),
        DynamicImage::ImageRgb16(colour) => colour.iter().map(upper).collect(),
        DynamicImage::ImageRgba16(colour) => {
            colour.chunks_exact(4).flat_map(|pixel| pixel[..3].iter().map(upper)).collect()
        }
        other => other.into_rgb8().into_raw(),
    }
}

/// Whether a JPEG file goes on to its end-of-image marker. Decoders that are made for speed paint what is missing grey.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // Entropy-coded data and fill bytes end at the next 0xff that introduces a marker.
        let marker = loop {
            match bytes.get(at..at + 2) {
                None => return false,
                Some(&[0xff, code @ (0x01..=0xcf | 0xd8..=0xfe)]) => break code,
                Some(_) => at += 1,
            }
        };
        at += 2;
        match marker {
            0xd9 => return true,
            0x01 | 0xd8 => {}
            _ => {
                let Some(&[high, low]) = bytes.get(at..at + 2) else { return false };
                at += usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
}
