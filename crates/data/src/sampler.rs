//! The order of an epoch's samples: which ones, and how often.

use residual_tensor::Stream;

use crate::{DataError, Dataset};

/// How the samples of an epoch are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampler {
    /// Every sample once, in the dataset's order.
    #[default]
    InOrder,
    /// Every sample once, shuffled by (seed, epoch).
    Shuffle,
    /// Every class equally often: a class for each position of the epoch, and one of its samples, with replacement.
    Balanced,
    /// As [`Balanced`](Self::Balanced), with classes as often as the square root of their size.
    SquareRoot,
}

/// One sample of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Draw {
    /// Its dataset index.
    pub(crate) index: u32,
    /// How often the epoch has had it before.
    pub(crate) repeat: u32,
}

/// Salt of the draws with replacement.
const SALT: u64 = u64::from_be_bytes(*b"sampling");

impl Sampler {
    /// The number of samples in an epoch of a set of `images`, each of which is repeated `repeats` times: with repetition, as
    /// in timm's `RepeatAugSampler`, a multiple of 256 where there are as many images, and never more than the images.
    pub fn epoch_len(images: usize, repeats: usize) -> usize {
        const ROUND: usize = 256;
        if repeats > 1 && images >= ROUND { images / ROUND * ROUND } else { images }
    }

    /// The samples of an epoch, in order. Repeated ones follow one another, so that an epoch has as many steps as without
    /// repetition, and a fraction of the images.
    pub(crate) fn order(
        self,
        dataset: &dyn Dataset,
        repeats: usize,
        seed: u64,
        epoch: u64,
    ) -> Result<Vec<Draw>, DataError> {
        let images = dataset.len();
        let len = Self::epoch_len(images, repeats);
        let indices = match self {
            Self::InOrder => (0..images as u32).collect(),
            Self::Shuffle => {
                let mut indices: Vec<u32> = (0..images as u32).collect();
                Stream::new(seed, &[epoch]).shuffle(&mut indices);
                indices
            }
            Self::Balanced => with_replacement(dataset, |_| 1.0, len.div_ceil(repeats), seed, epoch)?,
            Self::SquareRoot => with_replacement(dataset, f64::sqrt, len.div_ceil(repeats), seed, epoch)?,
        };
        let mut counts = vec![0; images];
        let draws = indices.into_iter().flat_map(|index| std::iter::repeat_n(index, repeats)).take(len);
        let draw = |index: u32| {
            let count = &mut counts[index as usize];
            *count += 1;
            Draw { index, repeat: *count - 1 }
        };
        Ok(draws.map(draw).collect())
    }
}

/// `count` samples: each of a class drawn with a probability proportional to `weight` of the class's size, and one of that
/// class's samples. What a position gets is a function of (seed, epoch, position).
fn with_replacement(
    dataset: &dyn Dataset,
    weight: impl Fn(f64) -> f64,
    count: usize,
    seed: u64,
    epoch: u64,
) -> Result<Vec<u32>, DataError> {
    if dataset.is_multi_label() {
        return Err(DataError::invalid("sampler", "shuffle for images with several labels", "a sampler of classes"));
    }
    let mut members = vec![Vec::new(); dataset.class_names().len()];
    (0..dataset.len()).for_each(|index| members[dataset.label(index) as usize].push(index as u32));
    members.retain(|members| !members.is_empty());
    let mut sum = 0.0;
    let ends: Vec<f64> = members
        .iter()
        .map(|members| {
            sum += weight(members.len() as f64);
            sum
        })
        .collect();
    let draw = |position: usize| {
        let mut random = Stream::new(seed, &[epoch, position as u64, SALT]);
        let at = f64::from(random.next_u32()) / 4_294_967_296.0 * sum;
        let members = &members[ends.partition_point(|&end| end <= at).min(members.len() - 1)];
        members[random.below(members.len() as u32) as usize]
    };
    Ok((0..count).map(draw).collect())
}
