//! Distillation losses against their naive twins, finite differences, closed forms, and the values of torch that
//! `golden/make_distillation.py` made.

use crate::loss::golden_uniform;
use crate::{close, slopes, uniform};
use residual_kernels::loss::{
    Decoupled, add_softened, attention_transfer, decoupled_distillation, kl_divergence, mean_squared_error, softmax,
};
use residual_kernels::reference;
use serde_json::Value;
use std::panic::catch_unwind;

const SHAPES: [(usize, usize); 5] = [(1, 2), (7, 3), (5, 10), (33, 17), (2, 1000)];

/// A student's logits in [-4, 4), a teacher's in [-8, 8), and labels.
fn batch(images: usize, classes: usize) -> (Vec<f32>, Vec<f32>, Vec<u32>) {
    let logits = |seed, scale| uniform(seed, images * classes).iter().map(|logit| scale * logit).collect();
    (logits(1, 4.0), logits(2, 8.0), (0..images).map(|image| ((7 * image + 3) % classes) as u32).collect())
}

fn softened(logits: &[f32], classes: usize, temperature: f64) -> Vec<f32> {
    let mut probabilities = vec![0.0; logits.len()];
    add_softened(logits, classes, temperature, 1.0, &mut probabilities);
    probabilities
}

/// Calls `body` with every shape and several temperatures: student's logits, teacher's probabilities, labels.
fn for_batches(body: impl Fn(&str, &[f32], &[f32], &[u32], usize, f64)) {
    for (images, classes) in SHAPES {
        let (student, teacher, labels) = batch(images, classes);
        for temperature in [1.0, 4.0] {
            let what = format!("{images} x {classes} at {temperature}");
            body(&what, &student, &softened(&teacher, classes, temperature), &labels, classes, temperature);
        }
    }
}

/// The loss, and its gradient added to one of all ones, without these.
fn with_gradient(len: usize, loss: impl Fn(&mut [f32]) -> f64) -> (f64, Vec<f32>) {
    let mut gradient = vec![1.0; len];
    let value = loss(&mut gradient);
    (value, gradient.iter().map(|gradient| gradient - 1.0).collect())
}

#[test]
fn divergences_are_the_definition_and_gradients_finite_differences() {
    for_batches(|what, student, teacher, _, classes, temperature| {
        let weight = temperature * temperature;
        let loss = |student: &[f32], gradient: Option<&mut [f32]>| {
            kl_divergence(student, teacher, classes, temperature, weight, gradient)
        };
        let (value, gradient) = with_gradient(student.len(), |gradient| loss(student, Some(gradient)));
        let expected = weight * reference::kl_divergence(student, teacher, classes, temperature);
        assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{what}: {expected}, got {value}");
        assert_eq!(loss(student, None), value, "{what}: without a gradient");
        slopes(what, student, &gradient, 1.0 / 128.0, 1e-4, |student| {
            loss(&student.iter().map(|logit| *logit as f32).collect::<Vec<_>>(), None)
        });
    });
}

