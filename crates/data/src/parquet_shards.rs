//! Images in parquet files, as the Hugging Face hub has them: a column of images (a struct of `bytes` and `path`, or bytes alone)
//! and one of labels, whose class names are in the file's metadata.

mod features;
mod file;
mod pages;

use std::sync::Arc;

use residual_preprocess::Image;

use crate::class_list::ClassList;
use crate::class_numbers::ClassNumbers;
use crate::folder::{MAX_CLASSES, decode_image};
use crate::shards::Shards;
use crate::{DataError, Dataset, Format, Sample, Split};
use file::ParquetFile;
use pages::Pages;

/// One split of a dataset in parquet files: its images are ordered by file, then as they lie in it. The labels are in memory;
/// images are read a page at a time, of which the last ones, up to 256 MiB, are kept.
pub struct ParquetShards {
    place: String,
    files: Vec<ParquetFile>,
    groups: Vec<Group>,
    labels: Vec<u32>,
    names: Vec<String>,
    format: Format,
    notes: Vec<String>,
    pages: Pages,
}

/// A row group: its file, its number there, and the dataset index of its first row.
struct Group {
    file: usize,
    number: usize,
    first: usize,
}

impl ParquetShards {
    /// The images of `split`, whose classes are those of the training split.
    ///
    /// # Errors
    /// [`DataError::File`] if a file cannot be read; [`DataError::Invalid`] for a damaged file, one without a column of images or
    /// of labels, an image without a label; [`DataError::Classes`] for a class that the training split or the names lack.
    pub(crate) fn open(shards: &Shards, split: Split) -> Result<Self, DataError> {
        let place = shards.describe(Some(split));
        let open =
            |split| shards.files(split).iter().map(|path| ParquetFile::open(path)).collect::<Result<Vec<_>, _>>();
        let training = if split == Split::Train { Vec::new() } else { open(Split::Train)? };
        let files: Vec<ParquetFile> = open(split)?;
        let all = || training.iter().chain(&files);
        let Some(first) = all().next() else {
            return Err(DataError::invalid(place, "parquet files", "none"));
        };
        if let Some(other) = all().find(|file| file.class_names() != first.class_names()) {
            let expected = format!("the class names of {}", first.path().display());
            return Err(DataError::invalid(other.path().display(), expected, "others"));
        }
        let mut classes = ClassNumbers::default();
        let mut labels = Vec::new();
        let mut number = |label: &str, of_training: bool| -> Result<u32, DataError> {
            let too_many = || DataError::invalid(&place, format!("at most {MAX_CLASSES} classes"), "more");
            let number = classes.number(label).ok_or_else(too_many)?;
            if of_training {
                classes.mark_trained(number);
            }
            Ok(number)
        };
        if first.class_names().is_none() {
            for file in &training {
                file.labels(&mut |label| number(label, true).map(drop))?;
            }
        }
        let mut groups = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let mut first = labels.len();
            for (number, rows) in file.groups().enumerate() {
                groups.push(Group { file: index, number, first });
                first += rows;
            }
            file.labels(&mut |label| {
                labels.push(number(label, split == Split::Train)?);
                Ok(())
            })?;
        }
        if labels.is_empty() || u32::try_from(labels.len()).is_err() {
            return Err(DataError::invalid(place, format!("1 to {} images", u32::MAX), labels.len()));
        }
        let own = first.class_names().map(|names| ClassList { file: first.path().into(), names: names.to_vec() });
        let is_named = own.is_some();
        let list = if is_named { own } else { ClassList::find(shards.folders())? };
        let classes = classes.indices_or_names(list, &place)?;
        labels.iter_mut().for_each(|label| *label = classes.labels[*label as usize]);
        let mut notes: Vec<String> = first.notes().to_vec();
        notes.extend(classes.note.filter(|_| !is_named));
        let (names, format) = (classes.names, Format::photographs());
        Ok(Self { place, files, groups, labels, names, format, notes, pages: Pages::default() })
    }

    /// The row group of sample `index`, and the row in it.
    fn find(&self, index: usize) -> (usize, usize) {
        assert!(index < self.labels.len(), "a sample that the set does not have");
        let group = self.groups.partition_point(|group| group.first <= index) - 1;
        (group, index - self.groups[group].first)
    }

    /// The bytes of the image file of sample `index`.
    fn bytes(&self, index: usize) -> Result<Arc<[u8]>, DataError> {
        let (number, row) = self.find(index);
        let group = &self.groups[number];
        let bytes = self.pages.row(&self.files[group.file], number, group.number, row)?;
        bytes.ok_or_else(|| DataError::invalid(self.describe(index), "the bytes of an image", "none"))
    }
}

impl Dataset for ParquetShards {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let image: Image = decode_image(&self.bytes(index)?, || self.describe(index))?;
        Ok(Sample::Pixels(image))
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        Ok(Some(self.bytes(index)?.to_vec()))
    }

    /// Of the lengths of the row group's columns, and of the row in it.
    fn fingerprint(&self, index: usize) -> u32 {
        let (number, row) = self.find(index);
        let group = &self.groups[number];
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&(row as u64).to_le_bytes());
        self.files[group.file].group_lengths(group.number).for_each(|len| hasher.update(&len.to_le_bytes()));
        hasher.finalize()
    }

    fn describe(&self, index: usize) -> String {
        let (number, row) = self.find(index);
        let group = &self.groups[number];
        // Row groups follow one another, the first of a file at its beginning.
        let first = self.groups.iter().find(|other| other.file == group.file).map_or(0, |group| group.first);
        format!("{} row {}", self.files[group.file].path().display(), group.first - first + row)
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
