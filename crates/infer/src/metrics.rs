//! Metrics of logits against labels: the running totals of a training run, and in the modules those of an evaluation.

pub(crate) mod bootstrap;
mod calibration;
mod classes;
mod image;
mod multi_label;
mod paired;
mod temperature;
mod wilson;

pub use bootstrap::Interval;
pub(crate) use bootstrap::intervals;
pub use calibration::Calibration;
pub(crate) use calibration::CalibrationSums;
pub use classes::{ClassMetrics, PrecisionRecall};
pub(crate) use classes::{confusion, counts, macro_average, named, weighted_average};
pub use image::ImageResult;
pub(crate) use multi_label::MultiLabel;
pub use multi_label::{MultiLabelMetrics, Ranking};
pub use paired::Comparison;
pub(crate) use paired::compare;
pub use temperature::{TemperatureError, fit_temperature};
pub use wilson::wilson;

use residual_kernels::loss::{Targets, cross_entropy_sum};
use serde::{Deserialize, Serialize};

/// Running totals over images, accumulated in their order.
///
/// An image with a non-finite logit counts as misclassified, and in [`non_finite`](Self::non_finite).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Images counted.
    pub images: u64,
    /// Images whose label has the highest logit; of multi-label data, whose highest logit is that of one of their classes.
    pub top1: u64,
    /// Images whose label is among the five highest logits.
    pub top5: u64,
    /// Sum of the images' losses.
    #[serde(with = "bits")]
    pub loss: f64,
    /// Images with logits that are not finite.
    #[serde(default)]
    pub non_finite: u64,
}

impl Metrics {
    /// Counts a batch: `logits` are labels × `classes`, `loss` is the sum over the batch.
    ///
    /// Ties are ordered by class index.
    ///
    /// # Panics
    /// If the lengths do not fit or a label is not below `classes`.
    pub fn add(&mut self, logits: &[f32], labels: &[u32], classes: usize, loss: f64) {
        assert_eq!(logits.len(), labels.len() * classes, "one row of logits for each label");
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            match rank(row, label as usize) {
                Some(rank) => {
                    self.top1 += u64::from(rank == 0);
                    self.top5 += u64::from(rank < 5);
                }
                None => self.non_finite += 1,
            }
        }
        self.images += labels.len() as u64;
        self.loss += loss;
    }

    /// Counts one image.
    pub fn add_image(&mut self, image: &ImageResult) {
        self.images += 1;
        self.top1 += u64::from(image.correct);
        self.top5 += u64::from(image.in_top5);
        match image.predicted {
            Some(_) => self.loss += image.loss,
            None => self.non_finite += 1,
        }
    }

    /// Top-1 accuracy: fraction of images whose label has the highest logit, in percent.
    pub fn top1_percent(&self) -> f64 {
        100.0 * self.top1 as f64 / self.images.max(1) as f64
    }

    /// Top-5 accuracy: fraction of images whose label is among the five highest logits, in percent.
    pub fn top5_percent(&self) -> f64 {
        100.0 * self.top5 as f64 / self.images.max(1) as f64
    }

    /// Mean loss of an image with finite logits; not a number if there are images, but none of these.
    pub fn mean_loss(&self) -> f64 {
        match self.images - self.non_finite {
            0 if self.images > 0 => f64::NAN,
            finite => self.loss / finite.max(1) as f64,
        }
    }
}

/// The rank of `label` among the classes, from 0; `None` if a logit is not finite.
fn rank(logits: &[f32], label: usize) -> Option<usize> {
    is_finite(logits).then(|| rank_of_finite(logits, label))
}

/// As [`rank`], of finite logits.
fn rank_of_finite(logits: &[f32], label: usize) -> usize {
    let own = logits[label];
    let before = |(class, &logit): (usize, &f32)| logit > own || logit == own && class < label;
    logits.iter().enumerate().filter(|&logit| before(logit)).count()
}

fn is_finite(logits: &[f32]) -> bool {
    logits.iter().all(|logit| logit.is_finite())
}

/// The sum of the cross-entropy of the images with finite logits.
pub(crate) fn finite_loss(logits: &[f32], labels: &[u32], classes: usize) -> f64 {
    let rows = logits.chunks_exact(classes).zip(labels.chunks_exact(1)).filter(|(row, _)| is_finite(row));
    rows.map(|(row, label)| cross_entropy_sum(row, Targets::Hard(label), classes, 0.0)).sum()
}

/// A double stored as its bits, so that a checkpoint restores it exactly.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_decide_top1_and_top5() {
        let mut metrics = Metrics::default();
        let rows = [[9.0f32, 8.0, 7.0, 6.0, 5.0, 4.0]; 4].concat();
        metrics.add(&rows, &[0, 1, 4, 5], 6, 2.0);
        assert_eq!(metrics, Metrics { images: 4, top1: 1, top5: 3, loss: 2.0, non_finite: 0 });
        assert_eq!((metrics.top1_percent(), metrics.top5_percent(), metrics.mean_loss()), (25.0, 75.0, 0.5));
    }

    #[test]
    fn of_equal_logits_the_first_class_ranks_first() {
        assert_eq!((rank(&[1.0, 1.0, 1.0], 0), rank(&[1.0, 1.0, 1.0], 2)), (Some(0), Some(2)));
    }

    #[test]
    fn an_image_with_logits_that_are_not_finite_is_a_mistake_among_any_number_of_classes() {
        for classes in [1, 2, 6] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut logits = vec![0.0; 2 * classes];
                logits[0] = bad;
                logits[classes] = 1.0;
                let mut metrics = Metrics::default();
                let loss = finite_loss(&logits, &[0, 0], classes);
                metrics.add(&logits, &[0, 0], classes, loss);
                assert_eq!((metrics.top1, metrics.top5, metrics.non_finite), (1, 1, 1));
                let expected = ((classes - 1) as f64 * (-1.0f64).exp()).ln_1p();
                assert!((metrics.mean_loss() - expected).abs() < 1e-12, "{classes} classes");
            }
        }
        let mut metrics = Metrics::default();
        metrics.add(&[f32::NAN; 2], &[0], 2, 0.0);
        assert!(metrics.mean_loss().is_nan());
    }

    #[test]
    fn metrics_survive_its_text_to_the_bit() {
        let metrics = Metrics { images: 3, top1: 1, top5: 2, loss: 0.1 + 0.2, non_finite: 1 };
        let text = serde_json::to_string(&metrics).unwrap();
        assert_eq!(serde_json::from_str::<Metrics>(&text).unwrap(), metrics);
    }
}
