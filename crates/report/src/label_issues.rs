//! Images whose label is probably wrong, by confident learning (Northcutt et al., "Confident Learning: Estimating Uncertainty
//! in Dataset Labels", 2021), with the scores of the `cleanlab` package.

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
    assert_eq!(logits.len(), labels.len() * classes, "one row of logits for each label");
    let rows = || logits.chunks_exact(classes.max(1)).map(softmax).zip(labels.iter().map(|&label| label as usize));
    // A class's threshold is the mean self-confidence of its images.
    let mut sums = vec![(0.0, 0u64); classes];
    for (probabilities, label) in rows().filter_map(|(row, label)| Some((row?, label))) {
        sums[label].0 += probabilities[label];
        sums[label].1 += 1;
    }
    let thresholds: Vec<f64> =
        sums.iter().map(|&(sum, count)| if count == 0 { f64::INFINITY } else { sum / count as f64 }).collect();
    rows()
        .map(|(probabilities, label)| {
            let Some(probabilities) = probabilities else {
                return LabelScore { self_confidence: 0.0, normalized_margin: 0.0, is_issue: false };
            };
            let own = probabilities[label];
            let other = highest(&probabilities, |class| class != label).map_or(0.0, |class| probabilities[class]);
            let is_confident = |class: usize| probabilities[class] >= thresholds[class] - TOLERANCE;
            let counted = highest(&probabilities, is_confident);
            let predicted = highest(&probabilities, |_| true);
            LabelScore {
                self_confidence: own,
                normalized_margin: (own - other + 1.0) / 2.0,
                is_issue: counted.is_some_and(|class| class != label) && predicted != Some(label),
            }
        })
        .collect()
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
    fn scores_and_issues_are_cleanlabs() {
        let golden: Value = serde_json::from_str(include_str!("../tests/golden/label_issues.json")).unwrap();
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
        assert_eq!(issues, numbers("issues"));
    }

    #[test]
    fn an_image_without_probabilities_is_no_issue() {
        let scores = label_scores(&[f32::NAN, 1.0, 3.0, 0.0], &[0, 0], 2);
        assert_eq!(scores[0], LabelScore { self_confidence: 0.0, normalized_margin: 0.0, is_issue: false });
        assert!(scores[1].self_confidence > 0.9);
    }
}
