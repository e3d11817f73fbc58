//! Checks that a file in the cache, downloaded or copied there, is the published one.

use crate::HubCause;
use residual_files::{FileError, atomic_write};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Refuses the file at `path` unless its SHA-256 begins with `expected`. The result is recorded in a file beside it, so
/// that the hash is computed once.
pub(crate) fn check(path: &Path, expected: &str) -> Result<(), HubCause> {
    let fail = FileError::read(path);
    let state = state(path).map_err(&fail)?;
    if fs::read_to_string(beside(path, "checked")).is_ok_and(|checked| checked == format!("{expected} {state}")) {
        return Ok(());
    }
    let got = File::open(path).and_then(sha256).map_err(fail)?;
    if !got.starts_with(expected) {
        return Err(HubCause::Placed { path: path.to_owned(), expected: expected.into(), got });
    }
    remember(path, expected);
    Ok(())
}

/// Records that the SHA-256 of the file at `path` begins with `expected`. If that fails, it will be computed again.
pub(crate) fn remember(path: &Path, expected: &str) {
    if let Ok(state) = state(path) {
        let _ = atomic_write(&beside(path, "checked"), |file| write!(file, "{expected} {state}"));
    }
}

/// The length and modification time of the file, which change when it is written.
fn state(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    let written = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{} {}", metadata.len(), written.as_nanos()))
}

/// The SHA-256 of a reader's bytes, in lower-case hexadecimal digits.
pub(crate) fn sha256(mut reader: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// The path of an auxiliary file of `path`. It begins with a dot, unlike the files of weights.
pub(crate) fn beside(path: &Path, kind: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_copied_into_the_cache_is_the_published_one_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pth");
        fs::write(&path, "abc").unwrap();
        // The digest of "abc" in FIPS 180-2.
        assert!(check(&path, "ba7816bf").is_ok());
        assert!(fs::read_to_string(folder.path().join(".a.pth.checked")).unwrap().starts_with("ba7816bf 3 "));
        assert!(check(&path, "ba7816bf").is_ok());
        let other = check(&path, "00000000").unwrap_err().to_string();
        assert!(
            other.contains("expected the published file, whose SHA-256 begins with 00000000, got ba7816bf"),
            "{other}"
        );
        // A replaced file is noticed.
        fs::write(&path, "abcd").unwrap();
        assert!(matches!(check(&path, "ba7816bf"), Err(HubCause::Placed { .. })));
    }
}
