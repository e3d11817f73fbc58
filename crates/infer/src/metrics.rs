//! Counting how well logits fit labels.

use serde::{Deserialize, Serialize};

/// Running totals over images: exact to add to, in the order in which they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Images counted.
    pub images: u64,
    /// Images whose label has the highest logit.
    pub top1: u64,
    /// Images whose label is among the five highest logits.
    pub top5: u64,
    /// Sum of the images' losses.
    #[serde(with = "bits")]
    pub loss: f64,
}

impl Metrics {
    /// Counts a batch: `logits` are labels × `classes`, `loss` is the sum over the batch.
    ///
    /// Among equal logits the lower class stands first; a label whose logit is not a number is not found.
    ///
    /// # Panics
    /// If the lengths do not fit or a label is not below `classes`.
    pub fn add(&mut self, logits: &[f32], labels: &[u32], classes: usize, loss: f64) {
        assert_eq!(logits.len(), labels.len() * classes, "one row of logits for each label");
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let rank = rank(row, label as usize);
            self.top1 += u64::from(rank == 0);
            self.top5 += u64::from(rank < 5);
        }
        self.images += labels.len() as u64;
        self.loss += loss;
    }

    /// Share of images whose label has the highest logit, in percent.
    pub fn top1_percent(&self) -> f64 {
        100.0 * self.top1 as f64 / self.images.max(1) as f64
    }

    /// Share of images whose label is among the five highest logits, in percent.
    pub fn top5_percent(&self) -> f64 {
        100.0 * self.top5 as f64 / self.images.max(1) as f64
    }

    /// Mean loss of an image.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }
}

/// How many classes stand before `label`.
fn rank(logits: &[f32], label: usize) -> usize {
    let own = logits[label];
    let before = |(class, &logit): (usize, &f32)| !(logit < own || logit == own && class >= label);
    logits.iter().enumerate().filter(|&(class, logit)| class != label && before((class, logit))).count()
        + if own.is_nan() { logits.len() } else { 0 }
}

/// A double as its bits, so that a checkpoint gives back exactly what it was given.
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
        assert_eq!(metrics, Metrics { images: 4, top1: 1, top5: 3, loss: 2.0 });
        assert_eq!((metrics.top1_percent(), metrics.top5_percent(), metrics.mean_loss()), (25.0, 75.0, 0.5));
    }

    #[test]
    fn of_equal_logits_the_first_class_stands_first() {
        assert_eq!((rank(&[1.0, 1.0, 1.0], 0), rank(&[1.0, 1.0, 1.0], 2)), (0, 2));
    }

    #[test]
    fn what_is_not_a_number_is_never_right() {
        assert!(rank(&[f32::NAN, 0.0, 0.0, 0.0, 0.0, 0.0], 0) >= 5);
        assert!(rank(&[f32::NAN; 6], 0) >= 5);
        assert_eq!(rank(&[0.0, f32::NAN], 0), 1);
    }

    #[test]
    fn metrics_survive_its_text_to_the_bit() {
        let metrics = Metrics { images: 3, top1: 1, top5: 2, loss: 0.1 + 0.2 };
        let text = serde_json::to_string(&metrics).unwrap();
        assert_eq!(serde_json::from_str::<Metrics>(&text).unwrap(), metrics);
    }
}
