//! Metrics of images with any number of classes each.

use super::classes::{Counts, named};
use super::{ClassMetrics, is_finite};
use serde::Serialize;

/// How well a class's probability ranks the images that have the class above those that do not. Both depend on the order
/// of the logits alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ranking {
    /// Average precision Σ (recallₙ − recallₙ₋₁) · precisionₙ over the thresholds, without interpolation (scikit-learn's
    /// `average_precision_score`), 0 to 1. `None` if no image has the class.
    pub average_precision: Option<f64>,
    /// Area under the ROC curve, ties counted half (scikit-learn's `roc_auc_score`), 0 to 1. `None` unless some images have
    /// the class and some do not.
    pub auroc: Option<f64>,
}

/// The metrics of multi-label data. A class is predicted if its probability, a sigmoid, is at least 0.5.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MultiLabelMetrics {
    /// Mean average precision (mAP) of the classes that some image has, 0 to 1.
    pub mean_average_precision: f64,
    /// The macro mean of the areas under the ROC curve, 0 to 1.
    pub macro_auroc: f64,
    /// F1 of all decisions together, 0 to 1.
    pub micro_f1: f64,
    /// The fraction of images whose predicted classes are exactly theirs, 0 to 1.
    pub exact_match: f64,
}

/// The logits and targets of multi-label data, image by image. Images without a prediction are not in it.
pub(crate) struct MultiLabel {
    classes: usize,
    logits: Vec<f32>,
    /// Whether the image has the class.
    targets: Vec<bool>,
}

impl MultiLabel {
    /// Room for `images` of `classes` classes; `None` if there is not enough memory.
    pub(crate) fn new(images: usize, classes: usize) -> Option<Self> {
        let len = images.checked_mul(classes)?;
        let (mut logits, mut targets) = (Vec::new(), Vec::new());
        logits.try_reserve_exact(len).ok()?;
        targets.try_reserve_exact(len).ok()?;
        Some(Self { classes, logits, targets })
    }

    pub(crate) fn push(&mut self, logits: &[f32], targets: &[f32]) {
        if is_finite(logits) {
            self.logits.extend_from_slice(logits);
            self.targets.extend(targets.iter().map(|&target| target > 0.0));
        }
    }

    /// Counts at the threshold 0.5.
    pub(crate) fn counts(&self) -> Vec<Counts> {
        let mut counts = vec![Counts::default(); self.classes];
        for (logits, targets) in self.images() {
            for ((counts, &logit), &target) in counts.iter_mut().zip(logits).zip(targets) {
                let predicted = logit >= 0.0;
                counts.support += u64::from(target);
                counts.predicted += u64::from(predicted);
                counts.correct += u64::from(predicted && target);
            }
        }
        counts
    }

    /// The metrics of each class under its name.
    pub(crate) fn classes(&self, counts: &[Counts], labels: &[String]) -> Vec<ClassMetrics> {
        let rank =
            |(class, metrics): (usize, ClassMetrics)| ClassMetrics { ranking: Some(self.rank(class)), ..metrics };
        named(counts, labels).into_iter().enumerate().map(rank).collect()
    }

    pub(crate) fn metrics(&self, counts: &[Counts], classes: &[ClassMetrics]) -> MultiLabelMetrics {
        let rankings = || classes.iter().filter_map(|class| class.ranking);
        let sum = |count: fn(&Counts) -> u64| counts.iter().map(count).sum();
        let all = Counts {
            correct: sum(|counts| counts.correct),
            predicted: sum(|counts| counts.predicted),
            support: sum(|counts| counts.support),
        };
        let is_exact = |(logits, targets): &(&[f32], &[bool])| {
            logits.iter().zip(*targets).all(|(&logit, &target)| (logit >= 0.0) == target)
        };
        let exact: Vec<f64> = self.images().map(|image| f64::from(u8::from(is_exact(&image)))).collect();
        MultiLabelMetrics {
            mean_average_precision: mean(rankings().filter_map(|ranking| ranking.average_precision)),
            macro_auroc: mean(rankings().filter_map(|ranking| ranking.auroc)),
            micro_f1: all.values().f1,
            exact_match: mean(exact.into_iter()),
        }
    }

    fn images(&self) -> impl Iterator<Item = (&[f32], &[bool])> {
        self.logits.chunks_exact(self.classes).zip(self.targets.chunks_exact(self.classes))
    }

    fn rank(&self, class: usize) -> Ranking {
        let mut scored: Vec<(f32, bool)> =
            self.images().map(|(logits, targets)| (logits[class], targets[class])).collect();
        scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let positives = scored.iter().filter(|(_, target)| *target).count() as f64;
        let negatives = scored.len() as f64 - positives;
        let (mut precision_sum, mut area) = (0.0, 0.0);
        // The images with scores above the threshold: those that have the class, and those that do not.
        let (mut hits, mut others) = (0.0, 0.0);
        for tied in scored.chunk_by(|a, b| a.0 == b.0) {
            let new_hits = tied.iter().filter(|(_, target)| *target).count() as f64;
            let new_others = tied.len() as f64 - new_hits;
            area += new_others * (hits + 0.5 * new_hits);
            hits += new_hits;
            others += new_others;
            precision_sum += new_hits * hits / (hits + others);
        }
        Ranking {
            average_precision: (positives > 0.0).then(|| precision_sum / positives),
            auroc: (positives > 0.0 && negatives > 0.0).then(|| area / (positives * negatives)),
        }
    }
}

/// Not a number if there are no values.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}
