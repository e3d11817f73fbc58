//! Softmax cross-entropy with class weights, and focal loss.

use super::{Targets, rows};

/// The hyperparameters of [`focal_loss`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Focal<'a> {
    /// Label smoothing, as in [`cross_entropy`](super::cross_entropy).
    pub smoothing: f32,
    /// A weight for each class; all 1 without them.
    pub weights: Option<&'a [f32]>,
    /// The exponent γ; cross-entropy with 0.
    pub gamma: f64,
}

/// The focal loss of Lin et al. (arXiv:1708.02002) on the softmax, −Σ weight · target · (1 − p)^γ · ln p, for `logits` of
/// images × `classes`; with γ = 0 it is torch's `cross_entropy` with its `weight`. As there, the sum over the batch is divided by
/// the sum of the weights of the images' classes for hard targets, and by the number of images for others. `gradient` becomes
/// the gradient with respect to the logits.
///
/// # Panics
/// If the slices do not have the lengths stated, `classes` is zero, or a class is not below `classes`.
pub fn focal_loss(
    logits: &[f32],
    targets: Targets<'_>,
    classes: usize,
    rule: &Focal<'_>,
    mut gradient: Option<&mut [f32]>,
) -> f64 {
    let Focal { smoothing, weights, gamma } = *rule;
    let smoothing = f64::from(smoothing);
    let weight = |class: usize| weights.map_or(1.0, |weights| f64::from(weights[class]));
    assert!(weights.is_none_or(|weights| weights.len() == classes), "weights: expected {classes}");
    let rows = rows(logits, targets, classes, gradient.as_ref().map(|gradient| gradient.len()));
    let count = match targets {
        Targets::Hard(labels) => labels.iter().map(|&label| weight(super::class(label, classes))).sum(),
        _ => rows.len() as f64,
    };
    let mut total = 0.0;
    for (image, (row, target)) in rows.enumerate() {
        let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let log_sum = row.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum::<f64>().ln();
        let log_p = |class: usize| f64::from(row[class]) - largest - log_sum;
        let target = |class: usize| weight(class) * ((1.0 - smoothing) * target.of(class) + smoothing / classes as f64);
        // The derivative of a class's term with respect to ln p, and its sum.
        let mut slopes = 0.0;
        for class in 0..classes {
            let (term, slope) = term(target(class), log_p(class), gamma);
            total += term;
            slopes += slope;
        }
        if let Some(gradient) = &mut gradient {
            for (class, gradient) in gradient[image * classes..][..classes].iter_mut().enumerate() {
                let (_, slope) = term(target(class), log_p(class), gamma);
                *gradient = ((slope - log_p(class).exp() * slopes) / count) as f32;
            }
        }
    }
    total / count
}

/// −target · (1 − p)^γ · ln p, and its derivative with respect to ln p.
fn term(target: f64, log_p: f64, gamma: f64) -> (f64, f64) {
    if target == 0.0 {
        return (0.0, 0.0);
    }
    if gamma == 0.0 {
        return (-target * log_p, -target);
    }
    let (p, rest) = (log_p.exp(), -log_p.exp_m1());
    let modulation = rest.powf(gamma);
    // d/d(ln p) of (1 − p)^γ is −γ p (1 − p)^(γ − 1); times ln p, it vanishes at both ends of p.
    let bent = if p == 0.0 || rest == 0.0 { 0.0 } else { gamma * p * modulation / rest * log_p };
    (-target * modulation * log_p, target * (bent - modulation))
}
