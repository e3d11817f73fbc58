//! Decodes a file's bytes to an [`Image`]: JPEG, PNG, WebP, BMP, GIF, TIFF and PNM.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::{Decoding, Image, ImageError, Orientation, SixteenBit, jpeg};

impl Image {
    /// Maximum memory of a decoder, in addition to the file's bytes; more if [`Decoding::max_pixels`] is raised.
    pub const MAX_DECODER_BYTES: u64 = 512 << 20;

    /// Decodes the bytes of a JPEG, PNG, WebP, BMP, GIF, TIFF or PNM file; the format is detected from its content.
    ///
    /// The image has the channels of the file: 1 for grey, 2 for grey and alpha, 3 for red, green and blue, 4 for those
    /// and alpha, as Pillow's `Image.open(file).convert` to `L`, `LA`, `RGB` or `RGBA` gives them. A
    /// [`Preprocessor`](crate::Preprocessor) converts it to the network's channels,
    /// [`with_channels`](Self::with_channels) to others. Palettes are resolved, CMYK becomes RGB, colour profiles are not
    /// applied, animations are reduced to the first frame, and 16-bit values to bytes as [`Decoding::sixteen_bit`] says. The pixels are as they are
    /// stored, as in torchvision's `ImageFolder`; how a camera was held is in their [`orientation`](Self::orientation).
    ///
    /// # Errors
    /// [`ImageError::TooLarge`] before anything is allocated for an image beyond [`Decoding::max_pixels`] of the process or the
    /// sides that belong to it; [`ImageError::Unsupported`] for a kind of image that is not read, such as one of floats;
    /// [`ImageError::Decode`] for bytes of any other format and for damaged or truncated files. A decoder that panics is caught: its
    /// file is damaged too.
    pub fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
        Self::decode_with(bytes, &Decoding::of_process())
    }

    /// [`decode`](Self::decode) with a setting other than the process's.
    ///
    /// # Errors
    /// As there.
    pub fn decode_with(bytes: &[u8], decoding: &Decoding) -> Result<Self, ImageError> {
        match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, decoding, |[height, width]| [0, 0, height, width]),
            Ok(
                format @ (ImageFormat::Png
                | ImageFormat::WebP
                | ImageFormat::Bmp
                | ImageFormat::Gif
                | ImageFormat::Tiff
                | ImageFormat::Pnm),
            ) => {
                check_palette(bytes, format)?;
                catch_unwind(AssertUnwindSafe(|| decode_format(bytes, format, decoding)))
                    .unwrap_or_else(|_| Err(fault(format!("damaged {format:?}: its decoder failed"))))
            }
            _ => Err(fault(format!("expected a JPEG, PNG, WebP, BMP, GIF, TIFF or PNM file, got {}", kind(bytes)))),
        }
    }

    /// The rectangle (top, left, height, width) that `choose` names for the size (height, width) of the stored pixels:
    /// [`decode`](Self::decode) and [`crop`](Self::crop) in one, to the bit. Of a JPEG only the rectangle is transformed to pixels; the
    /// whole file is read nevertheless, and an error wherever it is damaged.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    ///
    /// # Panics
    /// If the rectangle is empty or not inside the image.
    pub fn decode_crop(bytes: &[u8], choose: impl FnOnce([usize; 2]) -> [usize; 4]) -> Result<Self, ImageError> {
        if let Ok(ImageFormat::Jpeg) = image::guess_format(bytes) {
            return jpeg::decode(bytes, &Decoding::of_process(), choose);
        }
        let image = Self::decode(bytes)?;
        let [top, left, height, width] = choose([image.height(), image.width()]);
        Ok(image.crop(top, left, height, width))
    }
}

