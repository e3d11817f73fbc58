//! Tar archives as Python's `tarfile` and GNU tar write them, whole, cut and damaged.

use residual_files::{TarEntry, TarError, TarReader, TarWriter};
use std::io::Cursor;
use std::path::Path;

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// The files of an archive with their contents, at most 1 MiB each.
fn files(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, TarError> {
    let mut reader = TarReader::new(Cursor::new(bytes))?;
    let mut files = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let content = reader.read(&entry, 1 << 20)?;
        assert_eq!(content, bytes[entry.offset as usize..][..entry.len as usize]);
        files.push((entry.name, content));
    }
    Ok(files)
}

fn long_name() -> String {
    format!("{}/{}.txt", "folder".repeat(20), "n".repeat(120))
}

#[test]
fn every_dialect_of_tar_has_the_same_files() {
    for name in ["ustar.tar", "gnu.tar", "pax.tar"] {
        let names: Vec<(String, Vec<u8>)> = files(&golden(name)).unwrap();
        // An archive of ustar has no room for the long name.
        let long = (name != "ustar.tar").then(|| (long_name(), b"long".to_vec()));
        let mut expected = vec![
            ("a.txt".to_owned(), b"first".to_vec()),
            ("deep/er/b.bin".into(), (0..=255).cycle().take(1300).collect()),
            ("empty".into(), Vec::new()),
            (format!("{}/c", "p".repeat(120)), b"prefix".to_vec()),
            ("d\u{e9}j\u{e0}.txt".into(), b"unicode".to_vec()),
        ];
        expected.extend(long);
        assert_eq!(names, expected, "{name}");
    }
}

#[test]
fn what_is_written_is_read_and_equals_what_python_writes() {
    let mut writer = TarWriter::new(Vec::new());
    let contents = [("000000.cls", &b"3"[..]), ("000000.jpg", &[7; 1024]), ("000001.cls", b"")];
    for (name, content) in contents {
        writer.append(name, content).unwrap();
    }
    assert!(writer.append(&"n".repeat(101), b"").is_err() && writer.append("", b"").is_err());
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes, golden("plain.tar"));
    let stored: u64 = contents.iter().map(|(_, content)| TarWriter::<Vec<u8>>::stored_len(content.len() as u64)).sum();
    assert_eq!(bytes.len() as u64, stored + 1024);
    let read = files(&bytes).unwrap();
    assert_eq!(read, contents.map(|(name, content)| (name.to_owned(), content.to_vec())));
}

#[test]
fn a_cut_archive_is_an_error_at_every_length() {
    let whole = golden("pax.tar");
    // Padding follows the end mark.
    let end = whole.iter().rposition(|&byte| byte != 0).unwrap().next_multiple_of(512);
    for len in (0..end).step_by(7).chain([end]) {
        assert!(files(&whole[..len]).is_err(), "{len} of {}", whole.len());
    }
    assert!(files(&whole[..end + 512]).is_ok());
    let error = files(&whole[..1000]).unwrap_err().to_string();
    assert!(error.starts_with("offset "), "{error}");
}

#[test]
fn a_changed_archive_is_an_error_or_another_one_but_no_panic() {
    for name in ["gnu.tar", "pax.tar"] {
        let whole = golden(name);
        for at in 0..whole.len().min(6 * 512) {
            for byte in [0, 0x80, 0xff, b'9', b'7'] {
                let mut changed = whole.clone();
                changed[at] = byte;
                if let Err(error) = files(&changed) {
                    assert_eq!(error.to_string().lines().count(), 1, "{error}");
                }
            }
        }
    }
}

/// A header with a right checksum.
fn header(kind: u8, len: &[u8; 12]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..1].copy_from_slice(b"x");
    block[124..136].copy_from_slice(len);
    block[148..156].fill(b' ');
    block[156] = kind;
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[test]
fn claimed_lengths_are_refused_before_they_are_allocated() {
    let huge = b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    for kind in [b'0', b'L', b'x'] {
        let error = files(&header(kind, huge)).unwrap_err().to_string();
        assert_eq!(error, "offset 0: expected a file of the length in its header, got the end of the file after 0");
    }
    // A name of 1 MiB, all of which is there.
    let mut archive = header(b'L', b"00004000000\0");
    archive.resize(512 + (1 << 20) + 1024, b'n');
    let error = files(&archive).unwrap_err().to_string();
    assert_eq!(error, "offset 512: expected a file of another length, got 1048576 bytes");
    let error = files(&header(b'S', b"00000000000\0")).unwrap_err().to_string();
    assert_eq!(error, "offset 0: expected a plain file, got a sparse one");
    let text = b"hello, this is no archive of anything".repeat(40);
    let error = files(&text).unwrap_err().to_string();
    assert_eq!(error, "offset 0: expected the header of a tar archive, got other bytes");
    let too_long = TarEntry { name: "x".into(), offset: 0, len: 10 };
    let mut reader = TarReader::new(Cursor::new(&text)).unwrap();
    assert!(reader.read(&too_long, 9).is_err() && reader.read(&too_long, 10).is_ok());
}
