//! Whole files: read within a bound, written as a whole or not at all.

use crate::{Cause, WeightsError};
use residual_tensor::{AlignedBuffer, Floats};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

/// The largest file that is read. The largest training state of the zoo (ConvNeXt-L under AdamW with an average of the
/// weights) takes under 4 GiB.
pub(crate) const MAX_BYTES: u64 = 16 << 30;

/// Threads that read a long file, at most.
#[cfg(unix)]
const MOST_READERS: usize = 4;
/// Bytes that are worth a thread: some large pages.
#[cfg(unix)]
const LEAST_PART: usize = 16 << 20;

/// A file in memory, cheap to clone, whose bytes can become a tensor's without being copied.
#[derive(Clone, Debug)]
pub(crate) struct Bytes {
    buffer: Arc<AlignedBuffer>,
    len: usize,
}

impl Bytes {
    /// `bytes`, a part of these, as little-endian floats; `None` if they do not lie as this machine needs its floats.
    pub(crate) fn floats(&self, bytes: &[u8]) -> Option<Floats> {
        let start = bytes.as_ptr().addr().checked_sub(self.as_ptr().addr())?;
        let end = start.checked_add(bytes.len()).filter(|&end| end <= self.len)?;
        let fits = cfg!(target_endian = "little") && start.is_multiple_of(4) && end.is_multiple_of(4);
        fits.then(|| Floats::part(&self.buffer, start / 4..end / 4))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer.as_bytes()[..self.len]
    }
}

/// Reads the file at `path`.
///
/// Files are read into memory, not mapped: mapping is unsafe (another process may change the file under the map).
pub(crate) fn read(path: &Path) -> Result<Bytes, WeightsError> {
    read_within(path, MAX_BYTES)
}

fn read_within(path: &Path, limit: u64) -> Result<Bytes, WeightsError> {
    let fail = |error| WeightsError::new(path, Cause::Read(error));
    let too_large = || WeightsError::new(path, Cause::TooLarge { limit });
    let mut file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if metadata.is_dir() {
        return Err(fail(io::ErrorKind::IsADirectory.into()));
    }
    if metadata.len() > limit {
        return Err(too_large());
    }
    let buffer = |len: usize| {
        let buffer = AlignedBuffer::try_zeros(len.div_ceil(size_of::<f32>()));
        buffer.ok_or_else(|| fail(io::ErrorKind::OutOfMemory.into()))
    };
    let mut start = buffer(metadata.len() as usize)?;
    let bytes = &mut start.as_bytes_mut()[..metadata.len() as usize];
    let len = match fill_side_by_side(&mut file, bytes).map_err(fail)? {
        true => bytes.len(),
        false => fill(&mut file, bytes).map_err(fail)?,
    };
    // One byte past the limit tells a pipe, or a file that grew, from one that fits.
    let mut rest = Vec::new();
    file.take(limit + 1 - len as u64).read_to_end(&mut rest).map_err(fail)?;
    let whole = len + rest.len();
    if whole as u64 > limit {
        return Err(too_large());
    }
    if !rest.is_empty() {
        let mut longer = buffer(whole)?;
        longer.as_bytes_mut()[..len].copy_from_slice(&start.as_bytes()[..len]);
        longer.as_bytes_mut()[len..whole].copy_from_slice(&rest);
        start = longer;
    }
    Ok(Bytes { buffer: Arc::new(start), len: whole })
}

/// Reads the beginning of a long file with several threads, as most of the time goes into giving the memory its pages.
/// Whether it did: it leaves files alone that are short, or become it, or have no places to read from, such as pipes.
#[cfg(unix)]
fn fill_side_by_side(file: &mut File, bytes: &mut [u8]) -> io::Result<bool> {
    use std::io::{Seek, SeekFrom};
    use std::os::unix::fs::FileExt;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_READERS);
    let part = bytes.len().div_ceil(threads).max(LEAST_PART);
    if part >= bytes.len() {
        return Ok(false);
    }
    let shared = &*file;
    let whole = std::thread::scope(|scope| {
        let read =
            |(index, part_bytes): (usize, &mut [u8])| shared.read_exact_at(part_bytes, (index * part) as u64).is_ok();
        let mut parts = bytes.chunks_mut(part).enumerate();
        let first = parts.next();
        let readers: Vec<_> = parts.map(|part| scope.spawn(move || read(part))).collect();
        let first = first.is_none_or(read);
        readers.into_iter().fold(first, |whole, reader| reader.join().unwrap_or(false) && whole)
    });
    if whole {
        file.seek(SeekFrom::Start(bytes.len() as u64))?;
    }
    Ok(whole)
}

