//! Baseline and progressive JPEG to RGB, with the arithmetic of libjpeg-turbo: its accurate integer inverse transform, its
//! smooth ("fancy") chroma upsampling and its colour conversion, so that the pixels are bit-identical to Pillow's.
//!
//! Faster decoders round differently, by up to 4 grey levels. Variants that libjpeg-turbo does not decode to 8 bits either,
//! or that are rare (lossless, hierarchical and arithmetic coding, other sample depths), are errors that name the variant.

mod coefficients;
mod entropy;
mod header;
mod pixels;

use std::ops::Range;

use crate::{Decoding, Image, ImageError, Orientation};
use coefficients::Decoder;
use header::{Parser, Segment};

/// Maximum number of scans; encoders write about ten.
const MAX_SCANS: usize = 200;
/// Maximum number of blocks of all scans together, some seconds of work: 15 passes over the largest image in three
/// colours; more if larger ones are allowed.
const MAX_VISITS: u64 = 64 << 20;

/// A part of an image, or all of it.
#[derive(Clone, Copy, Debug)]
struct Rectangle {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

impl Rectangle {
    /// The rows and columns of a component's samples that its pixels depend on: those that it covers, and their neighbours where
    /// the component is smaller than the image. `scale` is the ratio of the image's size to the component's.
    fn samples(self, scale: [usize; 2], size: [usize; 2]) -> [Range<usize>; 2] {
        let range = |at: usize, len: usize, scale: usize, size: usize| {
            let margin = usize::from(scale > 1);
            (at / scale).saturating_sub(margin)..((at + len - 1) / scale + 1 + margin).min(size)
        };
        [range(self.top, self.height, scale[0], size[0]), range(self.left, self.width, scale[1], size[1])]
    }
}

/// Decodes the rectangle (top, left, height, width) of `bytes` that `choose` names for the size (height, width), to one channel for a grey
/// image, else three. The file is read to its end: what is damaged is an error wherever it is.
///
/// # Panics
/// If the rectangle is empty or not inside the image.
///
/// # Errors
/// [`ImageError::TooLarge`] before anything is allocated; [`ImageError::Unsupported`] for a kind of JPEG that is not
/// handled, with its name; [`ImageError::Decode`] for a truncated or inconsistent file.
pub(crate) fn decode(
    bytes: &[u8],
    decoding: &Decoding,
    choose: impl FnOnce([usize; 2]) -> [usize; 4],
) -> Result<Image, ImageError> {
    decode_file(bytes, decoding, choose).map_err(|fault| match fault {
        Fault::Unsupported(what) => ImageError::Unsupported(format!("a JPEG with {what}")),
        Fault::TooLarge { height, width } => ImageError::too_large(height, width, decoding),
        Fault::Broken(what) => ImageError::Decode(format!("damaged JPEG: {what}")),
    })
}

/// Why there is no image.
#[derive(Debug)]
enum Fault {
    /// An unsupported feature.
    Unsupported(&'static str),
    /// More pixels than are decoded.
    TooLarge { height: u64, width: u64 },
    /// The fault of a damaged file.
    Broken(&'static str),
}

fn decode_file(
    bytes: &[u8],
    decoding: &Decoding,
    choose: impl FnOnce([usize; 2]) -> [usize; 4],
) -> Result<Image, Fault> {
    let mut parser = Parser::new(bytes, *decoding)?;
    let mut decoder: Option<Decoder> = None;
    let mut choose = Some(choose);
    let mut rectangle = Rectangle { top: 0, left: 0, height: 0, width: 0 };
    let (mut scans, mut visits) = (0, 0);
    loop {
        match parser.next_segment()? {
            Segment::Frame(frame) => {
                let choose = choose.take().ok_or(Fault::Broken("a second frame"))?;
                let [top, left, height, width] = choose([frame.height, frame.width]);
                rectangle = Rectangle { top, left, height, width };
                crate::image::check_crop([frame.height, frame.width], [top, left, height, width]);
                decoder = Some(Decoder::new(frame, rectangle, decoding)?);
            }
            Segment::Scan(scan) => {
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(Fault::Broken("too many scans"));
                }
                let decoder = decoder.as_mut().ok_or(Fault::Broken("a scan before the frame"))?;
                visits += decoder.blocks(&scan);
                if visits > decoding.scaled(MAX_VISITS) {
                    return Err(Fault::Broken("too many scans for an image of its size"));
                }
                let used = decoder.scan(&scan, &parser.tables, parser.rest())?;
                parser.skip(used);
            }
            Segment::End => break,
        }
    }
    let decoder = decoder.ok_or(Fault::Broken("no frame"))?;
    let colours = parser.colours(&decoder.frame);
    let orientation = parser.exif.map(Orientation::from_exif_data).unwrap_or_default();
    let (frame, planes) = decoder.finish()?;
    let image = pixels::assemble(&frame, &planes, rectangle, colours)?;
    Decoder::recycle(planes);
    Ok(image.with_orientation(orientation))
}
