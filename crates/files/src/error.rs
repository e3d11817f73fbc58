//! Errors of files.

use crate::{HeaderError, NpyError};
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// A file or folder and why it could not be read or written. The message is one line, without the text of its sources.
#[derive(Debug)]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// The fault.
    pub cause: FileCause,
}

/// A fault of a file.
#[derive(Debug, thiserror::Error)]
pub enum FileCause {
    /// It cannot be opened or read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// It cannot be written; a previous file is unchanged.
    #[error("cannot be written")]
    Write(#[source] io::Error),
    /// The folder in which a file is to be written does not exist.
    #[error("no such folder")]
    NoFolder,
    /// It is not a regular file.
    #[error("expected a file, got {got}")]
    Kind {
        /// Its kind.
        got: &'static str,
    },
    /// It is above the size limit.
    #[error("expected at most {limit} bytes, got more")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// It is not text.
    #[error("expected text in UTF-8, got byte {offset} that is none")]
    Text {
        /// The offset of the first byte that is not UTF-8.
        offset: usize,
    },
    /// Folders are nested too deeply.
    #[error("expected at most {limit} nested folders, got more")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// It is not a numpy array, or one of an unsupported type.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// No safetensors header can be written for its contents.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

impl FileError {
    /// An error of the file or folder at `path`.
    pub fn new(path: &Path, cause: impl Into<FileCause>) -> Self {
        Self { path: path.to_owned(), cause: cause.into() }
    }

    /// For `map_err`: the file at `path` cannot be read.
    pub fn read(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self::new(path, FileCause::Read(error))
    }

    /// For `map_err`: the file at `path` cannot be written.
    pub fn write(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self::new(path, FileCause::Write(error))
    }
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.cause)
    }
}

impl Error for FileError {
    /// The cause of the cause, whose text is already contained in this error's message.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}
