//! Baseline and progressive JPEG to RGB, with the arithmetic of libjpeg-turbo: its accurate integer inverse transform, its
//! smooth ("fancy") chroma upsampling and its colour conversion, so that the pixels are those that Pillow sees.
//!
//! Faster decoders round elsewhere and are up to 4 grey levels away. Rare kinds (CMYK, arithmetic coding, other sample
//! depths) are left to the `image` crate.

mod coefficients;
mod entropy;
mod header;
mod idct;
mod pixels;

use crate::{Image, ImageError};
use coefficients::Decoder;
use header::{Parser, Segment};

/// The most scans that are followed; encoders write about ten. Each costs a walk over the image, however short.
const MAX_SCANS: usize = 200;

/// Decodes `bytes`, or gives `None` for a kind of JPEG that is not handled here.
///
/// # Errors
/// [`ImageError::TooLarge`] before anything is allocated; [`ImageError::Decode`] for a file that breaks off or
/// contradicts itself.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Image>, ImageError> {
    match decode_file(bytes) {
        Ok(image) => Ok(Some(image)),
        Err(Fault::Unhandled) => Ok(None),
        Err(Fault::TooLarge { height, width }) => Err(ImageError::TooLarge { height, width }),
        Err(Fault::Broken(what)) => Err(ImageError::Decode(format!("damaged JPEG: {what}"))),
    }
}

/// Why there is no image.
#[derive(Debug)]
enum Fault {
    /// A kind that this decoder leaves to another.
    Unhandled,
    /// More pixels than are decoded.
    TooLarge { height: u64, width: u64 },
    /// What is wrong with the file.
    Broken(&'static str),
}

fn decode_file(bytes: &[u8]) -> Result<Image, Fault> {
    let mut parser = Parser::new(bytes)?;
    let mut decoder: Option<Decoder> = None;
    let mut scans = 0;
    loop {
        match parser.next_segment()? {
            Segment::Frame(frame) if decoder.is_none() => decoder = Some(Decoder::new(frame)?),
            Segment::Frame(_) => return Err(Fault::Broken("a second frame")),
            Segment::Scan(scan) => {
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(Fault::Broken("too many scans"));
                }
                let decoder = decoder.as_mut().ok_or(Fault::Broken("a scan before the frame"))?;
                let used = decoder.scan(&scan, &parser.tables, parser.rest())?;
                parser.skip(used);
            }
            Segment::End => break,
        }
    }
    let decoder = decoder.ok_or(Fault::Broken("no frame"))?;
    let is_ycc = parser.is_ycc(&decoder.frame);
    pixels::assemble(decoder.finish()?, is_ycc)
}
