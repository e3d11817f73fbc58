//! Losses by their definitions.

use super::narrow;
use crate::loss::{Binary, Decoupled, Focal, Targets};

/// The softmax of one row.
fn probabilities(row: &[f32]) -> Vec<f64> {
    softened(row, 1.0)
}

/// The softmax of one row divided by a temperature.
fn softened(row: &[f32], temperature: f64) -> Vec<f64> {
    let largest = row.iter().fold(f64::NEG_INFINITY, |largest, &logit| largest.max(logit.into()));
    let powers: Vec<f64> = row.iter().map(|&logit| ((f64::from(logit) - largest) / temperature).exp()).collect();
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

/// −Σ weight · target · (1 − p)^γ · ln p over the batch, divided by the weights of hard targets or by the images.
pub fn focal_loss(logits: &[f32], targets: Targets<'_>, classes: usize, rule: &Focal<'_>) -> f64 {
    let smoothing = f64::from(rule.smoothing);
    let weight = |class: usize| rule.weights.map_or(1.0, |weights| f64::from(weights[class]));
    let mut loss = 0.0;
    for (row, targets) in logits.chunks_exact(classes).zip(dense(targets, classes).chunks_exact(classes)) {
        for (class, (target, p)) in targets.iter().zip(probabilities(row)).enumerate() {
            let target = (1.0 - smoothing) * target + smoothing / classes as f64;
            loss -= if target > 0.0 { weight(class) * target * (1.0 - p).powf(rule.gamma) * p.ln() } else { 0.0 };
        }
    }
    loss / match targets {
        Targets::Hard(labels) => labels.iter().map(|&label| weight(label as usize)).sum(),
        _ => (logits.len() / classes) as f64,
    }
}

/// The binary cross-entropy of each logit by itself, its mean over images and its mean or sum over classes.
pub fn binary_cross_entropy(logits: &[f32], targets: Targets<'_>, classes: usize, rule: &Binary<'_>) -> f64 {
    let smoothing = f64::from(rule.smoothing);
    let towards = if matches!(targets, Targets::Soft(_)) { 0.5 } else { 1.0 / classes as f64 };
    let mut loss = 0.0;
    for (at, (&logit, target)) in logits.iter().zip(dense(targets, classes)).enumerate() {
        let target = (1.0 - smoothing) * target + smoothing * towards;
        let target = rule.threshold.map_or(target, |least| if target > f64::from(least) { 1.0 } else { 0.0 });
        let p = 1.0 / (1.0 + (-f64::from(logit)).exp());
        let right = p * target + (1.0 - p) * (1.0 - target);
        let entropy = -target * p.ln() - (1.0 - target) * (1.0 - p).ln();
        let alpha = rule.alpha.map_or(1.0, |alpha| alpha * target + (1.0 - alpha) * (1.0 - target));
        let weight = rule.weights.map_or(1.0, |weights| f64::from(weights[at % classes]));
        loss += weight * alpha * (1.0 - right).powf(rule.gamma) * entropy;
    }
    loss / if rule.sum_classes { logits.len() / classes } else { logits.len() } as f64
}

/// The probability of each class.
pub fn softmax(logits: &[f32], classes: usize) -> Vec<f32> {
    logits.chunks_exact(classes).flat_map(|row| narrow(probabilities(row))).collect()
}

/// Σ p ln(p / q) of two distributions.
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(&p, &q)| if p > 0.0 { p * (p / q).ln() } else { 0.0 }).sum()
}

/// The mean over the batch of KL(teacher ‖ softmax(logits / temperature)).
pub fn kl_divergence(logits: &[f32], teacher: &[f32], classes: usize, temperature: f64) -> f64 {
    let rows = logits.chunks_exact(classes).zip(teacher.chunks_exact(classes));
    let each = rows.map(|(logits, teacher)| {
        let teacher: Vec<f64> = teacher.iter().copied().map(f64::from).collect();
        divergence(&teacher, &softened(logits, temperature))
    });
    each.sum::<f64>() / (logits.len() / classes) as f64
}

/// α · TCKD + β · NCKD, times temperature², each a divergence of distributions that are written out.
pub fn decoupled_distillation(
    logits: &[f32],
    teacher: &[f32],
    labels: &[u32],
    classes: usize,
    rule: &Decoupled,
) -> f64 {
    let mut loss = 0.0;
    let rows = logits.chunks_exact(classes).zip(teacher.chunks_exact(classes));
    for ((logits, teacher), &label) in rows.zip(labels) {
        let teacher = teacher.iter().copied().map(f64::from).collect();
        let [teacher, student] = [teacher, softened(logits, rule.temperature)].map(|mut p: Vec<f64>| {
            let target = p.remove(label as usize);
            let others: f64 = p.iter().sum();
            p.iter_mut().for_each(|p| *p /= others);
            ([target, others], p)
        });
        loss += rule.alpha * divergence(&teacher.0, &student.0) + rule.beta * divergence(&teacher.1, &student.1);
    }
    rule.temperature * rule.temperature * loss / labels.len() as f64
}

/// The mean over images and pixels of the squared difference of the normalised attention maps.
pub fn attention_transfer(student: &[f32], teacher: &[f32], images: usize, pixels: usize) -> f64 {
    let maps = |x: &[f32]| -> Vec<f64> {
        let channels = x.len() / images / pixels;
        let squares: Vec<f64> = x.iter().map(|&x| f64::from(x) * f64::from(x)).collect();
        let mean = |pixel: &[f64]| pixel.iter().sum::<f64>() / channels as f64;
        let maps: Vec<f64> = squares.chunks_exact(channels).map(mean).collect();
        let norm = |map: &[f64]| map.iter().map(|a| a * a).sum::<f64>().sqrt().max(1e-12);
        maps.chunks_exact(pixels).flat_map(|map| map.iter().map(move |a| a / norm(map))).collect()
    };
    let squares = maps(student).into_iter().zip(maps(teacher)).map(|(s, t)| (s - t) * (s - t));
    squares.sum::<f64>() / (images * pixels) as f64
}
