//! A dataset in one `.safetensors` file: `images` and `labels`.

use std::ops::Range;
use std::path::Path;

use residual_files::{MAX_BYTES, read_file};
use residual_preprocess::Image;
use safetensors::{Dtype, SafeTensors, tensor::TensorInfo};

use crate::{DataError, Dataset, Format, Sample};

/// Maximum number of classes.
const MAX_CLASSES: i128 = 65_536;

/// The tensors `images` (u8, or f32 that is already normalised; N×C×H×W) and `labels` (N integers of any type, or N×K f32
/// probabilities of classes) of a file, held in memory. Classes are named by their numbers.
#[derive(Debug)]
pub struct TensorFile {
    place: String,
    bytes: Vec<u8>,
    images: Range<usize>,
    float: bool,
    size: [usize; 3],
    labels: Vec<u32>,
    /// Soft labels, images × classes; empty if labels are integers.
    soft: Vec<f32>,
    names: Vec<String>,
    format: Format,
}

impl TensorFile {
    /// Reads a file of at most 16 GiB.
    ///
    /// # Errors
    /// [`DataError::File`] if it cannot be read, [`DataError::Invalid`] if it is no such file.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        parse_tensor_file(read_file(path, MAX_BYTES)?, &path.display().to_string())
    }

    /// The bytes of image `index`: a plane per channel.
    fn planes(&self, index: usize) -> &[u8] {
        let len = self.size.iter().product::<usize>() * if self.float { 4 } else { 1 };
        &self.bytes[self.images.clone()][index * len..][..len]
    }
}

/// Reads the bytes of a `.safetensors` dataset; `place` names it in errors. Never panics, and allocates no more than a
/// small multiple of the bytes it was given.
///
/// # Errors
/// [`DataError::Invalid`], with the tensor that is missing or invalid.
pub fn parse_tensor_file(bytes: Vec<u8>, place: &str) -> Result<TensorFile, DataError> {
    let damaged = |cause| DataError::invalid(place, "a safetensors file", cause);
    let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let find = |name: &str| {
        let missing = || DataError::invalid(place, format!("a tensor {name:?}"), "none of that name");
        metadata.info(name).ok_or_else(missing)
    };
    let range = |info: &TensorInfo| 8 + header + info.data_offsets.0..8 + header + info.data_offsets.1;
    let (images, labels) = (find("images")?, find("labels")?);

    let image_fault = |got: String| {
        DataError::invalid(
            format!("{place}: tensor \"images\""),
            "u8 or f32 values of N x C x H x W, none of them 0",
            got,
        )
    };
    let (&[count, channels, height, width], Dtype::U8 | Dtype::F32) = (&images.shape[..], images.dtype) else {
        return Err(image_fault(format!("{:?} of shape {:?}", images.dtype, images.shape)));
    };
    if images.shape.contains(&0) || channels > 1024 {
        return Err(image_fault(format!("shape {:?}", images.shape)));
    }
    let label_bytes = &bytes[range(labels)];
    let (labels, soft, classes) = match (labels.dtype, &labels.shape[..]) {
        (Dtype::F32, &[images, classes]) if images == count && (1..=MAX_CLASSES as usize).contains(&classes) => {
            let soft = read_soft_labels(label_bytes, classes, place)?;
            let likeliest = |row: &[f32]| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
            let labels = soft.chunks_exact(classes).map(|row| likeliest(row).unwrap_or(0) as u32).collect();
            (labels, soft, classes)
        }
        (dtype, &[images]) if images == count => {
            let labels = read_labels(label_bytes, dtype, place)?;
            let classes = labels.iter().max().map_or(0, |&most| most as usize + 1);
            (labels, Vec::new(), classes)
        }
        (dtype, shape) => {
            let place = format!("{place}: tensor \"labels\"");
            let expected = format!("integers of shape [{count}], or f32 values of [{count}, classes]");
            return Err(DataError::invalid(place, expected, format!("{dtype:?} of shape {shape:?}")));
        }
    };
    let float = images.dtype == Dtype::F32;
    let format = Format::arrays(float, [height, width], channels);
    Ok(TensorFile {
        place: place.to_owned(),
        images: range(images),
        float,
        size: [channels, height, width],
        labels,
        soft,
        names: (0..classes).map(|class| class.to_string()).collect(),
        format,
        bytes,
    })
}

