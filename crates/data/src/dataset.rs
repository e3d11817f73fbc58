//! The interface of a dataset.

use std::sync::Arc;

use residual_preprocess::{Image, Preprocessing};

use crate::DataError;

/// Labelled images, to be read in any order from several threads.
pub trait Dataset: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of sample `index`, below the number of [`class_names`](Self::class_names). Panics if there is no such
    /// sample.
    fn label(&self, index: usize) -> u32;

    /// Soft targets: a probability for each of the [`class_names`](Self::class_names); `None` if the dataset has hard
    /// labels only. A dataset has them for all samples or for none. They sum to 1, unless the dataset
    /// [has several labels per image](Self::is_multi_label): then they are 1 for each label and 0 for other classes.
    fn soft_label(&self, _index: usize) -> Option<&[f32]> {
        None
    }

    /// Whether an image may have any number of labels, so that each class is a question of its own and
    /// [`soft_label`](Self::soft_label) has the targets.
    fn is_multi_label(&self) -> bool {
        false
    }

    /// The classes' names, by label.
    fn class_names(&self) -> &[String];

    /// Reads sample `index`. Fails if its file cannot be read or decoded; panics if there is no such sample.
    fn sample(&self, index: usize) -> Result<Sample, DataError>;

    /// The bytes of the image file of sample `index`, at most 256 MiB, which [`sample`](Self::sample) decodes; `None` if the dataset
    /// holds pixels, not files.
    ///
    /// # Errors
    /// If the file cannot be read.
    fn encoded(&self, _index: usize) -> Result<Option<Vec<u8>>, DataError> {
        Ok(None)
    }

    /// The pixels of sample `index`, if the dataset keeps those of files decoded: [`DecodedImages`](crate::DecodedImages).
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    fn decoded(&self, _index: usize) -> Result<Option<Arc<Image>>, DataError> {
        Ok(None)
    }

    /// A checksum of sample `index`, computed without decoding it; equal for equal data, wherever they are stored. 0 if
    /// samples differ by their labels only.
    fn fingerprint(&self, _index: usize) -> u32 {
        0
    }

    /// A checksum of all labels, soft targets and [fingerprints](Self::fingerprint), in order: tells whether the data
    /// changed between the start of a run and its resume.
    fn fingerprint_set(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for index in 0..self.len() {
            hasher.update(&self.label(index).to_le_bytes());
            let soft = self.soft_label(index).unwrap_or_default();
            soft.iter().for_each(|value| hasher.update(&value.to_le_bytes()));
            hasher.update(&self.fingerprint(index).to_le_bytes());
        }
        hasher.finalize()
    }

    /// The source of sample `index`, for messages: a path, or a file and the image's number in it.
    fn describe(&self, index: usize) -> String;

    /// The source of the samples, for messages: a folder, a file, or a name and a split.
    fn place(&self) -> String {
        "memory".into()
    }

    /// The set in one line: the numbers of images and classes, and the [place](Self::place).
    fn describe_set(&self) -> String {
        let (images, classes) = (counted(self.len(), "image"), counted(self.class_names().len(), "class"));
        format!("{images} of {classes} in {}", self.place())
    }

    /// The common format of all samples.
    fn format(&self) -> &Format;

    /// Notes for the user about the dataset, one line each, such as ignored files.
    fn notes(&self) -> &[String] {
        &[]
    }
}

/// A number with its noun, such as "1 class" and "2 classes".
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let ending = match count {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{count} {noun}{ending}")
}

/// One image of a [`Dataset`].
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// 8-bit pixels, not yet normalised.
    Pixels(Image),
    /// Values that are taken as already normalised: height × width × channels.
    Normalized {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Values per pixel.
        channels: usize,
        /// Row by row, channels interleaved.
        values: Vec<f32>,
    },
}

/// The common format of the samples of a [`Dataset`], and their default normalisation.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    /// Height and width of every image in pixels; `None` if they differ.
    pub image_size: Option<[usize; 2]>,
    /// Values per pixel.
    pub channels: usize,
    /// Whether samples are [`Sample::Normalized`].
    pub normalized: bool,
    /// The default mean of each channel, on a scale of 0 to 1.
    pub mean: Vec<f32>,
    /// The default standard deviation of each channel, on the same scale.
    pub std: Vec<f32>,
}

impl Format {
    /// Colour images of any size, with ImageNet's statistics.
    pub(crate) fn photographs() -> Self {
        Self {
            image_size: None,
            channels: 3,
            normalized: false,
            mean: Preprocessing::IMAGENET_MEAN.to_vec(),
            std: Preprocessing::IMAGENET_STD.to_vec(),
        }
    }

    /// Images of one size in arrays, with ImageNet's statistics for colours, and 0.5 and 0.25 for other channels. `normalized` values
    /// stay as they are.
    pub(crate) fn arrays(normalized: bool, [height, width]: [usize; 2], channels: usize) -> Self {
        let (mean, std) = match (normalized, channels) {
            (true, _) => (vec![0.0; channels], vec![1.0; channels]),
            (false, 3) => (Preprocessing::IMAGENET_MEAN.to_vec(), Preprocessing::IMAGENET_STD.to_vec()),
            (false, _) => (vec![0.5; channels], vec![0.25; channels]),
        };
        Self { image_size: Some([height, width]), channels, normalized, mean, std }
    }

    /// The default preprocessing for a network with input `input` (channels, height, width): see
    /// [`Preprocessing::default_for`].
    pub fn default_preprocessing(&self, input: [usize; 3]) -> Preprocessing {
        Preprocessing::default_for(input, self.image_size, &self.mean, &self.std)
    }

    /// The preprocessing that takes images as they are and normalises them; `None` if their sizes differ.
    pub fn preprocessing(&self) -> Option<Preprocessing> {
        Some(Preprocessing::unscaled(self.image_size?, &self.mean, &self.std))
    }
}
