//! What is kept of each image: about 400 bytes.

use crate::Collection;
use crate::appearance::Appearance;
use crate::jpeg::{JpegFacts, jpeg_facts};
use residual_data::{DataError, Sample};
use residual_files::{FileCause, FileError};
use residual_preprocess::{Image, ImageError};
use sha2::{Digest, Sha256};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An image that was read once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    /// Of its file; `None` for pixels without one, and for a file that cannot be read.
    pub(crate) file: Option<FileFacts>,
    /// The first half of the SHA-256 of its file, or of its pixels; `None` if it cannot be read.
    pub(crate) digest: Option<[u8; 16]>,
    /// Why it cannot be read.
    pub(crate) fault: Option<Fault>,
    /// Of its pixels; `None` if it cannot be read, or has normalised values or more than four channels.
    pub(crate) appearance: Option<Box<Appearance>>,
}

/// Facts of an image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileFacts {
    /// Its length.
    pub(crate) bytes: u64,
    /// The usual extension of its content; `None` for bytes of no known image format.
    pub(crate) format: Option<&'static str>,
    /// Of a JPEG file.
    pub(crate) jpeg: JpegFacts,
}

/// Why an image cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// In one line.
    pub(crate) reason: String,
    /// What is at fault.
    pub(crate) kind: FaultKind,
}

/// What is at fault where an image cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// The bytes: damaged ones, or those of something else.
    Damaged,
    /// A limit, of bytes or of pixels.
    TooLarge,
    /// A kind of image that is not read.
    Unsupported,
    /// There is no file.
    Missing,
    /// The system: a permission, a disk. The image may be in order.
    System,
}

impl FaultKind {
    /// For people: what images are that have it.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Damaged => "damaged or no image",
            Self::TooLarge => "larger than what is read",
            Self::Unsupported => "of a kind that is not read",
            Self::Missing => "missing or no file",
            Self::System => "not given by the system",
        }
    }
}

impl From<ImageError> for Fault {
    fn from(cause: ImageError) -> Self {
        let kind = match &cause {
            ImageError::TooLarge { .. } => FaultKind::TooLarge,
            ImageError::Unsupported(_) => FaultKind::Unsupported,
            _ => FaultKind::Damaged,
        };
        Self { reason: cause.to_string(), kind }
    }
}

impl From<DataError> for Fault {
    fn from(error: DataError) -> Self {
        let kind = match &error {
            DataError::File(FileError { cause: FileCause::TooLarge { .. }, .. }) => FaultKind::TooLarge,
            DataError::File(FileError { cause: FileCause::Kind { .. }, .. }) => FaultKind::Missing,
            DataError::File(FileError { cause: FileCause::Read(cause), .. })
                if cause.kind() == io::ErrorKind::NotFound =>
            {
                FaultKind::Missing
            }
            error if error.is_bad_image() => FaultKind::Damaged,
            _ => FaultKind::System,
        };
        match error {
            DataError::Image { cause, .. } => cause.into(),
            error => Self { reason: error.to_string(), kind },
        }
    }
}

impl Record {
    /// Reads image `index`.
    pub(crate) fn read(images: &Collection, index: usize) -> Self {
        let read = catch_unwind(AssertUnwindSafe(|| Self::try_read(images, index)));
        read.unwrap_or_else(|_| {
            let fault = Fault { reason: "its reader failed".into(), kind: FaultKind::Damaged };
            Self { fault: Some(fault), ..Self::default() }
        })
    }

    fn try_read(images: &Collection, index: usize) -> Self {
        match images.bytes(index) {
            Err(error) => Self { fault: Some(error.into()), ..Self::default() },
            Ok(Some(bytes)) => Self::of_file(&bytes),
            Ok(None) => match images.sample(index) {
                Err(error) => Self { fault: Some(error.into()), ..Self::default() },
                Ok(Sample::Pixels(image)) => {
                    let size = [image.height(), image.width(), image.channels()];
                    let digest = Some(digest([&size.map(usize::to_le_bytes).concat(), image.pixels()]));
                    Self { digest, appearance: Appearance::of(&image).map(Box::new), ..Self::default() }
                }
                Ok(Sample::Normalized { values, .. }) => {
                    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    Self { digest: Some(digest([&[], &bytes])), ..Self::default() }
                }
            },
        }
    }

    fn of_file(bytes: &[u8]) -> Self {
        let format = Image::file_extension(bytes);
        let jpeg = if format == Some("jpg") { jpeg_facts(bytes) } else { JpegFacts::default() };
        let file = Some(FileFacts { bytes: bytes.len() as u64, format, jpeg });
        match Image::decode(bytes) {
            Ok(image) => Self {
                file,
                digest: Some(digest([&[], bytes])),
                fault: None,
                appearance: Appearance::of(&image).map(Box::new),
            },
            Err(cause) => Self { file, fault: Some(cause.into()), ..Self::default() },
        }
    }
}

fn digest(parts: [&[u8]; 2]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    let whole: [u8; 32] = hasher.finalize().into();
    *whole.first_chunk().expect("32 bytes")
}
