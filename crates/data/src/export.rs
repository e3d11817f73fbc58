//! Exports a source as a folder of PNG files.

use std::fs;
use std::path::Path;

use residual_files::{FileError, atomic_folder};

use crate::{DataError, Dataset, Sample, Source, Split};

/// Writes every image of `source` to `folder/<split>/<class name>/<number>.png`, or without splits to
/// `folder/<class name>/<number>.png`, creating the folders; returns the number of images. The folder is created
/// atomically.
///
/// # Errors
/// [`DataError::Invalid`] if `folder` exists and is not empty, if a class name cannot be a folder's name, or for images
/// that have several labels, are normalised or have more than 4 channels; [`DataError::File`] if a file cannot be written.
pub fn export(source: &Source, folder: &Path) -> Result<usize, DataError> {
    if folder.exists() && fs::read_dir(folder).map_err(FileError::read(folder))?.next().is_some() {
        return Err(DataError::invalid(folder.display(), "an empty folder or a new one", "a folder with files"));
    }
    atomic_folder(folder, |folder| {
        let splits = source.splits();
        if splits.is_empty() {
            return write_all(&*source.split(Split::Train)?, folder);
        }
        splits.iter().map(|split| write_all(&*source.split(*split)?, &folder.join(split.name()))).sum()
    })
}

fn write_all(dataset: &dyn Dataset, folder: &Path) -> Result<usize, DataError> {
    if dataset.is_multi_label() {
        let expected = "one label per image, as a folder of class folders has";
        return Err(DataError::invalid(dataset.place(), expected, "several labels"));
    }
    for name in dataset.class_names() {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return Err(DataError::invalid(format!("class {name:?}"), "a name that a folder can have", "another"));
        }
        let class = folder.join(name);
        fs::create_dir_all(&class).map_err(FileError::write(&class))?;
    }
    let digits = dataset.len().saturating_sub(1).to_string().len();
    for index in 0..dataset.len() {
        let name = &dataset.class_names()[dataset.label(index) as usize];
        let path = folder.join(name).join(format!("{index:0digits$}.png"));
        let bytes = encode(dataset, index)?;
        fs::write(&path, &bytes).map_err(FileError::write(&path))?;
    }
    Ok(dataset.len())
}

fn encode(dataset: &dyn Dataset, index: usize) -> Result<Vec<u8>, DataError> {
    let unsuitable = |got: &str| DataError::invalid(dataset.describe(index), "8-bit pixels of 1 to 4 channels", got);
    let Sample::Pixels(image) = dataset.sample(index)? else {
        return Err(unsuitable("normalised values"));
    };
    image.to_png().map_err(|_| unsuitable(&format!("{} channels", image.channels())))
}
