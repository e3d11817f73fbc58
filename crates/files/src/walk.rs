//! The image files in a folder and its subfolders: one walk for training data, prediction and features.

use crate::{FileCause, FileError};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The extensions of image files in a folder, in any case: those of torchvision's `ImageFolder`, so that both see the same
/// images. Their content decides how they are decoded.
pub const IMAGE_EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "ppm", "pgm"];

/// Folders within folders that are entered.
const MAX_DEPTH: usize = 16;

/// What lies below a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Paths with the extension of an image, sorted.
    pub images: Vec<PathBuf>,
    /// Paths of files with another extension, sorted.
    pub ignored: Vec<PathBuf>,
}

/// The image files in `folder` and its subfolders. Names that begin with a dot are skipped, links to files and folders are
/// followed, and no folder is entered twice.
///
/// # Errors
/// If a folder cannot be read, or folders are nested more than 16 deep.
pub fn images_below(folder: &Path) -> Result<Images, FileError> {
    let mut found = Images::default();
    walk(folder, 0, &mut BTreeSet::new(), &mut found)?;
    found.images.sort_unstable();
    found.ignored.sort_unstable();
    Ok(found)
}

fn walk(folder: &Path, depth: usize, entered: &mut BTreeSet<PathBuf>, found: &mut Images) -> Result<(), FileError> {
    if depth > MAX_DEPTH {
        return Err(FileError::new(folder, FileCause::TooDeep { limit: MAX_DEPTH }));
    }
    if !entered.insert(fs::canonicalize(folder).map_err(FileError::read(folder))?) {
        return Ok(());
    }
    for path in visible_entries(folder)? {
        if path.is_dir() {
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

/// What lies in `folder`, sorted, but for names that begin with a dot.
///
/// # Errors
/// If the folder cannot be read.
pub fn visible_entries(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(FileError::read(folder))? {
        let entry = entry.map_err(FileError::read(folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}
