//! The rows of a list, gathered until all classes are known.

use std::collections::HashMap;
use std::path::Path;

use residual_files::printable;

use super::{ImageList, Place, Row, csv, is_json_lines, json};
use crate::class_numbers::ClassNumbers;
use crate::dataset::counted;
use crate::folder::MAX_CLASSES;
use crate::{DataError, Split};

/// Maximum memory of the targets of images with several labels.
const MAX_TARGET_BYTES: usize = 1 << 30;

/// The rows so far, with classes numbered in the order of their appearance.
#[derive(Default)]
pub(super) struct Rows {
    rows: Vec<Row>,
    classes: ClassNumbers,
    sets: HashMap<Vec<u32>, u32>,
    pub(super) multi_label: bool,
    /// Whether each row says its split.
    pub(super) has_splits: bool,
    /// The number of rows whose path begins with the folder of a split, in metadata.
    in_split_folders: usize,
    unlabelled: usize,
    first_unlabelled: Option<DataError>,
    pub(super) notes: Vec<String>,
}

/// One row as it is written.
pub(super) struct WrittenRow<'a> {
    pub(super) path: &'a str,
    pub(super) labels: Vec<&'a str>,
    /// Its own split, if it says one.
    pub(super) split: Option<&'a str>,
}

impl Rows {
    /// Adds the rows of a file; false for metadata of other things than the images' labels.
    pub(super) fn read(&mut self, bytes: &[u8], place: &Place<'_>) -> Result<bool, DataError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let is_labelled =
            if is_json_lines(place.file) { json::read(bytes, place, self) } else { csv::read(bytes, place, self) }?;
        self.has_splits |= place.within.is_some();
        Ok(is_labelled)
    }

    /// Adds a row; `invalid` makes an error of its line.
    pub(super) fn push(
        &mut self,
        row: WrittenRow<'_>,
        place: &Place<'_>,
        invalid: &dyn Fn(&str, &str) -> DataError,
    ) -> Result<(), DataError> {
        let shown = |text: &str| format!("\"{}\"", printable(text, 60));
        let WrittenRow { path, labels: written, split } = row;
        if path.trim().is_empty() {
            return Err(invalid("the path of an image", "an empty field"));
        }
        let folder = path.split_once('/').and_then(|(folder, _)| Split::from_name(folder));
        let split = match (split, place.within) {
            (Some(name), _) => {
                Split::from_name(name.trim()).ok_or_else(|| invalid("a split: train, val or test", &shown(name)))?
            }
            (None, Some((_, split))) => *split,
            (None, None) => folder.filter(|_| place.is_metadata).unwrap_or(Split::Train),
        };
        self.in_split_folders += usize::from(folder.is_some());
        if written.is_empty() {
            self.unlabelled += 1;
            self.first_unlabelled.get_or_insert_with(|| invalid("a label", "an empty field"));
        }
        let mut labels = Vec::with_capacity(written.len());
        for name in written {
            let too_many = || invalid(&format!("at most {MAX_CLASSES} classes"), "more");
            let label = self.classes.number(name).ok_or_else(too_many)?;
            if labels.contains(&label) {
                return Err(invalid("each label once", &format!("{} twice", shown(name))));
            }
            labels.push(label);
        }
        if split == Split::Train {
            labels.iter().for_each(|&label| self.classes.mark_trained(label));
        }
        self.multi_label |= labels.len() > 1;
        labels.sort_unstable();
        let count = self.sets.len() as u32;
        let set = *self.sets.entry(labels).or_insert(count);
        let path = match place.within {
            Some((folder, _)) => format!("{folder}/{path}").into(),
            None => path.into(),
        };
        self.rows.push(Row { path, set, split });
        Ok(())
    }

    /// The list of all rows; `file` names it in messages, and `root` is the folder that its paths are relative to.
    pub(super) fn finish(mut self, file: &Path, root: &Path) -> Result<ImageList, DataError> {
        let place = file.display().to_string();
        if let (Some(error), false) = (self.first_unlabelled, self.multi_label) {
            return Err(error);
        }
        if self.classes.is_empty() {
            return Err(DataError::invalid(place, "rows of path,label", "none with a label"));
        }
        if self.unlabelled > 0 {
            self.notes.push(format!("{place}: {} without a label", counted(self.unlabelled, "image")));
        }
        let classes = self.classes.names(&place)?;
        let mut sets = vec![Vec::new(); self.sets.len()];
        for (set, number) in self.sets {
            let mut set: Vec<u32> = set.into_iter().map(|number| classes.labels[number as usize]).collect();
            set.sort_unstable();
            sets[number as usize] = set;
        }
        let targets = if self.multi_label { targets(&sets, classes.names.len())? } else { Vec::new() };
        Ok(ImageList {
            file: file.to_path_buf(),
            root: root.to_path_buf(),
            names: classes.names,
            rows: self.rows,
            sets,
            targets,
            multi_label: self.multi_label,
            has_splits: self.has_splits,
            notes: self.notes,
        })
    }

    /// Takes the folders of splits in the paths of metadata for its splits.
    pub(super) fn take_split_folders(&mut self, place: &Place<'_>) -> Result<(), DataError> {
        match self.in_split_folders {
            0 => Ok(()),
            all if all == self.rows.len() => {
                self.has_splits = true;
                Ok(())
            }
            some => {
                let got = format!("{some} of {} images", self.rows.len());
                Err(DataError::invalid(place.file.display(), "all images in folders of splits, or none", got))
            }
        }
    }
}

/// 1 for each class of each set, and 0 for the others.
fn targets(sets: &[Vec<u32>], classes: usize) -> Result<Vec<f32>, DataError> {
    let len = sets.len().saturating_mul(classes);
    let bytes = len.saturating_mul(size_of::<f32>());
    let mut targets = Vec::new();
    if bytes > MAX_TARGET_BYTES || targets.try_reserve_exact(len).is_err() {
        let what = format!("targets of {classes} classes for {} different sets of labels", sets.len());
        return Err(DataError::Memory { what, bytes: bytes as u64 });
    }
    targets.resize(len, 0.0);
    for (set, targets) in sets.iter().zip(targets.chunks_exact_mut(classes)) {
        set.iter().for_each(|&label| targets[label as usize] = 1.0);
    }
    Ok(targets)
}
