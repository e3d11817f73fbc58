//! Finds the splits of an image folder.
//!
//! A split is a folder with a [usual name](Split::from_name) that holds class folders; a class is a folder that holds
//! images, whatever its name. Skipped folders and ambiguities are reported in notes.

use std::path::{Path, PathBuf};

use residual_files::{is_image, printable, unsorted_entries, visible_entries};

use crate::{DataError, Split};

/// The splits of a folder whose images are not read yet.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    /// The folder of each split; empty if `root` contains the class folders.
    splits: Vec<(Split, PathBuf)>,
    notes: Vec<String>,
}

impl Layout {
    /// Looks for splits in `root` and, if it has none and no images in its folders, in the one folder that has.
    pub(crate) fn find(root: &Path) -> Result<Self, DataError> {
        let mut layout = Self { root: root.to_path_buf(), splits: Vec::new(), notes: Vec::new() };
        let folders = layout.data_folders(root)?;
        layout.take_splits(root, &folders)?;
        if !layout.splits.is_empty() {
            return Ok(layout);
        }
        for folder in &folders {
            if holds_images(folder) {
                layout.note_classes(&folders)?;
                return Ok(layout);
            }
        }
        let mut deeper = Vec::new();
        for folder in folders.iter().filter(|folder| is_readable(folder)) {
            let mut inner = Self { root: folder.clone(), splits: Vec::new(), notes: Vec::new() };
            let folders = inner.data_folders(folder)?;
            inner.take_splits(folder, &folders)?;
            if !inner.splits.is_empty() {
                deeper.push(inner);
            }
        }
        match deeper.len() {
            0 => layout.note_classes(&folders)?,
            1 => {
                let inner = deeper.remove(0);
                layout.notes.push(format!("{}: the splits in {} are read", shown(root), name(&inner.root)));
                layout.notes.extend(inner.notes);
                layout.splits = inner.splits;
            }
            _ => {
                let names: Vec<_> = deeper.iter().map(|inner| name(&inner.root)).collect();
                return Err(DataError::invalid(shown(root), "splits in one of its folders", names.join(" and ")));
            }
        }
        Ok(layout)
    }

    /// `root` as a folder of class folders.
    pub(crate) fn without_splits(root: &Path) -> Result<Self, DataError> {
        let mut layout = Self { root: root.to_path_buf(), splits: Vec::new(), notes: Vec::new() };
        let folders = layout.data_folders(root)?;
        layout.note_classes(&folders)?;
        Ok(layout)
    }

    /// The same with more notes for the user.
    pub(crate) fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes.extend(notes);
        self
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn splits(&self) -> impl Iterator<Item = Split> {
        self.splits.iter().map(|(split, _)| *split)
    }

    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The folder with the class folders of a split; without splits, the training split's is the root.
    pub(crate) fn folder(&self, split: Split) -> Option<&Path> {
        if self.splits.is_empty() {
            return (split == Split::Train).then_some(&self.root);
        }
        self.splits.iter().find(|(own, _)| *own == split).map(|(_, path)| &**path)
    }

    /// The folders in `root` that may hold data; notes the others.
    fn data_folders(&mut self, root: &Path) -> Result<Vec<PathBuf>, DataError> {
        let (folders, runs) = data_folders(root)?;
        if !runs.is_empty() {
            self.notes.push(format!("{}: ignored {}, which contains training runs", shown(root), listed(&runs)));
        }
        Ok(folders)
    }

    /// Takes those of the `folders` in `root` that are splits, and notes the others if there are any.
    fn take_splits(&mut self, root: &Path, folders: &[PathBuf]) -> Result<(), DataError> {
        let mut others = Vec::new();
        for path in folders {
            match Split::from_name(&path.file_name().unwrap_or_default().to_string_lossy()) {
                Some(split) if has_folders(path)? => {
                    if let Some((_, first)) = self.splits.iter().find(|(own, _)| *own == split) {
                        let got = format!("{} and {}", name(first), name(path));
                        return Err(DataError::invalid(shown(root), format!("one folder for the {split} split"), got));
                    }
                    self.splits.push((split, path.clone()));
                }
                _ => others.push(name(path)),
            }
        }
        self.splits.sort_unstable();
        if !self.splits.is_empty() && !others.is_empty() {
            let names = listed(&others);
            self.notes.push(format!("{}: ignored {names} next to the splits", shown(root)));
        }
        Ok(())
    }

    /// Adds notes about class folders that may not be meant as classes.
    fn note_classes(&mut self, folders: &[PathBuf]) -> Result<(), DataError> {
        let root = shown(&self.root);
        for path in folders {
            if Split::from_name(&path.file_name().unwrap_or_default().to_string_lossy()).is_some() {
                self.notes.push(format!("{root}: {} holds no class folders and is taken for a class", name(path)));
            }
        }
        if let [only] = folders {
            let only = if is_readable(only) && has_folders(only)? {
                format!("{}; to take its folders for classes, name {}", name(only), shown(only))
            } else {
                name(only)
            };
            self.notes.push(format!("{root}: there is one class only, {only}"));
        }
        Ok(())
    }
}

/// The folders in `root` that may hold data, and the names of those that contain training runs.
pub(crate) fn data_folders(root: &Path) -> Result<(Vec<PathBuf>, Vec<String>), DataError> {
    let (mut folders, mut runs) = (Vec::new(), Vec::new());
    for path in visible_entries(root)? {
        if path.is_dir() {
            if holds_runs(&path)? { runs.push(name(&path)) } else { folders.push(path) }
        }
    }
    Ok((folders, runs))
}

/// Whether `path` is a run folder, or contains only run folders. A folder that cannot be read is none: reading its images is an error of
/// its own.
fn holds_runs(path: &Path) -> Result<bool, DataError> {
    let is_run = |path: &Path| {
        path.join("config.toml").is_file() && (path.join("weights").is_dir() || path.join("state").is_dir())
    };
    if is_run(path) {
        return Ok(true);
    }
    let Ok(entries) = unsorted_entries(path) else { return Ok(false) };
    // The first entry that is no run decides: a class folder may hold very many files.
    let mut is_empty = true;
    for entry in entries {
        if !is_run(&entry?.path()) {
            return Ok(false);
        }
        is_empty = false;
    }
    Ok(!is_empty)
}

/// Whether there are images in `folder` itself; none are known of one that cannot be read.
fn holds_images(folder: &Path) -> bool {
    visible_entries(folder).is_ok_and(|entries| entries.iter().any(|path| is_image(path) && !path.is_dir()))
}

fn is_readable(folder: &Path) -> bool {
    unsorted_entries(folder).is_ok()
}

/// Whether there are folders in `folder`.
fn has_folders(folder: &Path) -> Result<bool, DataError> {
    Ok(visible_entries(folder)?.iter().any(|path| path.is_dir()))
}

/// The last part of a path, in quotes and printable.
fn name(path: &Path) -> String {
    format!("\"{}\"", printable(&path.file_name().unwrap_or_default().to_string_lossy(), 60))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The first few of some names, and how many more there are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
