//! The teachers' outputs for images that are the same in every epoch, in memory.

use crate::TrainError;
use crate::prepare::Job;
use crate::recipe::Augment;

/// Maximum size in bytes.
const MAX_BYTES: usize = 1 << 30;

/// The mean softened probabilities of the teachers for each image that they have seen.
pub(crate) struct Cache {
    rows: Vec<f32>,
    is_known: Vec<bool>,
    classes: usize,
}

impl Cache {
    /// Room for `images` images.
    ///
    /// # Errors
    /// If the system has no memory for it.
    pub(crate) fn new(images: usize, classes: usize) -> Result<Self, TrainError> {
        let len = images * classes;
        let mut rows = Vec::new();
        rows.try_reserve_exact(len)
            .map_err(|_| TrainError::Memory { what: "cached outputs of the teachers".into(), bytes: 4 * len as u64 })?;
        rows.resize(len, 0.0);
        Ok(Self { rows, is_known: vec![false; images], classes })
    }

    /// Writes the rows of the images `indices` to `to`, if all of them are known.
    pub(crate) fn read(&self, indices: &[usize], to: &mut Vec<f32>) -> bool {
        let is_known = indices.iter().all(|&index| self.is_known[index]);
        if is_known {
            to.clear();
            indices.iter().for_each(|&index| to.extend_from_slice(&self.rows[index * self.classes..][..self.classes]));
        }
        is_known
    }

    /// Keeps the rows of the images `indices`.
    pub(crate) fn write(&mut self, indices: &[usize], rows: &[f32]) {
        for (&index, row) in indices.iter().zip(rows.chunks_exact(self.classes)) {
            self.rows[index * self.classes..][..self.classes].copy_from_slice(row);
            self.is_known[index] = true;
        }
    }
}

/// Whether the outputs of teachers are all that a student needs of them, and those of an image the same in every epoch.
fn is_repeated(job: &Job) -> bool {
    let recipe = &job.recipe;
    !recipe.kd_loss.has_hints()
        && recipe.augment == Augment::None
        && recipe.mixup == 0.0
        && recipe.cutmix == 0.0
        && job.size_changes().is_empty()
}

/// Whether the teachers' outputs are cached.
pub(crate) fn fits(job: &Job) -> bool {
    job.recipe.kd_cache && is_repeated(job) && bytes(job) <= MAX_BYTES
}

/// The size of the cache in bytes.
pub(crate) fn bytes(job: &Job) -> usize {
    job.train.len().saturating_mul(4 * job.model.labels.len() + 1)
}

/// What the user should know about the cache.
pub(crate) fn note(job: &Job) -> Option<String> {
    let (images, mebibytes) = (job.train.len(), bytes(job).div_ceil(1 << 20));
    (job.recipe.kd_cache && is_repeated(job)).then(|| match fits(job) {
        true => format!(
            "the teachers' outputs are computed once for each of the {images} images, as they are not augmented, and kept in \
             memory ({mebibytes} MiB)"
        ),
        false => format!(
            "the teachers' outputs are computed in every epoch: those of {images} images would take {mebibytes} MiB, more than {}",
            MAX_BYTES >> 20
        ),
    })
}
