//! Softmax cross-entropy against its naive twin, finite differences and closed forms.

use crate::{close, slopes, uniform};
use residual_kernels::loss::{self, Targets};
use residual_kernels::reference;
use std::panic::catch_unwind;

const SHAPES: [(usize, usize); 6] = [(1, 1), (1, 2), (7, 3), (5, 10), (33, 17), (4, 1000)];

/// Logits in [-4, 4) and labels.
fn batch(images: usize, classes: usize) -> (Vec<f32>, Vec<u32>) {
    let logits = uniform(1, images * classes).iter().map(|logit| 4.0 * logit).collect();
    (logits, (0..images).map(|image| ((7 * image + 3) % classes) as u32).collect())
}

fn cross_entropy(logits: &[f32], targets: Targets<'_>, classes: usize, smoothing: f32) -> (f64, Vec<f32>) {
    let mut gradient = vec![f32::NAN; logits.len()];
    (loss::cross_entropy(logits, targets, classes, smoothing, Some(&mut gradient)), gradient)
}

/// Probabilities whose rows sum to one, and some of which are zero.
fn probabilities(images: usize, classes: usize) -> Vec<f32> {
    let mut targets: Vec<f32> = uniform(2, images * classes).iter().map(|value| value.max(0.0)).collect();
    for row in targets.chunks_exact_mut(classes) {
        row[0] += 0.5;
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|target| *target /= sum);
    }
    targets
}

