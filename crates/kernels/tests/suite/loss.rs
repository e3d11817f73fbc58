//! Losses against their naive twins, finite differences, closed forms, and the values of torch, torchvision and timm that
//! `golden/make_losses.py` made.

use crate::{close, slopes, uniform};
use residual_kernels::loss::{self, Binary, Focal, Targets, binary_cross_entropy, focal_loss};
use residual_kernels::reference;
use serde_json::Value;
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

/// Weights of classes, between 0.5 and 2.
fn class_weights(classes: usize) -> Vec<f32> {
    uniform(8, classes).iter().map(|value| 1.25 + 0.75 * value).collect()
}

/// Calls `body` with the hyperparameters of focal losses.
fn for_focal(classes: usize, smoothing: f32, body: impl Fn(&Focal<'_>)) {
    let weights = class_weights(classes);
    for gamma in [0.0, 0.5, 1.0, 2.0] {
        for weights in [None, Some(&weights[..])] {
            body(&Focal { smoothing, weights, gamma });
        }
    }
}

/// Calls `body` with the hyperparameters of binary losses.
fn for_binary(classes: usize, smoothing: f32, body: impl Fn(&Binary<'_>)) {
    let weights = class_weights(classes);
    let plain = Binary { smoothing, threshold: None, sum_classes: false, weights: None, gamma: 0.0, alpha: None };
    for rule in [
        plain,
        Binary { threshold: Some(0.2), ..plain },
        Binary { sum_classes: true, weights: Some(&weights), ..plain },
        Binary { gamma: 2.0, ..plain },
        Binary { gamma: 0.5, alpha: Some(0.25), ..plain },
    ] {
        body(&rule);
    }
}

fn with_gradient(len: usize, loss: impl Fn(&mut [f32]) -> f64) -> (f64, Vec<f32>) {
    let mut gradient = vec![f32::NAN; len];
    (loss(&mut gradient), gradient)
}

#[test]
fn focal_losses_are_the_definition_and_gradients_finite_differences() {
    for_targets(&[0.0, 0.1], |what, logits, targets, classes, smoothing| {
        for_focal(classes, smoothing, |rule| {
            let what = format!("{what}, {rule:?}");
            let (value, gradient) =
                with_gradient(logits.len(), |gradient| focal_loss(logits, targets, classes, rule, Some(gradient)));
            let expected = reference::focal_loss(logits, targets, classes, rule);
            assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{what}: {expected}, got {value}");
            assert_eq!(focal_loss(logits, targets, classes, rule, None), value, "{what}");
            slopes(&what, logits, &gradient, 1.0 / 128.0, 1e-4, |logits| {
                let logits: Vec<f32> = logits.iter().map(|logit| *logit as f32).collect();
                focal_loss(&logits, targets, classes, rule, None)
            });
        });
    });
}

#[test]
fn a_focal_loss_without_exponent_and_weights_is_the_cross_entropy() {
    for_targets(&[0.0, 0.1], |what, logits, targets, classes, smoothing| {
        let rule = Focal { smoothing, weights: None, gamma: 0.0 };
        let focal = with_gradient(logits.len(), |gradient| focal_loss(logits, targets, classes, &rule, Some(gradient)));
        let (value, gradient) = cross_entropy(logits, targets, classes, smoothing);
        assert!((focal.0 - value).abs() <= 1e-12 * value.abs().max(1.0), "{what}: {value}, got {}", focal.0);
        close(&focal.1, &gradient, 1e-7, what);
    });
}

#[test]
fn binary_losses_are_the_definition_and_gradients_finite_differences() {
    for_targets(&[0.0, 0.1], |what, logits, targets, classes, smoothing| {
        for_binary(classes, smoothing, |rule| {
            let what = format!("{what}, {rule:?}");
            let (value, gradient) = with_gradient(logits.len(), |gradient| {
                binary_cross_entropy(logits, targets, classes, rule, Some(gradient))
            });
            let expected = reference::binary_cross_entropy(logits, targets, classes, rule);
            assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{what}: {expected}, got {value}");
            assert_eq!(binary_cross_entropy(logits, targets, classes, rule, None), value, "{what}");
            slopes(&what, logits, &gradient, 1.0 / 128.0, 1e-4, |logits| {
                let logits: Vec<f32> = logits.iter().map(|logit| *logit as f32).collect();
                binary_cross_entropy(&logits, targets, classes, rule, None)
            });
        });
    });
}

/// Sure logits have neither infinite losses nor gradients that are not numbers, whatever the exponent.
#[test]
fn sure_logits_have_finite_losses_and_gradients() {
    let logits = [200.0, -200.0, 0.0, -200.0, 200.0, 0.0];
    let targets = Targets::Hard(&[0, 0]);
    for gamma in [0.0, 0.5, 1.0, 2.0] {
        let focal = Focal { smoothing: 0.0, weights: None, gamma };
        let binary = Binary { smoothing: 0.0, threshold: None, sum_classes: false, weights: None, gamma, alpha: None };
        for (value, gradient) in [
            with_gradient(6, |gradient| focal_loss(&logits, targets, 3, &focal, Some(gradient))),
            with_gradient(6, |gradient| binary_cross_entropy(&logits, targets, 3, &binary, Some(gradient))),
        ] {
            assert!(value.is_finite() && gradient.iter().all(|gradient| gradient.is_finite()), "{gamma}: {gradient:?}");
        }
    }
    let rule = Binary { smoothing: 0.0, threshold: None, sum_classes: false, weights: None, gamma: 0.0, alpha: None };
    let (value, gradient) = with_gradient(2, |gradient| {
        binary_cross_entropy(&[f32::NAN, 0.0], Targets::Hard(&[0]), 2, &rule, Some(gradient))
    });
    assert!(value.is_nan() && gradient[0].is_nan(), "{value}, {gradient:?}");
}

/// The numbers of `golden/make_losses.py`.
pub(crate) fn golden_uniform(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = (state * 1_103_515_245 + 12_345) % (1 << 31);
        state as f64 / f64::from(1 << 30) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn losses_are_those_of_torch_torchvision_and_timm() {
    let cases: Value = serde_json::from_str(include_str!("../golden/losses.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let what = case.to_string();
        let [images, classes] = ["images", "classes"].map(|key| case[key].as_u64().unwrap() as usize);
        let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect::<Vec<f32>>();
        let logits = narrow(golden_uniform(1, images * classes).iter().map(|u| 3.0 * u).collect());
        let weights = narrow(golden_uniform(2, classes).iter().map(|u| 1.25 + 0.75 * u).collect());
        let weights = case["weighted"].as_bool().unwrap().then_some(&weights[..]);
        let hard: Vec<u32> = (0..images).map(|image| ((7 * image + 3) % classes) as u32).collect();
        let reversed: Vec<u32> = hard.iter().rev().copied().collect();
        let mut soft = narrow(golden_uniform(3, images * classes));
        loss::softmax(&mut soft, classes);
        let several: Vec<f32> =
            golden_uniform(4, images * classes).iter().map(|&u| if u > 0.5 { 1.0 } else { 0.0 }).collect();
        let targets = match case["targets"].as_str().unwrap() {
            "hard" => Targets::Hard(&hard),
            "mixed" => Targets::Mixed { a: &hard, b: &reversed, lambda: 0.3 },
            "soft" => Targets::Soft(&soft),
            _ => Targets::Soft(&several),
        };
        let number = |key: &str| case.get(key).and_then(Value::as_f64);
        let smoothing = number("smoothing").unwrap() as f32;
        let gamma = number("gamma").unwrap_or(0.0);
        let (value, gradient) = with_gradient(logits.len(), |gradient| {
            if case["loss"] == "softmax" {
                focal_loss(&logits, targets, classes, &Focal { smoothing, weights, gamma }, Some(gradient))
            } else {
                let threshold = number("threshold").map(|threshold| threshold as f32);
                let sum_classes = case.get("sum_classes").and_then(Value::as_bool).unwrap_or(false);
                let rule = Binary { smoothing, threshold, sum_classes, weights, gamma, alpha: number("alpha") };
                binary_cross_entropy(&logits, targets, classes, &rule, Some(gradient))
            }
        });
        let expected = case["value"].as_f64().unwrap();
        assert!((value - expected).abs() <= 1e-6 * expected.abs(), "{what}: got {value}");
        let expected: Vec<f32> =
            case["gradient"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect();
        close(&gradient, &expected, 1e-6, &what);
    }
}
