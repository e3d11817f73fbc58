//! Optimiser steps and the norm of a gradient by their definitions.

use crate::optim::Sgd;

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

/// Σ x².
pub fn sum_of_squares(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x).powi(2)).sum()
}
