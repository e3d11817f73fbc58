//! CIFAR-10 and CIFAR-100 in their official binary and python layouts.

mod binary;
mod python;

use std::path::{Path, PathBuf};

use residual_files::read_file;
use residual_preprocess::Image;

pub use binary::parse_binary;
pub use python::parse_python;

use crate::folder::check_distinct;
use crate::tensors::interleave;
use crate::{DataError, Dataset, Format, Sample, Split};

/// Bytes of one image: a red, a green and a blue plane of 32×32.
const IMAGE_LEN: usize = 3 * 32 * 32;
/// The largest file that is read: the official ones have up to 180 MB.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// The largest file of class names that is read: the official ones have under 2 kB.
const MAX_NAMES_BYTES: u64 = 1 << 20;

/// CIFAR-10 or CIFAR-100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CifarKind {
    /// Ten classes.
    Cifar10,
    /// A hundred (fine) classes.
    Cifar100,
}

impl CifarKind {
    /// The name as a source: `cifar10` or `cifar100`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }

    /// The number of classes.
    pub fn classes(self) -> usize {
        match self {
            Self::Cifar10 => 10,
            Self::Cifar100 => 100,
        }
    }

    /// The subfolders that the official archives unpack to.
    fn folders(self) -> [&'static str; 2] {
        match self {
            Self::Cifar10 => ["cifar-10-batches-bin", "cifar-10-batches-py"],
            Self::Cifar100 => ["cifar-100-binary", "cifar-100-python"],
        }
    }

    /// The files of a split, without the binary layout's extension.
    fn files(self, split: Split) -> &'static [&'static str] {
        match (self, split) {
            (Self::Cifar10, Split::Train) => {
                &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]
            }
            (Self::Cifar10, _) => &["test_batch"],
            (Self::Cifar100, Split::Train) => &["train"],
            (Self::Cifar100, _) => &["test"],
        }
    }

    /// The class names, as in the official archives.
    pub fn built_in_names(self) -> Vec<String> {
        let names = match self {
            Self::Cifar10 => "airplane automobile bird cat deer dog frog horse ship truck",
            Self::Cifar100 => include_str!("cifar/cifar100_names.txt"),
        };
        names.split_whitespace().map(String::from).collect()
    }

    /// The folder with the files: `data_dir`, or its subfolder of an official archive's name.
    pub(crate) fn find(self, data_dir: &Path) -> Result<PathBuf, DataError> {
        let [binary, python] = self.folders();
        let places = [data_dir.to_path_buf(), data_dir.join(binary), data_dir.join(python)];
        let has = |folder: &Path, split| {
            let first = self.files(split)[0];
            folder.join(format!("{first}.bin")).is_file() || folder.join(first).is_file()
        };
        let mut places = places.into_iter();
        places.find(|folder| has(folder, Split::Test) || has(folder, Split::Train)).ok_or_else(|| {
            let file = self.files(Split::Test)[0];
            let expected = format!("{file}.bin or {file}, here or in {binary} or {python}");
            DataError::invalid(data_dir.display(), expected, "neither")
        })
    }
}

/// Labels and images of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// The class of each image.
    pub labels: Vec<u32>,
    /// 3072 bytes per image: a red, a green and a blue plane of 32×32.
    pub pixels: Vec<u8>,
}

/// A split of CIFAR-10 or CIFAR-100, held in memory (3 KiB per image).
pub struct Cifar {
    place: String,
    names: Vec<String>,
    format: Format,
    /// File name, index of the first image, and images.
    files: Vec<(String, usize, Records)>,
    len: usize,
}

impl Cifar {
    /// Reads the training or test split from a folder of either layout. The files may hold any whole number of records.
    ///
    /// # Errors
    /// [`DataError::File`] if a file cannot be read, [`DataError::Invalid`], with file and offset, if its content is
    /// invalid.
    pub fn open(kind: CifarKind, folder: &Path, split: Split) -> Result<Self, DataError> {
        if split == Split::Val {
            return Err(DataError::invalid(kind.name(), "a val split", "train, test"));
        }
        let (mut files, mut len) = (Vec::new(), 0);
        for name in kind.files(split) {
            let (binary, python) = (folder.join(format!("{name}.bin")), folder.join(name));
            let (path, records) = if binary.is_file() || !python.is_file() {
                let records = parse_binary(&read_file(&binary, MAX_FILE_BYTES)?, kind, &binary.display().to_string())?;
                (binary, records)
            } else {
                let records = parse_python(&read_file(&python, MAX_FILE_BYTES)?, kind, &python.display().to_string())?;
                (python, records)
            };
            let first = len;
            len += records.labels.len();
            files.push((path.display().to_string(), first, records));
        }
        let (mean, std) = match kind {
            CifarKind::Cifar10 => ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
            CifarKind::Cifar100 => ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
        };
        let (mean, std) = (mean.to_vec(), std.to_vec());
        let format = Format { image_size: Some([32, 32]), channels: 3, normalized: false, mean, std };
        let place = format!("{} ({split})", folder.display());
        Ok(Self { place, names: class_names(kind, folder)?, format, files, len })
    }

    /// The file of sample `index`, its place in it and the file's records.
    fn find(&self, index: usize) -> (&str, usize, &Records) {
        let file = self.files.partition_point(|(_, first, _)| *first <= index) - 1;
        let (name, first, records) = &self.files[file];
        (name, index - first, records)
    }

    /// The red, green and blue plane of sample `index`.
    fn planes(&self, index: usize) -> &[u8] {
        let (_, at, records) = self.find(index);
        &records.pixels[at * IMAGE_LEN..][..IMAGE_LEN]
    }
}

impl Dataset for Cifar {
    fn len(&self) -> usize {
        self.len
    }

    fn label(&self, index: usize) -> u32 {
        let (_, at, records) = self.find(index);
        records.labels[at]
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let pixels = interleave(self.planes(index), 3);
        let image = Image::new(32, 32, 3, pixels);
        image.map(Sample::Pixels).map_err(|cause| DataError::Image { place: self.describe(index), cause })
    }

    fn fingerprint(&self, index: usize) -> u32 {
        crc32fast::hash(self.planes(index))
    }

    fn describe(&self, index: usize) -> String {
        let (name, at, _) = self.find(index);
        format!("{name} image {at}")
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn format(&self) -> &Format {
        &self.format
    }
}

/// The class names in the file next to the images, or those of the official archives.
fn class_names(kind: CifarKind, folder: &Path) -> Result<Vec<String>, DataError> {
    let (text, pickle) = match kind {
        CifarKind::Cifar10 => ("batches.meta.txt", "batches.meta"),
        CifarKind::Cifar100 => ("fine_label_names.txt", "meta"),
    };
    let (text, pickle) = (folder.join(text), folder.join(pickle));
    let (path, names) = if text.exists() {
        let content = String::from_utf8_lossy(&read_file(&text, MAX_NAMES_BYTES)?).into_owned();
        (text, content.lines().map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect())
    } else if pickle.exists() {
        let names = python::parse_names(&read_file(&pickle, MAX_NAMES_BYTES)?, kind, &pickle.display().to_string())?;
        (pickle, names)
    } else {
        return Ok(kind.built_in_names());
    };
    if names.len() != kind.classes() {
        let expected = format!("{} class names", kind.classes());
        return Err(DataError::invalid(path.display(), expected, names.len()));
    }
    check_distinct(names.iter().map(|name| &**name), &path.display().to_string())?;
    Ok(names)
}
