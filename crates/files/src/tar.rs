//! Tar archives (POSIX.1-1988 `ustar`, pax of POSIX.1-2001, and GNU's long names): where the files in them lie, and a writer of
//! plain files.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

/// The unit of a tar archive, in bytes.
const BLOCK: usize = 512;
/// The longest extended header, in bytes; a path has at most a few thousand.
const MAX_EXTENSION: u64 = 1 << 16;
/// The longest name that the writer stores.
const MAX_NAME: usize = 100;
/// The longest file that the writer stores: eleven octal digits.
const MAX_LEN: u64 = (1 << 33) - 1;

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It cannot be read.
    #[error("cannot be read")]
    Io(#[from] io::Error),
    /// It is damaged, or has a feature that is not supported.
    #[error("offset {offset}: expected {expected}, got {got}")]
    Damaged {
        /// Where, in bytes.
        offset: u64,
        /// What is accepted.
        expected: &'static str,
        /// What is there.
        got: String,
    },
}

/// A regular file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarEntry {
    /// Its path; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// The offset of its first byte in the archive.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// Reads the headers of an archive, one file after another, and seeks over the files' bytes.
#[derive(Debug)]
pub struct TarReader<R> {
    reader: BufReader<R>,
    /// Where the next header begins, and the archive's length.
    next: u64,
    len: u64,
    /// Where the reader is.
    position: u64,
}

impl<R: Read + Seek> TarReader<R> {
    /// An archive that begins at the beginning of `reader`.
    ///
    /// # Errors
    /// If the reader cannot seek.
    pub fn new(mut reader: R) -> io::Result<Self> {
        let len = reader.seek(SeekFrom::End(0))?;
        reader.rewind()?;
        Ok(Self { reader: BufReader::new(reader), next: 0, len, position: 0 })
    }

