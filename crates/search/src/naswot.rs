//! A score of new networks that takes no training (NASWOT; Mellor et al., "Neural architecture search without training",
//! arXiv:2006.04647): how well the pattern of active ReLUs distinguishes images.

use crate::SearchError;
use residual_engine::{Engine, Mode, Options};
use residual_graph::{Graph, Op};
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::Stream;

/// Images of a batch.
const BATCH: usize = 32;
/// Longest side of an image, in pixels: with larger ones a score takes as much memory as training.
const MAX_SIDE: usize = 64;

/// The logarithm of the determinant of the matrix that counts, for every pair of images, the activations (ReLU, GELU) that are
/// positive for both or for neither. The images are noise, the weights new; batch norms use the statistics of the batch. Higher is
/// better; comparable between networks for images of one size only. −∞ if two images have one pattern.
///
/// # Errors
/// If the network cannot be run, for instance for lack of memory.
pub fn naswot(graph: &Graph, options: &Options) -> Result<f64, SearchError> {
    let [channels, height, width] = graph.input_size();
    let size = [height, width].map(|side| side.min(MAX_SIDE));
    let tensors = initialise(graph, Initialisation::usual(graph), 0);
    let preprocessing = Preprocessing::unscaled(size, &vec![0.0; channels], &vec![1.0; channels]);
    let model = Model::new(graph.clone(), tensors, preprocessing, Vec::new())?;
    let activations = graph.nodes.iter().filter(|node| matches!(node.op, Op::Relu | Op::Gelu));
    let activations: Vec<&str> = activations.map(|node| node.name.as_str()).collect();
    let mut engine = Engine::new(&model, Mode::Train, BATCH, size, &activations, options)?;
    let mut random = Stream::new(0, &[]);
    let images: Vec<f32> = (0..BATCH * channels * size[0] * size[1]).map(|_| random.normal()).collect();
    engine.forward(&images)?;
    let mut agreements = vec![0.0; BATCH * BATCH];
    for name in activations {
        let values = engine.node_value(name).expect("the plan keeps every activation");
        add_agreements(&mut agreements, values);
    }
    Ok(log_determinant(agreements, BATCH))
}

/// Adds, for every pair of images, the number of values of which both or neither are positive.
fn add_agreements(agreements: &mut [f64], values: &[f32]) {
    let pattern = |image: &[f32]| -> Vec<u64> {
        let word = |values: &[f32]| values.iter().fold(0, |word, &value| word << 1 | u64::from(value > 0.0));
        image.chunks(64).map(word).collect()
    };
    let len = values.len() / BATCH;
    let patterns: Vec<Vec<u64>> = values.chunks_exact(len).map(pattern).collect();
    for (pair, agreement) in agreements.iter_mut().enumerate() {
        let (a, b) = (&patterns[pair / BATCH], &patterns[pair % BATCH]);
        let different: u32 = a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum();
        *agreement += (len - different as usize) as f64;
    }
}

/// The logarithm of the absolute value of the determinant of a matrix of `n` rows, by Gaussian elimination; −∞ if it is 0.
fn log_determinant(mut matrix: Vec<f64>, n: usize) -> f64 {
    let mut sum = 0.0;
    for column in 0..n {
        let pivot = (column..n).max_by(|&a, &b| matrix[a * n + column].abs().total_cmp(&matrix[b * n + column].abs()));
        let pivot = pivot.expect("a column has rows");
        for at in 0..n {
            matrix.swap(column * n + at, pivot * n + at);
        }
        let diagonal = matrix[column * n + column];
        sum += diagonal.abs().ln();
        if diagonal == 0.0 {
            return f64::NEG_INFINITY;
        }
        for row in column + 1..n {
            let factor = matrix[row * n + column] / diagonal;
            for at in column..n {
                matrix[row * n + at] -= factor * matrix[column * n + at];
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.linalg.slogdet`.
    #[test]
    fn determinants_are_numpys() {
        assert!((log_determinant(vec![0.0, 2.0, 3.0, 1.0], 2) - 6.0f64.ln()).abs() < 1e-12);
        let matrix = vec![4.0, -2.0, 1.0, 3.0, 6.0, -4.0, 2.0, 1.0, 8.0];
        assert!((log_determinant(matrix, 3) - 263.0f64.ln()).abs() < 1e-12);
        assert_eq!(log_determinant(vec![1.0, 2.0, 2.0, 4.0], 2), f64::NEG_INFINITY);
    }

    #[test]
    fn agreements_are_counted_value_by_value() {
        let len = 71;
        let mut random = Stream::new(4, &[]);
        let values: Vec<f32> = (0..BATCH * len).map(|_| random.normal().max(0.0)).collect();
        let mut agreements = vec![1.0; BATCH * BATCH];
        add_agreements(&mut agreements, &values);
        for (a, first) in values.chunks(len).enumerate() {
            for (b, second) in values.chunks(len).enumerate() {
                let agree = first.iter().zip(second).filter(|(a, b)| (**a > 0.0) == (**b > 0.0)).count();
                assert_eq!(agreements[a * BATCH + b], 1.0 + agree as f64);
            }
        }
    }
}
