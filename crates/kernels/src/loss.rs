//! Losses of logits against targets, and of a student's outputs and feature maps against a teacher's, in double precision.

mod distillation;
mod features;
mod sigmoid;
mod softmax;

pub use distillation::{Decoupled, add_softened, decoupled_distillation, kl_divergence};
pub use features::{attention_transfer, mean_squared_error};
pub use sigmoid::{Binary, binary_cross_entropy};
pub use softmax::{Focal, focal_loss};

use crate::extents::is_product;

/// The targets of a batch of images.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// The class of each image.
    Hard(&'a [u32]),
    /// Two classes of each image, as MixUp and CutMix make them: `a` with weight λ, `b` with weight 1 − λ.
    Mixed {
        /// The class with weight λ of each image.
        a: &'a [u32],
        /// The class with weight 1 − λ of each image.
        b: &'a [u32],
        /// λ, from 0 to 1.
        lambda: f32,
    },
    /// A probability for each class of each image (images × classes).
    Soft(&'a [f32]),
}

impl Targets<'_> {
    /// The number of images.
    ///
    /// # Panics
    /// If `a` and `b` differ in length, or soft targets are not rows of `classes`.
    fn images(&self, classes: usize) -> usize {
        match self {
            Targets::Hard(labels) => labels.len(),
            Targets::Mixed { a, b, .. } => {
                assert!(a.len() == b.len(), "mixed targets: expected {} labels b, got {}", a.len(), b.len());
                a.len()
            }
            Targets::Soft(targets) => {
                let whole = targets.len().is_multiple_of(classes);
                assert!(whole, "soft targets: expected rows of {classes}, got {} numbers", targets.len());
                targets.len() / classes
            }
        }
    }
}

/// The mean over the batch of −Σ target · ln(softmax(logits)) for `logits` of images × `classes`: torch's `cross_entropy`
/// with class numbers or with probabilities. Label smoothing is torch's: every target is multiplied by 1 − `smoothing`,
/// and `smoothing` / `classes` is added to it. `gradient` becomes the gradient of that mean with respect to the logits.
///
/// A class whose target is zero adds nothing, even if its logit is −∞. The mean over no images is NaN, as in torch.
///
/// # Panics
/// If the slices do not have the lengths stated, `classes` is zero, or a class is not below `classes`.
pub fn cross_entropy(
    logits: &[f32],
    targets: Targets<'_>,
    classes: usize,
    smoothing: f32,
    gradient: Option<&mut [f32]>,
) -> f64 {
    assert!(classes > 0, "loss: expected at least one class");
    let scale = 1.0 / targets.images(classes) as f64;
    batch(logits, targets, classes, smoothing, scale, gradient) * scale
}

/// As [`cross_entropy`], but the sum over the batch in place of the mean: sums of several batches can be added.
///
/// # Panics
/// As [`cross_entropy`] does.
pub fn cross_entropy_sum(logits: &[f32], targets: Targets<'_>, classes: usize, smoothing: f32) -> f64 {
    batch(logits, targets, classes, smoothing, 1.0, None)
}

/// The sum of the losses; `gradient` becomes `scale` times its gradient.
fn batch(
    logits: &[f32],
    targets: Targets<'_>,
    classes: usize,
    smoothing: f32,
    scale: f64,
    mut gradient: Option<&mut [f32]>,
) -> f64 {
    let rows = rows(logits, targets, classes, gradient.as_ref().map(|gradient| gradient.len()));
    let smoothing = f64::from(smoothing);
    let mut loss = 0.0;
    for (image, (row, target)) in rows.enumerate() {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shifted = |logit: f32| f64::from(logit) - f64::from(largest);
        let log_sum = row.iter().map(|&logit| shifted(logit).exp()).sum::<f64>().ln();
        let mean = row.iter().map(|&logit| shifted(logit)).sum::<f64>() / classes as f64;
        // A logit of −∞ makes the mean infinite; without smoothing that must not count.
        let spread = if smoothing > 0.0 { smoothing * mean } else { 0.0 };
        let total = target.total(smoothing);
        loss += total * log_sum - (1.0 - smoothing) * target.dot(|class| shifted(row[class])) - spread;
        if let Some(gradient) = &mut gradient {
            let gradient = &mut gradient[image * classes..][..classes];
            for (class, (gradient, &logit)) in gradient.iter_mut().zip(row).enumerate() {
                let target = (1.0 - smoothing) * target.of(class) + smoothing / classes as f64;
                *gradient = ((total * (shifted(logit) - log_sum).exp() - target) * scale) as f32;
            }
        }
    }
    loss
}

