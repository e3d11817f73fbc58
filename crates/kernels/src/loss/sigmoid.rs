//! Binary cross-entropy of every class for itself.

use super::{Target, Targets, rows};

/// The hyperparameters of [`binary_cross_entropy`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Binary<'a> {
    /// Label smoothing. Of one class, or two mixed ones, as in [`cross_entropy`](super::cross_entropy); soft targets, which may
    /// be several classes of an image, move towards one half.
    pub smoothing: f32,
    /// Targets above it become 1, others 0.
    pub threshold: Option<f32>,
    /// Whether the losses of an image's classes are summed, instead of their mean taken.
    pub sum_classes: bool,
    /// A weight for each class; all 1 without them.
    pub weights: Option<&'a [f32]>,
    /// The exponent γ of the focal loss; 0 for none.
    pub gamma: f64,
    /// The weight of targets of 1 in the focal loss, where that of targets of 0 is the rest up to 1.
    pub alpha: Option<f64>,
}

/// The binary cross-entropy of the sigmoid of `logits` (images × `classes`) as timm's `BinaryCrossEntropy`, and with γ
/// torchvision's `sigmoid_focal_loss`: the mean over images of the mean, or sum, over classes. `gradient` becomes the gradient
/// with respect to the logits.
///
/// # Panics
/// If the slices do not have the lengths stated, `classes` is zero, or a class is not below `classes`.
pub fn binary_cross_entropy(
    logits: &[f32],
    targets: Targets<'_>,
    classes: usize,
    rule: &Binary<'_>,
    mut gradient: Option<&mut [f32]>,
) -> f64 {
    assert!(rule.weights.is_none_or(|weights| weights.len() == classes), "weights: expected {classes}");
    let rows = rows(logits, targets, classes, gradient.as_ref().map(|gradient| gradient.len()));
    let terms = if rule.sum_classes { 1 } else { classes };
    let count = (rows.len() * terms) as f64;
    let mut total = 0.0;
    for (image, (row, target)) in rows.enumerate() {
        for (class, &logit) in row.iter().enumerate() {
            let weight = rule.weights.map_or(1.0, |weights| f64::from(weights[class]));
            let (loss, slope) = term(logit.into(), rule.target(target, class, classes), rule);
            total += weight * loss;
            if let Some(gradient) = &mut gradient {
                gradient[image * classes + class] = (weight * slope / count) as f32;
            }
        }
    }
    total / count
}

impl Binary<'_> {
    fn target(&self, target: Target<'_>, class: usize, classes: usize) -> f64 {
        let smoothing = f64::from(self.smoothing);
        let towards = if matches!(target, Target::Row(_)) { 0.5 } else { 1.0 / classes as f64 };
        let smooth = (1.0 - smoothing) * target.of(class) + smoothing * towards;
        self.threshold.map_or(smooth, |threshold| f64::from(u8::from(smooth > f64::from(threshold))))
    }
}

/// The loss of one logit, and its derivative.
fn term(logit: f64, target: f64, rule: &Binary<'_>) -> (f64, f64) {
    let small = (-logit.abs()).exp();
    let entropy = logit.max(0.0) - logit * target + small.ln_1p();
    let (above, below) = (1.0 / (1.0 + small), small / (1.0 + small));
    let (p, q) = if logit >= 0.0 { (above, below) } else { (below, above) };
    // A NaN logit has no side.
    let slope = if logit.is_nan() { logit } else { p - target };
    let (entropy, slope) = if rule.gamma == 0.0 {
        (entropy, slope)
    } else {
        // The probability of what is not the target.
        let wrong = p * (1.0 - target) + q * target;
        let modulation = wrong.powf(rule.gamma);
        let bent = if wrong == 0.0 { 0.0 } else { rule.gamma * modulation / wrong * p * q * (2.0 * target - 1.0) };
        (entropy * modulation, slope * modulation - entropy * bent)
    };
    let alpha = rule.alpha.map_or(1.0, |alpha| alpha * target + (1.0 - alpha) * (1.0 - target));
    (alpha * entropy, alpha * slope)
}
