//! A subset of a dataset, and the stratified split.

use std::sync::Arc;

use residual_preprocess::Image;
use residual_tensor::Stream;

use crate::{DataError, Dataset, Format, HeldOut, Part, Sample};

/// Some samples of another dataset.
pub struct Subset {
    whole: Arc<dyn Dataset>,
    indices: Vec<usize>,
    /// Which part it is.
    part: String,
}

impl Subset {
    /// The samples of `whole` at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not below `whole.len()`.
    pub fn new(whole: Arc<dyn Dataset>, indices: Vec<usize>) -> Self {
        assert!(indices.iter().all(|&index| index < whole.len()), "a sample that the set does not have");
        Self { whole, indices, part: "a part".into() }
    }

    /// The indices of the samples in the whole dataset.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.whole.label(self.indices[index])
    }

    fn soft_label(&self, index: usize) -> Option<&[f32]> {
        self.whole.soft_label(self.indices[index])
    }

    fn is_multi_label(&self) -> bool {
        self.whole.is_multi_label()
    }

    fn class_names(&self) -> &[String] {
        self.whole.class_names()
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        self.whole.sample(self.indices[index])
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        self.whole.encoded(self.indices[index])
    }

    fn decoded(&self, index: usize) -> Result<Option<Arc<Image>>, DataError> {
        self.whole.decoded(self.indices[index])
    }

    fn fingerprint(&self, index: usize) -> u32 {
        self.whole.fingerprint(self.indices[index])
    }

    fn describe(&self, index: usize) -> String {
        self.whole.describe(self.indices[index])
    }

    fn place(&self) -> String {
        format!("{} ({})", self.whole.place(), self.part)
    }

    fn format(&self) -> &Format {
        self.whole.format()
    }

    fn notes(&self) -> &[String] {
        self.whole.notes()
    }
}

/// Stratified split into a training set and a held-out set, which gets its fraction of each class, rounded, but for
/// classes with two or more samples at least one and never all. Images with several labels have no class of their own: the
/// held-out set is a fraction of all. The same seed gives the same split; both sets keep the order of the dataset.
///
/// # Errors
/// [`DataError::Invalid`] if the share is not in (0, 1), or if no class has two samples.
pub fn stratified_split(whole: &Arc<dyn Dataset>, held_out: HeldOut) -> Result<(Subset, Subset), DataError> {
    let HeldOut { share, seed } = held_out;
    if !(share > 0.0 && share < 1.0) {
        return Err(DataError::invalid("val_split", "a share in (0, 1)", share));
    }
    let mut classes = vec![Vec::new(); whole.class_names().len()];
    for index in 0..whole.len() {
        let class = if whole.is_multi_label() { 0 } else { whole.label(index) as usize };
        classes[class].push(index);
    }
    let (mut train, mut held) = (Vec::new(), Vec::new());
    for (label, mut members) in classes.into_iter().enumerate() {
        Stream::new(seed, &[SPLIT, label as u64]).shuffle(&mut members);
        let most = members.len().saturating_sub(1);
        let count = ((members.len() as f64 * f64::from(share)).round() as usize).clamp(most.min(1), most);
        held.extend(&members[..count]);
        train.extend(&members[count..]);
    }
    if held.is_empty() {
        return Err(DataError::invalid("val_split", "a class with two samples or more", "none"));
    }
    train.sort_unstable();
    held.sort_unstable();
    let subset = |indices, part| Subset { part, ..Subset::new(whole.clone(), indices) };
    let rest = format!("all but {} held out", held.len());
    Ok((subset(train, rest), subset(held, Part::HeldOut(held_out).to_string())))
}

/// Salt of the split's random numbers.
const SPLIT: u64 = u64::from_be_bytes(*b"valsplit");
