//! Images in tar shards of the WebDataset layout: the files of a sample have one name and different extensions, and follow one
//! another (`000.jpg`, `000.cls`, `001.jpg`, `001.cls`).
//!
//! The first pass over a shard makes an index of where its images lie and of their labels, so that images are read in any
//! order afterwards, as those of a folder are.

mod index;

use std::path::{Path, PathBuf};

pub use index::parse_tar_shard;

use crate::class_list::ClassList;
use crate::class_numbers::ClassNumbers;
use crate::dataset::counted;
use crate::folder::{MAX_CLASSES, decode_image, read_image_part};
use crate::shards::Shards;
use crate::{DataError, Dataset, Format, Sample, Split};
use index::ShardIndex;

/// One split of a dataset in tar shards: its images are ordered by shard, then as they lie in it. About 80 bytes of memory per
/// image.
pub struct TarShards {
    place: String,
    shards: Vec<PathBuf>,
    names: Vec<String>,
    rows: Vec<Row>,
    format: Format,
    notes: Vec<String>,
}

/// An image: its name in its shard, where it lies there, and its class.
struct Row {
    name: Box<str>,
    offset: u64,
    len: u64,
    shard: u32,
    label: u32,
}

impl TarShards {
    /// The images of `split`, whose classes are those of the training split.
    ///
    /// # Errors
    /// [`DataError::File`] if a shard cannot be read; [`DataError::Invalid`] for a damaged shard, an image without a label or
    /// with an invalid one; [`DataError::Classes`] for a class that the training split or the list of classes lacks.
    pub(crate) fn open(shards: &Shards, split: Split) -> Result<Self, DataError> {
        let place = shards.describe(Some(split));
        let (mut classes, mut notes) = (ClassNumbers::default(), Vec::new());
        if split != Split::Train {
            for shard in shards.files(Split::Train) {
                let (index, _) = ShardIndex::open(shard)?;
                for row in &index.rows {
                    let number = numbered(&mut classes, &row.label, &place)?;
                    classes.mark_trained(number);
                }
            }
        }
        let files = shards.files(split);
        let (mut rows, mut ignored, mut unwritten) = (Vec::new(), 0, None);
        for (number, shard) in (0..).zip(files) {
            let (index, written) = ShardIndex::open(shard)?;
            ignored += index.ignored;
            unwritten = unwritten.or(written.err());
            for row in index.rows {
                let label = numbered(&mut classes, &row.label, &place)?;
                if split == Split::Train {
                    classes.mark_trained(label);
                }
                rows.push(Row { name: row.name.into(), offset: row.offset, len: row.len, shard: number, label });
            }
        }
        if rows.is_empty() {
            return Err(DataError::invalid(place, "images with labels (000.jpg and 000.cls)", "none"));
        }
        if u32::try_from(rows.len()).is_err() {
            return Err(DataError::invalid(place, format!("at most {} images", u32::MAX), rows.len()));
        }
        let classes = classes.indices_or_names(ClassList::find(shards.folders())?, &place)?;
        rows.iter_mut().for_each(|row| row.label = classes.labels[row.label as usize]);
        notes.extend(classes.note);
        if ignored > 0 {
            notes.push(format!("{place}: ignored {} that belong to no image", counted(ignored, "file")));
        }
        if let Some(error) = unwritten {
            notes.push(format!("the shards are indexed at each start, as the index cannot be kept: {error}"));
        }
        let shards = files.to_vec();
        Ok(Self { place, shards, names: classes.names, rows, format: Format::photographs(), notes })
    }

    fn shard(&self, row: &Row) -> &Path {
        &self.shards[row.shard as usize]
    }
}

fn numbered(classes: &mut ClassNumbers, label: &str, place: &str) -> Result<u32, DataError> {
    let too_many = || DataError::invalid(place, format!("at most {MAX_CLASSES} classes"), "more");
    classes.number(label).ok_or_else(too_many)
}

impl Dataset for TarShards {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.rows[index].label
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let row = &self.rows[index];
        let bytes = read_image_part(self.shard(row), row.offset, row.len)?;
        decode_image(&bytes, || self.describe(index)).map(Sample::Pixels)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        let row = &self.rows[index];
        read_image_part(self.shard(row), row.offset, row.len).map(Some)
    }

    /// Of the image's name in its shard, and of its length.
    fn fingerprint(&self, index: usize) -> u32 {
        let row = &self.rows[index];
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(row.name.as_bytes());
        hasher.update(&row.len.to_le_bytes());
        hasher.finalize()
    }

    fn describe(&self, index: usize) -> String {
        let row = &self.rows[index];
        format!("{}: {}", self.shard(row).display(), row.name)
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn format(&self) -> &Format {
        &self.format
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}
