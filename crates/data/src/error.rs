//! Errors of data, each in one line: where, what was expected, what was found.

use std::io;

use residual_files::{FileCause, FileError, one_line};
use residual_preprocess::{ImageError, PreprocessingError};

use crate::UnknownClasses;

/// An error of this crate. The message is complete; causes are kept in the `cause` fields.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file cannot be read or written.
    #[error("{}", one_line(.0))]
    File(FileError),
    /// An image cannot be decoded or prepared.
    #[error("{place}: {cause}")]
    Image {
        /// The file, or the file and the image's number.
        place: String,
        /// Why.
        cause: ImageError,
    },
    /// A file, folder or option with invalid content.
    #[error("{place}: expected {expected}, got {got}")]
    Invalid {
        /// The file and offset, the folder or the option.
        place: String,
        /// The accepted values.
        expected: String,
        /// The given value.
        got: String,
    },
    /// A folder has classes that the training folder lacks.
    #[error("{place}: {cause}")]
    Classes {
        /// The folder.
        place: String,
        /// Which classes.
        cause: UnknownClasses,
    },
    /// Not enough memory for a size chosen by the user.
    #[error("{what}: expected {} MiB of memory, got less", bytes.div_ceil(1 << 20))]
    Memory {
        /// Its purpose.
        what: String,
        /// Its size.
        bytes: u64,
    },
    /// A thread of the loader cannot be started.
    #[error("loader: expected another thread, got none: {0}")]
    Thread(std::io::Error),
    /// The preprocessing cannot be carried out.
    #[error("{0}")]
    Preprocessing(PreprocessingError),
    /// A dataset panicked while a sample was read.
    #[error("{place}: the dataset failed: {message}")]
    Panic {
        /// The sample.
        place: String,
        /// The panic's message.
        message: String,
    },
}

impl From<FileError> for DataError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<PreprocessingError> for DataError {
    fn from(cause: PreprocessingError) -> Self {
        Self::Preprocessing(cause)
    }
}

impl DataError {
    /// Whether the error concerns a single sample: an image that cannot be decoded, an invalid record, a file that is
    /// missing, too large or not a regular file. Such a sample may be skipped. All other errors (too many open files, no
    /// memory, a failing disk) would affect valid images as well, and end the run.
    pub fn is_bad_image(&self) -> bool {
        match self {
            Self::Image { .. } | Self::Invalid { .. } | Self::Panic { .. } => true,
            Self::File(FileError { cause, .. }) => match cause {
                FileCause::Read(cause) => cause.kind() == io::ErrorKind::NotFound,
                FileCause::Kind { .. } | FileCause::TooLarge { .. } => true,
                _ => false,
            },
            Self::Classes { .. } | Self::Memory { .. } | Self::Thread(_) | Self::Preprocessing(_) => false,
        }
    }

    pub(crate) fn invalid(place: impl ToString, expected: impl ToString, got: impl ToString) -> Self {
        Self::Invalid { place: place.to_string(), expected: expected.to_string(), got: got.to_string() }
    }
}
