//! Temperature scaling: one number that divides the logits, so that probabilities agree with accuracies (Guo et al., "On
//! Calibration of Modern Neural Networks", 2017, section 4.2). The predicted classes stay the same.

/// The largest temperature that is fitted; the smallest is its inverse.
const LARGEST: f64 = 100.0;
/// Newton's steps converge in about five; bisection alone needs about fifty.
const MOST_STEPS: usize = 100;

/// Why no temperature was found.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum TemperatureError {
    /// There is no image with finite logits.
    #[error("temperature: expected images with finite logits, got none")]
    NoImages,
    /// The loss falls towards the temperature 0: every image is classified correctly.
    #[error("temperature: expected some images that are misclassified, got none among {images}")]
    AllCorrect {
        /// The number of images.
        images: usize,
    },
    /// The loss falls towards infinite temperatures: the logits say nothing about the classes.
    #[error("temperature: expected logits that are better than a guess, got worse ones on {images} images")]
    NoSignal {
        /// The number of images.
        images: usize,
    },
}

/// The temperature with the lowest mean cross-entropy of softmax(`logits` / temperature), 0.01 to 100. `logits` are
/// labels × `classes`; images with logits that are not finite are left out.
///
/// The loss is a convex function of the inverse temperature; its derivative's zero is found by Newton's method within a
/// bracket.
///
/// # Errors
/// If the loss has no minimum in the range.
///
/// # Panics
/// If the lengths do not fit or a label is not below `classes`.
pub fn fit_temperature(logits: &[f32], labels: &[u32], classes: usize) -> Result<f32, TemperatureError> {
    assert_eq!(logits.len(), labels.len() * classes, "one row of logits for each label");
    let rows = || logits.chunks_exact(classes).zip(labels).filter(|(row, _)| super::is_finite(row));
    let images = rows().count();
    if images == 0 {
        return Err(TemperatureError::NoImages);
    }
    // The first and the second derivative of the sum of the losses by the inverse temperature.
    let derivatives = |inverse: f64| {
        rows().fold((0.0, 0.0), |(first, second), (row, &label)| {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let (mut weights, mut sum, mut squares) = (0.0, 0.0, 0.0);
            for &logit in row {
                let value = f64::from(logit) - f64::from(largest);
                let weight = (value * inverse).exp();
                weights += weight;
                sum += weight * value;
                squares += weight * value * value;
            }
            let mean = sum / weights;
            let own = f64::from(row[label as usize]) - f64::from(largest);
            (first + mean - own, second + squares / weights - mean * mean)
        })
    };
    let (mut low, mut high) = (1.0 / LARGEST, LARGEST);
    if derivatives(high).0 <= 0.0 {
        return Err(TemperatureError::AllCorrect { images });
    }
    if derivatives(low).0 >= 0.0 {
        return Err(TemperatureError::NoSignal { images });
    }
    let mut inverse = 1.0;
    for _ in 0..MOST_STEPS {
        let (first, second) = derivatives(inverse);
        if first < 0.0 {
            low = inverse
        } else {
            high = inverse
        }
        let newton = inverse - first / second;
        let next = if newton > low && newton < high { newton } else { (low * high).sqrt() };
        let is_done = (next - inverse).abs() <= 1e-10 * inverse;
        inverse = next;
        if is_done {
            break;
        }
    }
    Ok((1.0 / inverse) as f32)
}
