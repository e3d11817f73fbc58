//! Large files in memory, whose bytes can become a tensor's.

use crate::read::{Pipes, open};
use crate::{FileCause, FileError};
use residual_tensor::{AlignedBuffer, Floats};
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
#[cfg(unix)]
use std::sync::{Mutex, PoisonError};

/// Maximum number of threads that read a long file.
#[cfg(unix)]
const MOST_READERS: usize = 4;
/// Minimum number of bytes per thread: some large pages.
#[cfg(unix)]
const LEAST_PART: usize = 16 << 20;

/// A file in memory, cheap to clone, whose bytes can become a tensor's without being copied.
#[derive(Clone, Debug)]
pub struct Bytes {
    buffer: Arc<AlignedBuffer>,
    len: usize,
}

impl Bytes {
    /// `bytes`, a part of these, as little-endian floats; `None` if they are not aligned or this machine is big-endian.
    pub fn floats(&self, bytes: &[u8]) -> Option<Floats> {
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

/// Reads the file or pipe at `path`, at most `limit` bytes, a long one with several threads.
///
/// Files are read into memory, not mapped: mapping is unsafe (another process may change the file under the map).
///
/// # Errors
/// If `path` is a folder, device or socket, or cannot be read, is larger, or does not fit in memory.
pub fn read_bytes(path: &Path, limit: u64) -> Result<Bytes, FileError> {
    let fail = FileError::read(path);
    let too_large = || FileError::new(path, FileCause::TooLarge { limit });
    let (mut file, metadata) = open(path, Pipes::All)?;
    if metadata.len() > limit {
        return Err(too_large());
    }
    let buffer = |len: usize| {
        let buffer = AlignedBuffer::try_zeros(len.div_ceil(size_of::<f32>()));
        buffer.ok_or_else(|| fail(io::ErrorKind::OutOfMemory.into()))
    };
    let mut start = buffer(metadata.len() as usize)?;
    let bytes = &mut start.as_bytes_mut()[..metadata.len() as usize];
    let len = match fill_side_by_side(&mut file, bytes).map_err(&fail)? {
        true => bytes.len(),
        false => fill(&mut file, bytes).map_err(&fail)?,
    };
    // One byte past the limit tells a pipe, or a file that grew, from one that fits.
    let mut rest = Vec::new();
    file.take((limit - len as u64).saturating_add(1)).read_to_end(&mut rest).map_err(&fail)?;
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

/// Reads a long file with several threads, as most of the time is spent on page faults. Returns false, with the file's
/// position unchanged, if the file is short, was truncated meanwhile, or has no offsets, such as a pipe.
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
    let parts = Mutex::new(bytes.chunks_mut(part).enumerate());
    let read = || {
        let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some((index, part_bytes)) = next() {
            if shared.read_exact_at(part_bytes, (index * part) as u64).is_err() {
                return false;
            }
        }
        true
    };
    let whole = std::thread::scope(|scope| {
        // If no more threads can be started, the existing ones read all parts.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, read).ok();
        let readers: Vec<_> = (1..threads).filter_map(start).collect();
        let whole = read();
        readers.into_iter().fold(whole, |whole, reader| reader.join().unwrap_or(false) && whole)
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

/// Writes `values` in order, each converted by `bytes`.
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
    use crate::MAX_BYTES;

    #[test]
    fn a_file_past_the_limit_is_refused_by_its_size_and_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [7; 10]).unwrap();
        assert_eq!(*read_bytes(&path, 10).unwrap(), [7; 10]);
        let error = read_bytes(&path, 9).unwrap_err();
        assert!(error.to_string().ends_with("a: expected at most 9 bytes, got more"), "{error}");
        #[cfg(target_os = "linux")]
        {
            let error = read_bytes(Path::new("/dev/zero"), 9).unwrap_err().to_string();
            assert_eq!(error, "/dev/zero: expected a file, got a device");
        }
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
        assert!(*read_bytes(&path, MAX_BYTES).unwrap() == bytes);
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
        let bytes = read_bytes(&path, MAX_BYTES).unwrap();
        if cfg!(target_endian = "little") {
            let floats = bytes.floats(&bytes[4..12]).unwrap();
            assert_eq!((&*floats, floats.as_ptr().addr()), (&values[1..], bytes[4..].as_ptr().addr()));
        }
        assert!(bytes.floats(&bytes[3..7]).is_none() && bytes.floats(&bytes[12..15]).is_none());
        assert!(bytes.floats(&stored).is_none());
    }
}
