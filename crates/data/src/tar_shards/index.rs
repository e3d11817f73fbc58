//! The index of a tar shard: its images, where they lie and their labels. It is kept in a file beside the shard.

use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use residual_files::{
    FileError, TarEntry, TarError, TarReader, atomic_write, is_image, one_line, open_file, printable, read_file,
};

use crate::DataError;

/// Maximum size of a label's file, and of a label.
const MAX_JSON_BYTES: u64 = 1 << 20;
const MAX_TEXT_BYTES: u64 = 4096;
const MAX_LABEL_BYTES: usize = 256;
/// Maximum size of a kept index: some 100 bytes an image.
const MAX_INDEX_BYTES: u64 = 4 << 30;
/// The fields of a JSON file that hold the label.
const JSON_LABELS: [&str; 3] = ["label", "cls", "class"];
/// The first field of a kept index: changes with its form.
const MAGIC: &str = "residual tar index 1";

/// The images of a shard, as they lie in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardIndex {
    pub(super) rows: Vec<IndexRow>,
    /// The number of files that belong to no image.
    pub(super) ignored: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexRow {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) len: u64,
    /// As it is written in the shard: an index or a name.
    pub(super) label: String,
}

/// What tells a shard from another version of it: its length and its time of modification in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    len: u64,
    modified: u128,
}

impl ShardIndex {
    /// The index of a shard: the one beside it if it was made of this version of the shard, else a new one, which is kept there.
    /// The second result is whether that could be done.
    pub(super) fn open(shard: &Path) -> Result<(Self, Result<(), String>), DataError> {
        let file = open_file(shard)?;
        let metadata = file.metadata().map_err(FileError::read(shard))?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let version = Version { len: metadata.len(), modified: modified.unwrap_or_default().as_nanos() };
        let kept = beside(shard);
        if let Some(index) = read_file(&kept, MAX_INDEX_BYTES).ok().and_then(|bytes| Self::of_kept(&bytes, version)) {
            return Ok((index, Ok(())));
        }
        let index = Self::read(file, &shard.display().to_string())?;
        let text = index.to_kept(version);
        let written = atomic_write(&kept, |out| out.write_all(&text));
        Ok((index, written.map_err(|error| one_line(&error))))
    }

    /// Reads a shard's headers and labels; `place` names it in errors.
    fn read(reader: impl Read + Seek, place: &str) -> Result<Self, DataError> {
        let damaged = |error: TarError| match error {
            TarError::Io(error) => DataError::File(FileError::read(Path::new(place))(error)),
            TarError::Damaged { offset, expected, got } => {
                DataError::invalid(format!("{place}: offset {offset}"), expected, got)
            }
        };
        let mut reader = TarReader::new(reader).map_err(|error| damaged(error.into()))?;
        let mut index = Self::default();
        let mut sample: Option<Group> = None;
        while let Some(entry) = reader.next_entry().map_err(damaged)? {
            let Some((key, extension)) = split_name(&entry.name) else {
                index.ignored += 1;
                continue;
            };
            let (key, extension) = (key.to_owned(), extension.to_ascii_lowercase());
            if let Some(done) = sample.take_if(|sample| sample.key != key) {
                index.push(done, &mut reader, place, damaged)?;
            }
            sample.get_or_insert_with(|| Group::new(key)).add(entry, &extension, place)?;
        }
        if let Some(done) = sample {
            index.push(done, &mut reader, place, damaged)?;
        }
        Ok(index)
    }