impl Image {
    /// The usual extension of a file of these bytes, by their first ones; `None` if they are of no format that is decoded.
    pub fn file_extension(bytes: &[u8]) -> Option<&'static str> {
        Some(match image::guess_format(bytes).ok()? {
            ImageFormat::Jpeg => "jpg",
            ImageFormat::Png => "png",
            ImageFormat::WebP => "webp",
            ImageFormat::Bmp => "bmp",
            ImageFormat::Gif => "gif",
            ImageFormat::Tiff => "tif",
            // P2 and P5 are grey.
            ImageFormat::Pnm if matches!(bytes.get(1), Some(b'2' | b'5')) => "pgm",
            ImageFormat::Pnm => "ppm",
            _ => return None,
        })
    }

    /// Whether `bytes` begin as an image file does, readable or not, and not as text. The first 12 bytes decide.
    pub fn is_file_start(bytes: &[u8]) -> bool {
        match image::guess_format(bytes) {
            // Two letters are a signature of these: what follows them tells a file from text.
            Ok(ImageFormat::Bmp) => bytes.get(6..10) == Some(&[0; 4]),
            Ok(ImageFormat::Pnm) => {
                let begins_header = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_whitespace() || *byte == b'#';
                bytes.get(2).is_some_and(u8::is_ascii_whitespace) && bytes.get(3).is_some_and(begins_header)
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }
}

impl TryFrom<DynamicImage> for Image {
    type Error = ImageError;

    /// The image with its own channels, 8 bits each: 16-bit values become bytes as [`Decoding::sixteen_bit`] of the process says.
    ///
    /// # Errors
    /// [`ImageError::Size`] for an image without pixels, [`ImageError::Unsupported`] for floats, whose range is not
    /// known, and for 16-bit values that are refused.
    fn try_from(image: DynamicImage) -> Result<Self, ImageError> {
        from_dynamic(image, Decoding::of_process().sixteen_bit)
    }
}

fn from_dynamic(image: DynamicImage, sixteen_bit: SixteenBit) -> Result<Image, ImageError> {
    let [height, width] = [image.height(), image.width()].map(|side| side as usize);
    let bytes = |values: Vec<u16>, channels| to_bytes(&values, channels, sixteen_bit);
    let (channels, pixels) = match image {
        DynamicImage::ImageLuma8(image) => (1, image.into_raw()),
        DynamicImage::ImageLumaA8(image) => (2, image.into_raw()),
        DynamicImage::ImageRgb8(image) => (3, image.into_raw()),
        DynamicImage::ImageRgba8(image) => (4, image.into_raw()),
        DynamicImage::ImageLuma16(image) => (1, bytes(image.into_raw(), 1)?),
        DynamicImage::ImageLumaA16(image) => (2, bytes(image.into_raw(), 2)?),
        DynamicImage::ImageRgb16(image) => (3, bytes(image.into_raw(), 3)?),
        DynamicImage::ImageRgba16(image) => (4, bytes(image.into_raw(), 4)?),
        _ => return Err(ImageError::Unsupported("pixels of floating-point values".into())),
    };
    Image::new(height, width, channels, pixels)
}

/// The 16-bit values of an image as bytes.
fn to_bytes(values: &[u16], channels: usize, sixteen_bit: SixteenBit) -> Result<Vec<u8>, ImageError> {
    let upper = |value: u16| (value >> 8) as u8;
    match sixteen_bit {
        SixteenBit::UpperByte => Ok(values.iter().copied().map(upper).collect()),
        SixteenBit::Refuse => Err(ImageError::Unsupported("16 bits per value, which are refused".into())),
        SixteenBit::Scale => {
            // The last one of two or four channels is alpha.
            let colors = channels - usize::from(channels.is_multiple_of(2));
            let pixels = values.chunks_exact(channels);
            let of_colors = || pixels.clone().flat_map(|pixel| &pixel[..colors]).copied().map(u32::from);
            let (least, most) = (of_colors().min().unwrap_or(0), of_colors().max().unwrap_or(0));
            let range = most - least;
            let scale = |value: u16| ((u32::from(value) - least) * 255 + range / 2).checked_div(range);
            let byte = |(at, &value): (usize, &u16)| {
                let scaled = if at % channels < colors { scale(value) } else { None };
                // An image of one value has no range.
                scaled.map_or_else(|| upper(value), |value| value as u8)
            };
            Ok(values.iter().enumerate().map(byte).collect())
        }
    }
}

/// Decodes with the `image` crate, which may panic.
fn decode_format(bytes: &[u8], format: ImageFormat, decoding: &Decoding) -> Result<Image, ImageError> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(decoding.scaled(Image::MAX_DECODER_BYTES));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(decoder_fault)?;
    let (width, height) = decoder.dimensions();
    if decoding.refuses(height.into(), width.into()) {
        return Err(ImageError::too_large(height.into(), width.into(), decoding));
    }
    decoder.set_limits(limits).map_err(decoder_fault)?;
    // An orientation that cannot be read is none: the pixels may be good.
    let orientation = decoder.orientation().map(Orientation::from).unwrap_or_default();
    let image = from_dynamic(DynamicImage::from_decoder(decoder).map_err(decoder_fault)?, decoding.sixteen_bit)?;
    Ok(image.with_orientation(orientation))
}

/// Checks that the palettes of a PNG file consist of whole colours, which the decoder assumes.
fn check_palette(bytes: &[u8], format: ImageFormat) -> Result<(), ImageError> {
    let mut chunks = if format == ImageFormat::Png { bytes.get(8..).unwrap_or_default() } else { &[] };
    while let Some((&[l3, l2, l1, l0, ref kind @ ..], rest)) = chunks.split_first_chunk::<8>() {
        let len = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
        if kind == b"PLTE" && !len.is_multiple_of(3) {
            return Err(fault(format!("damaged PNG: a palette of {len} bytes")));
        }
        // After the data, its checksum.
        chunks = rest.get(len.saturating_add(4)..).unwrap_or_default();
    }
    Ok(())
}

/// Describes bytes that are not an image of a supported format.
fn kind(bytes: &[u8]) -> &'static str {
    const BEGINNINGS: [(&[u8], &str); 13] = [
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL ", "JPEG XL"),
        (b"\0\0\0\x0cjP  ", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"8BPS", "a Photoshop file"),
        (b"\0\0\x01\0", "an icon"),
        (b"%PDF", "a PDF file"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"version https://git-lfs", "a git-lfs pointer: fetch the file itself with `git lfs pull`"),
        (b"<svg", "SVG"),
        (b"<?xml", "XML"),
        (b"<", "HTML or XML"),
    ];
    if bytes.is_empty() {
        return "an empty file";
    }
    if let (Some(b"ftyp"), Some(brand)) = (bytes.get(4..8), bytes.get(8..12)) {
        return match brand {
            b"avif" | b"avis" => "AVIF",
            b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1" => "HEIC",
            _ => "a film",
        };
    }
    let known = BEGINNINGS.iter().find(|(beginning, _)| bytes.starts_with(beginning));
    known.map_or("another kind of file", |(_, name)| name)
}

fn fault(cause: impl std::fmt::Display) -> ImageError {
    ImageError::Decode(in_one_line(cause))
}

fn decoder_fault(cause: image::ImageError) -> ImageError {
    match cause {
        image::ImageError::Unsupported(cause) => ImageError::Unsupported(in_one_line(cause)),
        cause => fault(cause),
    }
}

/// Some decoders' messages run over several lines.
fn in_one_line(cause: impl std::fmt::Display) -> String {
    cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