    /// The next regular file; `None` at the end of the archive. Folders, links and devices are skipped. At most 64 KiB are
    /// allocated for a name.
    ///
    /// # Errors
    /// [`TarError::Damaged`] for a damaged header, a file that goes beyond the end of the archive, an archive without its
    /// end, and a sparse file.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        let mut extension = Extension::default();
        loop {
            let start = self.next;
            let damaged = |expected, got: String| TarError::Damaged { offset: start, expected, got };
            if start + BLOCK as u64 > self.len {
                return Err(damaged("the end mark of a tar archive", "the end of the file".into()));
            }
            let mut block = [0; BLOCK];
            self.read_at(start, &mut block)?;
            if block == [0; BLOCK] {
                return Ok(None);
            }
            let header = Header::parse(&block).map_err(|(expected, got)| damaged(expected, got))?;
            let is_file = matches!(header.kind, b'0' | b'\0' | b'7');
            let len = if is_file { extension.len.unwrap_or(header.len) } else { header.len };
            // Links, devices and folders have no bytes, whatever their length says.
            let stored = if matches!(header.kind, b'1'..=b'6') { 0 } else { len };
            let offset = start + BLOCK as u64;
            let end = stored.checked_next_multiple_of(BLOCK as u64).and_then(|padded| offset.checked_add(padded));
            let Some(end) = end.filter(|&end| end <= self.len) else {
                let got = format!("the end of the file after {}", self.len - offset);
                return Err(damaged("a file of the length in its header", got));
            };
            self.next = end;
            match header.kind {
                b'L' => {
                    let name = self.extension(offset, stored)?;
                    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                    extension.name = Some(String::from_utf8_lossy(name).into_owned());
                }
                b'x' => {
                    let records = self.extension(offset, stored)?;
                    extension.read(&records).map_err(|(expected, got)| damaged(expected, got))?;
                }
                b'S' => return Err(damaged("a plain file", "a sparse one".into())),
                _ if is_file && !header.name.ends_with('/') => {
                    let name = extension.name.take().unwrap_or(header.name);
                    return Ok(Some(TarEntry { name, offset, len }));
                }
                // The target of a link that follows, and headers for all files.
                b'K' | b'g' => {}
                _ => extension = Extension::default(),
            }
        }
    }

    /// The bytes of a file, at most `limit`.
    ///
    /// # Errors
    /// [`TarError::Damaged`] if it is longer.
    pub fn read(&mut self, entry: &TarEntry, limit: u64) -> Result<Vec<u8>, TarError> {
        if entry.len > limit {
            let (offset, got) = (entry.offset, format!("{} bytes", entry.len));
            return Err(TarError::Damaged { offset, expected: "a file of another length", got });
        }
        let mut bytes = Vec::new();
        let reserved = bytes.try_reserve_exact(entry.len as usize);
        reserved.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        bytes.resize(entry.len as usize, 0);
        self.read_at(entry.offset, &mut bytes)?;
        Ok(bytes)
    }

    fn extension(&mut self, offset: u64, len: u64) -> Result<Vec<u8>, TarError> {
        self.read(&TarEntry { name: String::new(), offset, len }, MAX_EXTENSION)
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        // Within what is buffered no system call is needed.
        self.reader.seek_relative(offset as i64 - self.position as i64)?;
        self.position = offset;
        self.reader.read_exact(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

/// What is expected, and what is there.
type Fault = (&'static str, String);

/// The fields of a header block that are used.
struct Header {
    name: String,
    kind: u8,
    len: u64,
}

impl Header {
    fn parse(block: &[u8; BLOCK]) -> Result<Self, Fault> {
        let field = |at: usize, len: usize| {
            let field = &block[at..at + len];
            field.split(|&byte| byte == 0).next().unwrap_or_default()
        };
        let sum = number(&block[148..156]).ok_or_else(|| ("the header of a tar archive", "other bytes".to_owned()))?;
        // The checksum counts its own field as spaces; some old programs summed signed bytes.
        let counted = block.iter().enumerate().map(|(at, &byte)| if (148..156).contains(&at) { b' ' } else { byte });
        let unsigned: u64 = counted.clone().map(u64::from).sum();
        let signed: i64 = counted.map(|byte| i64::from(byte as i8)).sum();
        if sum != unsigned && i64::try_from(sum) != Ok(signed) {
            return Err(("the header of a tar archive", "one with another checksum".into()));
        }
        let len = number(&block[124..136]).ok_or_else(|| ("the length of a file", "other bytes".to_owned()))?;
        let name = String::from_utf8_lossy(field(0, 100)).into_owned();
        let prefix = if block[257..263] == *b"ustar\0" { field(345, 155) } else { &[] };
        let name = if prefix.is_empty() { name } else { format!("{}/{name}", String::from_utf8_lossy(prefix)) };
        Ok(Self { name, kind: block[156], len })
    }
}

/// A number of a header: octal digits between spaces, or GNU's big-endian bytes after one of 0x80.
fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, bytes @ ..] = field {
        let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
        let value = low.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
        return high.iter().all(|&byte| byte == 0).then_some(value);
    }
    let digits = field.split(|&byte| byte == 0).next()?.trim_ascii();
    let text = std::str::from_utf8(digits).ok()?;
    // An empty length is 0, as of folders of some programs.
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// What the headers before a file say about it.
#[derive(Default)]
struct Extension {
    name: Option<String>,
    len: Option<u64>,
}

impl Extension {
    /// Reads the records of a pax header: `<length> <key>=<value>\n`.
    fn read(&mut self, mut records: &[u8]) -> Result<(), Fault> {
        let fault = |what: &[u8]| {
            let shown = crate::printable(&String::from_utf8_lossy(what), 40);
            ("records of an extended header", format!("\"{shown}\""))
        };
        while !records.is_empty() {
            let space = records.iter().position(|&byte| byte == b' ');
            let len = space.and_then(|space| std::str::from_utf8(&records[..space]).ok()?.parse::<usize>().ok());
            let record = len.zip(space).and_then(|(len, space)| {
                let (record, rest) = records.split_at_checked(len)?;
                let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
                let equals = body.iter().position(|&byte| byte == b'=')?;
                Some((&body[..equals], &body[equals + 1..], rest))
            });
            let Some((key, value, rest)) = record else { return Err(fault(records)) };
            match key {
                b"path" => self.name = Some(String::from_utf8_lossy(value).into_owned()),
                b"size" => {
                    let len = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.len = Some(len.ok_or_else(|| fault(value))?);
                }
                _ if key.starts_with(b"GNU.sparse.") => return Err(("a plain file", "a sparse one".into())),
                _ => {}
            }
            records = rest;
        }
        Ok(())
    }
}

/// Writes an archive of plain files (`ustar`), equal for equal files: without owners, and with a time of 0.
#[derive(Debug)]
pub struct TarWriter<W> {
    writer: W,
}

impl<W: Write> TarWriter<W> {
    /// An archive in `writer`.
    pub fn new(writer: W) -> Self {
        Self { writer }
    }

    /// Adds a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a name of no or more than 100 bytes and a file of 8 GiB or more; else if it
    /// cannot be written.
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        if name.is_empty() || name.len() > MAX_NAME || len > MAX_LEN {
            let what = format!("a name of 1 to {MAX_NAME} bytes and a file of at most {MAX_LEN}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..108].copy_from_slice(b"0000644\0");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{len:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"00000000000\0");
        block[148..156].copy_from_slice(b"        ");
        block[156] = b'0';
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.writer.write_all(&block)?;
        self.writer.write_all(bytes)?;
        self.writer.write_all(&[0; BLOCK][..bytes.len().next_multiple_of(BLOCK) - bytes.len()])
    }

    /// The bytes that a file of `len` bytes takes in an archive.
    pub fn stored_len(len: u64) -> u64 {
        BLOCK as u64 + len.next_multiple_of(BLOCK as u64)
    }

    /// Writes the end of the archive.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.write_all(&[0; 2 * BLOCK])?;
        Ok(self.writer)
    }
}