/// Calls `body` with logits of every shape and each kind of targets.
fn for_targets(smoothings: &[f32], body: impl Fn(&str, &[f32], Targets<'_>, usize, f32)) {
    for (images, classes) in SHAPES {
        let (logits, a) = batch(images, classes);
        let b: Vec<u32> = (0..images).map(|image| ((3 * image + 1) % classes) as u32).collect();
        let soft = probabilities(images, classes);
        // As distillation may give: rows that do not sum to one.
        let scaled: Vec<f32> = soft.iter().map(|target| 0.75 * target).collect();
        let mixed = |lambda| Targets::Mixed { a: &a, b: &b, lambda };
        let all = [
            ("hard", Targets::Hard(&a)),
            ("mixed", mixed(0.3)),
            ("all of a", mixed(1.0)),
            ("soft", Targets::Soft(&soft)),
            ("scaled", Targets::Soft(&scaled)),
        ];
        for (name, targets) in all {
            for &smoothing in smoothings {
                let what = format!("{images} x {classes}, {name}, smoothing {smoothing}");
                body(&what, &logits, targets, classes, smoothing);
            }
        }
    }
}

#[test]
fn cross_entropy_is_the_definition() {
    for_targets(&[0.0, 0.1, 1.0], |what, logits, targets, classes, smoothing| {
        let (value, gradient) = cross_entropy(logits, targets, classes, smoothing);
        let (expected, expected_gradient) = reference::cross_entropy(logits, targets, classes, smoothing);
        assert!((value - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{what}: {expected}, got {value}");
        close(&gradient, &expected_gradient, 1e-7, what);
    });
}

#[test]
fn a_sum_is_the_mean_times_the_images() {
    for_targets(&[0.0, 0.1], |what, logits, targets, classes, smoothing| {
        let mean = loss::cross_entropy(logits, targets, classes, smoothing, None);
        assert_eq!(mean, cross_entropy(logits, targets, classes, smoothing).0, "{what}: without a gradient");
        let sum = loss::cross_entropy_sum(logits, targets, classes, smoothing);
        let images = (logits.len() / classes) as f64;
        assert!((sum - images * mean).abs() <= 1e-14 * sum.abs(), "{what}: {images} x {mean}, got {sum}");
    });
}

#[test]
fn cross_entropy_gradients_are_finite_differences() {
    for_targets(&[0.0, 0.1], |what, logits, targets, classes, smoothing| {
        let (_, gradient) = cross_entropy(logits, targets, classes, smoothing);
        // The step is a power of two and large beside the rounding of a logit.
        slopes(what, logits, &gradient, 1.0 / 128.0, 1e-5, |logits| {
            let logits: Vec<f32> = logits.iter().map(|logit| *logit as f32).collect();
            cross_entropy(&logits, targets, classes, smoothing).0
        });
    });
}

/// `torch.nn.functional.cross_entropy(torch.tensor([[1., 2., 3.], [1000., 0., -1000.]]), torch.tensor([0, 1]),
/// reduction="sum")`.
#[test]
fn a_sum_is_torch_s() {
    let logits = [1.0, 2.0, 3.0, 1000.0, 0.0, -1000.0];
    let sum = loss::cross_entropy_sum(&logits, Targets::Hard(&[0, 1]), 3, 0.0);
    assert!((sum - 1_002.407_605_964_444_4).abs() < 1e-9, "{sum}");
}

/// The three kinds of targets meet where they say the same; hard and mixed ones to the bit.
#[test]
fn kinds_of_targets_agree() {
    for (images, classes) in SHAPES {
        let (logits, a) = batch(images, classes);
        let b: Vec<u32> = (0..images).map(|image| ((3 * image + 1) % classes) as u32).collect();
        let mut one_hot = vec![0.0; logits.len()];
        a.iter().enumerate().for_each(|(image, &label)| one_hot[image * classes + label as usize] = 1.0);
        for smoothing in [0.0, 0.1] {
            let hard = cross_entropy(&logits, Targets::Hard(&a), classes, smoothing);
            for mixed in [(&a, &b, 1.0), (&b, &a, 0.0)] {
                let mixed = Targets::Mixed { a: mixed.0, b: mixed.1, lambda: mixed.2 };
                assert_eq!(cross_entropy(&logits, mixed, classes, smoothing), hard);
            }
            let (value, gradient) = cross_entropy(&logits, Targets::Soft(&one_hot), classes, smoothing);
            assert!((value - hard.0).abs() <= 1e-14 * hard.0.max(1.0), "{value} and {}", hard.0);
            close(&gradient, &hard.1, 1e-7, "one-hot");
        }
    }
}

#[test]
fn equal_logits_lose_the_logarithm_of_the_classes() {
    for smoothing in [0.0, 0.1] {
        let (value, gradient) = cross_entropy(&[5.0; 20], Targets::Hard(&[3, 9]), 10, smoothing);
        assert!((value - 10f64.ln()).abs() < 1e-12, "{value}");
        let sum: f32 = gradient.iter().sum();
        assert!(sum.abs() < 1e-6, "{sum}");
    }
}

#[test]
fn large_logits_neither_overflow_nor_lose_digits() {
    let (value, gradient) = cross_entropy(&[1e30, 0.0, -1e30], Targets::Hard(&[1]), 3, 0.0);
    assert!((value / 1e30 - 1.0).abs() < 1e-6, "{value}");
    assert_eq!(gradient, [1.0, -1.0, 0.0]);
    let (value, _) = cross_entropy(&[1000.0, 999.0], Targets::Hard(&[0]), 2, 0.0);
    assert!((value - (-1f64).exp().ln_1p()).abs() < 1e-12, "{value}");
}

/// A class that is ruled out costs nothing unless smoothing gives it a share.
#[test]
fn a_class_may_be_ruled_out() {
    let logits = [1.0, f32::NEG_INFINITY, 1.0];
    let (value, gradient) = cross_entropy(&logits, Targets::Hard(&[0]), 3, 0.0);
    assert!((value - 2f64.ln()).abs() < 1e-12, "{value}");
    assert_eq!(gradient, [-0.5, 0.0, 0.5]);
    assert_eq!(cross_entropy(&logits, Targets::Hard(&[0]), 3, 0.1).0, f64::INFINITY);
    for targets in [Targets::Mixed { a: &[0], b: &[1], lambda: 1.0 }, Targets::Soft(&[1.0, 0.0, 0.0])] {
        let (value, gradient) = cross_entropy(&logits, targets, 3, 0.0);
        assert!((value - 2f64.ln()).abs() < 1e-12, "{targets:?}: {value}");
        assert_eq!(gradient, [-0.5, 0.0, 0.5], "{targets:?}");
    }
}

#[test]
fn what_does_not_fit_panics_with_its_name() {
    let logits = [0.0; 6];
    let refused = |expected: &str, logits: &[f32], targets: Targets<'_>, classes: usize, gradient: usize| {
        let mut gradient = vec![0.0; gradient];
        let call =
            std::panic::AssertUnwindSafe(|| loss::cross_entropy(logits, targets, classes, 0.1, Some(&mut gradient)));
        let panic = catch_unwind(call).expect_err(expected);
        assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some(expected));
    };
    refused("class: expected one below 3, got 3", &logits, Targets::Hard(&[0, 3]), 3, 6);
    let mixed = |b| Targets::Mixed { a: &[0, 1], b, lambda: 0.5 };
    refused("class: expected one below 3, got 7", &logits, mixed(&[0, 7]), 3, 6);
    refused("mixed targets: expected 2 labels b, got 1", &logits, mixed(&[0]), 3, 6);
    refused("logits: expected 2 rows of 4, got 6 numbers", &logits, Targets::Hard(&[0, 1]), 4, 6);
    refused("gradient: expected 2 rows of 3, got 5 numbers", &logits, Targets::Hard(&[0, 1]), 3, 5);
    refused("soft targets: expected rows of 3, got 5 numbers", &logits, Targets::Soft(&[0.0; 5]), 3, 6);
}

#[test]
fn nan_reaches_the_loss() {
    let (value, gradient) = cross_entropy(&[0.0, f32::NAN, 1.0], Targets::Hard(&[0]), 3, 0.0);
    assert!(value.is_nan() && gradient.iter().all(|gradient| gradient.is_nan()));
}

#[test]
fn softmax_is_the_definition() {
    for (images, classes) in SHAPES {
        let (logits, _) = batch(images, classes);
        for shift in [0.0, 300.0, -300.0] {
            let mut got: Vec<f32> = logits.iter().map(|logit| logit + shift).collect();
            let expected = reference::softmax(&got, classes);
            loss::softmax(&mut got, classes);
            close(&got, &expected, 1e-7, &format!("{images} x {classes}, shift {shift}"));
        }
    }
}
