//! Class folders of image files.

use std::fs;
use std::path::Path;

use residual_files::{FileError, is_image};

use super::EncodedImage;
use crate::{DataError, Dataset};

/// Which files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// PNG files of the pixels.
    Png,
    /// The image files of the dataset where it has some, except for formats that folders are not searched for.
    Copied,
}

/// Writes the images to `folder/<class name>/<number>.<extension>`; returns their number.
pub(super) fn write(dataset: &dyn Dataset, folder: &Path, files: Files) -> Result<usize, DataError> {
    for name in dataset.class_names() {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return Err(DataError::invalid(format!("class {name:?}"), "a name that a folder can have", "another"));
        }
        let class = folder.join(name);
        fs::create_dir_all(&class).map_err(FileError::write(&class))?;
    }
    let digits = dataset.len().saturating_sub(1).to_string().len();
    for index in 0..dataset.len() {
        let image = match files {
            Files::Png => EncodedImage::png(dataset, index)?,
            Files::Copied => {
                let image = EncodedImage::of(dataset, index)?;
                let is_found = is_image(Path::new(&format!("x.{}", image.extension)));
                if is_found { image } else { EncodedImage::png(dataset, index)? }
            }
        };
        let name = &dataset.class_names()[dataset.label(index) as usize];
        let path = folder.join(name).join(format!("{index:0digits$}.{}", image.extension));
        fs::write(&path, &image.bytes).map_err(FileError::write(&path))?;
    }
    Ok(dataset.len())
}
