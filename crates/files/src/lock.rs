//! Locks of files, which end with the process at the latest.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};

/// Locks a file for this process, until it is closed. Whether it could: no, if another one has the lock. Where there are no locks, as on
/// some network file systems, it could.
///
/// # Errors
/// If the system refuses.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_locked_once_until_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let [first, second] = [(); 2].map(|()| File::options().create(true).append(true).open(&path).unwrap());
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        drop(first);
        assert!(try_lock(&second).unwrap());
    }
}
