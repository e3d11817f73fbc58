//! t-SNE: points in the plane whose neighbourhoods are those of vectors. Van der Maaten and Hinton, "Visualizing data using
//! t-SNE" (2008), computed exactly, without the approximations that large sets need.

use crate::ExplainError;
use crate::principal::principal_components;

/// The settings of [`tsne`]; the defaults are scikit-learn's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TsneOptions {
    /// The effective number of neighbours of a vector, between 1 and a third of the number of vectors.
    pub perplexity: f64,
    /// Steps of gradient descent.
    pub steps: usize,
    /// Seed of the search for the starting positions.
    pub seed: u64,
}

impl Default for TsneOptions {
    fn default() -> Self {
        Self { perplexity: 30.0, steps: 1000, seed: 0 }
    }
}

impl TsneOptions {
    /// Checks the options for `count` vectors.
    ///
    /// # Errors
    /// If there are fewer than 4 vectors or more than [`MOST_VECTORS`]; if the perplexity is not a number above 1.
    pub fn check(&self, count: usize) -> Result<(), ExplainError> {
        if !(4..=MOST_VECTORS).contains(&count) {
            return Err(ExplainError::setting("t-SNE", format!("4 to {MOST_VECTORS} images"), count));
        }
        if !(self.perplexity > 1.0 && self.perplexity.is_finite()) {
            return Err(ExplainError::setting("perplexity", "a number above 1", self.perplexity));
        }
        Ok(())
    }
}

/// The result of [`tsne`].
#[derive(Clone, Debug, PartialEq)]
pub struct Tsne {
    /// The position of each vector.
    pub points: Vec<[f32; 2]>,
    /// The Kullback–Leibler divergence of the neighbourhoods of the points from those of the vectors.
    pub divergence: f64,
    /// The perplexity that was used: that of the options, or less for few vectors.
    pub perplexity: f64,
}

/// How much the attraction is exaggerated at first, and for how many steps.
const EXAGGERATION: (f64, usize) = (12.0, 250);
/// The most vectors: memory and time grow with their square.
pub const MOST_VECTORS: usize = 5000;

