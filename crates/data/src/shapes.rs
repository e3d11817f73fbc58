//! `shapes10`: ten classes of shapes, generated from a seed.

mod figure;
mod scene;

use std::sync::OnceLock;

use residual_preprocess::Image;

use crate::{DataError, Dataset, Format, Sample, Split};

/// Procedurally drawn 32×32 colour images of ten shapes: a built-in dataset that needs no file.
///
/// Every image is a pure function of (seed, split, index), computed with IEEE additions, multiplications, divisions and
/// square roots alone, so that it has the same pixels on every machine. An image is drawn on first access and
/// then cached (3 KiB).
pub struct Shapes {
    seed: u64,
    split: Split,
    names: Vec<String>,
    format: Format,
    images: Vec<OnceLock<Image>>,
}

impl Shapes {
    /// Images in the training split.
    pub const TRAIN_LEN: usize = 10_000;
    /// Images in the test split.
    pub const TEST_LEN: usize = 2_000;
    /// Height and width in pixels.
    pub const SIDE: usize = 32;
    /// The training split's mean of each channel.
    pub const MEAN: [f32; 3] = [0.4288, 0.3572, 0.4774];
    /// The training split's standard deviation of each channel.
    pub const STD: [f32; 3] = [0.2400, 0.2318, 0.2446];

    /// The training or the test split, of the usual size.
    ///
    /// # Panics
    /// If `split` is `Val`: there is none.
    pub fn new(seed: u64, split: Split) -> Self {
        let len = if split == Split::Train { Self::TRAIN_LEN } else { Self::TEST_LEN };
        Self::with_len(seed, split, len)
    }

    /// The training or the test split with `len` images; the first ones are those of any other size.
    ///
    /// # Panics
    /// If `split` is `Val`: there is none.
    pub fn with_len(seed: u64, split: Split, len: usize) -> Self {
        assert!(split != Split::Val, "shapes10 has no validation split");
        let format = Format {
            image_size: Some([Self::SIDE; 2]),
            channels: 3,
            normalized: false,
            mean: Self::MEAN.to_vec(),
            std: Self::STD.to_vec(),
        };
        let names = figure::NAMES.map(String::from).to_vec();
        Self { seed, split, names, format, images: std::iter::repeat_with(OnceLock::new).take(len).collect() }
    }
}

impl Dataset for Shapes {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn label(&self, index: usize) -> u32 {
        assert!(index < self.len(), "a sample that the set does not have");
        (index % figure::NAMES.len()) as u32
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let label = self.label(index) as usize;
        let held_out = u64::from(self.split != Split::Train);
        let image = self.images[index].get_or_init(|| scene::draw(label, self.seed, held_out, index as u64));
        Ok(Sample::Pixels(image.clone()))
    }

    fn describe(&self, index: usize) -> String {
        format!("shapes10 {} image {index}", self.split)
    }

    fn place(&self) -> String {
        format!("shapes10 ({})", self.split)
    }

    fn format(&self) -> &Format {
        &self.format
    }
}
