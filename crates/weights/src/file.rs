//! Whole files: read within a bound, written as a whole or not at all.

use crate::{Cause, WeightsError};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

/// The largest file that is read. The largest training state of the zoo (ConvNeXt-L under AdamW with an average of the
/// weights) takes under 4 GiB.
const MAX_BYTES: u64 = 16 << 30;

/// Reads the file at `path`.
///
/// Files are read into memory, not mapped: mapping is unsafe (another process may change the file under the map), and
/// every tensor is converted into storage of its own anyway, after which the bytes are dropped.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, WeightsError> {
    read_within(path, MAX_BYTES)
}

fn read_within(path: &Path, limit: u64) -> Result<Vec<u8>, WeightsError> {
    let fail = |error| WeightsError::new(path, Cause::Read(error));
    let too_large = || WeightsError::new(path, Cause::TooLarge { limit });
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if metadata.is_dir() {
        return Err(fail(io::ErrorKind::IsADirectory.into()));
    }
    if metadata.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(metadata.len() as usize).map_err(|_| fail(io::ErrorKind::OutOfMemory.into()))?;
    // One byte past the limit tells a pipe, or a file that grew, from one that fits.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
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
        assert_eq!(read_within(&path, 10).unwrap(), [7; 10]);
        let error = read_within(&path, 9).unwrap_err();
        assert!(error.to_string().ends_with("a: expected at most 9 bytes, got more"), "{error}");
        #[cfg(target_os = "linux")]
        assert!(matches!(read_within(Path::new("/dev/zero"), 9).unwrap_err().cause, Cause::TooLarge { limit: 9 }));
    }
}
