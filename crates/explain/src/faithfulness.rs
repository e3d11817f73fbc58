//! How faithful a map is to the network: what happens to the score when the pixels that it marks are removed or shown.

use crate::impute::impute;
use crate::{ExplainError, Map, Network, Target};
use serde::Serialize;

/// The scores of a map.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Faithfulness {
    /// The area under the curve of the class's probability while pixels appear on a blurred image, the most relevant first.
    /// 0 to 1, higher is better.
    pub insertion: f64,
    /// The same while pixels are replaced with the mean colour, the most relevant first. Lower is better.
    pub deletion: f64,
    /// ROAD: half the difference of the mean score after imputing the least and the most relevant pixels. Higher is better; 0 is
    /// what a random map has.
    pub road: f64,
}

/// The percentiles of ROAD, as pytorch-grad-cam's default.
const PERCENTILES: [u32; 9] = [10, 20, 30, 40, 50, 60, 70, 80, 90];
/// The standard deviation of ROAD's noise on imputed pixels, in units of normalised values.
const NOISE: f32 = 0.01;
/// The kernel of insertion's blur: its extent and standard deviation in pixels, as in the RISE paper.
const BLUR: (usize, f64) = (11, 5.0);

/// Scores `map`, which has the size of the image, for one `image`.
///
/// Insertion and deletion are those of Petsiuk et al., "RISE" (2018), in `steps` steps of equally many pixels; ROAD is that of Rong
/// et al., "A consistent and efficient evaluation strategy for attribution methods" (2022), over the percentiles 10 to 90, with
/// noise that `seed` draws. Insertion and deletion follow the model's probability of the target's class, ROAD its score.
///
/// # Errors
/// As [`Network::forward`]; also if the map has another size, or without steps.
pub fn faithfulness(
    network: &mut Network,
    image: &[f32],
    target: Target,
    map: &Map,
    steps: usize,
    seed: u64,
) -> Result<Faithfulness, ExplainError> {
    let shape = network.image();
    if map.size() != [shape.height, shape.width] {
        return Err(ExplainError::Images { expected: shape.height * shape.width, got: map.values.len() });
    }
    if steps == 0 {
        return Err(ExplainError::setting("steps", "at least 1", steps));
    }
    target.check(network.classes())?;
    let channels = shape.channels;
    let order = descending(&map.values);
    let zeros = vec![0.0; image.len()];
    let blurred = blur(image, map.size(), channels);
    let deletion = revealed(network, image, &zeros, &order, steps, target)?;
    let insertion = revealed(network, &blurred, image, &order, steps, target)?;
    Ok(Faithfulness { insertion, deletion, road: road(network, image, target, map, seed)? })
}

/// ROAD combined: (mean score after removing the least relevant pixels − mean score after removing the most relevant) / 2.
fn road(network: &mut Network, image: &[f32], target: Target, map: &Map, seed: u64) -> Result<f64, ExplainError> {
    let channels = network.image().channels;
    let negated: Vec<f32> = map.values.iter().map(|value| -value).collect();
    let mut sums = [0.0; 2];
    for (sum, relevance) in sums.iter_mut().zip([&negated, &map.values]) {
        let mut sorted = relevance.clone();
        sorted.sort_by(f32::total_cmp);
        let mut images = Vec::with_capacity(PERCENTILES.len() * image.len());
        for percent in PERCENTILES {
            let threshold = percentile(&sorted, percent);
            let known: Vec<bool> = relevance.iter().map(|value| *value < threshold).collect();
            images.extend(impute(image, &known, map.size(), channels, NOISE, seed));
        }
        let classes = network.classes();
        let logits = network.logits(&images)?;
        *sum = logits.chunks_exact(classes).map(|logits| f64::from(target.score(logits))).sum();
    }
    let [least, most] = sums.map(|sum| sum / PERCENTILES.len() as f64);
    Ok((least - most) / 2.0)
}

