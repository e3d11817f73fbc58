//! Images listed in a CSV or JSON-lines file: a row for each, with its path and its label or labels.

mod csv;
mod json;
mod rows;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use residual_files::{read_file, visible_entries};

use crate::folder::{file_fingerprint, read_image, read_image_file};
use crate::{DataError, Dataset, Format, Sample, Split};
use rows::Rows;

/// Maximum size of a list.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// The names of columns and fields.
const PATH_COLUMNS: [&str; 6] = ["path", "file", "filename", "filepath", "file_name", "image"];
const LABEL_COLUMNS: [&str; 4] = ["label", "labels", "class", "classes"];
const SPLIT_COLUMN: &str = "split";
/// The columns of labels that an image has any number of.
const MULTI_LABEL_COLUMNS: [&str; 2] = ["labels", "classes"];
/// The names of the lists of the Hugging Face `ImageFolder`, which lie beside the images.
const METADATA: [&str; 2] = ["metadata.csv", "metadata.jsonl"];

/// A parsed list. Nothing but the list itself is read yet.
#[derive(Debug)]
pub struct ImageList {
    file: PathBuf,
    /// The folder that paths are relative to.
    root: PathBuf,
    names: Vec<String>,
    rows: Vec<Row>,
    /// The distinct sets of labels, each sorted; rows have their number.
    sets: Vec<Vec<u32>>,
    /// For several labels per image: 1 and 0 for each class, one set after another.
    targets: Vec<f32>,
    multi_label: bool,
    has_splits: bool,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Row {
    path: Box<str>,
    set: u32,
    split: Split,
}

impl ImageList {
    /// Reads the list in `file`: see [`parse_image_list`].
    ///
    /// # Errors
    /// [`DataError::File`] if the file cannot be read or is larger than 1 GiB; else as [`parse_image_list`].
    pub fn open(file: &Path) -> Result<Self, DataError> {
        parse_image_list(&read_file(file, MAX_FILE_BYTES)?, file)
    }

    /// The list beside the images in `root`, as of the Hugging Face `ImageFolder`: `metadata.csv` or `metadata.jsonl`, in the
    /// folder or in each folder of a split. `None` if there is none, or none with labels, which is noted.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn beside_images(root: &Path, notes: &mut Vec<String>) -> Result<Option<Self>, DataError> {
        let mut found: Vec<(PathBuf, Option<(String, Split)>)> = Vec::new();
        let own = METADATA.map(|name| root.join(name)).into_iter().find(|path| path.is_file());
        found.extend(own.map(|path| (path, None)));
        if found.is_empty() {
            for folder in visible_entries(root)? {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let Some(split) = Split::from_name(&name) else { continue };
                let own = METADATA.map(|name| folder.join(name)).into_iter().find(|path| path.is_file());
                found.extend(own.map(|path| (path, Some((name, split)))));
            }
        }
        let Some((first, _)) = found.first() else { return Ok(None) };
        let file = if found.len() == 1 { first.clone() } else { root.to_path_buf() };
        let mut rows = Rows::default();
        for (path, within) in &found {
            let place = Place { file: path, within: within.as_ref(), is_metadata: true };
            if !rows.read(&read_file(path, MAX_FILE_BYTES)?, &place)? {
                let path = path.display();
                notes.push(format!("{path}: has no columns file_name and label; the classes are those of the folders"));
                return Ok(None);
            }
        }
        let mut list = rows.finish(&file, root)?;
        list.notes.insert(0, format!("{}: the labels are those of the metadata, not of folders", file.display()));
        Ok(Some(list))
    }

    /// The splits that the list has images of, in order; none if it has no column of splits.
    pub(crate) fn splits(&self) -> Vec<Split> {
        if !self.has_splits {
            return Vec::new();
        }
        self.rows.iter().map(|row| row.split).collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

/// Where a list lies, and what it lists.
struct Place<'a> {
    file: &'a Path,
    /// The folder that its paths are relative to, within the dataset, and the split that it lists.
    within: Option<&'a (String, Split)>,
    /// Whether it lies beside the images: then it has a header, and may be of other things than their labels.
    is_metadata: bool,
}

/// Whether the name of a list ends in `.jsonl`, for JSON lines.
fn is_json_lines(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"))
}

/// Parses a list: rows of `path,label` or `path,label,split`, with fields quoted as usual in CSV files; or, if the name of
/// `file` ends in `.jsonl`, an object with these fields on each line.
///
/// A first row that names its columns (`path`, `label` or `labels`, `split`, in any order and among others, which are
/// ignored) is a header; without one the columns are in that order. Paths are relative to the folder of `file`. An image has
/// several labels if its field has some, separated by semicolons (`cat;dog`; in JSON an array); if any row has or the column is
/// called `labels`, the list is one of several labels, and an empty field means none. Classes are sorted by name, as numbers if
/// all of them are whole numbers; those of the training split are the classes of all.
///
/// # Errors
/// [`DataError::Invalid`] with file and line of a row that is none of this; [`DataError::Classes`] for labels that the
/// training split lacks; [`DataError::Memory`] for more than 1 GiB of targets.
pub fn parse_image_list(bytes: &[u8], file: &Path) -> Result<ImageList, DataError> {
    let mut rows = Rows::default();
    rows.read(bytes, &Place { file, within: None, is_metadata: false })?;
    rows.finish(file, file.parent().unwrap_or(Path::new("")))
}

/// The images of one split of a list.
pub struct ListedImages {
    list: Arc<ImageList>,
    /// The numbers of their rows.
    rows: Vec<u32>,
    format: Format,
}

impl ListedImages {
    /// The images of `split`; those of a list without splits are all in the training split.
    pub fn new(list: Arc<ImageList>, split: Split) -> Self {
        let rows = (0..).zip(&list.rows).filter(|(_, row)| row.split == split).map(|(number, _)| number).collect();
        let format = Format::photographs();
        Self { list, rows, format }
    }

    fn row(&self, index: usize) -> &Row {
        &self.list.rows[self.rows[index] as usize]
    }

    /// The file of sample `index`.
    pub fn path(&self, index: usize) -> PathBuf {
        self.list.root.join(&*self.row(index).path)
    }
}

impl Dataset for ListedImages {
    fn len(&self) -> usize {
        self.rows.len()
    }

    /// Of several labels the first one; 0 if there is none.
    fn label(&self, index: usize) -> u32 {
        self.list.sets[self.row(index).set as usize].first().copied().unwrap_or(0)
    }

    fn soft_label(&self, index: usize) -> Option<&[f32]> {
        let classes = self.list.names.len();
        self.list.multi_label.then(|| &self.list.targets[self.row(index).set as usize * classes..][..classes])
    }

    fn is_multi_label(&self) -> bool {
        self.list.multi_label
    }

    fn class_names(&self) -> &[String] {
        &self.list.names
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        read_image(&self.path(index)).map(Sample::Pixels)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        read_image_file(&self.path(index)).map(Some)
    }

    /// Of the path in the list, and of the file's length.
    fn fingerprint(&self, index: usize) -> u32 {
        file_fingerprint(Path::new(&*self.row(index).path), &self.path(index))
    }

    fn describe(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }

    fn place(&self) -> String {
        self.list.file.display().to_string()
    }

    fn format(&self) -> &Format {
        &self.format
    }

    fn notes(&self) -> &[String] {
        &self.list.notes
    }
}
