//! Atomic file writes.

use crate::read::{Kind, is_descriptor, kind};
use crate::{FileCause, FileError};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The longest name that file systems take, in bytes.
const MAX_NAME: usize = 255;
/// A temporary file's name has two dots, random letters and an extension in addition to the file's own name.
const RANDOM: usize = 6;
const ENDING: &str = ".tmp";
const AROUND_NAME: usize = 2 + RANDOM + ENDING.len();
/// Threads that sync the files of a folder.
const SYNC_THREADS: usize = 16;
/// Maximum number of links to links.
const MAX_LINKS: usize = 40;

/// Writes a file atomically: a temporary file in the same folder, which is synced and then renamed to `path`. Readers of
/// `path` see the old file or the new one. (For links, devices and pipes see [`AtomicFile`].)
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("metrics.csv");
/// residual_files::atomic_write(&path, |file| writeln!(file, "epoch,loss"))?;
/// assert_eq!(std::fs::read_to_string(&path)?, "epoch,loss\n");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If the file cannot be written or `write` fails. The temporary file is removed, `path` is unchanged.
pub fn atomic_write(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), FileError> {
    let mut file = AtomicFile::create(path)?;
    let mut buffered = BufWriter::with_capacity(1 << 18, &mut file);
    let written = write(&mut buffered).and_then(|()| buffered.flush());
    drop(buffered);
    written.map_err(FileError::write(path))?;
    file.finish()
}

/// A file that gets its name when it is [finished](Self::finish). Dropped before that, it is removed.
///
/// - A symbolic link is followed: its target is replaced or created.
/// - A device or a pipe is not replaced: the content is written to an unnamed temporary file and copied into it at the end.
/// - A folder or a socket is refused.
#[derive(Debug)]
pub struct AtomicFile {
    /// The path as given.
    path: PathBuf,
    destination: Destination,
}

#[derive(Debug)]
enum Destination {
    /// A temporary file beside the file that it will replace.
    File { temporary: NamedTempFile, target: PathBuf },
    /// A temporary file whose content is copied into a device or pipe.
    Stream(File),
}

impl AtomicFile {
    /// Creates the temporary file for `path`.
    ///
    /// # Errors
    /// If `path` is a folder or a socket, its folder does not exist, or no file can be created there.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        let fail = FileError::write(path);
        let destination = match fs::metadata(path).map(|metadata| kind(&metadata)) {
            Ok(kind @ (Kind::Folder | Kind::Socket)) => {
                return Err(FileError::new(path, FileCause::Kind { got: kind.name() }));
            }
            Ok(Kind::Pipe | Kind::Device | Kind::Other) => Destination::Stream(tempfile::tempfile().map_err(fail)?),
            Ok(Kind::File) if is_descriptor(path) => Destination::Stream(tempfile::tempfile().map_err(fail)?),
            _ => {
                let target = follow_links(path).map_err(&fail)?;
                let temporary = temporary(&target).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => FileError::new(folder_of(&target), FileCause::NoFolder),
                    _ => fail(error),
                })?;
                Destination::File { temporary, target }
            }
        };
        Ok(Self { path: path.to_owned(), destination })
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// If it cannot be written; a previous file is unchanged.
    pub fn finish(self) -> Result<(), FileError> {
        let path = self.path;
        let finish = || match self.destination {
            Destination::File { temporary, target } => {
                temporary.as_file().sync_all()?;
                temporary.persist(&target).map_err(|error| error.error)?;
                sync_folder(folder_of(&target))
            }
            Destination::Stream(mut file) => {
                file.rewind()?;
                // A file that this process has open is appended to, as by its other writers.
                let mut stream = OpenOptions::new().write(true).append(is_descriptor(&path)).open(&path)?;
                io::copy(&mut file, &mut stream)?;
                stream.flush()
            }
        };
        finish().map_err(FileError::write(&path))
    }

    /// Truncates the file to `len` bytes, or extends it with zeros.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        match &self.destination {
            Destination::File { temporary, .. } => temporary.as_file().set_len(len),
            Destination::Stream(file) => file.set_len(len),
        }
    }

    fn file(&mut self) -> &mut File {
        match &mut self.destination {
            Destination::File { temporary, .. } => temporary.as_file_mut(),
            Destination::Stream(file) => file,
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl Read for AtomicFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file().read(bytes)
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file().seek(position)
    }
}

/// Creates a folder atomically: `write` fills a temporary folder beside it, whose files are then synced and which is renamed
/// to `path`. A process that is killed leaves no folder, or the whole one. `path` may be an empty folder.
///
/// # Errors
/// If `write` fails, or the folder cannot be created or renamed. The temporary folder is removed.
pub fn atomic_folder<T, E: From<FileError>>(path: &Path, write: impl FnOnce(&Path) -> Result<T, E>) -> Result<T, E> {
    let fail = || FileError::write(path);
    let target = follow_links(path).map_err(fail())?;
    let parent = folder_of(&target);
    fs::create_dir_all(parent).map_err(FileError::write(parent))?;
    let name = target.file_name().ok_or_else(|| fail()(io::ErrorKind::InvalidFilename.into()))?;
    let prefix = temporary_prefix(name);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).rand_bytes(RANDOM).suffix(ENDING);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let temporary = builder.tempdir_in(parent).map_err(fail())?;
    let written = write(temporary.path())?;
    let publish = || {
        // Together, after all are written: syncing one by one while writing takes many times as long.
        sync_files(temporary.path())?;
        match fs::remove_dir(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(temporary.path(), &target)?;
        sync_folder(parent)
    };
    publish().map_err(fail())?;
    // It has its name now; there is nothing left to remove.
    let _ = temporary.keep();
    Ok(written)
}

