//! Softmax cross-entropy by its definition.

use super::narrow;

/// The softmax of one row.
fn probabilities(row: &[f32]) -> Vec<f64> {
    let largest = row.iter().fold(f64::NEG_INFINITY, |largest, &logit| largest.max(logit.into()));
    let powers: Vec<f64> = row.iter().map(|&logit| (f64::from(logit) - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The mean over the batch of −Σ target · ln(probability), and its gradient with respect to the logits.
pub fn cross_entropy(logits: &[f32], labels: &[u32], classes: usize, smoothing: f32) -> (f64, Vec<f32>) {
    let (images, smoothing) = (labels.len() as f64, f64::from(smoothing));
    let mut loss = 0.0;
    let mut gradient = Vec::with_capacity(logits.len());
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        for (class, probability) in probabilities(row).into_iter().enumerate() {
            let on_label = if class == label as usize { 1.0 - smoothing } else { 0.0 };
            let target = on_label + smoothing / classes as f64;
            loss -= if target > 0.0 { target * probability.ln() / images } else { 0.0 };
            gradient.push((probability - target) / images);
        }
    }
    (loss, narrow(gradient))
}

/// The probability of each class.
pub fn softmax(logits: &[f32], classes: usize) -> Vec<f32> {
    logits.chunks_exact(classes).flat_map(|row| narrow(probabilities(row))).collect()
}