/// Embeds `vectors` (rows of `dimensions` values) in the plane. Positions start at the first two principal components, as
/// scikit-learn's, so the result is a function of the vectors and the options. The perplexity is at most a third of the number of
/// other vectors. `progress` is called with every step and may stop the descent by returning `false`.
///
/// # Errors
/// As [`TsneOptions::check`]; also if there is not enough memory for the square of the number of vectors.
pub fn tsne(
    vectors: &[f32],
    dimensions: usize,
    options: TsneOptions,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Tsne, ExplainError> {
    let count = vectors.len() / dimensions.max(1);
    options.check(count)?;
    let perplexity = options.perplexity.min((count as f64 - 1.0) / 3.0);
    let joint = joint_probabilities(vectors, dimensions, count, perplexity)?;
    let mut points = starting_points(vectors, dimensions, options.seed);
    let rate = (count as f64 / EXAGGERATION.0 / 4.0).max(50.0);
    let still = (vec![[0.0f64; 2]; count], vec![[1.0f64; 2]; count]);
    let (mut velocity, mut gains) = still.clone();
    let mut gradient = vec![[0.0f64; 2]; count];
    for step in 0..options.steps {
        if step == EXAGGERATION.1 {
            // The attraction falls: the descent starts anew, as in scikit-learn.
            (velocity, gains) = still.clone();
        }
        let (factor, momentum) = if step < EXAGGERATION.1 { (EXAGGERATION.0, 0.5) } else { (1.0, 0.8) };
        descend(&joint, &points, factor, &mut gradient);
        for index in 0..count {
            for axis in 0..2 {
                let (slope, moving) = (gradient[index][axis], velocity[index][axis]);
                let gain = &mut gains[index][axis];
                *gain = if slope * moving < 0.0 { *gain + 0.2 } else { *gain * 0.8 }.max(0.01);
                velocity[index][axis] = momentum * moving - rate * *gain * slope;
                points[index][axis] += velocity[index][axis];
            }
        }
        if !progress(step + 1) {
            break;
        }
    }
    let divergence = divergence(&joint, &points);
    let points = points.into_iter().map(|point| point.map(|value| value as f32)).collect();
    Ok(Tsne { points, divergence, perplexity })
}

/// The first two principal components, scaled to a standard deviation of 1e-4 along the first.
fn starting_points(vectors: &[f32], dimensions: usize, seed: u64) -> Vec<[f64; 2]> {
    let components = principal_components(vectors, dimensions, 2, seed);
    let count = vectors.len() / dimensions;
    let deviation = components.variances.first().map_or(0.0, |variance| variance.sqrt());
    let score = |index: usize, axis: usize| match components.scores.get(index * components.count + axis) {
        Some(score) if axis < components.count && deviation > 0.0 => score / deviation * 1e-4,
        // Without variance the points are told apart by their order.
        _ => 1e-6 * (index as f64 - count as f64 / 2.0),
    };
    (0..count).map(|index| [score(index, 0), score(index, 1)]).collect()
}

/// The symmetric joint probabilities, count × count: the width of each vector's normal kernel gives it the perplexity.
fn joint_probabilities(
    vectors: &[f32],
    dimensions: usize,
    count: usize,
    perplexity: f64,
) -> Result<Vec<f32>, ExplainError> {
    let mut joint: Vec<f32> = Vec::new();
    let bytes = count * count * size_of::<f32>();
    joint.try_reserve_exact(count * count).map_err(|_| ExplainError::Memory { what: "t-SNE", bytes })?;
    let row = |index: usize| &vectors[index * dimensions..][..dimensions];
    let mut distances = vec![0.0f64; count];
    for index in 0..count {
        for (other, distance) in distances.iter_mut().enumerate() {
            let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
            *distance = row(index).iter().zip(row(other)).map(square).sum();
        }
        joint.extend(conditional(&distances, index, perplexity).into_iter().map(|value| value as f32));
    }
    for i in 0..count {
        for j in 0..i {
            let sum = (joint[i * count + j] + joint[j * count + i]) / (2.0 * count as f32);
            (joint[i * count + j], joint[j * count + i]) = (sum, sum);
        }
    }
    Ok(joint)
}

/// The probabilities of the neighbours of vector `index`, given the squared distances to all: a bisection for the precision of
/// its kernel.
fn conditional(distances: &[f64], index: usize, perplexity: f64) -> Vec<f64> {
    let nearest = distances.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, distance)| *distance);
    let nearest = nearest.fold(f64::INFINITY, f64::min);
    let mean = distances.iter().sum::<f64>() / (distances.len() - 1) as f64;
    let wanted = perplexity.ln();
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut precision = if mean > 0.0 { 1.0 / mean } else { 1.0 };
    let mut probabilities = vec![0.0; distances.len()];
    for _ in 0..200 {
        let (mut sum, mut weighted) = (0.0, 0.0);
        for (other, (value, distance)) in probabilities.iter_mut().zip(distances).enumerate() {
            // The nearest has a weight of 1, so the sum never vanishes.
            *value = if other == index { 0.0 } else { (-(distance - nearest) * precision).exp() };
            sum += *value;
            weighted += *value * (distance - nearest);
        }
        probabilities.iter_mut().for_each(|value| *value /= sum);
        let entropy = sum.ln() + precision * weighted / sum;
        if (entropy - wanted).abs() < 1e-7 {
            break;
        }
        if entropy > wanted {
            low = precision;
            precision = if high.is_infinite() { precision * 2.0 } else { (low + high) / 2.0 };
        } else {
            high = precision;
            precision = (low + high) / 2.0;
        }
    }
    probabilities
}

/// The gradient of the divergence, with the joint probabilities multiplied by `factor`.
fn descend(joint: &[f32], points: &[[f64; 2]], factor: f64, gradient: &mut [[f64; 2]]) {
    let count = points.len();
    let total = kernel_sum(points);
    for (index, slope) in gradient.iter_mut().enumerate() {
        let [x, y] = points[index];
        let mut sum = [0.0; 2];
        for (point, &p) in points.iter().zip(&joint[index * count..][..count]) {
            let (dx, dy) = (x - point[0], y - point[1]);
            let kernel = 1.0 / (1.0 + dx * dx + dy * dy);
            let force = (factor * f64::from(p) - kernel / total) * kernel;
            sum[0] += force * dx;
            sum[1] += force * dy;
        }
        *slope = sum.map(|value| 4.0 * value);
    }
}

