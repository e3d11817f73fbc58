//! What can be wrong with data, each in one line that says where, what was expected and what came.

use std::error::Error;
use std::path::{Path, PathBuf};

use residual_files::{FileCause, FileError};
use residual_preprocess::{ImageError, PreprocessingError};

/// An error of this crate. The message is complete; causes are kept in the `cause` fields.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file system refused.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file cannot be read or written.
    #[error("{}", with_cause(.0))]
    File(FileError),
    /// An image cannot be decoded or prepared.
    #[error("{place}: {cause}")]
    Image {
        /// The file, or the file and the image's number.
        place: String,
        /// Why.
        cause: ImageError,
    },
    /// A file, folder or option does not hold what it should.
    #[error("{place}: expected {expected}, got {got}")]
    Invalid {
        /// The file and offset, the folder or the option.
        place: String,
        /// What it may hold.
        expected: String,
        /// What it holds.
        got: String,
    },
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

fn with_cause(error: &FileError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

impl From<PreprocessingError> for DataError {
    fn from(cause: PreprocessingError) -> Self {
        Self::Preprocessing(cause)
    }
}

impl DataError {
    /// Whether an image is at fault (damaged, of a kind that cannot be decoded, gone), and not what was needed to read it, such
    /// as memory, file descriptors or permission. Only such an image may be skipped.
    pub fn is_bad_image(&self) -> bool {
        match self {
            Self::Image { .. } | Self::Panic { .. } => true,
            Self::Io { cause, .. } => cause.kind() == std::io::ErrorKind::NotFound,
            Self::File(FileError { cause: FileCause::Read(cause), .. }) => cause.kind() == std::io::ErrorKind::NotFound,
            Self::File(FileError { cause, .. }) => matches!(cause, FileCause::Kind { .. } | FileCause::TooLarge { .. }),
            Self::Invalid { .. } | Self::Preprocessing(_) => false,
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self::Io { path, cause }
    }

    pub(crate) fn invalid(place: impl ToString, expected: impl ToString, got: impl ToString) -> Self {
        Self::Invalid { place: place.to_string(), expected: expected.to_string(), got: got.to_string() }
    }
}
