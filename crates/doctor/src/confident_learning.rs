//! Confident learning: which images have probably a wrong label (Northcutt et al., "Confident Learning: Estimating Uncertainty in
//! Dataset Labels", 2021), with the scores and the filters of the `cleanlab` package.

use serde::Serialize;

/// Added to thresholds, so that equal probabilities pass; cleanlab's.
const TOLERANCE: f64 = 1e-6;

/// How well a model's probabilities agree with an image's label. The model must not have been trained on the image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LabelScore {
    /// The probability of the label, 0 to 1.
    pub self_confidence: f64,
    /// (probability of the label − highest probability of another class + 1) / 2, 0 to 1.
    pub normalized_margin: f64,
    /// Whether the image counts as another class than its label in the confident joint, and is predicted as another one.
    pub is_issue: bool,
}

/// The scores of images: `logits` are labels × `classes`. An image with logits that are not finite has the scores 0 and is no
/// issue.
///
/// # Panics
/// If the lengths do not fit or a label is not below `classes`.
pub fn label_scores(logits: &[f32], labels: &[u32], classes: usize) -> Vec<LabelScore> {
    let judged = Judged::new(logits, labels, classes);
    judged
        .rows
        .iter()
        .zip(labels)
        .map(|(row, &label)| {
            let Some(row) = row else {
                return LabelScore { self_confidence: 0.0, normalized_margin: 0.0, is_issue: false };
            };
            let label = label as usize;
            let other = highest(row, |class| class != label).map_or(0.0, |class| row[class]);
            LabelScore {
                self_confidence: row[label],
                normalized_margin: (row[label] - other + 1.0) / 2.0,
                is_issue: judged.counted(row).is_some_and(|class| class != label) && predicted(row) != Some(label),
            }
        })
        .collect()
}

/// Whether each label is one of those that cleanlab's `prune_by_noise_rate` removes: of every pair of classes as many images as the
/// calibrated confident joint counts, those with the largest margins between the two, unless they are predicted as labelled.
/// `logits` are labels × `classes`; images with logits that are not finite are none.
///
/// # Panics
/// As [`label_scores`].
pub fn prune_by_noise_rate(logits: &[f32], labels: &[u32], classes: usize) -> Vec<bool> {
    let judged = Judged::new(logits, labels, classes);
    let joint = judged.calibrated_joint(labels);
    let mut members = vec![Vec::new(); classes];
    for (image, (row, &label)) in judged.rows.iter().zip(labels).enumerate() {
        if let Some(row) = row {
            members[label as usize].push((image, row));
        }
    }
    let mut pruned = vec![false; labels.len()];
    for (label, members) in members.iter_mut().enumerate() {
        for other in (0..classes).filter(|&other| other != label) {
            let count = joint[label][other].max(0) as usize;
            let margin = |row: &[f64]| row[other] - row[label];
            members.sort_by(|(_, a), (_, b)| margin(b).total_cmp(&margin(a)));
            for &(image, row) in members.iter().take(count) {
                pruned[image] |= predicted(row) != Some(label);
            }
        }
    }
    pruned
}

/// Probabilities of images, and how sure of each class a confident one is.
struct Judged {
    /// `None` for logits that are not finite.
    rows: Vec<Option<Vec<f64>>>,
    /// For each class the mean probability of it over its images.
    thresholds: Vec<f64>,
}

impl Judged {
    fn new(logits: &[f32], labels: &[u32], classes: usize) -> Self {
        assert_eq!(logits.len(), labels.len() * classes, "one row of logits for each label");
        let rows: Vec<Option<Vec<f64>>> = logits.chunks_exact(classes.max(1)).map(softmax).collect();
        let mut sums = vec![(0.0, 0u64); classes];
        for (row, &label) in rows.iter().zip(labels) {
            if let Some(row) = row {
                sums[label as usize].0 += row[label as usize];
                sums[label as usize].1 += 1;
            }
        }
        let mean = |&(sum, count): &(f64, u64)| if count == 0 { f64::INFINITY } else { sum / count as f64 };
        Self { thresholds: sums.iter().map(mean).collect(), rows }
    }

    /// The most probable of the classes that an image confidently belongs to.
    fn counted(&self, row: &[f64]) -> Option<usize> {
        highest(row, |class| row[class] >= self.thresholds[class] - TOLERANCE)
    }