/// The sum of 1 / (1 + squared distance) over all pairs of different points.
fn kernel_sum(points: &[[f64; 2]]) -> f64 {
    let row = |index: usize| {
        let [x, y] = points[index];
        let kernel = |point: &[f64; 2]| 1.0 / (1.0 + (x - point[0]).powi(2) + (y - point[1]).powi(2));
        points[..index].iter().map(kernel).sum::<f64>()
    };
    2.0 * (0..points.len()).map(row).sum::<f64>()
}

fn divergence(joint: &[f32], points: &[[f64; 2]]) -> f64 {
    let count = points.len();
    let total = kernel_sum(points);
    let mut sum = 0.0;
    for i in 0..count {
        for j in (0..count).filter(|&j| j != i) {
            let p = f64::from(joint[i * count + j]);
            let distance = (points[i][0] - points[j][0]).powi(2) + (points[i][1] - points[j][1]).powi(2);
            if p > 0.0 {
                sum += p * (p * total * (1.0 + distance)).ln();
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use residual_tensor::Stream;

    /// Three groups in ten dimensions.
    fn groups(count: usize) -> Vec<f32> {
        let mut stream = Stream::new(4, &[]);
        (0..count * 10).map(|at| stream.normal() + if at % 10 == at / 10 % 3 { 12.0 } else { 0.0 }).collect()
    }

    #[test]
    fn every_neighbourhood_has_the_perplexity() {
        let vectors = groups(40);
        let square = |i: usize, j: usize| -> f64 {
            (0..10).map(|d| f64::from(vectors[i * 10 + d] - vectors[j * 10 + d]).powi(2)).sum()
        };
        for index in [0, 7, 39] {
            let distances: Vec<f64> = (0..40).map(|other| square(index, other)).collect();
            let p = conditional(&distances, index, 8.0);
            let entropy: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
            assert!((entropy.exp() - 8.0).abs() < 1e-4 && p[index] == 0.0);
        }
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let joint = joint_probabilities(&groups(12), 10, 12, 3.0).unwrap();
        let mut stream = Stream::new(9, &[]);
        let points: Vec<[f64; 2]> = (0..12).map(|_| [stream.normal().into(), stream.normal().into()]).collect();
        let mut gradient = vec![[0.0; 2]; 12];
        descend(&joint, &points, 1.0, &mut gradient);
        for (index, axis) in [(0, 0), (5, 1), (11, 0)] {
            let moved = |by: f64| {
                let mut points = points.clone();
                points[index][axis] += by;
                divergence(&joint, &points)
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((difference - gradient[index][axis]).abs() < 1e-5, "{difference} {:?}", gradient[index]);
        }
    }

    #[test]
    fn groups_stay_together_and_the_result_is_reproducible() {
        let (count, options) = (60, TsneOptions { perplexity: 10.0, ..TsneOptions::default() });
        let found = tsne(&groups(count), 10, options, |_| true).unwrap();
        assert_eq!(found, tsne(&groups(count), 10, options, |_| true).unwrap());
        for (index, point) in found.points.iter().enumerate() {
            let distance = |other: usize| {
                let [x, y] = found.points[other];
                (x - point[0]).powi(2) + (y - point[1]).powi(2)
            };
            let nearest =
                (0..count).filter(|&other| other != index).min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
            assert_eq!(nearest.unwrap() % 3, index % 3, "neighbour of {index}");
        }
        assert!(found.divergence < 0.5, "{}", found.divergence);
    }

    #[test]
    fn few_and_equal_vectors_have_finite_positions_and_too_few_are_refused() {
        let equal = tsne(&[1.0; 8 * 3], 3, TsneOptions::default(), |_| true).unwrap();
        assert!(equal.points.iter().flatten().all(|value| value.is_finite()));
        assert!((equal.perplexity - 7.0 / 3.0).abs() < 1e-12);
        let refused = tsne(&[1.0; 9], 3, TsneOptions::default(), |_| true).unwrap_err();
        assert_eq!(refused.to_string(), "t-SNE: expected 4 to 5000 images, got 3");
    }
}
