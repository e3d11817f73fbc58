//! Baseline and progressive JPEG to RGB, with the arithmetic of libjpeg-turbo: its accurate integer inverse transform, its
//! smooth ("fancy") chroma upsampling and its colour conversion, so that the pixels are bit-identical to Pillow's.
//!
//! Faster decoders round differently, by up to 4 grey levels. Variants that libjpeg-turbo does not decode to 8 bits either,
//! or that are rare (lossless, hierarchical and arithmetic coding, other sample depths), are errors that name the variant.

mod coefficients;
mod entropy;
mod header;
mod idct;
mod pixels;

use crate::{Decoding, Image, ImageError, Orientation};
use coefficients::Decoder;
use header::{Parser, Segment};

/// Maximum number of scans; encoders write about ten.
const MAX_SCANS: usize = 200;
/// Maximum number of blocks of all scans together, some seconds of work: 15 passes over the largest image in three
/// colours; more if larger ones are allowed.
const MAX_VISITS: u64 = 64 << 20;

/// Decodes `bytes` to one channel for a grey image, else three.
///
/// # Errors
/// [`ImageError::TooLarge`] before anything is allocated; [`ImageError::Unsupported`] for a kind of JPEG that is not
/// handled, with its name; [`ImageError::Decode`] for a truncated or inconsistent file.
pub(crate) fn decode(bytes: &[u8], decoding: &Decoding) -> Result<Image, ImageError> {
    decode_file(bytes, decoding).map_err(|fault| match fault {
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

fn decode_file(bytes: &[u8], decoding: &Decoding) -> Result<Image, Fault> {
    let mut parser = Parser::new(bytes, *decoding)?;
    let mut decoder: Option<Decoder> = None;
    let (mut scans, mut visits) = (0, 0);
    loop {
        match parser.next_segment()? {
            Segment::Frame(frame) if decoder.is_none() => decoder = Some(Decoder::new(frame, decoding)?),
            Segment::Frame(_) => return Err(Fault::Broken("a second frame")),
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
    Ok(pixels::assemble(decoder.finish()?, colours)?.with_orientation(orientation))
}