    fn push(
        &mut self,
        group: Group,
        reader: &mut TarReader<impl Read + Seek>,
        place: &str,
        damaged: impl Fn(TarError) -> DataError,
    ) -> Result<(), DataError> {
        let Some(image) = group.image else {
            self.ignored += group.files;
            return Ok(());
        };
        let place = || format!("{place}: {}", printable(&image.name, 200));
        let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(_) => Err(DataError::invalid(place(), "a label in UTF-8", "other bytes")),
        };
        let mut label = None;
        if let Some(entry) = &group.cls {
            label = Some(text(reader.read(entry, MAX_TEXT_BYTES).map_err(&damaged)?)?);
        }
        if let (None, Some(entry)) = (&label, &group.json) {
            let bytes = reader.read(entry, MAX_JSON_BYTES).map_err(&damaged)?;
            label = json_label(&bytes).map_err(|got| DataError::invalid(place(), "a label in its JSON file", got))?;
        }
        if let (None, Some(entry)) = (&label, &group.txt) {
            label = Some(text(reader.read(entry, MAX_TEXT_BYTES).map_err(&damaged)?)?);
        }
        let label = label.filter(|label| !label.is_empty()).ok_or_else(|| {
            let expected = "a label: a file of the same name with .cls, .json or .txt, right before or after it";
            DataError::invalid(place(), expected, "none")
        })?;
        if label.len() > MAX_LABEL_BYTES {
            let expected = format!("a label of at most {MAX_LABEL_BYTES} bytes");
            return Err(DataError::invalid(place(), expected, label.len()));
        }
        let TarEntry { name, offset, len } = image;
        self.rows.push(IndexRow { name, offset, len, label });
        Ok(())
    }

    /// A kept index: a CSV file of a row for the shard, one for each image, and one at the end.
    fn to_kept(&self, version: Version) -> Vec<u8> {
        let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        let mut write = |fields: &[&str]| writer.write_record(fields).expect("a vector takes all bytes");
        let Version { len, modified } = version;
        let counts = [self.rows.len(), self.ignored].map(|count| count.to_string());
        write(&[MAGIC, &len.to_string(), &modified.to_string(), &counts[0], &counts[1]]);
        for IndexRow { name, offset, len, label } in &self.rows {
            write(&[name, &offset.to_string(), &len.to_string(), label]);
        }
        write(&[MAGIC]);
        writer.into_inner().expect("a vector takes all bytes")
    }

    /// Reads a kept index; `None` if it is damaged or of another version of the shard.
    fn of_kept(bytes: &[u8], version: Version) -> Option<Self> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let mut record = csv::StringRecord::new();
        let mut next = || reader.read_record(&mut record).ok()?.then(|| record.clone());
        let first = next()?;
        let number = |record: &csv::StringRecord, at: usize| record.get(at)?.parse::<u64>().ok();
        let own = Version { len: number(&first, 1)?, modified: first.get(2)?.parse().ok()? };
        if first.get(0)? != MAGIC || own != version {
            return None;
        }
        let (count, ignored) = (number(&first, 3)?, number(&first, 4)? as usize);
        let mut rows = Vec::new();
        loop {
            let record = next()?;
            if record.len() == 1 && record.get(0)? == MAGIC {
                break;
            }
            let (name, label) = (record.get(0)?.to_owned(), record.get(3)?.to_owned());
            let (offset, len) = (number(&record, 1)?, number(&record, 2)?);
            let fits = offset.checked_add(len).is_some_and(|end| end <= version.len);
            if !fits || label.is_empty() || label.len() > MAX_LABEL_BYTES {
                return None;
            }
            rows.push(IndexRow { name, offset, len, label });
        }
        (rows.len() as u64 == count).then_some(Self { rows, ignored })
    }
}

/// Indexes a shard's bytes, and reads the index back from the form in which it is kept. At most 1 MiB is allocated for a
/// file in it, and a small multiple of the bytes it was given.
///
/// # Errors
/// [`DataError::Invalid`] for a damaged shard, an image without a label or with an invalid one.
pub fn parse_tar_shard(bytes: &[u8], place: &str) -> Result<Option<ShardIndex>, DataError> {
    let version = Version { len: bytes.len() as u64, modified: 0 };
    let index = ShardIndex::read(io::Cursor::new(bytes), place)?;
    Ok(ShardIndex::of_kept(&index.to_kept(version), version))
}

