//! Products with one factor per channel by their definitions.

use super::narrow;

/// The index of the factor of each element of images × rows × channels.
fn factor(index: usize, len: usize, factors: usize, channels: usize) -> usize {
    let image = len / (factors / channels);
    index / image * channels + index % channels
}

/// x · factor.
pub fn scale(x: &[f32], factors: &[f32], channels: usize) -> Vec<f32> {
    let of = |index: usize| f64::from(factors[factor(index, x.len(), factors.len(), channels)]);
    narrow(x.iter().enumerate().map(|(index, &x)| f64::from(x) * of(index)).collect())
}

/// The gradient of `factors` factors: the sums of x · dy.
pub fn scale_sums(x: &[f32], dy: &[f32], factors: usize, channels: usize) -> Vec<f32> {
    let mut sums = vec![0.0; factors];
    for index in 0..x.len() {
        sums[factor(index, x.len(), factors, channels)] += f64::from(x[index]) * f64::from(dy[index]);
    }
    narrow(sums)
}