/// The area under the probability while the pixels of `from` are replaced with those of `to`, in `order`.
fn revealed(
    network: &mut Network,
    from: &[f32],
    to: &[f32],
    order: &[usize],
    steps: usize,
    target: Target,
) -> Result<f64, ExplainError> {
    let (channels, classes) = (network.image().channels, network.classes());
    let pixels = order.len();
    let steps = steps.min(pixels);
    let mut image = from.to_vec();
    let mut probabilities = Vec::with_capacity(steps + 1);
    let all: Vec<usize> = (0..=steps).collect();
    let mut done = 0;
    for part in all.chunks(network.batch()) {
        let mut images = Vec::with_capacity(part.len() * image.len());
        for step in part {
            let end = step * pixels / steps;
            for &pixel in &order[done..end] {
                let range = pixel * channels..(pixel + 1) * channels;
                image[range.clone()].copy_from_slice(&to[range]);
            }
            done = end;
            images.extend_from_slice(&image);
        }
        let logits = network.logits(&images)?;
        let probability = |logits| f64::from(network.probability(logits, target.class()));
        probabilities.extend(logits.chunks_exact(classes).map(probability));
    }
    Ok(area(&probabilities))
}

/// The trapezoidal area under equally spaced values, on a width of 1.
fn area(values: &[f64]) -> f64 {
    let ends = (values[0] + values[values.len() - 1]) / 2.0;
    (values.iter().sum::<f64>() - ends) / (values.len() - 1) as f64
}

/// Indices by descending value; equal values keep their order.
fn descending(values: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

/// The percentile of sorted values, with numpy's linear interpolation.
fn percentile(sorted: &[f32], percent: u32) -> f32 {
    let at = f64::from(percent) / 100.0 * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    let share = at - low as f64;
    (f64::from(sorted[low]) + share * f64::from(sorted[high] - sorted[low])) as f32
}

/// A Gaussian blur with edges repeated.
fn blur(image: &[f32], [height, width]: [usize; 2], channels: usize) -> Vec<f32> {
    let (extent, sigma) = BLUR;
    let reach = extent / 2;
    let weight = |at: usize| (-0.5 * ((at as f64 - reach as f64) / sigma).powi(2)).exp();
    let weights: Vec<f64> = (0..extent).map(weight).collect();
    let total: f64 = weights.iter().sum();
    let along = |from: &[f32], side: usize, step: usize, index: usize, position: usize| {
        let tap = |(at, weight): (usize, &f64)| {
            let source = (position + at).saturating_sub(reach).min(side - 1);
            weight * f64::from(from[index + source * step - position * step])
        };
        (weights.iter().enumerate().map(tap).sum::<f64>() / total) as f32
    };
    let row = width * channels;
    let rows: Vec<f32> =
        (0..image.len()).map(|index| along(image, width, channels, index, index % row / channels)).collect();
    (0..image.len()).map(|index| along(&rows, height, row, index, index / row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numpys() {
        // numpy.percentile([1, 2, 4, 8], [10, 50, 90])
        let sorted = [1.0, 2.0, 4.0, 8.0];
        let got = [10, 50, 90].map(|percent| percentile(&sorted, percent));
        assert!(got.iter().zip([1.3, 3.0, 6.8]).all(|(got, expected)| (got - expected).abs() < 1e-6), "{got:?}");
    }

    #[test]
    fn a_blur_keeps_a_constant_image_and_spreads_a_point() {
        let constant = blur(&[2.5; 5 * 7 * 3], [5, 7], 3);
        assert!(constant.iter().all(|value| (value - 2.5).abs() < 1e-6));
        let mut point = vec![0.0; 31 * 31];
        point[15 * 31 + 15] = 1.0;
        let spread = blur(&point, [31, 31], 1);
        assert!((spread.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!((spread[15 * 31 + 14] - spread[14 * 31 + 15]).abs() < 1e-8 && spread[15 * 31 + 21] == 0.0);
    }

    #[test]
    fn the_area_is_the_trapezoids() {
        assert_eq!(area(&[0.0, 1.0]), 0.5);
        assert_eq!(area(&[1.0, 0.0, 0.0]), 0.25);
    }
}