/// Syncs every file in `folder` and its subfolders, then the folders.
fn sync_files(folder: &Path) -> io::Result<()> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    let mut listed = 0;
    while let Some(folder) = folders.get(listed) {
        listed += 1;
        let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        for entry in entries {
            let list = if entry.file_type()?.is_dir() { &mut folders } else { &mut files };
            list.push(entry.path());
        }
    }
    // A file system writes its journal once for all threads that wait for it.
    let sync = |files: &[PathBuf]| files.iter().try_for_each(|file| File::open(file)?.sync_all());
    std::thread::scope(|scope| {
        let parts = files.chunks(files.len().div_ceil(SYNC_THREADS).max(1));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || sync(part))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("syncing does not panic"))
    })?;
    folders.iter().rev().try_for_each(|folder| sync_folder(folder))
}

/// Gives `file`, whose path is `from`, its final name `to` in the same folder: syncs it, renames it, and syncs the
/// folder.
///
/// # Errors
/// If it cannot be renamed or synced.
pub fn publish(file: &File, from: &Path, to: &Path) -> Result<(), FileError> {
    let publish = || {
        file.sync_all()?;
        fs::rename(from, to)?;
        sync_folder(folder_of(to))
    };
    publish().map_err(FileError::write(to))
}

/// Removes the temporary files of processes that were killed while they wrote `path`; returns their number.
///
/// No process may be writing `path`.
///
/// # Errors
/// If the folder cannot be read or a file cannot be removed.
pub fn sweep(path: &Path) -> Result<usize, FileError> {
    let target = follow_links(path).map_err(FileError::read(path))?;
    let (Some(name), folder) = (target.file_name(), folder_of(&target)) else { return Ok(0) };
    let prefix = temporary_prefix(name);
    let is_temporary = |name: &OsStr| {
        let rest = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        let random = rest.and_then(|rest| rest.strip_suffix(ENDING.as_bytes()));
        random.is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric))
    };
    let mut removed = 0;
    for entry in fs::read_dir(folder).map_err(FileError::read(folder))? {
        let entry = entry.map_err(FileError::read(folder))?;
        if is_temporary(&entry.file_name()) {
            fs::remove_file(entry.path()).map_err(FileError::write(&entry.path()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `path`, or the target of the link that it is, which need not exist.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => path = folder_of(&path).join(fs::read_link(&path)?),
            _ => return Ok(path),
        }
    }
    Err(io::Error::other("expected a file, got links that lead to each other"))
}

/// A temporary file in the folder of `target`. The error does not contain its name.
fn temporary(target: &Path) -> io::Result<NamedTempFile> {
    let name = target.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let prefix = temporary_prefix(name);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).rand_bytes(RANDOM).suffix(ENDING);
    // Temporary files are private by default; this one becomes an ordinary file, subject to the umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(target)).map_err(|error| match error.raw_os_error() {
        Some(_) => error,
        None => error.kind().into(),
    })
}

/// The prefix of the temporary files of `name`: `.name.`; a long name is truncated and gets a checksum.
fn temporary_prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    if name.len() + AROUND_NAME <= MAX_NAME {
        prefix.push(name);
    } else {
        let text = name.to_string_lossy();
        let end = (0..=MAX_NAME / 2).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        prefix.push(format!("{}~{:08x}", &text[..end], crc32fast::hash(name.as_encoded_bytes())));
    }
    prefix.push(".");
    prefix
}

/// Syncs `folder` after a rename. A file system that cannot sync folders, or a folder that may not be opened, is no
/// error: the rename is done.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_synced_is_no_error() {
        // As /proc's folders: fsync answers EINVAL there.
        #[cfg(target_os = "linux")]
        assert!(File::open("/proc/self").unwrap().sync_all().is_err());
        assert!(sync_folder(Path::new("/proc/self")).is_ok() || !cfg!(target_os = "linux"));
        assert!(sync_folder(Path::new("/no/such/folder")).is_err() || !cfg!(unix));
    }

    #[test]
    fn long_names_have_temporary_files_of_their_own() {
        let name = |letter: &str| OsString::from(format!("{}{letter}", "\u{e4}".repeat(127)));
        let prefixes = ["a", "b"].map(|letter| temporary_prefix(&name(letter)));
        assert!(prefixes.iter().all(|prefix| prefix.len() + AROUND_NAME <= MAX_NAME));
        assert_ne!(prefixes[0], prefixes[1]);
        assert_eq!(temporary_prefix(OsStr::new("a.onnx")), ".a.onnx.");
    }
}
