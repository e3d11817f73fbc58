//! Labelled images of one size that are held in memory: what files of arrays hold.

use residual_preprocess::Image;

use crate::{DataError, Dataset, Format, Sample};

/// Images of one size in memory.
pub(crate) struct PixelArrays {
    pub(crate) place: String,
    pub(crate) values: Values,
    /// Height, width and channels of an image.
    pub(crate) size: [usize; 3],
    pub(crate) labels: Vec<u32>,
    /// For several labels per image: 1 and 0 for each class, one image after another; else empty.
    pub(crate) targets: Vec<f32>,
    pub(crate) names: Vec<String>,
    pub(crate) format: Format,
    pub(crate) notes: Vec<String>,
}

/// The values of all images: row by row, channels interleaved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    Bytes(Vec<u8>),
    /// Already normalised.
    Floats(Vec<f32>),
}

impl Values {
    /// The format of images of this size.
    pub(crate) fn format(&self, [height, width, channels]: [usize; 3]) -> Format {
        Format::arrays(matches!(self, Self::Floats(_)), [height, width], channels)
    }
}

impl Dataset for PixelArrays {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    fn soft_label(&self, index: usize) -> Option<&[f32]> {
        let classes = self.names.len();
        self.targets.get(index * classes..(index + 1) * classes)
    }

    fn is_multi_label(&self) -> bool {
        !self.targets.is_empty()
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let [height, width, channels] = self.size;
        let len = height * width * channels;
        let range = index * len..(index + 1) * len;
        match &self.values {
            Values::Bytes(pixels) => {
                let image = Image::new(height, width, channels, pixels[range].to_vec());
                image.map(Sample::Pixels).map_err(|cause| DataError::Image { place: self.describe(index), cause })
            }
            Values::Floats(values) => {
                Ok(Sample::Normalized { height, width, channels, values: values[range].to_vec() })
            }
        }
    }

    fn fingerprint(&self, index: usize) -> u32 {
        let len = self.size.iter().product::<usize>();
        let range = index * len..(index + 1) * len;
        match &self.values {
            Values::Bytes(pixels) => crc32fast::hash(&pixels[range]),
            Values::Floats(values) => {
                let mut hasher = crc32fast::Hasher::new();
                values[range].iter().for_each(|value| hasher.update(&value.to_le_bytes()));
                hasher.finalize()
            }
        }
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

    fn notes(&self) -> &[String] {
        &self.notes
    }
}