#[cfg(not(unix))]
fn fill_side_by_side(_file: &mut File, _bytes: &mut [u8]) -> io::Result<bool> {
    Ok(false)
}

/// Reads until `bytes` are full or the file ends; how many were read.
fn fill(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < bytes.len() {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Writes a file as a whole or not at all: into a temporary file in the same folder, which is synced and then renamed
/// to `path`. Whoever looks at `path`, at whatever time, sees the old file or the new one.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("metrics.csv");
/// residual_weights::atomic_write(&path, |file| writeln!(file, "epoch,loss"))?;
/// assert_eq!(std::fs::read_to_string(&path)?, "epoch,loss\n");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If the file cannot be written or `write` fails. The temporary file is removed, `path` is as it was.
pub fn atomic_write(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), WeightsError> {
    try_atomic_write(path, write).map_err(|error| WeightsError::new(path, Cause::Write(error)))
}

fn try_atomic_write(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"))?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    // Temporary files are private by default; this one becomes an ordinary file, subject to the umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    let mut buffered = BufWriter::with_capacity(1 << 18, file.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename itself is on disk once the folder is.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Writes `values` one after another, each as `bytes` makes it.
pub(crate) fn write_elements<T: Copy, const N: usize>(
    out: &mut dyn Write,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(N * 4096);
    for chunk in values.chunks(4096) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|&value| bytes(value)));
        out.write_all(&buffer)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_past_the_limit_is_refused_by_its_size_and_by_what_it_yields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [7; 10]).unwrap();
        assert_eq!(*read_within(&path, 10).unwrap(), [7; 10]);
        let error = read_within(&path, 9).unwrap_err();
        assert!(error.to_string().ends_with("a: expected at most 9 bytes, got more"), "{error}");
        #[cfg(target_os = "linux")]
        assert!(matches!(read_within(Path::new("/dev/zero"), 9).unwrap_err().cause, Cause::TooLarge { limit: 9 }));
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        use std::io::Write as _;
        let (mut reader, mut writer) = io::pipe().unwrap();
        let writing = std::thread::spawn(move || (0..10u8).for_each(|byte| writer.write_all(&[byte; 1000]).unwrap()));
        let mut bytes = [0; 5000];
        assert_eq!(fill(&mut reader, &mut bytes).unwrap(), 5000);
        assert!(bytes.iter().enumerate().all(|(index, &byte)| usize::from(byte) == index / 1000));
        assert_eq!(fill(&mut reader, &mut [0; 6000]).unwrap(), 5000);
        writing.join().unwrap();
    }

    #[test]
    fn a_long_file_is_read_whole_and_one_that_became_short_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let byte = |index: usize| (index % 251) as u8;
        let bytes: Vec<u8> = (0..(40 << 20) + 3).map(byte).collect();
        std::fs::write(&path, &bytes).unwrap();
        assert!(*read(&path).unwrap() == bytes);
        let mut longer = vec![0; bytes.len() + 1];
        let mut file = File::open(&path).unwrap();
        assert!(!fill_side_by_side(&mut file, &mut longer).unwrap());
        assert_eq!(fill(&mut file, &mut longer).unwrap(), bytes.len());
        assert!(longer[..bytes.len()] == bytes);
    }

    #[test]
    fn aligned_bytes_are_shared_as_floats() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let values = [1.0f32, -2.5, 3.25];
        let stored: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(&path, [&stored[..], &[1, 2, 3]].concat()).unwrap();
        let bytes = read(&path).unwrap();
        if cfg!(target_endian = "little") {
            let floats = bytes.floats(&bytes[4..12]).unwrap();
            assert_eq!((&*floats, floats.as_ptr().addr()), (&values[1..], bytes[4..].as_ptr().addr()));
        }
        assert!(bytes.floats(&bytes[3..7]).is_none() && bytes.floats(&bytes[12..15]).is_none());
        assert!(bytes.floats(&stored).is_none());
    }
}
