//! Softmax cross-entropy by its definition.

use super::narrow;
use crate::loss::Targets;

/// The softmax of one row.
fn probabilities(row: &[f32]) -> Vec<f64> {
    let largest = row.iter().fold(f64::NEG_INFINITY, |largest, &logit| largest.max(logit.into()));
    let powers: Vec<f64> = row.iter().map(|&logit| (f64::from(logit) - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The probability that the targets give to each class of each image, before label smoothing.
fn dense(targets: Targets<'_>, classes: usize) -> Vec<f64> {
    let one_hot = |labels: &[u32]| -> Vec<f64> {
        let row = |&label: &u32| (0..classes).map(move |class| f64::from(u8::from(class == label as usize)));
        labels.iter().flat_map(row).collect()
    };
    match targets {
        Targets::Hard(labels) => one_hot(labels),
        Targets::Mixed { a, b, lambda } => {
            let lambda = f64::from(lambda);
            one_hot(a).iter().zip(one_hot(b)).map(|(a, b)| lambda * a + (1.0 - lambda) * b).collect()
        }
        Targets::Soft(targets) => targets.iter().copied().map(f64::from).collect(),
    }
}

/// The mean over the batch of −Σ target · ln(probability), and its gradient with respect to the logits.
pub fn cross_entropy(logits: &[f32], targets: Targets<'_>, classes: usize, smoothing: f32) -> (f64, Vec<f32>) {
    let (images, smoothing) = ((logits.len() / classes) as f64, f64::from(smoothing));
    let mut loss = 0.0;
    let mut gradient = Vec::with_capacity(logits.len());
    for (row, targets) in logits.chunks_exact(classes).zip(dense(targets, classes).chunks_exact(classes)) {
        let smooth = |target: &f64| (1.0 - smoothing) * target + smoothing / classes as f64;
        let total: f64 = targets.iter().map(smooth).sum();
        for (target, probability) in targets.iter().map(smooth).zip(probabilities(row)) {
            loss -= if target > 0.0 { target * probability.ln() / images } else { 0.0 };
            gradient.push((total * probability - target) / images);
        }
    }
    (loss, narrow(gradient))
}

/// The probability of each class.
pub fn softmax(logits: &[f32], classes: usize) -> Vec<f32> {
    logits.chunks_exact(classes).flat_map(|row| narrow(probabilities(row))).collect()
}