#[test]
fn decoupled_losses_are_the_definition_and_gradients_finite_differences() {
    for_batches(|what, student, teacher, labels, classes, temperature| {
        for (alpha, beta) in [(1.0, 8.0), (1.0, 0.0), (0.0, 2.0)] {
            let what = format!("{what}, {alpha} and {beta}");
            let rule = Decoupled { temperature, alpha, beta };
            let loss = |student: &[f32], gradient: Option<&mut [f32]>| {
                decoupled_distillation(student, teacher, labels, classes, &rule, gradient)
            };
            let (value, gradient) = with_gradient(student.len(), |gradient| loss(student, Some(gradient)));
            let expected = reference::decoupled_distillation(student, teacher, labels, classes, &rule);
            assert!((value - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{what}: {expected}, got {value}");
            assert_eq!(loss(student, None), value, "{what}: without a gradient");
            slopes(&what, student, &gradient, 1.0 / 256.0, 2e-4, |student| {
                loss(&student.iter().map(|logit| *logit as f32).collect::<Vec<_>>(), None)
            });
        }
    });
}

/// Equation 6 of the paper: KD is TCKD + (1 − the teacher's probability of the target) · NCKD, for every image.
#[test]
fn decoupled_parts_add_up_to_the_divergence() {
    let temperature = 4.0;
    for (classes, label) in [(3, 0), (10, 7)] {
        let (student, teacher, _) = batch(1, classes);
        let teacher = softened(&teacher, classes, temperature);
        let part = |alpha, beta| {
            let rule = Decoupled { temperature, alpha, beta };
            decoupled_distillation(&student, &teacher, &[label], classes, &rule, None)
        };
        let others = 1.0 - f64::from(teacher[label as usize]);
        let whole = kl_divergence(&student, &teacher, classes, temperature, temperature * temperature, None);
        let sum = part(1.0, 0.0) + others * part(0.0, 1.0);
        assert!((whole - sum).abs() <= 1e-6 * whole, "{whole} against {sum}");
    }
}

#[test]
fn a_student_that_is_its_teacher_has_no_loss() {
    for_batches(|what, student, _, labels, classes, temperature| {
        let teacher = softened(student, classes, temperature);
        let rule = Decoupled { temperature, alpha: 1.0, beta: 8.0 };
        for (value, gradient) in [
            with_gradient(student.len(), |gradient| {
                kl_divergence(student, &teacher, classes, temperature, 16.0, Some(gradient))
            }),
            with_gradient(student.len(), |gradient| {
                decoupled_distillation(student, &teacher, labels, classes, &rule, Some(gradient))
            }),
        ] {
            assert!(value.abs() < 1e-4, "{what}: {value}");
            close(&gradient, &vec![0.0; student.len()], 1e-5, what);
        }
    });
}

/// Probabilities of several teachers are averaged, whatever the shift of their logits.
#[test]
fn softened_probabilities_of_teachers_are_averaged() {
    let (a, b, _) = batch(5, 10);
    let mut mean = vec![0.0; a.len()];
    let shifted: Vec<f32> = b.iter().map(|logit| logit + 512.0).collect();
    add_softened(&a, 10, 1.0, 0.5, &mut mean);
    add_softened(&shifted, 10, 1.0, 0.5, &mut mean);
    let [mut a, mut b] = [a, b];
    softmax(&mut a, 10);
    softmax(&mut b, 10);
    close(&mean, &a.iter().zip(&b).map(|(a, b)| 0.5 * (a + b)).collect::<Vec<_>>(), 1e-5, "mean");
}

/// Probabilities that vanish and a single class have neither infinite losses nor gradients that are not numbers.
#[test]
fn sure_teachers_have_finite_losses() {
    let student = [3.0, -2.0, 1.0, 0.5, 0.0, -4.0];
    let rule = Decoupled { temperature: 4.0, alpha: 1.0, beta: 8.0 };
    for teacher in [[1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]] {
        for (value, gradient) in [
            with_gradient(6, |gradient| kl_divergence(&student, &teacher, 3, 4.0, 16.0, Some(gradient))),
            with_gradient(6, |gradient| decoupled_distillation(&student, &teacher, &[0, 1], 3, &rule, Some(gradient))),
        ] {
            assert!(value.is_finite() && gradient.iter().all(|gradient| gradient.is_finite()), "{value}, {gradient:?}");
        }
    }
    let (value, gradient) = with_gradient(2, |gradient| {
        decoupled_distillation(&[1.0, 2.0], &[1.0, 1.0], &[0, 0], 1, &rule, Some(gradient))
    });
    assert_eq!((value, gradient), (0.0, vec![0.0; 2]));
}

#[test]
fn what_does_not_fit_panics_with_its_name() {
    let refused = |expected: &str, call: &(dyn Fn() -> f64 + std::panic::RefUnwindSafe)| {
        let panic = catch_unwind(call).expect_err(expected);
        assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some(expected));
    };
    let [logits, other] = [[0.0f32; 6], [0.25; 6]];
    refused("teacher: expected 2 rows of 3, got 4 numbers", &move || {
        kl_divergence(&logits, &other[..4], 3, 1.0, 1.0, None)
    });
    refused("gradient: expected 2 rows of 3, got 5 numbers", &move || {
        kl_divergence(&logits, &other, 3, 1.0, 1.0, Some(&mut [0.0; 5]))
    });
    let rule = Decoupled { temperature: 1.0, alpha: 1.0, beta: 1.0 };
    refused("class: expected one below 3, got 3", &move || {
        decoupled_distillation(&logits, &other, &[0, 3], 3, &rule, None)
    });
    refused("student: expected feature maps of 2 images of 2 pixels, got 6 numbers", &move || {
        attention_transfer(&logits, &other[..4], [2, 2], 1.0, &mut [0.0; 6], &mut [0.0; 4])
    });
}

/// Images, pixels, and channels of student and teacher.
const FEATURES: [(usize, usize, [usize; 2]); 4] = [(1, 1, [1, 1]), (2, 9, [5, 5]), (3, 16, [4, 9]), (2, 49, [17, 3])];

#[test]
fn attention_transfer_is_the_definition_and_its_gradient_finite_differences() {
    for (images, pixels, [student_channels, teacher_channels]) in FEATURES {
        let what = format!("{images} x {pixels} x {student_channels}, {teacher_channels}");
        let student = uniform(3, images * pixels * student_channels);
        let teacher = uniform(4, images * pixels * teacher_channels);
        let loss = |student: &[f32]| {
            let (mut gradient, mut maps) = (vec![f32::NAN; student.len()], vec![f64::NAN; 2 * pixels]);
            let value = attention_transfer(student, &teacher, [images, pixels], 1000.0, &mut gradient, &mut maps);
            (value, gradient)
        };
        let (value, gradient) = loss(&student);
        let expected = 1000.0 * reference::attention_transfer(&student, &teacher, images, pixels);
        assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{what}: {expected}, got {value}");
        slopes(&what, &student, &gradient, 1.0 / 1024.0, 1e-3, |student| {
            loss(&student.iter().map(|x| *x as f32).collect::<Vec<_>>()).0
        });
    }
}

/// A dead feature map has no direction in which its attention would change.
#[test]
fn a_feature_map_of_zeros_has_a_finite_loss_and_no_gradient() {
    let mut gradient = [f32::NAN; 8];
    let value = attention_transfer(&[0.0; 8], &uniform(1, 8), [1, 4], 1000.0, &mut gradient, &mut [0.0; 8]);
    // The teacher's map has norm 1: the mean of its squares over four pixels.
    assert!((value - 250.0).abs() < 1e-9, "{value}");
    assert_eq!(gradient, [0.0; 8]);
}

#[test]
fn hints_are_mean_squares() {
    let mut gradient = [f32::NAN; 4];
    let value = mean_squared_error(&[1.0, -2.0, 0.5, 3.0], &[0.0, -2.0, 1.0, 1.0], 100.0, &mut gradient);
    assert_eq!(value, 100.0 * (1.0 + 0.0 + 0.25 + 4.0) / 4.0);
    assert_eq!(gradient, [50.0, 0.0, -25.0, 100.0]);
}

#[test]
fn losses_are_those_of_torch() {
    let cases: Value = serde_json::from_str(include_str!("../golden/distillation.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let what = case.to_string();
        let number = |key: &str| case[key].as_f64().unwrap();
        let size = |value: &Value| value.as_u64().unwrap() as usize;
        let scaled = |seed, count, scale: f64| -> Vec<f32> {
            golden_uniform(seed, count).into_iter().map(|u| (scale * u) as f32).collect()
        };
        let images = size(&case["images"]);
        let (value, gradient) = if case["loss"] == "attention" {
            let (pixels, channels) = (size(&case["pixels"]), [0, 1].map(|at| size(&case["channels"][at])));
            let student = scaled(3, images * pixels * channels[0], 1.0);
            let teacher = scaled(4, images * pixels * channels[1], 1.0);
            let mut gradient = vec![0.0; student.len()];
            let mut maps = vec![0.0; 2 * pixels];
            let value = attention_transfer(&student, &teacher, [images, pixels], 1.0, &mut gradient, &mut maps);
            (value, gradient)
        } else {
            let (classes, temperature) = (size(&case["classes"]), number("temperature"));
            let student = scaled(1, images * classes, 3.0);
            let teacher = softened(&scaled(2, images * classes, 6.0), classes, temperature);
            let labels: Vec<u32> = (0..images).map(|image| ((7 * image + 3) % classes) as u32).collect();
            with_gradient(student.len(), |gradient| match case["loss"].as_str().unwrap() {
                "hinton" => {
                    kl_divergence(&student, &teacher, classes, temperature, temperature * temperature, Some(gradient))
                }
                _ => {
                    let rule = Decoupled { temperature, alpha: number("alpha"), beta: number("beta") };
                    decoupled_distillation(&student, &teacher, &labels, classes, &rule, Some(gradient))
                }
            })
        };
        let expected = number("value");
        assert!((value - expected).abs() <= 1e-6 * expected.abs(), "{what}: got {value}");
        let expected: Vec<f32> =
            case["gradient"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect();
        close(&gradient, &expected, 1e-6, &what);
    }
}