/// The logits and the target of each image. `gradient` is the length of the gradient.
///
/// # Panics
/// If the slices do not have the lengths stated, or a class is not below `classes`.
fn rows<'a>(
    logits: &'a [f32],
    targets: Targets<'a>,
    classes: usize,
    gradient: Option<usize>,
) -> impl ExactSizeIterator<Item = (&'a [f32], Target<'a>)> {
    assert!(classes > 0, "loss: expected at least one class");
    let images = targets.images(classes);
    let fits = |len: usize| is_product(len, &[images, classes]);
    assert!(fits(logits.len()), "logits: expected {images} rows of {classes}, got {} numbers", logits.len());
    let got = gradient.unwrap_or(logits.len());
    assert!(fits(got), "gradient: expected {images} rows of {classes}, got {got} numbers");
    logits.chunks_exact(classes).enumerate().map(move |(image, row)| {
        let target = match targets {
            Targets::Hard(labels) => Target::Class(class(labels[image], classes)),
            Targets::Mixed { a, b, lambda } => {
                Target::Classes([class(a[image], classes), class(b[image], classes)], f64::from(lambda))
            }
            Targets::Soft(targets) => Target::Row(&targets[image * classes..][..classes]),
        };
        (row, target)
    })
}

fn class(label: u32, classes: usize) -> usize {
    assert!((label as usize) < classes, "class: expected one below {classes}, got {label}");
    label as usize
}

/// The target of one image before label smoothing.
#[derive(Clone, Copy)]
enum Target<'a> {
    Class(usize),
    /// Two classes and the weight of the first.
    Classes([usize; 2], f64),
    Row(&'a [f32]),
}

impl Target<'_> {
    fn of(self, class: usize) -> f64 {
        let when = |at: usize, weight: f64| if class == at { weight } else { 0.0 };
        match self {
            Target::Class(label) => when(label, 1.0),
            Target::Classes([a, b], lambda) => when(a, lambda) + when(b, 1.0 - lambda),
            Target::Row(row) => f64::from(row[class]),
        }
    }

    /// The sum over the classes, after label smoothing.
    fn total(self, smoothing: f64) -> f64 {
        match self {
            Target::Class(_) | Target::Classes(..) => 1.0,
            Target::Row(row) => (1.0 - smoothing) * row.iter().copied().map(f64::from).sum::<f64>() + smoothing,
        }
    }

    /// Σ target · value over the classes whose target is not zero.
    fn dot(self, value: impl Fn(usize) -> f64) -> f64 {
        let term = |class: usize, weight: f64| if weight == 0.0 { 0.0 } else { weight * value(class) };
        match self {
            Target::Class(label) => value(label),
            Target::Classes([a, b], lambda) => term(a, lambda) + term(b, 1.0 - lambda),
            Target::Row(row) => row.iter().enumerate().map(|(class, &weight)| term(class, weight.into())).sum(),
        }
    }
}

/// The probability of each class: `logits` (images × classes) become their softmax.
///
/// # Panics
/// If `classes` is zero or the slice is not rows of `classes`.
pub fn softmax(logits: &mut [f32], classes: usize) {
    assert!(logits.len().is_multiple_of(classes), "logits: expected rows of {classes}, got {} numbers", logits.len());
    for row in logits.chunks_exact_mut(classes) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
        row.iter_mut().for_each(|logit| *logit = (f64::from(*logit - largest).exp() / sum) as f32);
    }
}
