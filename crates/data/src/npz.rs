//! Numpy archives (`.npz`) of images and labels, also compressed: `train_images` and `train_labels` as in MedMNIST, `x_train` and
//! `y_train` as in Keras, or `images` and `labels`.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use residual_files::{MAX_BYTES, NpyArray, NpyValues, open_file, parse_npy, printable};
use zip::ZipArchive;

use crate::class_list::ClassList;
use crate::class_numbers::name_indices;
use crate::pixel_arrays::{PixelArrays, Values};
use crate::tensors::interleave;
use crate::{DataError, Split};

/// Maximum number of arrays in an archive.
const MAX_ARRAYS: usize = 1024;
/// Maximum number of channels of an image.
const MAX_CHANNELS: usize = 4;

/// An archive, of which only the names of its arrays are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Npz {
    path: PathBuf,
    /// The names of the arrays of images and labels of each split; without splits, those of everything.
    splits: Vec<(Option<Split>, [String; 2])>,
}

impl Npz {
    /// Reads the names of the arrays in `path`.
    ///
    /// # Errors
    /// [`DataError::File`] if the file cannot be read; [`DataError::Invalid`] if it is no archive, or has no images with labels.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let archive = open(path)?;
        let names = archive.file_names().flatten();
        let names: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".npy")?.to_owned())).collect();
        let find = |wanted: &str| names.iter().find(|name| name.eq_ignore_ascii_case(wanted)).cloned();
        let pair = |images: &str, labels: &str| Some([find(images)?, find(labels)?]);
        let of_split = |split: Split| {
            let names: &[&str] = if split == Split::Val { &["val", "valid"] } else { &[split.name()] };
            names.iter().find_map(|name| {
                pair(&format!("{name}_images"), &format!("{name}_labels"))
                    .or_else(|| pair(&format!("x_{name}"), &format!("y_{name}")))
            })
        };
        let mut splits: Vec<_> = [Split::Train, Split::Val, Split::Test]
            .into_iter()
            .filter_map(|split| Some((Some(split), of_split(split)?)))
            .collect();
        if splits.is_empty() {
            splits.extend(pair("images", "labels").or_else(|| pair("x", "y")).map(|names| (None, names)));
        }
        if splits.is_empty() {
            let shown: Vec<String> = names.iter().take(5).map(|name| printable(name, 40)).collect();
            let got = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
            let expected = "arrays train_images and train_labels, x_train and y_train, or images and labels";
            return Err(DataError::invalid(path.display(), expected, got));
        }
        Ok(Self { path: path.to_path_buf(), splits })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn splits(&self) -> Vec<Split> {
        self.splits.iter().filter_map(|(split, _)| *split).collect()
    }

    /// Reads a split into memory. Classes are named by the list in the archive's folder, else by their numbers.
    ///
    /// # Errors
    /// [`DataError::File`] if the file cannot be read; [`DataError::Invalid`] for arrays that are damaged or do not belong
    /// together.
    ///
    /// # Panics
    /// If there is no such split.
    pub(crate) fn split(&self, split: Split) -> Result<PixelArrays, DataError> {
        let find = |split| {
            let names = self.splits.iter().find(|(own, _)| own.unwrap_or(Split::Train) == split);
            names.map(|(_, names)| names)
        };
        let names = find(split).expect("a split that the archive has");
        let training = find(Split::Train).filter(|_| split != Split::Train).map(|[_, labels]| labels.as_str());
        let mut place = self.path.display().to_string();
        if let (Some(_), _) = self.splits[0] {
            place = format!("{place} ({split})");
        }
        let folder = self.path.parent().map(Path::to_path_buf);
        let list = ClassList::find(folder.as_slice())?;
        read(&mut open(&self.path)?, names, training, list, place)
    }
}

fn open(path: &Path) -> Result<ZipArchive<BufReader<File>>, DataError> {
    parse(BufReader::new(open_file(path)?), &path.display().to_string())
}

fn parse<R: Read + Seek>(reader: R, place: &str) -> Result<ZipArchive<R>, DataError> {
    let damaged = |error: zip::result::ZipError| {
        DataError::invalid(place, "a numpy archive (.npz)", printable(&error.to_string(), 100))
    };
    let archive = ZipArchive::new(reader).map_err(damaged)?;
    if archive.len() > MAX_ARRAYS {
        return Err(DataError::invalid(place, format!("at most {MAX_ARRAYS} arrays"), archive.len()));
    }
    Ok(archive)
}

/// Reads the arrays `images` and `labels` of an archive's bytes; `place` names it in errors. What is packed grows as it is read, to
/// at most 16 GiB an array, and is copied once.
///
/// # Errors
/// [`DataError::Invalid`] for an archive or arrays that are damaged, or that do not belong together.
pub fn parse_npz(bytes: &[u8], place: &str) -> Result<(), DataError> {
    let mut archive = parse(Cursor::new(bytes), place)?;
    read(&mut archive, &["images".into(), "labels".into()], None, None, place.to_owned()).map(drop)
}

