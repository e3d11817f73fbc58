//! Errors of weights files.

use residual_files::{FileCause, FileError, HeaderError};
use residual_graph::GraphError;
use residual_model::ModelError;
use residual_preprocess::PreprocessingError;
use std::error::Error;
use std::path::{Path, PathBuf};

/// A file and why it could not be read or written. The message is one line, without the text of its sources.
#[derive(Debug)]
pub struct WeightsError {
    /// The file.
    pub path: PathBuf,
    /// The fault.
    pub cause: Cause,
}

/// A fault of a file.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileCause),
    /// Its content is invalid.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The parts of the model do not fit together.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It contains tensors, but no graph.
    #[error("a state dict without a graph: name the network with --model")]
    NoGraph,
}

/// Invalid content.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Neither of the formats this crate reads.
    #[error("expected a safetensors file or a torch checkpoint, got {got}")]
    Unknown {
        /// The first bytes.
        got: String,
    },
    /// A truncated file.
    #[error("{format}: expected a whole file, got one that was cut off after {length} bytes (get it again)")]
    CutOff {
        /// Its kind.
        format: &'static str,
        /// Its bytes.
        length: usize,
    },
    /// Not a safetensors file.
    #[error("safetensors: {what}")]
    Safetensors {
        /// The fault.
        what: String,
    },
    /// A safetensors file with a header above the limit.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Not a torch checkpoint, or one that this crate does not read.
    #[error("torch checkpoint: {0}")]
    Torch(String),
    /// The zip archive of a torch checkpoint is damaged.
    #[error("torch checkpoint: expected a zip archive, got a damaged one")]
    Zip(#[from] zip::result::ZipError),
    /// A tensor with elements of another type.
    #[error("tensor \"{key}\": expected elements of type {expected}, got {got}")]
    Type {
        /// Its key.
        key: String,
        /// The element types that are read.
        expected: &'static str,
        /// Its element type.
        got: String,
    },
    /// A tensor with non-finite values.
    #[error("tensor \"{key}\": expected finite values, got {count} of {len} that are NaN or infinite in 32 bits")]
    NotFinite {
        /// Its key.
        key: String,
        /// The number of non-finite values.
        count: usize,
        /// The number of values.
        len: usize,
    },
    /// A tensor with repeated elements (zero strides), outside a network whose shapes bound it.
    #[error("tensor \"{key}\": expected at most as many elements as are stored ({stored}), got {len}")]
    Expanded {
        /// Its key.
        key: String,
        /// Elements that are stored.
        stored: usize,
        /// Elements that it has.
        len: usize,
    },
    /// A tensor that does not fit in memory.
    #[error("tensor \"{key}\": expected memory for {len} elements, got none")]
    Memory {
        /// Its key.
        key: String,
        /// Its elements.
        len: usize,
    },
    /// A part of a weight that is stored without its zeros, or in 4 bits.
    #[error("tensor \"{key}\": {fault}")]
    Packed {
        /// The name of the part.
        key: String,
        /// What it must be, and what it is.
        fault: String,
    },
    /// A checkpoint whose graph is no network.
    #[error("metadata \"residual.graph\"")]
    Graph(#[from] GraphError),
    /// A checkpoint whose preprocessing cannot be carried out.
    #[error("metadata \"residual.preprocessing\"")]
    Preprocessing(#[from] PreprocessingError),
    /// A checkpoint with metadata that is missing.
    #[error("metadata \"{key}\": expected JSON, got none")]
    MetadataMissing {
        /// The key of the metadata.
        key: &'static str,
    },
    /// A checkpoint with invalid metadata.
    #[error("metadata \"{key}\"")]
    Metadata {
        /// The key of the metadata.
        key: &'static str,
        /// The place and the reason.
        source: serde_json::Error,
    },
}

impl WeightsError {
    pub(crate) fn new(path: &Path, cause: impl Into<Cause>) -> Self {
        Self { path: path.to_owned(), cause: cause.into() }
    }
}

impl From<FileError> for WeightsError {
    fn from(error: FileError) -> Self {
        Self { path: error.path, cause: error.cause.into() }
    }
}

impl std::fmt::Display for WeightsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.cause)
    }
}

impl Error for WeightsError {
    /// The cause of the cause, whose text is already contained in this error's message.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}
