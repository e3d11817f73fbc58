//! Optimiser steps, moving averages and clipping by their definitions.

use super::narrow;
use crate::optim::{Adam, COEFFICIENTS, ITERATIONS, LEAST_NORM, Lamb, Lion, RmsProp, Sgd};

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

/// Step number `step`, from 1, of torch's `Adam` or `AdamW`.
pub fn adam(values: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32], step: u64, rule: &Adam) {
    moments(values, gradients, [first, second], rule, |_, m, v| {
        rule.lr * m / correction(rule.beta1, step) / ((v / correction(rule.beta2, step)).sqrt() + rule.eps)
    });
}

/// Step number `step`, from 1, of torch's `NAdam`.
pub fn nadam(values: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32], step: u64, rule: &Adam) {
    let mu = |step: u64| rule.beta1 * (1.0 - 0.5 * 0.96f64.powf(step as f64 * 0.004));
    let product: f64 = (1..=step).map(mu).product();
    moments(values, gradients, [first, second], rule, |g, m, v| {
        let of_gradient = (1.0 - mu(step)) / (1.0 - product);
        let of_moment = mu(step + 1) / (1.0 - product * mu(step + 1));
        let denominator = (v / correction(rule.beta2, step)).sqrt() + rule.eps;
        rule.lr * (of_gradient * g + of_moment * m) / denominator
    });
}

/// 1 − βˢᵗᵉᵖ.
fn correction(beta: f64, step: u64) -> f64 {
    1.0 - beta.powf(step as f64)
}

/// Decays values or gradients, updates the moments, and subtracts `change` of gradient and moments.
fn moments(
    values: &mut [f32],
    gradients: &[f32],
    [first, second]: [&mut [f32]; 2],
    rule: &Adam,
    change: impl Fn(f64, f64, f64) -> f64,
) {
    for (((value, &gradient), first), second) in values.iter_mut().zip(gradients).zip(first).zip(second) {
        let (mut x, mut g) = (f64::from(*value), f64::from(gradient));
        if rule.decoupled {
            x -= rule.lr * rule.weight_decay * x;
        } else {
            g += rule.weight_decay * x;
        }
        let m = rule.beta1 * f64::from(*first) + (1.0 - rule.beta1) * g;
        let v = rule.beta2 * f64::from(*second) + (1.0 - rule.beta2) * g * g;
        (*first, *second) = (m as f32, v as f32);
        *value = (x - change(g, m, v)) as f32;
    }
}

/// The direction of timm's `Lamb`.
pub fn lamb_direction(
    values: &[f32],
    gradients: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    step: u64,
    rule: &Lamb,
) {
    for (((&value, gradient), first), second) in values.iter().zip(gradients).zip(first).zip(second) {
        let g = rule.clip * f64::from(*gradient);
        let m = rule.beta1 * f64::from(*first) + (1.0 - rule.beta1) * g;
        let v = rule.beta2 * f64::from(*second) + (1.0 - rule.beta2) * g * g;
        (*first, *second) = (m as f32, v as f32);
        let adaptive = m / correction(rule.beta1, step) / ((v / correction(rule.beta2, step)).sqrt() + rule.eps);
        *gradient = (adaptive + rule.weight_decay * f64::from(value)) as f32;
    }
}

/// One step of torch's `RMSprop` or timm's `RMSpropTF`.
pub fn rmsprop(
    values: &mut [f32],
    gradients: &[f32],
    square_average: &mut [f32],
    momentum_buffer: &mut [f32],
    rule: &RmsProp,
) {
    for (((value, &gradient), average), buffer) in
        values.iter_mut().zip(gradients).zip(square_average).zip(momentum_buffer)
    {
        let x = f64::from(*value);
        let g = f64::from(gradient) + rule.weight_decay * x;
        let squares = rule.alpha * f64::from(*average) + (1.0 - rule.alpha) * g * g;
        let momentum = rule.momentum * f64::from(*buffer);
        let (momentum, change) = if rule.tensorflow {
            let momentum = momentum + rule.lr * g / (squares + rule.eps).sqrt();
            (momentum, momentum)
        } else {
            let momentum = momentum + g / (squares.sqrt() + rule.eps);
            (momentum, rule.lr * momentum)
        };
        (*average, *buffer) = (squares as f32, momentum as f32);
        *value = (x - change) as f32;
    }
}

/// One step of timm's `Lion`.
pub fn lion(values: &mut [f32], gradients: &[f32], average: &mut [f32], rule: &Lion) {
    for ((value, &gradient), average) in values.iter_mut().zip(gradients).zip(average) {
        let (x, g, m) = (f64::from(*value), f64::from(gradient), f64::from(*average));
        let direction = rule.beta1 * m + (1.0 - rule.beta1) * g;
        let sign = if direction == 0.0 { 0.0 } else { direction.signum() };
        *value = (x - rule.lr * (rule.weight_decay * x + sign)) as f32;
        *average = (rule.beta2 * m + (1.0 - rule.beta2) * g) as f32;
    }
}

/// The iteration of torch's `Muon` on a matrix in row-major order, without bfloat16: `x` becomes nearly orthogonal.
pub fn orthogonalise(x: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let [a, b, c] = COEFFICIENTS;
    let norm = sum_of_squares(x).sqrt().max(LEAST_NORM);
    let mut x: Vec<f64> = x.iter().map(|&x| f64::from(x) / norm).collect();
    for _ in 0..ITERATIONS {
        let gram = product(&x, &transpose(&x, columns), columns);
        let square = product(&gram, &gram, rows);
        let factor: Vec<f64> = gram.iter().zip(square).map(|(gram, square)| b * gram + c * square).collect();
        let change = product(&factor, &x, rows);
        x.iter_mut().zip(change).for_each(|(x, change)| *x = a * *x + change);
    }
    narrow(x)
}

fn transpose(x: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|column| x.iter().copied().skip(column).step_by(columns)).collect()
}

/// `a` of rows of `inner` numbers times `b` of `inner` rows.
fn product(a: &[f64], b: &[f64], inner: usize) -> Vec<f64> {
    let b = transpose(b, b.len() / inner);
    let dot = |row: &[f64], column: &[f64]| row.iter().zip(column).map(|(a, b)| a * b).sum::<f64>();
    a.chunks_exact(inner).flat_map(|row| b.chunks_exact(inner).map(move |column| dot(row, column))).collect()
}

/// timm's `adaptive_clip_grad` of units in a row each.
pub fn clip_units(values: &[f32], gradients: &mut [f32], rows: usize, factor: f64, least: f64) {
    for (values, gradients) in values.chunks_exact(rows).zip(gradients.chunks_exact_mut(rows)) {
        let most = sum_of_squares(values).sqrt().max(least) * factor;
        let norm = sum_of_squares(gradients).sqrt();
        if norm >= most {
            gradients.iter_mut().for_each(|g| *g = (f64::from(*g) * most / norm.max(1e-6)) as f32);
        }
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
