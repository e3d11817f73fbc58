//! IDX files, the format of MNIST and its relatives: `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, also as `.gz`.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use residual_files::{printable, read_file, visible_entries};

use crate::class_list::ClassList;
use crate::class_numbers::name_indices;
use crate::pixel_arrays::{PixelArrays, Values};
use crate::{DataError, Split};

/// Maximum size of a file, and of what it unpacks to. The largest of EMNIST has 550 MB.
const MAX_BYTES: u64 = 2 << 30;

/// The IDX files of a folder. Nothing of them is read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdxFiles {
    folder: PathBuf,
    /// The files of images and of labels of each split.
    splits: Vec<(Split, [PathBuf; 2])>,
}

impl IdxFiles {
    /// The files in `folder`; `None` if there are none. Of a file and its `.gz`, the file is taken.
    ///
    /// # Errors
    /// [`DataError::File`] if the folder cannot be read; [`DataError::Invalid`] for several files of images of a split, or
    /// images without labels.
    pub(crate) fn find(folder: &Path) -> Result<Option<Self>, DataError> {
        let place = || folder.display();
        let mut splits: Vec<(Split, [PathBuf; 2])> = Vec::new();
        for images in visible_entries(folder)? {
            let name = images.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let plain = name.strip_suffix(".gz").unwrap_or(&name);
            let Some((prefix, ending)) = plain.split_once("images") else { continue };
            if !matches!(ending, "-idx3-ubyte" | ".idx3-ubyte" | "-idx4-ubyte" | ".idx4-ubyte") {
                continue;
            }
            let words = prefix.split(['-', '_', '.']);
            let split = words
                .clone()
                .find_map(Split::from_name)
                .or(words.clone().find(|&word| word == "t10k").map(|_| Split::Test));
            let Some(split) = split else { continue };
            if plain != name && folder.join(plain).exists() {
                continue;
            }
            if let Some((_, [first, _])) = splits.iter().find(|(own, _)| *own == split) {
                let first = first.file_name().unwrap_or_default().to_string_lossy();
                let got = format!("{} and {}", printable(&first, 60), printable(&name, 60));
                return Err(DataError::invalid(place(), format!("one file of {split} images"), got));
            }
            let separator = &ending[..1];
            let labels = format!("{prefix}labels{separator}idx1-ubyte");
            let found =
                [folder.join(&labels), folder.join(format!("{labels}.gz"))].into_iter().find(|path| path.exists());
            let Some(found) = found else {
                return Err(DataError::invalid(place(), format!("{labels} beside {name}"), "no such file"));
            };
            splits.push((split, [images, found]));
        }
        splits.sort_unstable_by_key(|(split, _)| *split);
        Ok((!splits.is_empty()).then(|| Self { folder: folder.to_path_buf(), splits }))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn splits(&self) -> Vec<Split> {
        self.splits.iter().map(|(split, _)| *split).collect()
    }

    /// Reads a split. Classes are named by the list in the folder, else by their numbers; their number is that of the
    /// training labels.
    ///
    /// # Errors
    /// [`DataError::File`] if a file cannot be read; [`DataError::Invalid`] for one that is damaged, or for images and labels
    /// that do not belong together.
    ///
    /// # Panics
    /// If there is no such split.
    pub(crate) fn open(&self, split: Split) -> Result<PixelArrays, DataError> {
        let files = |split| self.splits.iter().find(|(own, _)| *own == split).map(|(_, files)| files);
        let [images, labels] = files(split).expect("a split that the folder has");
        let place = images.display().to_string();
        let images = read(images)?;
        let size = match images.shape[..] {
            [_, height, width] => [height, width, 1],
            [_, height, width, channels] => [height, width, channels],
            _ => return Err(DataError::invalid(place, "three or four dimensions", images.shape.len())),
        };
        if images.shape.contains(&0) || size[2] > 4 {
            let expected = "images of at least one pixel and at most 4 channels";
            return Err(DataError::invalid(place, expected, format!("shape {:?}", images.shape)));
        }
        let own = read_labels(labels)?;
        if own.len() != images.shape[0] {
            let expected = format!("{} labels, one for each image", images.shape[0]);
            return Err(DataError::invalid(labels.display(), expected, own.len()));
        }
        let count = |labels: &[u32]| labels.iter().max().map_or(0, |&most| most as usize + 1);
        let classes = match files(Split::Train).filter(|_| split != Split::Train) {
            Some([_, training]) => count(&read_labels(training)?).max(count(&own)),
            None => count(&own),
        };
        let (names, note) = name_indices(ClassList::find(std::slice::from_ref(&self.folder))?, classes, &place)?;
        let values = Values::Bytes(images.bytes);
        let format = values.format(size);
        Ok(PixelArrays { place, values, size, labels: own, targets: Vec::new(), names, format, notes: vec![note] })
    }
}

/// An array of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxArray {
    /// The extent of each dimension.
    pub shape: Vec<usize>,
    /// The elements in row-major order.
    pub bytes: Vec<u8>,
}

fn read(path: &Path) -> Result<IdxArray, DataError> {
    let bytes = read_file(path, MAX_BYTES)?;
    parse_idx(bytes, &path.display().to_string())
}

fn read_labels(path: &Path) -> Result<Vec<u32>, DataError> {
    let labels = read(path)?;
    if labels.shape.len() != 1 {
        return Err(DataError::invalid(path.display(), "labels in one dimension", labels.shape.len()));
    }
    Ok(labels.bytes.into_iter().map(u32::from).collect())
}

/// Parses an IDX file of bytes, which may be packed by gzip; `place` names it in errors. What is packed grows as it is read, to
/// at most 2 GiB.
///
/// # Errors
/// [`DataError::Invalid`] for damaged bytes, elements of another type, or more or fewer of them than the header says.
pub fn parse_idx(bytes: Vec<u8>, place: &str) -> Result<IdxArray, DataError> {
    let fault = |expected: &str, got: String| DataError::invalid(place, expected, got);
    let mut bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        let read = GzDecoder::new(&bytes[..]).take(MAX_BYTES + 1).read_to_end(&mut unpacked);
        read.map_err(|error| fault("a gzip file", printable(&error.to_string(), 100)))?;
        if unpacked.len() as u64 > MAX_BYTES {
            return Err(fault(&format!("at most {MAX_BYTES} bytes"), "more".into()));
        }
        unpacked
    } else {
        bytes
    };
    let [0, 0, kind, dimensions, ..] = bytes[..] else {
        return Err(fault("an IDX file", "other bytes".into()));
    };
    if kind != 8 {
        return Err(fault("elements of unsigned bytes (type 8)", format!("type {kind}")));
    }
    let header = 4 + 4 * usize::from(dimensions);
    let Some(extents) = bytes.get(4..header) else { return Err(fault("a header", "the end of the file".into())) };
    let (extents, _) = extents.as_chunks::<4>();
    let shape: Vec<usize> = extents.iter().map(|&extent| u32::from_be_bytes(extent) as usize).collect();
    let count = shape.iter().try_fold(1usize, |count, &extent| count.checked_mul(extent));
    let got = bytes.len() - header;
    if count != Some(got) || dimensions == 0 || dimensions > 4 {
        return Err(fault(&format!("elements of shape {shape:?}"), format!("{got} bytes")));
    }
    bytes.drain(..header);
    Ok(IdxArray { shape, bytes })
}
