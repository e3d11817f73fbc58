//! The image files in a folder and its subfolders: one walk for training data, prediction and features.

use crate::{FileCause, FileError};
use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

/// The extensions of image files in a folder, in any case: those of torchvision's `ImageFolder`, so that both see the
/// same images. Their content decides how they are decoded.
pub const IMAGE_EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "ppm", "pgm"];

/// Maximum nesting of folders.
const MAX_DEPTH: usize = 16;

/// The files in a folder and its subfolders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Paths with the extension of an image, sorted.
    pub images: Vec<PathBuf>,
    /// Paths of files with another extension, sorted.
    pub ignored: Vec<PathBuf>,
}

/// The image files in `folder` and its subfolders. Names that begin with a dot are skipped, links to files and folders
/// are followed, and no folder is entered twice.
///
/// # Errors
/// If a folder cannot be read, or folders are nested more than 16 deep.
pub fn images_below(folder: &Path) -> Result<Images, FileError> {
    let mut found = Images::default();
    walk(folder, 0, &mut BTreeSet::new(), &mut found)?;
    Ok(found)
}

fn walk(folder: &Path, depth: usize, entered: &mut BTreeSet<PathBuf>, found: &mut Images) -> Result<(), FileError> {
    if depth > MAX_DEPTH {
        return Err(FileError::new(folder, FileCause::TooDeep { limit: MAX_DEPTH }));
    }
    if !entered.insert(fs::canonicalize(folder).map_err(FileError::read(folder))?) {
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in unsorted_entries(folder)? {
        let entry = entry?;
        let path = entry.path();
        // The listing of a folder has the type of each entry, so that only links are looked up.
        let is_folder = match entry.file_type() {
            Ok(kind) if !kind.is_symlink() => kind.is_dir(),
            _ => path.is_dir(),
        };
        entries.push((entry.file_name(), path, is_folder));
    }
    // By name: whole paths take ten times as long to compare, and with the contents of each folder in its place they are sorted too.
    entries.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    for (_, path, is_folder) in entries {
        if is_folder {
            walk(&path, depth + 1, entered, found)?;
        } else if is_image(&path) {
            found.images.push(path);
        } else {
            found.ignored.push(path);
        }
    }
    Ok(())
}

/// Whether `path` has the extension of an image file.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    IMAGE_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// The entries of `folder`, sorted, except for names that begin with a dot.
///
/// # Errors
/// If the folder cannot be read.
pub fn visible_entries(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let paths = unsorted_entries(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<Result<Vec<_>, FileError>>()?;
    paths.sort_unstable();
    Ok(paths)
}

/// [`visible_entries`] one by one, in the order of the file system.
///
/// # Errors
/// If the folder cannot be read.
pub fn unsorted_entries(folder: &Path) -> Result<impl Iterator<Item = Result<DirEntry, FileError>>, FileError> {
    let is_hidden = |entry: &DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
    let entries = fs::read_dir(folder).map_err(FileError::read(folder))?;
    let entries = entries.map(move |entry| entry.map_err(FileError::read(folder)));
    Ok(entries.filter(move |entry| !entry.as_ref().is_ok_and(is_hidden)))
}
