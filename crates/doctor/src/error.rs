//! Why a dataset cannot be examined or changed.

use residual_data::DataError;
use residual_files::{FileError, one_line};
use residual_infer::ClassifyError;
use std::path::PathBuf;

/// An error of this crate. The message is one line and includes the causes.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// The dataset cannot be read.
    #[error("{}", one_line(.0))]
    Data(#[from] DataError),
    /// A file cannot be read, written or moved.
    #[error("{}", one_line(.0))]
    File(#[from] FileError),
    /// The features of images cannot be computed.
    #[error("{}", one_line(.0))]
    Features(#[from] ClassifyError),
    /// A value for something else, or that is out of range.
    #[error("{what}: expected {expected}, got {got}")]
    Invalid {
        /// The value, or a file and the place in it.
        what: String,
        /// What belongs there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A file cannot be moved.
    #[error("{}: cannot be moved to {}: {source}", from.display(), to.display())]
    Move {
        /// Where it lies.
        from: PathBuf,
        /// Where it was to be moved.
        to: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl DoctorError {
    pub(crate) fn invalid(what: impl ToString, expected: impl ToString, got: impl ToString) -> Self {
        Self::Invalid { what: what.to_string(), expected: expected.to_string(), got: got.to_string() }
    }
}
