//! Copies a source to image files in class folders, to tar shards or to parquet files. Image files are copied as they are; pixels
//! become PNG files.

mod folder;
#[cfg(feature = "parquet")]
mod parquet;
mod tar;

use std::fs;
use std::path::{Path, PathBuf};

use residual_files::{FileError, atomic_folder};
use residual_preprocess::{Image, ImageError};

use crate::{DataError, Dataset, Sample, Source, Split};

/// What a source is copied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A folder for each class, in a folder for each split.
    Folder,
    /// Tar shards of the WebDataset layout, with the class names in `classes.txt`.
    Tar,
    /// Parquet files in the layout of the Hugging Face hub, with the class names in their metadata (Cargo feature `parquet`).
    Parquet,
}

/// The result of [`convert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The number of images.
    pub images: usize,
    /// The number of shards; of a folder, of images.
    pub files: usize,
}

/// Copies every image of `source` to `folder`, which is created atomically, and takes a new shard before one is larger than
/// `shard_bytes`. The images keep their order; in class folders they are ordered by class first.
///
/// # Errors
/// [`DataError::Invalid`] if `folder` exists and is not empty, for images with several labels, with probabilities of classes, or
/// that are normalised, for a class name that a folder cannot have, and for parquet files without that feature;
/// [`DataError::Image`] for a file that is no image; [`DataError::File`] if one cannot be read or written.
pub fn convert(source: &Source, folder: &Path, to: Container, shard_bytes: u64) -> Result<Converted, DataError> {
    write(source, folder, |dataset, split, folder| match to {
        Container::Folder => {
            let images = folder::write(dataset, &split_folder(folder, split), folder::Files::Copied)?;
            Ok(Converted { images, files: images })
        }
        Container::Tar => shards::<tar::TarShard>(dataset, folder, split, shard_bytes),
        #[cfg(feature = "parquet")]
        Container::Parquet => shards::<parquet::ParquetShard>(dataset, folder, split, shard_bytes),
        #[cfg(not(feature = "parquet"))]
        Container::Parquet => {
            let expected = "a folder or tar shards, as this was built without the feature \"parquet\"";
            Err(DataError::invalid(folder.display(), expected, "parquet files"))
        }
    })
}

/// Writes every image of `source` to `folder/<split>/<class name>/<number>.png`, or without splits to
/// `folder/<class name>/<number>.png`, creating the folders; returns the number of images. The folder is created
/// atomically.
///
/// # Errors
/// As [`convert`].
pub fn export(source: &Source, folder: &Path) -> Result<usize, DataError> {
    let written = write(source, folder, |dataset, split, folder| {
        let images = folder::write(dataset, &split_folder(folder, split), folder::Files::Png)?;
        Ok(Converted { images, files: images })
    })?;
    Ok(written.images)
}

/// Writes each split of a source, or everything, to a new folder.
fn write(
    source: &Source,
    folder: &Path,
    write: impl Fn(&dyn Dataset, Option<Split>, &Path) -> Result<Converted, DataError>,
) -> Result<Converted, DataError> {
    if folder.exists() && fs::read_dir(folder).map_err(FileError::read(folder))?.next().is_some() {
        return Err(DataError::invalid(folder.display(), "an empty folder or a new one", "a folder with files"));
    }
    let splits = source.splits();
    let parts: Vec<Option<Split>> = if splits.is_empty() { vec![None] } else { splits.into_iter().map(Some).collect() };
    atomic_folder(folder, |folder| {
        let mut all = Converted { images: 0, files: 0 };
        for split in parts {
            let dataset = source.split(split.unwrap_or(Split::Train))?;
            check_labels(&*dataset)?;
            let part = write(&*dataset, split, folder)?;
            all = Converted { images: all.images + part.images, files: all.files + part.files };
        }
        Ok(all)
    })
}

/// Refuses labels that a container cannot hold.
fn check_labels(dataset: &dyn Dataset) -> Result<(), DataError> {
    let got = if dataset.is_multi_label() {
        "several labels"
    } else if !dataset.is_empty() && dataset.soft_label(0).is_some() {
        "probabilities of classes"
    } else {
        return Ok(());
    };
    Err(DataError::invalid(dataset.place(), "one label per image, as a folder of class folders has", got))
}

fn split_folder(folder: &Path, split: Option<Split>) -> PathBuf {
    split.map_or_else(|| folder.to_path_buf(), |split| folder.join(split.name()))
}

/// A file of many images that is being written.
trait Shard: Sized {
    /// The extension of its name.
    const EXTENSION: &'static str;

    /// Begins the shard `path` of a dataset with these classes.
    fn create(path: &Path, names: &[String]) -> Result<Self, DataError>;

    /// Adds an image, the `index`th of the dataset.
    fn push(&mut self, index: usize, image: EncodedImage, label: u32) -> Result<(), DataError>;

    /// Writes the end of the shard.
    fn finish(self) -> Result<(), DataError>;

    /// Writes what belongs to all shards of the dataset.
    fn describe(folder: &Path, names: &[String]) -> Result<(), DataError>;
}

/// Writes a dataset to shards: `train-000000.tar`, or without splits `images-000000.tar`.
fn shards<S: Shard>(
    dataset: &dyn Dataset,
    folder: &Path,
    split: Option<Split>,
    shard_bytes: u64,
) -> Result<Converted, DataError> {
    let names = dataset.class_names();
    let (mut shard, mut bytes, mut files) = (None::<S>, 0, 0);
    for index in 0..dataset.len() {
        let image = EncodedImage::of(dataset, index)?;
        let len = image.bytes.len() as u64;
        if bytes + len > shard_bytes
            && let Some(full) = shard.take()
        {
            full.finish()?;
        }
        let current = match &mut shard {
            Some(current) => current,
            None => {
                let name = split.map_or("images", Split::name);
                let path = folder.join(format!("{name}-{files:06}.{}", S::EXTENSION));
                (bytes, files) = (0, files + 1);
                shard.insert(S::create(&path, names)?)
            }
        };
        bytes += len;
        current.push(index, image, dataset.label(index))?;
    }
    if let Some(last) = shard {
        last.finish()?;
    }
    S::describe(folder, names)?;
    Ok(Converted { images: dataset.len(), files })
}

/// The bytes of an image file, and the extension of its format.
struct EncodedImage {
    bytes: Vec<u8>,
    extension: &'static str,
}

impl EncodedImage {
    /// The file of a sample, or its pixels as a PNG file.
    fn of(dataset: &dyn Dataset, index: usize) -> Result<Self, DataError> {
        let Some(bytes) = dataset.encoded(index)? else { return Self::png(dataset, index) };
        let Some(extension) = Image::file_extension(&bytes) else {
            let cause = ImageError::Decode("the bytes are those of no image format that is read".into());
            return Err(DataError::Image { place: dataset.describe(index), cause });
        };
        Ok(Self { bytes, extension })
    }

    /// The pixels of a sample as a PNG file.
    fn png(dataset: &dyn Dataset, index: usize) -> Result<Self, DataError> {
        let unsuitable =
            |got: &str| DataError::invalid(dataset.describe(index), "8-bit pixels of 1 to 4 channels", got);
        let Sample::Pixels(image) = dataset.sample(index)? else {
            return Err(unsuitable("normalised values"));
        };
        let bytes = image.to_png().map_err(|_| unsuitable(&format!("{} channels", image.channels())))?;
        Ok(Self { bytes, extension: "png" })
    }
}