/// The dataset of two arrays; `training` is the name of the training labels, if these are others.
fn read<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    [images, labels]: &[String; 2],
    training: Option<&str>,
    list: Option<ClassList>,
    place: String,
) -> Result<PixelArrays, DataError> {
    let NpyArray { shape, values } = array(archive, images, &place)?;
    let fault = |got: String| {
        let expected =
            format!("u8 or f32 values of N x H x W, or of N x H x W x C with at most {MAX_CHANNELS} channels");
        DataError::invalid(format!("{place}: array {images:?}"), expected, got)
    };
    let unsuitable = || fault(format!("shape {shape:?}"));
    let (count, size, first) = match shape[..] {
        [count, height, width] => (count, [height, width, 1], false),
        [count, height, width, channels] if channels <= MAX_CHANNELS => (count, [height, width, channels], false),
        [count, channels, height, width] if channels <= MAX_CHANNELS => (count, [height, width, channels], true),
        _ => return Err(unsuitable()),
    };
    if shape.contains(&0) {
        return Err(unsuitable());
    }
    let len = size.iter().product::<usize>();
    let mut notes = Vec::new();
    if first {
        notes.push(format!("{place}: the channels come before the rows, as the shape {shape:?} tells"));
    }
    let values = match values {
        NpyValues::U8(values) => Values::Bytes(if first { channels_last(&values, len, size[2]) } else { values }),
        NpyValues::F32(values) => Values::Floats(if first { channels_last(&values, len, size[2]) } else { values }),
        NpyValues::I64(_) => return Err(fault("integers of another size".into())),
    };
    let own = Labels::read(archive, labels, Some(count), &place)?;
    let mut classes = own.classes;
    if let Some(training) = training {
        classes = classes.max(Labels::read(archive, training, None, &place)?.classes);
    }
    let (names, note) = name_indices(list, classes, &place)?;
    if !own.targets.is_empty() && names.len() != classes {
        let expected = format!("{classes} names, one for each column of {labels:?}");
        return Err(DataError::invalid(place, expected, names.len()));
    }
    notes.push(note);
    let format = values.format(size);
    Ok(PixelArrays { place, values, size, labels: own.labels, targets: own.targets, names, format, notes })
}

fn array<R: Read + Seek>(archive: &mut ZipArchive<R>, name: &str, place: &str) -> Result<NpyArray, DataError> {
    let place = format!("{place}: array {:?}", printable(name, 60));
    let damaged = |got: String| DataError::invalid(&place, "a numpy array", printable(&got, 100));
    let mut file = archive.by_name(&format!("{name}.npy")).map_err(|error| damaged(error.to_string()))?;
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| damaged(error.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(DataError::invalid(&place, format!("at most {MAX_BYTES} bytes"), "more"));
    }
    parse_npy(&bytes).map_err(|error| damaged(error.what))
}

/// Labels of images: the class of each, or for several labels per image 0 and 1 for each class.
struct Labels {
    labels: Vec<u32>,
    targets: Vec<f32>,
    classes: usize,
}

impl Labels {
    /// Reads N or N×1 integers, or N×K of 0 and 1; `count` is N if it is known.
    fn read<R: Read + Seek>(
        archive: &mut ZipArchive<R>,
        name: &str,
        count: Option<usize>,
        place: &str,
    ) -> Result<Self, DataError> {
        let NpyArray { shape, values } = array(archive, name, place)?;
        let place = format!("{place}: array {:?}", printable(name, 60));
        let count = count.or(shape.first().copied()).unwrap_or(0);
        let unsuitable = |got: String| {
            let expected = format!("{count} integers, or {count} rows of 0 and 1 for each class");
            DataError::invalid(&place, expected, got)
        };
        let values: Vec<i64> = match values {
            NpyValues::U8(values) => values.into_iter().map(i64::from).collect(),
            NpyValues::I64(values) => values,
            NpyValues::F32(_) => return Err(unsuitable("floats".into())),
        };
        match shape[..] {
            [images] | [images, 1] if images == count => {
                let label = |value: i64| u32::try_from(value).map_err(|_| unsuitable(format!("a label of {value}")));
                let labels = values.into_iter().map(label).collect::<Result<Vec<u32>, _>>()?;
                let classes = labels.iter().max().map_or(0, |&most| most as usize + 1);
                Ok(Self { labels, targets: Vec::new(), classes })
            }
            [images, classes] if images == count && classes > 1 => {
                if let Some(other) = values.iter().find(|&&value| !matches!(value, 0 | 1)) {
                    return Err(unsuitable(format!("a value of {other}")));
                }
                let rows = values.chunks_exact(classes);
                let labels = rows.map(|row| row.iter().position(|&value| value == 1).unwrap_or(0) as u32).collect();
                Ok(Self { labels, targets: values.iter().map(|&value| value as f32).collect(), classes })
            }
            _ => Err(unsuitable(format!("shape {shape:?}"))),
        }
    }
}

/// Images with a plane per channel as images with interleaved channels.
fn channels_last<T: Copy + Default>(values: &[T], image_len: usize, channels: usize) -> Vec<T> {
    values.chunks_exact(image_len).flat_map(|planes| interleave(planes, channels)).collect()
}
