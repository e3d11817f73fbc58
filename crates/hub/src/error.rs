//! Why weights could not be brought here.

use residual_files::{FileError, printable};
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// The name of weights and why they are not here. The message is one line, without the text of its sources.
#[derive(Debug)]
pub struct HubError {
    /// The name, shortened where it is long.
    pub name: String,
    /// What went wrong.
    pub cause: HubCause,
    /// Where the file is to be had, and where it belongs: what can be done without this program.
    pub instead: Option<Box<Instead>>,
}

/// A download by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instead {
    /// The address of the file.
    pub url: String,
    /// Where it is looked for.
    pub path: PathBuf,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum HubCause {
    /// It is no name, or not one that is known.
    #[error("expected {expected}, got {got}")]
    Name {
        /// What a name is.
        expected: String,
        /// What stood there.
        got: String,
    },
    /// It may not be downloaded.
    #[error("expected a file that was downloaded before, as {why} forbids to download, got none")]
    Offline {
        /// Who says so.
        why: &'static str,
    },
    /// There is no folder to keep files in.
    #[error("expected a folder to keep files in (RESIDUAL_HOME), got none")]
    NoHome,
    /// The server does not give it.
    #[error("{url}: expected the file, got status {status}{}", hint(*.status))]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: u16,
    },
    /// The server answers in a way that leads nowhere.
    #[error("{url}: expected {expected}, got {got}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What an answer is.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// There is no connection, or it broke.
    #[error("{url}: {what}")]
    Network {
        /// What was asked for.
        url: String,
        /// Why.
        what: String,
    },
    /// It is larger than any file that is read.
    #[error("{url}: expected at most {limit} bytes, got more")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// It is not the file that was published, and was thrown away.
    #[error("{url}: expected SHA-256 {expected}, got {got}")]
    Hash {
        /// What was asked for.
        url: String,
        /// What it should be, or begin with.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A file in the cache, put there by hand or changed, is not the one that was published.
    #[error("{}: expected the published file, whose SHA-256 begins with {expected}, got {got} (delete it)", path.display())]
    Placed {
        /// The file.
        path: PathBuf,
        /// What its SHA-256 begins with.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A file of the cache cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => " (HF_TOKEN is sent to the hub for what is not public)",
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
    /// The cause of the cause, whose own text stands in this error's message already.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

/// Text that somebody typed or sent, harmless and short.
pub(crate) fn shown(text: &str) -> String {
    printable(text, 120)
}
