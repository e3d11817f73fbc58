//! Optimiser steps, moving averages and the norm of a gradient by their definitions.

use crate::optim::{AdamW, Sgd};

/// One step of torch's `SGD`, without dampening.
pub fn sgd(values: &mut [f32], gradients: &[f32], velocity: &mut [f32], step: &Sgd) {
    let [lr, momentum, decay] = [step.lr, step.momentum, step.weight_decay].map(f64::from);
    for ((value, gradient), velocity) in values.iter_mut().zip(gradients).zip(velocity) {
        let g = f64::from(*gradient) + decay * f64::from(*value);
        let v = momentum * f64::from(*velocity) + g;
        let direction = if step.nesterov { g + momentum * v } else { v };
        *velocity = v as f32;
        *value = (f64::from(*value) - lr * direction) as f32;
    }
}

/// Step number `step`, from 1, of torch's `AdamW`.
pub fn adamw(values: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32], step: u64, rule: &AdamW) {
    let correction = |beta: f64| 1.0 - beta.powf(step as f64);
    for (((value, &gradient), first), second) in values.iter_mut().zip(gradients).zip(first).zip(second) {
        let (x, g) = (f64::from(*value), f64::from(gradient));
        let m = rule.beta1 * f64::from(*first) + (1.0 - rule.beta1) * g;
        let v = rule.beta2 * f64::from(*second) + (1.0 - rule.beta2) * g * g;
        let direction = m / correction(rule.beta1) / ((v / correction(rule.beta2)).sqrt() + rule.eps);
        (*first, *second) = (m as f32, v as f32);
        *value = (x - rule.lr * rule.weight_decay * x - rule.lr * direction) as f32;
    }
}

/// average += (value − average) · weight.
pub fn lerp(average: &mut [f32], values: &[f32], weight: f32) {
    for (average, &value) in average.iter_mut().zip(values) {
        let old = f64::from(*average);
        *average = (old + (f64::from(value) - old) * f64::from(weight)) as f32;
    }
}

/// Σ x².
pub fn sum_of_squares(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x).powi(2)).sum()
}