/// The probabilities of each image's classes, which are checked.
fn read_soft_labels(bytes: &[u8], classes: usize, place: &str) -> Result<Vec<f32>, DataError> {
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
    for (image, row) in values.chunks_exact(classes).enumerate() {
        let sum: f32 = row.iter().sum();
        let valid = row.iter().all(|value| *value >= 0.0) && (sum - 1.0).abs() < 1e-3;
        if !valid {
            let place = format!("{place}: tensor \"labels\": image {image}");
            return Err(DataError::invalid(place, "probabilities that sum to 1", format!("a sum of {sum}")));
        }
    }
    Ok(values)
}

fn read_labels(bytes: &[u8], dtype: Dtype, place: &str) -> Result<Vec<u32>, DataError> {
    fn all<const SIZE: usize>(bytes: &[u8], read: impl Fn([u8; SIZE]) -> i128) -> Vec<i128> {
        bytes.as_chunks::<SIZE>().0.iter().map(|&chunk| read(chunk)).collect()
    }
    let place = format!("{place}: tensor \"labels\"");
    let values = match dtype {
        Dtype::U8 => all(bytes, |chunk| u8::from_le_bytes(chunk).into()),
        Dtype::I8 => all(bytes, |chunk| i8::from_le_bytes(chunk).into()),
        Dtype::U16 => all(bytes, |chunk| u16::from_le_bytes(chunk).into()),
        Dtype::I16 => all(bytes, |chunk| i16::from_le_bytes(chunk).into()),
        Dtype::U32 => all(bytes, |chunk| u32::from_le_bytes(chunk).into()),
        Dtype::I32 => all(bytes, |chunk| i32::from_le_bytes(chunk).into()),
        Dtype::U64 => all(bytes, |chunk| u64::from_le_bytes(chunk).into()),
        Dtype::I64 => all(bytes, |chunk| i64::from_le_bytes(chunk).into()),
        other => return Err(DataError::invalid(place, "integers", format!("{other:?}"))),
    };
    let label = |(index, &value): (usize, &i128)| {
        let in_range = (0..MAX_CLASSES).contains(&value);
        in_range.then_some(value as u32).ok_or_else(|| {
            DataError::invalid(
                format!("{place}: element {index}"),
                format!("a label from 0 to {}", MAX_CLASSES - 1),
                value,
            )
        })
    };
    values.iter().enumerate().map(label).collect()
}

impl Dataset for TensorFile {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    fn soft_label(&self, index: usize) -> Option<&[f32]> {
        let classes = self.names.len();
        self.soft.get(index * classes..(index + 1) * classes)
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let [channels, height, width] = self.size;
        let planes = self.planes(index);
        if self.float {
            let (values, _) = planes.as_chunks::<4>();
            let values: Vec<f32> = values.iter().map(|&value| f32::from_le_bytes(value)).collect();
            return Ok(Sample::Normalized { height, width, channels, values: interleave(&values, channels) });
        }
        let pixels = interleave(planes, channels);
        let image = Image::new(height, width, channels, pixels);
        image.map(Sample::Pixels).map_err(|cause| DataError::Image { place: self.describe(index), cause })
    }

    fn fingerprint(&self, index: usize) -> u32 {
        crc32fast::hash(self.planes(index))
    }

    fn describe(&self, index: usize) -> String {
        format!("{} image {index}", self.place)
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn format(&self) -> &Format {
        &self.format
    }
}

/// Converts planes, one per channel, to interleaved channels.
pub(crate) fn interleave<T: Copy + Default>(planes: &[T], channels: usize) -> Vec<T> {
    let mut pixels = vec![T::default(); planes.len()];
    for (channel, plane) in planes.chunks_exact(planes.len() / channels).enumerate() {
        for (pixel, &value) in pixels.chunks_exact_mut(channels).zip(plane) {
            pixel[channel] = value;
        }
    }
    pixels
}
