//! Softmax cross-entropy against its naive twin, finite differences and closed forms.

use crate::{close, slopes, uniform};
use residual_kernels::{loss, reference};

const SHAPES: [(usize, usize); 6] = [(1, 1), (1, 2), (7, 3), (5, 10), (33, 17), (4, 1000)];

/// Logits in [-4, 4) and labels.
fn batch(images: usize, classes: usize) -> (Vec<f32>, Vec<u32>) {
    let logits = uniform(1, images * classes).iter().map(|logit| 4.0 * logit).collect();
    (logits, (0..images).map(|image| ((7 * image + 3) % classes) as u32).collect())
}

fn cross_entropy(logits: &[f32], labels: &[u32], classes: usize, smoothing: f32) -> (f64, Vec<f32>) {
    let mut gradient = vec![f32::NAN; logits.len()];
    (loss::cross_entropy(logits, labels, classes, smoothing, &mut gradient), gradient)
}

#[test]
fn cross_entropy_is_the_definition() {
    for (images, classes) in SHAPES {
        let (logits, labels) = batch(images, classes);
        for smoothing in [0.0, 0.1, 1.0] {
            let what = format!("{images} x {classes}, smoothing {smoothing}");
            let (value, gradient) = cross_entropy(&logits, &labels, classes, smoothing);
            let (expected, expected_gradient) = reference::cross_entropy(&logits, &labels, classes, smoothing);
            assert!((value - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{what}: {expected}, got {value}");
            close(&gradient, &expected_gradient, 1e-7, &what);
        }
    }
}

#[test]
fn cross_entropy_gradients_are_finite_differences() {
    for (images, classes) in SHAPES {
        let (logits, labels) = batch(images, classes);
        for smoothing in [0.0, 0.1] {
            let what = format!("{images} x {classes}, smoothing {smoothing}");
            let (_, gradient) = cross_entropy(&logits, &labels, classes, smoothing);
            // The step is a power of two and large beside the rounding of a logit.
            slopes(&what, &logits, &gradient, 1.0 / 128.0, 1e-5, |logits| {
                let logits: Vec<f32> = logits.iter().map(|logit| *logit as f32).collect();
                cross_entropy(&logits, &labels, classes, smoothing).0
            });
        }
    }
}

#[test]
fn equal_logits_lose_the_logarithm_of_the_classes() {
    for smoothing in [0.0, 0.1] {
        let (value, gradient) = cross_entropy(&[5.0; 20], &[3, 9], 10, smoothing);
        assert!((value - 10f64.ln()).abs() < 1e-12, "{value}");
        let sum: f32 = gradient.iter().sum();
        assert!(sum.abs() < 1e-6, "{sum}");
    }
}

#[test]
fn large_logits_neither_overflow_nor_lose_digits() {
    let (value, gradient) = cross_entropy(&[1e30, 0.0, -1e30], &[1], 3, 0.0);
    assert!((value / 1e30 - 1.0).abs() < 1e-6, "{value}");
    assert_eq!(gradient, [1.0, -1.0, 0.0]);
    let (value, _) = cross_entropy(&[1000.0, 999.0], &[0], 2, 0.0);
    assert!((value - (-1f64).exp().ln_1p()).abs() < 1e-12, "{value}");
}

/// A class that is ruled out costs nothing unless smoothing gives it a share.
#[test]
fn a_class_may_be_ruled_out() {
    let logits = [1.0, f32::NEG_INFINITY, 1.0];
    let (value, gradient) = cross_entropy(&logits, &[0], 3, 0.0);
    assert!((value - 2f64.ln()).abs() < 1e-12, "{value}");
    assert_eq!(gradient, [-0.5, 0.0, 0.5]);
    assert_eq!(cross_entropy(&logits, &[0], 3, 0.1).0, f64::INFINITY);
}

#[test]
fn nan_reaches_the_loss() {
    let (value, gradient) = cross_entropy(&[0.0, f32::NAN, 1.0], &[0], 3, 0.0);
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
