//! Attributions: how much each value of the image contributes to the score.

use crate::{ExplainError, Map, Network, Target};
use residual_tensor::Stream;

/// The attribution of one image: height × width × channels.
pub type Attribution = Vec<f32>;

/// The gradient of each image's score: Simonyan et al., "Deep inside convolutional networks" (2014). The network has to
/// keep [`Network::IMAGE`].
///
/// # Errors
/// As [`Network::gradients`]; also if the network does not keep the image.
pub fn input_gradients(
    network: &mut Network,
    images: &[f32],
    targets: &[Target],
) -> Result<Vec<Attribution>, ExplainError> {
    let index = network.image_layer()?;
    let mut all = Vec::with_capacity(targets.len());
    network.gradients(images, targets, |pass| {
        all.extend(pass.layer_gradients(index).map(<[f32]>::to_vec));
        Ok(())
    })?;
    Ok(all)
}

/// The mean gradient of `samples` copies of an image with normal noise, whose standard deviation is `noise` times the image's
/// range of values: Smilkov et al., "SmoothGrad" (2017).
///
/// # Errors
/// As [`input_gradients`]; also without samples, or if the noise is not a number from 0 on.
pub fn smooth_gradient(
    network: &mut Network,
    image: &[f32],
    target: Target,
    samples: usize,
    noise: f32,
    seed: u64,
) -> Result<Attribution, ExplainError> {
    if samples == 0 {
        return Err(ExplainError::setting("samples", "at least 1", samples));
    }
    if !(noise >= 0.0 && noise.is_finite()) {
        return Err(ExplainError::setting("noise", "a number from 0 on", noise));
    }
    let [min, max] = Map { height: 1, width: image.len(), values: image.to_vec() }.range();
    let deviation = noise * (max - min);
    let sample = |index: usize| {
        let mut stream = Stream::new(seed, &[index as u64]);
        image.iter().map(move |value| value + deviation * stream.normal()).collect()
    };
    let weight = |_| 1.0 / samples as f64;
    weighted_gradients(network, target, samples, image.len(), sample, weight)
}

/// Integrated gradients along the straight line from an image of zeros (the mean colour) to `image`: Sundararajan et al.,
/// "Axiomatic attribution for deep networks" (2017), with captum's Gauss–Legendre rule of `steps` points. The attributions sum
/// to the difference of the scores of the two ends, up to the error of the rule.
///
/// # Errors
/// As [`input_gradients`]; also without steps.
pub fn integrated_gradients(
    network: &mut Network,
    image: &[f32],
    target: Target,
    steps: usize,
) -> Result<Attribution, ExplainError> {
    if steps == 0 {
        return Err(ExplainError::setting("steps", "at least 1", steps));
    }
    let rule = gauss_legendre(steps);
    let point = |step: usize| image.iter().map(|value| value * rule[step].0 as f32).collect();
    let mut sum = weighted_gradients(network, target, steps, image.len(), point, |step| rule[step].1)?;
    sum.iter_mut().zip(image).for_each(|(sum, value)| *sum *= value);
    Ok(sum)
}

/// The weighted sum of the gradients at several images.
fn weighted_gradients(
    network: &mut Network,
    target: Target,
    count: usize,
    len: usize,
    image: impl Fn(usize) -> Vec<f32>,
    weight: impl Fn(usize) -> f64,
) -> Result<Attribution, ExplainError> {
    let index = network.image_layer()?;
    let mut sum = vec![0.0f64; len];
    let all: Vec<usize> = (0..count).collect();
    for part in all.chunks(network.batch()) {
        let images: Vec<f32> = part.iter().flat_map(|&index| image(index)).collect();
        network.gradients(&images, &vec![target; part.len()], |pass| {
            for (&step, gradient) in part.iter().zip(pass.layer_gradients(index)) {
                let weight = weight(step);
                sum.iter_mut().zip(gradient).for_each(|(sum, &value)| *sum += weight * f64::from(value));
            }
            Ok(())
        })?;
    }
    Ok(sum.into_iter().map(|value| value as f32).collect())
}

/// The points and weights of the Gauss–Legendre rule of `count` points on 0..1, as pairs: the roots of the Legendre polynomial by
/// Newton's method.
fn gauss_legendre(count: usize) -> Vec<(f64, f64)> {
    let n = count as f64;
    let point = |index: usize| {
        let mut x = (std::f64::consts::PI * (index as f64 + 0.75) / (n + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..100 {
            let (mut previous, mut value) = (1.0, x);
            for k in 2..=count {
                let k = k as f64;
                (previous, value) = (value, ((2.0 * k - 1.0) * x * value - (k - 1.0) * previous) / k);
            }
            slope = n * (x * value - previous) / (x * x - 1.0);
            let step = value / slope;
            x -= step;
            if step.abs() < 1e-15 {
                break;
            }
        }
        // The roots descend with the index; the rule ascends.
        (0.5 * (1.0 - x), 1.0 / ((1.0 - x * x) * slope * slope))
    };
    (0..count).map(point).collect()
}

/// The sum over the channels, by pixel: what the parts of a pixel contribute together, with their sign.
///
/// # Panics
/// If the attribution has no whole number of pixels of this size.
pub fn channel_sum(attribution: &[f32], size: [usize; 2]) -> Map {
    per_pixel(attribution, size, |channels| channels.iter().sum())
}

/// The largest magnitude over the channels, by pixel.
///
/// # Panics
/// As [`channel_sum`].
pub fn channel_max(attribution: &[f32], size: [usize; 2]) -> Map {
    per_pixel(attribution, size, |channels| channels.iter().fold(0.0, |max, value| max.max(value.abs())))
}

fn per_pixel(attribution: &[f32], size: [usize; 2], value: impl Fn(&[f32]) -> f32) -> Map {
    let channels = attribution.len() / (size[0] * size[1]).max(1);
    Map::new(size, attribution.chunks_exact(channels.max(1)).map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule of n points integrates polynomials up to degree 2n − 1 exactly.
    #[test]
    fn the_rule_integrates_polynomials_exactly() {
        for count in [1, 2, 5, 50] {
            let rule = gauss_legendre(count);
            assert!(rule.is_sorted_by(|a, b| a.0 < b.0), "{count}");
            for degree in [0, 1, count, 2 * count - 1] {
                let integral: f64 = rule.iter().map(|(x, weight)| weight * x.powi(degree as i32)).sum();
                assert!((integral * (degree + 1) as f64 - 1.0).abs() < 1e-10, "{count} points, degree {degree}");
            }
        }
    }

    #[test]
    fn pixels_have_the_sum_or_the_largest_magnitude_of_their_channels() {
        let attribution = [1.0, -3.0, 2.0, 0.0];
        assert_eq!(channel_sum(&attribution, [1, 2]).values, [-2.0, 2.0]);
        assert_eq!(channel_max(&attribution, [1, 2]).values, [3.0, 2.0]);
    }
}
