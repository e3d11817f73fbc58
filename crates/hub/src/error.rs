//! Errors of pretrained weights.

use residual_files::{FileError, printable};
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// The name of weights and why they are unavailable. The message is one line, without the text of its sources.
#[derive(Debug)]
pub struct HubError {
    /// The name, truncated if it is long.
    pub name: String,
    /// The cause.
    pub cause: HubCause,
    /// The address of the file and its path in the cache, for a download by other means.
    pub instead: Option<Box<Instead>>,
}

/// A manual download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instead {
    /// The address of the file.
    pub url: String,
    /// Its path in the cache.
    pub path: PathBuf,
}

/// A cause of a [`HubError`].
#[derive(Debug, thiserror::Error)]
pub enum HubCause {
    /// The name is malformed or unknown.
    #[error("expected {expected}, got {got}")]
    Name {
        /// The accepted names.
        expected: String,
        /// The given name.
        got: String,
    },
    /// Downloads are disabled.
    #[error("expected a file that was downloaded before, as {why} forbids downloads, got none")]
    Offline {
        /// The variable or option that disables them.
        why: &'static str,
    },
    /// There is no cache folder.
    #[error("expected a cache folder (RESIDUAL_HOME), got none")]
    NoHome,
    /// The server refuses the request.
    #[error("{url}: expected the file, got status {status}{}", hint(*.status))]
    Status {
        /// The requested address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server's response is invalid.
    #[error("{url}: expected {expected}, got {got}")]
    Answer {
        /// The requested address.
        url: String,
        /// The expected response.
        expected: &'static str,
        /// The response.
        got: String,
    },
    /// There is no connection, or it was interrupted.
    #[error("{url}: {what}")]
    Network {
        /// The requested address.
        url: String,
        /// The reason.
        what: String,
    },
    /// The file is above the size limit.
    #[error("{url}: expected at most {limit} bytes, got more")]
    TooLarge {
        /// The requested address.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// It is not the published file; it was deleted.
    #[error("{url}: expected SHA-256 {expected}, got {got}")]
    Hash {
        /// The requested address.
        url: String,
        /// The expected hash, or its beginning.
        expected: String,
        /// The file's SHA-256.
        got: String,
    },
    /// A file in the cache, copied there or changed, is not the published one.
    #[error("{}: expected the published file, whose SHA-256 begins with {expected}, got {got} (delete it)", path.display())]
    Placed {
        /// The file.
        path: PathBuf,
        /// The beginning of the published file's SHA-256.
        expected: String,
        /// The file's SHA-256.
        got: String,
    },
    /// A file of the cache cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => " (private and gated files of the hub require HF_TOKEN)",
        404 | 410 => " (there is no such file)",
        _ => "",
    }
}

impl HubError {
    pub(crate) fn new(name: impl Into<String>, cause: HubCause) -> Self {
        Self { name: name.into(), cause, instead: None }
    }
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.cause)?;
        match &self.instead {
            Some(instead) => {
                let Instead { url, path } = &**instead;
                write!(f, "; download {url} yourself and put it at {}", path.display())
            }
            None => Ok(()),
        }
    }
}

impl Error for HubError {
    /// The cause of the cause, whose text is already contained in this error's message.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

/// Text of a user or a server, escaped and truncated.
pub(crate) fn shown(text: &str) -> String {
    printable(text, 120)
}
