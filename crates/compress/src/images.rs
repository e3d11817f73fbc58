//! The images that a network is calibrated on.

use crate::CompressError;
use residual_data::{Dataset, Loader, LoaderOptions, Subset, Transform};
use residual_model::Model;
use residual_tensor::Stream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Salt of the random choice.
const DOMAIN: u64 = u64::from_be_bytes(*b"calibrat");

/// Normalised images in memory, n × height × width × channels, as a model reads them. They have no labels.
#[derive(Clone, Debug)]
pub struct CalibrationImages {
    values: Vec<f32>,
    image_len: usize,
    skipped: Vec<String>,
}

impl CalibrationImages {
    /// Images that are normalised already, each of `image_len` values.
    ///
    /// # Errors
    /// If there are none.
    ///
    /// # Panics
    /// If it is not a whole number of images.
    pub fn new(values: Vec<f32>, image_len: usize) -> Result<Self, CompressError> {
        assert!(values.len().is_multiple_of(image_len), "whole images of {image_len} values");
        match values.is_empty() {
            false => Ok(Self { values, image_len, skipped: Vec::new() }),
            true => Err(CompressError::NoImages),
        }
    }

    /// All images of `dataset`, with the preprocessing of `model`'s evaluation; with `skip_bad_images` without those that cannot be
    /// read. `None` if `stop` was set. `on_progress` gets the number of read images and the total.
    ///
    /// # Errors
    /// If an image cannot be read and is not skipped, there are none, or there is not enough memory for them.
    pub fn load(
        model: &Model,
        dataset: &Arc<dyn Dataset>,
        workers: usize,
        skip_bad_images: bool,
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Self>, CompressError> {
        let count = dataset.len();
        let image_len = model.preprocessing.size.iter().product::<usize>() * model.preprocessing.channels();
        let (mut values, len) = (Vec::new(), count.saturating_mul(image_len));
        let reserved = values.try_reserve_exact(len);
        reserved.map_err(|_| CompressError::Memory { images: count, bytes: len.saturating_mul(size_of::<f32>()) })?;
        let transform = Transform::evaluation(model.preprocessing.clone())?;
        let batch_size = 32.min(count.max(1));
        let options = LoaderOptions { batch_size, workers, skip_bad_images, ..LoaderOptions::default() };
        let mut loader = Loader::new(Arc::clone(dataset), transform, options)?;
        for batch in loader.by_ref() {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            values.extend_from_slice(batch?.images());
            on_progress(values.len() / image_len, count);
        }
        let skipped = loader.skipped().iter().map(|skipped| skipped.reason.clone()).collect();
        Ok(Some(Self { skipped, ..Self::new(values, image_len)? }))
    }

    /// The images that could not be read, and why.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.values.len() / self.image_len
    }

    /// Whether there are none; there is always one.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The first `count` of them, or all.
    pub(crate) fn first(&self, count: usize) -> Self {
        let len = (count * self.image_len).min(self.values.len());
        Self { values: self.values[..len].to_vec(), image_len: self.image_len, skipped: Vec::new() }
    }

    /// Batches of up to `batch` images.
    pub(crate) fn batches(&self, batch: usize) -> std::slice::Chunks<'_, f32> {
        self.values.chunks(batch * self.image_len)
    }
}

/// A random choice of up to `count` images, determined by `seed`, and the others. Each keeps the order of the dataset.
pub fn choose_images(dataset: &Arc<dyn Dataset>, count: usize, seed: u64) -> [Subset; 2] {
    let chosen = choose(dataset.len(), count, seed);
    let others = (0..dataset.len()).filter(|index| chosen.binary_search(index).is_err()).collect();
    [chosen, others].map(|indices| Subset::new(Arc::clone(dataset), indices))
}

/// Up to `count` different indices below `len`, in rising order.
fn choose(len: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..len).collect();
    let mut stream = Stream::new(seed, &[DOMAIN]);
    let count = count.min(len);
    for place in 0..count {
        let other = place + stream.below((len - place) as u32) as usize;
        indices.swap(place, other);
    }
    indices.truncate(count);
    indices.sort_unstable();
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_a_set_that_the_seed_determines() {
        let chosen = choose(1000, 100, 3);
        assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]) && chosen.len() == 100 && chosen[99] < 1000);
        assert_eq!(chosen, choose(1000, 100, 3));
        assert_ne!(chosen, choose(1000, 100, 4));
        assert_eq!(choose(5, 100, 3), [0, 1, 2, 3, 4]);
    }
}
