//! GELU and the logistic sigmoid by their definitions.

use super::narrow;

fn density(x: f64) -> f64 {
    (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The standard normal's distribution function, as a series that all of whose terms have one sign: ½ + φ(x) · (x + x³/3 +
/// x⁵/(3·5) + …).
fn distribution(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 9.0 {
        return if x.is_nan() { x } else { f64::from(u8::from(x > 0.0)) };
    }
    let (mut sum, mut term, mut odd) = (x, x, 1.0);
    while sum + term != sum {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + density(x) * sum
}

/// x · Φ(x).
pub fn gelu(x: &[f32]) -> Vec<f32> {
    narrow(x.iter().map(|&x| f64::from(x) * distribution(x.into())).collect())
}

/// dy · (Φ(x) + x · φ(x)).
pub fn gelu_backward(x: &[f32], dy: &[f32]) -> Vec<f32> {
    let slope = |x: f64| distribution(x) + x * density(x);
    narrow(x.iter().zip(dy).map(|(&x, &dy)| f64::from(dy) * slope(x.into())).collect())
}

/// 1 / (1 + e⁻ˣ).
pub fn sigmoid(x: &[f32]) -> Vec<f32> {
    narrow(x.iter().map(|&x| 1.0 / (1.0 + (-f64::from(x)).exp())).collect())
}

/// dy · y · (1 − y), `y` being the result of a sigmoid.
pub fn sigmoid_backward(y: &[f32], dy: &[f32]) -> Vec<f32> {
    narrow(y.iter().zip(dy).map(|(&y, &dy)| f64::from(dy) * f64::from(y) * (1.0 - f64::from(y))).collect())
}
