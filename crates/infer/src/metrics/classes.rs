//! Precision, recall and F1 of each class, as scikit-learn's `classification_report` defines them, and the confusion
//! matrix.

use super::{ImageResult, Ranking};
use serde::Serialize;

/// Precision, recall and F1, 0 to 1.
///
/// Where a denominator is zero the value is 0 (scikit-learn's `zero_division=0`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PrecisionRecall {
    /// Of the images predicted as the class, the fraction that belongs to it.
    pub precision: f64,
    /// Of the images of the class, the fraction predicted as it: its accuracy.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
}

/// The metrics of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// Its name, or its index if the model has no names.
    pub name: String,
    /// Precision, recall and F1.
    #[serde(flatten)]
    pub values: PrecisionRecall,
    /// The number of its images.
    pub support: u64,
    /// The number of images predicted as it.
    pub predicted: u64,
    /// Of multi-label data: how well its probability ranks the images.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<Ranking>,
}

impl ClassMetrics {
    /// Whether the class occurs, as an image's class or as a prediction.
    pub fn occurs(&self) -> bool {
        self.support + self.predicted > 0
    }
}

/// How often a class occurs, is predicted, and both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) correct: u64,
    pub(crate) predicted: u64,
    pub(crate) support: u64,
}

impl Counts {
    pub(crate) fn values(self) -> PrecisionRecall {
        let ratio = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
        PrecisionRecall {
            precision: ratio(self.correct, self.predicted),
            recall: ratio(self.correct, self.support),
            f1: ratio(2 * self.correct, self.predicted + self.support),
        }
    }

    fn occurs(self) -> bool {
        self.support + self.predicted > 0
    }
}

/// The counts of each of `classes` classes, for one class per image.
pub(crate) fn counts<'a>(results: impl Iterator<Item = &'a ImageResult>, classes: usize) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); classes];
    for result in results {
        counts[result.label as usize].support += 1;
        if let Some(predicted) = result.predicted {
            counts[predicted as usize].predicted += 1;
            counts[predicted as usize].correct += u64::from(predicted == result.label);
        }
    }
    counts
}

/// The mean of the classes that occur.
pub(crate) fn macro_average(counts: &[Counts]) -> PrecisionRecall {
    average(counts.iter().filter(|counts| counts.occurs()).map(|counts| (*counts, 1.0)))
}

/// The mean of the classes, weighted by their numbers of images.
pub(crate) fn weighted_average(counts: &[Counts]) -> PrecisionRecall {
    average(counts.iter().map(|counts| (*counts, counts.support as f64)))
}

fn average(weighted: impl Iterator<Item = (Counts, f64)>) -> PrecisionRecall {
    let (mut total, mut sum) = (0.0, PrecisionRecall::default());
    for (counts, weight) in weighted {
        let PrecisionRecall { precision, recall, f1 } = counts.values();
        total += weight;
        sum.precision += weight * precision;
        sum.recall += weight * recall;
        sum.f1 += weight * f1;
    }
    let mean = |sum: f64| if total == 0.0 { 0.0 } else { sum / total };
    PrecisionRecall { precision: mean(sum.precision), recall: mean(sum.recall), f1: mean(sum.f1) }
}

/// The metrics of each class under its name.
pub(crate) fn named(counts: &[Counts], labels: &[String]) -> Vec<ClassMetrics> {
    let class = |(index, counts): (usize, &Counts)| ClassMetrics {
        name: labels.get(index).cloned().unwrap_or_else(|| index.to_string()),
        values: counts.values(),
        support: counts.support,
        predicted: counts.predicted,
        ranking: None,
    };
    counts.iter().enumerate().map(class).collect()
}

/// The number of images of each class (row) by predicted class (column). Images without a prediction are not in it.
/// `None` if there is not enough memory for it.
pub(crate) fn confusion(results: &[ImageResult], classes: usize) -> Option<Vec<Vec<u64>>> {
    let mut rows = Vec::new();
    rows.try_reserve_exact(classes).ok()?;
    for _ in 0..classes {
        let mut row = Vec::new();
        row.try_reserve_exact(classes).ok()?;
        row.resize(classes, 0u64);
        rows.push(row);
    }
    for result in results {
        if let Some(predicted) = result.predicted {
            rows[result.label as usize][predicted as usize] += 1;
        }
    }
    Some(rows)
}
