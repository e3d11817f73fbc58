//! Bounded reads of regular files and pipes. Devices are refused, as they have no end, and most pipes, as they may have
//! no writer.

use crate::{FileCause, FileError};
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The size limit of all files. The largest training state of the zoo (ConvNeXt-L under AdamW with an average of
/// the weights) takes under 4 GiB.
pub const MAX_BYTES: u64 = 16 << 30;

/// The pipes that are read besides regular files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pipes {
    /// None: the reader seeks.
    None,
    /// Pipes that this process already has open (`/dev/stdin`, a shell's `<(command)`).
    Open,
    /// All pipes.
    All,
}

/// The bytes of the file at `path`, at most `limit`.
///
/// Pipes are read if this process already has them open, under the names `/dev/stdin` and `/dev/fd/N`.
///
/// # Errors
/// If `path` is not a regular file, or the file cannot be read, is larger, or does not fit in memory.
pub fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let (file, metadata) = open(path, Pipes::Open)?;
    let too_large = || FileError::new(path, FileCause::TooLarge { limit });
    if metadata.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // One byte past the limit tells a pipe, or a file that grew, from one that fits.
    let reserved = bytes.try_reserve_exact(metadata.len() as usize + 1);
    reserved.map_err(|_| FileError::read(path)(io::ErrorKind::OutOfMemory.into()))?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(FileError::read(path))?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

/// [`read_file`], as text.
///
/// # Errors
/// As there, and if the file is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String, FileError> {
    String::from_utf8(read_file(path, limit)?)
        .map_err(|error| FileError::new(path, FileCause::Text { offset: error.utf8_error().valid_up_to() }))
}

/// `len` bytes of the file at `path` from `offset` on, such as a file in an archive.
///
/// # Errors
/// If `path` is not a regular file, the file cannot be read or ends before, or the bytes do not fit in memory.
pub fn read_part(path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, FileError> {
    let fail = FileError::read(path);
    let mut file = open_file(path)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| fail(io::ErrorKind::OutOfMemory.into()))?;
    file.seek(SeekFrom::Start(offset)).map_err(&fail)?;
    file.take(len as u64).read_to_end(&mut bytes).map_err(&fail)?;
    if bytes.len() < len { Err(fail(io::ErrorKind::UnexpectedEof.into())) } else { Ok(bytes) }
}

/// Opens a regular file for reading.
///
/// # Errors
/// If `path` is not a regular file, or cannot be opened.
pub fn open_file(path: &Path) -> Result<File, FileError> {
    Ok(open(path, Pipes::None)?.0)
}

/// Opens a file, or a pipe if `pipes` allows it. The kind is checked before opening, which would wait for a pipe's
/// writer.
pub(crate) fn open(path: &Path, pipes: Pipes) -> Result<(File, Metadata), FileError> {
    let fail = FileError::read(path);
    check_kind(path, &std::fs::metadata(path).map_err(&fail)?, pipes)?;
    let file = File::open(path).map_err(&fail)?;
    // The path may lead to another file by now.
    let metadata = file.metadata().map_err(&fail)?;
    check_kind(path, &metadata, pipes)?;
    Ok((file, metadata))
}

fn check_kind(path: &Path, metadata: &Metadata, pipes: Pipes) -> Result<(), FileError> {
    let pipes_are_read = match pipes {
        Pipes::None => false,
        Pipes::Open => is_descriptor(path),
        Pipes::All => true,
    };
    match kind(metadata) {
        Kind::File => Ok(()),
        Kind::Pipe if pipes_are_read => Ok(()),
        other => Err(FileError::new(path, FileCause::Kind { got: other.name() })),
    }
}

/// Whether `path` names something that this process has open.
pub(crate) fn is_descriptor(path: &Path) -> bool {
    let names = ["/dev/stdin", "/dev/stdout", "/dev/stderr"];
    names.iter().any(|name| path == Path::new(name)) || path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd")
}

/// The kind of a path's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Pipe,
    Device,
    Socket,
    Other,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Folder => "a folder",
            Self::Pipe => "a pipe",
            Self::Device => "a device",
            Self::Socket => "a socket",
            Self::Other => "something else",
        }
    }
}

pub(crate) fn kind(metadata: &Metadata) -> Kind {
    let file_type = metadata.file_type();
    if file_type.is_file() {
        return Kind::File;
    }
    if file_type.is_dir() {
        return Kind::Folder;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if file_type.is_fifo() {
            return Kind::Pipe;
        }
        if file_type.is_char_device() || file_type.is_block_device() {
            return Kind::Device;
        }
        if file_type.is_socket() {
            return Kind::Socket;
        }
    }
    Kind::Other
}