    /// The confident joint: for each label the number of its images by the class that they are counted as, scaled to the number of
    /// images of that label.
    fn calibrated_joint(&self, labels: &[u32]) -> Vec<Vec<i64>> {
        let classes = self.thresholds.len();
        let (mut joint, mut totals) = (vec![vec![0.0f64; classes]; classes], vec![0.0; classes]);
        for (row, &label) in self.rows.iter().zip(labels) {
            totals[label as usize] += 1.0;
            if let Some(class) = row.as_ref().and_then(|row| self.counted(row)) {
                joint[label as usize][class] += 1.0;
            }
        }
        for (label, counts) in joint.iter_mut().enumerate() {
            counts[label] = counts[label].max(1.0);
            let scale = totals[label] / counts.iter().sum::<f64>();
            counts.iter_mut().for_each(|count| *count *= scale);
        }
        joint.iter().map(|counts| rounded(counts)).collect()
    }
}

/// Rounded so that the sum stays: those are changed that are the nearest to the other side.
fn rounded(values: &[f64]) -> Vec<i64> {
    let mut rounded: Vec<i64> = values.iter().map(|value| value.round_ties_even() as i64).collect();
    let missing = values.iter().sum::<f64>().round_ties_even() as i64 - rounded.iter().sum::<i64>();
    let mut order: Vec<usize> = (0..values.len()).collect();
    let excess = |at: usize| (values[at] - values[at].round_ties_even()) * missing.signum() as f64;
    order.sort_by(|&a, &b| excess(b).total_cmp(&excess(a)));
    order.iter().take(missing.unsigned_abs() as usize).for_each(|&at| rounded[at] += missing.signum());
    rounded
}

fn predicted(row: &[f64]) -> Option<usize> {
    highest(row, |_| true)
}

/// The class with the highest probability among some, the first of equal ones.
fn highest(probabilities: &[f64], is_one: impl Fn(usize) -> bool) -> Option<usize> {
    let higher = |best: usize, class: usize| if probabilities[class] > probabilities[best] { class } else { best };
    (0..probabilities.len()).filter(|&class| is_one(class)).reduce(higher)
}

/// Probabilities of a row of logits; `None` if one is not finite.
fn softmax(logits: &[f32]) -> Option<Vec<f64>> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !logits.iter().all(|logit| logit.is_finite()) {
        return None;
    }
    let weights: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) - f64::from(largest)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    Some(weights.into_iter().map(|weight| weight / sum).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn scores_and_filters_are_cleanlabs() {
        let golden: Value = serde_json::from_str(include_str!("../tests/golden/confident_learning.json")).unwrap();
        let numbers = |key: &str| -> Vec<f64> {
            golden[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
        };
        let labels: Vec<u32> = numbers("labels").iter().map(|&label| label as u32).collect();
        let logits: Vec<f32> = numbers("logits").iter().map(|&logit| logit as f32).collect();
        let scores = label_scores(&logits, &labels, golden["classes"].as_u64().unwrap() as usize);
        for (index, score) in scores.iter().enumerate() {
            assert!((score.self_confidence - numbers("self_confidence")[index]).abs() < 1e-9, "{index}");
            assert!((score.normalized_margin - numbers("normalized_margin")[index]).abs() < 1e-9, "{index}");
        }
        let issues: Vec<f64> = (0..scores.len()).filter(|&index| scores[index].is_issue).map(|i| i as f64).collect();
        assert_eq!(issues, numbers("off_diagonal"));
        let pruned = prune_by_noise_rate(&logits, &labels, golden["classes"].as_u64().unwrap() as usize);
        let pruned: Vec<f64> = (0..pruned.len()).filter(|&index| pruned[index]).map(|index| index as f64).collect();
        assert_eq!(pruned, numbers("pruned"));
    }

    #[test]
    fn an_image_without_probabilities_is_no_issue() {
        let scores = label_scores(&[f32::NAN, 1.0, 3.0, 0.0], &[0, 0], 2);
        assert_eq!(scores[0], LabelScore { self_confidence: 0.0, normalized_margin: 0.0, is_issue: false });
        assert!(scores[1].self_confidence > 0.9);
        assert_eq!(prune_by_noise_rate(&[f32::NAN, 1.0, 3.0, 0.0], &[0, 0], 2), [false, false]);
    }
}
