//! What `-` stands for: an image on stdin, or a list of paths, one a line.

use crate::failure::Failure;
use residual::Image;
use residual::data::DataError;
use residual::files::{FileCause, FileError};
use std::io::{BufRead, BufReader, Read, Stdin, stdin};
use std::path::PathBuf;

/// The longest image, as in files.
const MAX_BYTES: u64 = 256 << 20;
/// The longest path, in bytes.
const MAX_PATH: usize = 1 << 16;

/// The content of stdin.
pub(super) enum Content {
    Image(Vec<u8>),
    Paths(Paths),
}

/// A list of paths, read line by line as they come.
pub(super) struct Paths {
    reader: BufReader<Stdin>,
    /// The bytes that were read and belong to no group yet.
    pending: Vec<u8>,
}

impl Content {
    /// Decides by the first bytes: those of an image file (see [`Image::is_file_start`]) are an image, others are paths.
    pub(super) fn read() -> Result<Self, DataError> {
        const START: usize = 12;
        let mut reader = BufReader::with_capacity(MAX_PATH, stdin());
        let mut start = Vec::new();
        while start.len() < START && !is_list(&start) {
            let read = reader.by_ref().take((START - start.len()) as u64).read_until(b'\n', &mut start);
            if read.map_err(fail)? == 0 {
                break;
            }
        }
        if !Image::is_file_start(&start) {
            return Ok(Self::Paths(Paths { reader, pending: start }));
        }
        let mut bytes = start;
        let read = reader.take(MAX_BYTES + 1 - bytes.len() as u64).read_to_end(&mut bytes);
        read.map_err(fail)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(DataError::File(FileError {
                path: "stdin".into(),
                cause: FileCause::TooLarge { limit: MAX_BYTES },
            }));
        }
        Ok(Self::Image(bytes))
    }
}

/// Whether these first bytes are a whole line of text.
fn is_list(start: &[u8]) -> bool {
    start.ends_with(b"\n") && !Image::is_file_start(start) && std::str::from_utf8(start).is_ok()
}

fn fail(cause: std::io::Error) -> DataError {
    DataError::File(FileError { path: "stdin".into(), cause: FileCause::Read(cause) })
}

impl Paths {
    /// The next paths: all whole lines that have come, at least one; none at the end. Blank lines are skipped.
    pub(super) fn group(&mut self) -> Result<Vec<PathBuf>, Failure> {
        loop {
            let end = self.pending.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            let group = paths(self.pending.drain(..end).as_slice())?;
            if !group.is_empty() {
                return Ok(group);
            }
            let come = self.reader.fill_buf()?;
            if come.is_empty() {
                return paths(&std::mem::take(&mut self.pending));
            }
            self.pending.extend_from_slice(come);
            let length = come.len();
            self.reader.consume(length);
            if self.pending.len() > MAX_PATH && !self.pending.contains(&b'\n') {
                return Err(Failure::new(format!(
                    "stdin: expected an image, or a path a line, got a line of more than {MAX_PATH} bytes"
                )));
            }
        }
    }
}

/// The paths in some lines.
fn paths(lines: &[u8]) -> Result<Vec<PathBuf>, Failure> {
    let lines = lines.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.is_empty()).map(path).collect()
}

#[cfg(unix)]
fn path(line: &[u8]) -> Result<PathBuf, Failure> {
    use std::os::unix::ffi::OsStrExt;
    if line.contains(&0) {
        return Err(Failure::new("stdin: expected an image, or a path a line, got other bytes"));
    }
    Ok(std::ffi::OsStr::from_bytes(line).into())
}

#[cfg(not(unix))]
fn path(line: &[u8]) -> Result<PathBuf, Failure> {
    let text = std::str::from_utf8(line)
        .map_err(|_| Failure::new("stdin: expected an image, or a path a line, got other bytes"))?;
    Ok(text.into())
}