/// Where the index of a shard is kept.
fn beside(shard: &Path) -> PathBuf {
    shard.with_file_name(format!(".{}.index", shard.file_name().unwrap_or_default().to_string_lossy()))
}

/// A path up to the first dot of its last part, and what follows; `None` for a hidden file, a folder and a name without a dot.
fn split_name(name: &str) -> Option<(&str, &str)> {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[start..].find('.').filter(|&dot| dot > 0)?;
    Some((&name[..start + dot], &name[start + dot + 1..]))
}

/// The files of one sample.
struct Group {
    key: String,
    files: usize,
    image: Option<TarEntry>,
    cls: Option<TarEntry>,
    json: Option<TarEntry>,
    txt: Option<TarEntry>,
}

impl Group {
    fn new(key: String) -> Self {
        Self { key, files: 0, image: None, cls: None, json: None, txt: None }
    }

    fn add(&mut self, entry: TarEntry, extension: &str, place: &str) -> Result<(), DataError> {
        self.files += 1;
        let is_image = is_image(Path::new(&format!("x.{extension}"))) || extension == "gif";
        let place_of = match extension {
            _ if is_image && !extension.contains('.') => &mut self.image,
            "cls" => &mut self.cls,
            "json" => &mut self.json,
            "txt" => &mut self.txt,
            _ => return Ok(()),
        };
        if let Some(first) = place_of {
            let [first, second] = [&first.name, &entry.name].map(|name| printable(name, 100));
            let got = format!("{first} and {second}");
            return Err(DataError::invalid(place, "one image and one label for each sample", got));
        }
        *place_of = Some(entry);
        Ok(())
    }
}

/// The label in a sample's JSON file; `None` if it has none.
fn json_label(bytes: &[u8]) -> Result<Option<String>, String> {
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|error| printable(&error.to_string(), 100))?;
    let Some(value) = JSON_LABELS.iter().find_map(|name| fields.get(*name)) else { return Ok(None) };
    match value {
        serde_json::Value::String(label) => Ok(Some(label.trim().to_owned())),
        serde_json::Value::Number(number) if number.is_u64() => Ok(Some(number.to_string())),
        serde_json::Value::Null => Ok(None),
        _ => Err("another value than a name or an index".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_index_is_that_of_its_shard_or_none() {
        let row = |name: &str, offset, len| IndexRow { name: name.into(), offset, len, label: "ca\"t, a".into() };
        let index = ShardIndex { rows: vec![row("a/b.jpg", 512, 100), row("c\n,d.png", 2048, 7)], ignored: 3 };
        let version = Version { len: 4096, modified: 12_345_678_901_234 };
        let kept = index.to_kept(version);
        assert_eq!(ShardIndex::of_kept(&kept, version), Some(index));
        assert_eq!(ShardIndex::of_kept(&kept, Version { len: 4097, ..version }), None);
        assert_eq!(ShardIndex::of_kept(&kept, Version { modified: 1, ..version }), None);
        // An image beyond the shard's end.
        assert_eq!(ShardIndex::of_kept(&kept, Version { len: 600, ..version }), None);
        for len in 0..kept.len() - 1 {
            assert_eq!(ShardIndex::of_kept(&kept[..len], version), None, "{len} of {}", kept.len());
        }
        for at in 0..kept.len() {
            for byte in [b'\n', b'"', b'9', 0xff] {
                let mut changed = kept.clone();
                changed[at] = byte;
                let _ = ShardIndex::of_kept(&changed, version);
            }
        }
    }

    #[test]
    fn the_first_dot_of_the_last_part_divides_a_name() {
        assert_eq!(split_name("a.b/c.seg.png"), Some(("a.b/c", "seg.png")));
        assert_eq!(split_name("./n01/1.JPEG"), Some(("./n01/1", "JPEG")));
        for none in ["README", "a/.hidden", "._x.jpg", "a.b/"] {
            assert_eq!(split_name(none), None, "{none}");
        }
    }
}
