//! Losses of a student's logits against a teacher's softened probabilities.

use super::class;
use crate::extents::is_product;
use std::slice::ChunksExact;

/// Adds `share` times softmax(`logits` / `temperature`) to `probabilities` (both images × `classes`). From zero, with shares
/// that sum to 1, that is the mean of the softened probabilities of several teachers.
///
/// # Panics
/// If the slices are not rows of `classes` of one length, or `classes` is zero.
pub fn add_softened(logits: &[f32], classes: usize, temperature: f64, share: f64, probabilities: &mut [f32]) {
    let rows = check(logits, probabilities, classes, None);
    for (row, sums) in rows.zip(probabilities.chunks_exact_mut(classes)) {
        let (largest, log_sum) = softmax_parts(row, temperature, |_| true);
        for (sum, &logit) in sums.iter_mut().zip(row) {
            *sum += (share * (scaled(logit, temperature) - largest - log_sum).exp()) as f32;
        }
    }
}

/// The mean over the batch of `weight` · KL(`teacher` ‖ softmax(`logits` / `temperature`)), for a teacher's softened
/// probabilities: torch's `kl_div` with the reduction `batchmean`. With a weight of temperature² it is the loss of Hinton et
/// al. (arXiv:1503.02531). Its gradient with respect to the logits is added to `gradient`.
///
/// A class of probability zero adds nothing. The mean over no images is NaN.
///
/// # Panics
/// If the slices are not rows of `classes` of one length, or `classes` is zero.
pub fn kl_divergence(
    logits: &[f32],
    teacher: &[f32],
    classes: usize,
    temperature: f64,
    weight: f64,
    mut gradient: Option<&mut [f32]>,
) -> f64 {
    let rows = check(logits, teacher, classes, gradient.as_deref());
    let scale = weight / rows.len() as f64;
    let mut total = 0.0;
    for (image, (row, teacher)) in rows.zip(teacher.chunks_exact(classes)).enumerate() {
        let (largest, log_sum) = softmax_parts(row, temperature, |_| true);
        let log_q = |class: usize| scaled(row[class], temperature) - largest - log_sum;
        let mut sum = 0.0;
        for (class, p) in teacher.iter().map(|&p| f64::from(p)).enumerate() {
            total += divergence(p, log_q(class));
            sum += p;
        }
        if let Some(gradient) = &mut gradient {
            let gradient = gradient[image * classes..][..classes].iter_mut();
            for (class, (gradient, &p)) in gradient.zip(teacher).enumerate() {
                *gradient += (scale / temperature * (sum * log_q(class).exp() - f64::from(p))) as f32;
            }
        }
    }
    scale * total
}

/// The weights and the temperature of [`decoupled_distillation`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoupled {
    /// The temperature of the softened probabilities, the teacher's included.
    pub temperature: f64,
    /// The weight of the image's class against all others (TCKD).
    pub alpha: f64,
    /// The weight of the other classes among themselves (NCKD).
    pub beta: f64,
}

/// Decoupled knowledge distillation (Zhao et al., arXiv:2203.08679): the mean over the batch of α · TCKD + β · NCKD, times
/// temperature², as in mdistiller's `dkd_loss`. TCKD is the divergence of the probabilities of the image's class and of all
/// others together, NCKD that of the others renormalised. Its gradient with respect to the logits is added to `gradient`.
///
/// Where the teacher gives every other class the probability zero, NCKD is zero. The mean over no images is NaN.
///
/// # Panics
/// If the slices are not rows of `classes` of one length, one for each label, `classes` is zero, or a label is not below it.
pub fn decoupled_distillation(
    logits: &[f32],
    teacher: &[f32],
    labels: &[u32],
    classes: usize,
    rule: &Decoupled,
    mut gradient: Option<&mut [f32]>,
) -> f64 {
    let rows = check(logits, teacher, classes, gradient.as_deref());
    assert_eq!(rows.len(), labels.len(), "labels: expected one for each row of logits");
    let Decoupled { temperature, alpha, beta } = *rule;
    let scale = temperature * temperature / rows.len() as f64;
    let mut total = 0.0;
    for (image, (row, teacher)) in rows.zip(teacher.chunks_exact(classes)).enumerate() {
        let target = class(labels[image], classes);
        let is_other = |class: usize| class != target;
        let (largest, log_sum) = softmax_parts(row, temperature, |_| true);
        let (largest_other, log_sum_others) = softmax_parts(row, temperature, is_other);
        // Logarithms of the student's probabilities: of the target, of the others together, and of one among the others.
        let log_target = scaled(row[target], temperature) - largest - log_sum;
        let log_others = largest_other + log_sum_others - largest - log_sum;
        let log_among = |class: usize| scaled(row[class], temperature) - largest_other - log_sum_others;
        let p = |class: usize| f64::from(teacher[class]);
        let others: f64 = (0..classes).filter(|&class| is_other(class)).map(p).sum();
        let beta = if others > 0.0 { beta } else { 0.0 };
        let among = |class: usize| if others > 0.0 { p(class) / others } else { 0.0 };

        total += alpha * (divergence(p(target), log_target) + divergence(others, log_others));
        for class in (0..classes).filter(|&class| is_other(class)) {
            total += beta * divergence(among(class), log_among(class));
        }
        if let Some(gradient) = &mut gradient {
            // What TCKD moves from the target to the others.
            let moved = alpha * (p(target) * log_others.exp() - others * log_target.exp());
            for (class, gradient) in gradient[image * classes..][..classes].iter_mut().enumerate() {
                let slope = match is_other(class) {
                    false => -moved,
                    true => log_among(class).exp() * (moved + beta) - beta * among(class),
                };
                *gradient += (scale / temperature * slope) as f32;
            }
        }
    }
    scale * total
}

/// The rows of `logits`.
///
/// # Panics
/// If they, the teacher's probabilities or the gradient are not rows of `classes` of one length.
fn check<'a>(logits: &'a [f32], teacher: &[f32], classes: usize, gradient: Option<&[f32]>) -> ChunksExact<'a, f32> {
    assert!(classes > 0, "loss: expected at least one class");
    let images = logits.len() / classes;
    for (what, len) in [
        ("logits", logits.len()),
        ("teacher", teacher.len()),
        ("gradient", gradient.map_or(logits.len(), <[f32]>::len)),
    ] {
        assert!(is_product(len, &[images, classes]), "{what}: expected {images} rows of {classes}, got {len} numbers");
    }
    logits.chunks_exact(classes)
}

/// The largest of the scaled logits of some classes, and the logarithm of the sum of the exponentials relative to it.
fn softmax_parts(row: &[f32], temperature: f64, is_one: impl Fn(usize) -> bool) -> (f64, f64) {
    let logits =
        || row.iter().enumerate().filter(|(class, _)| is_one(*class)).map(|(_, &logit)| scaled(logit, temperature));
    let largest = logits().fold(f64::NEG_INFINITY, f64::max);
    (largest, logits().map(|logit| (logit - largest).exp()).sum::<f64>().ln())
}

fn scaled(logit: f32, temperature: f64) -> f64 {
    f64::from(logit) / temperature
}

/// One class's term of a divergence: p · ln(p / q).
fn divergence(p: f64, log_q: f64) -> f64 {
    if p == 0.0 { 0.0 } else { p * (p.ln() - log_q) }
}
