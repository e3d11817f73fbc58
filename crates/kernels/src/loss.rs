//! Softmax cross-entropy.

/// The mean over the batch of the cross-entropy of `logits` (images × classes) against `labels`, with torch's label
/// smoothing: the target is `1 − smoothing` on the label plus `smoothing / classes` everywhere. `gradient` becomes the
/// gradient of that mean with respect to the logits.
///
/// # Panics
/// If the slices do not fit `classes`, or a label is not below it.
pub fn cross_entropy(logits: &[f32], labels: &[u32], classes: usize, smoothing: f32, gradient: &mut [f32]) -> f64 {
    assert!(logits.len() == labels.len() * classes && gradient.len() == logits.len());
    let scale = 1.0 / labels.len() as f64;
    let smoothing = f64::from(smoothing);
    let mut loss = 0.0;
    for ((row, &label), gradient) in logits.chunks_exact(classes).zip(labels).zip(gradient.chunks_exact_mut(classes)) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shifted = |logit: f32| f64::from(logit) - f64::from(largest);
        let log_sum = row.iter().map(|&logit| shifted(logit).exp()).sum::<f64>().ln();
        let mean = row.iter().map(|&logit| shifted(logit)).sum::<f64>() / classes as f64;
        // A logit of −∞ makes the mean infinite; without smoothing that must not count.
        let spread = if smoothing > 0.0 { smoothing * mean } else { 0.0 };
        loss += log_sum - (1.0 - smoothing) * shifted(row[label as usize]) - spread;
        for (class, (gradient, &logit)) in gradient.iter_mut().zip(row).enumerate() {
            let hit = if class == label as usize { 1.0 - smoothing } else { 0.0 };
            let target = hit + smoothing / classes as f64;
            *gradient = (((shifted(logit) - log_sum).exp() - target) * scale) as f32;
        }
    }
    loss * scale
}

/// The probability of each class: `logits` (images × classes) become their softmax.
///
/// # Panics
/// If the slice does not fit `classes`.
pub fn softmax(logits: &mut [f32], classes: usize) {
    assert!(logits.len().is_multiple_of(classes));
    for row in logits.chunks_exact_mut(classes) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
        row.iter_mut().for_each(|logit| *logit = (f64::from(*logit - largest).exp() / sum) as f32);
    }
}
