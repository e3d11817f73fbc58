//! Latency: the time of inference, measured on this machine, or predicted from the times of layers.

use crate::SearchError;
use residual_engine::{Engine, Mode, Options};
use residual_graph::{Graph, Op};
use residual_infer::{LatencyTable, Repeats, measure, time_layer};
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::Stream;
use std::time::Instant;

/// Passes of a measurement.
const REPEATS: Repeats = Repeats { warm_up: 3, timed: Some(15) };

/// The median seconds of inference of a whole network with new weights, on a batch of noise.
///
/// # Errors
/// If the network cannot be run, for instance for lack of memory.
pub fn measure_latency(graph: &Graph, batch: usize, options: &Options) -> Result<f64, SearchError> {
    let [channels, height, width] = graph.input_size();
    let tensors = initialise(graph, Initialisation::usual(graph), 0);
    let preprocessing = Preprocessing::unscaled([height, width], &vec![0.0; channels], &vec![1.0; channels]);
    let model = Model::new(graph.clone(), tensors, preprocessing, Vec::new())?;
    let mut engine = Engine::new(&model, Mode::Infer, batch, [height, width], &[], options)?;
    let mut random = Stream::new(0, &[]);
    let images: Vec<f32> = (0..batch * channels * height * width).map(|_| random.normal()).collect();
    let latency = measure(REPEATS, || {
        let start = Instant::now();
        engine.forward(&images)?;
        Ok::<_, SearchError>(start.elapsed().as_secs_f64())
    })?;
    Ok(latency.median())
}

/// Predicts latencies from a table of measured layers: a · (the sum of the times of a network's layers) + b · (the elements of values
/// that other nodes write, such as sums and pools). a and b are those that fit some networks best, which were measured as a whole.
#[derive(Clone, Debug)]
pub struct LatencyPredictor {
    options: Options,
    batch: usize,
    table: LatencyTable,
    /// a and b.
    factors: [f64; 2],
    check: LatencyCheck,
}

/// How well predicted latencies agree with those of networks measured as a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyCheck {
    /// Networks that were measured.
    pub networks: usize,
    /// Spearman's rank correlation.
    pub rank_correlation: f64,
    /// The median of |predicted / measured − 1|.
    pub median_error: f64,
    /// Its greatest value.
    pub greatest_error: f64,
}

impl LatencyPredictor {
    /// A predictor for batches of `batch` images, fitted to `networks`, of which there are at least three. Layers that `table` does not
    /// have are measured. `on_progress` gets the networks so far.
    ///
    /// # Errors
    /// If a network cannot be run.
    ///
    /// # Panics
    /// If there are fewer than three networks.
    pub fn new(
        networks: &[Graph],
        batch: usize,
        table: LatencyTable,
        options: &Options,
        on_progress: &mut dyn FnMut(usize),
    ) -> Result<Self, SearchError> {
        assert!(networks.len() >= 3, "two factors are fitted");
        let check =
            LatencyCheck { networks: networks.len(), rank_correlation: 0.0, median_error: 0.0, greatest_error: 0.0 };
        let mut predictor = Self { options: options.clone(), batch, table, factors: [1.0, 0.0], check };
        let (mut parts, mut measured) = (Vec::new(), Vec::new());
        for (index, graph) in networks.iter().enumerate() {
            parts.push(predictor.parts(graph)?);
            measured.push(measure_latency(graph, batch, options)?);
            on_progress(index + 1);
        }
        predictor.factors = fit(&parts, &measured);
        let predicted: Vec<f64> = parts.iter().map(|parts| product(predictor.factors, *parts)).collect();
        let mut errors: Vec<f64> = predicted.iter().zip(&measured).map(|(a, b)| (a / b - 1.0).abs()).collect();
        errors.sort_by(f64::total_cmp);
        predictor.check.rank_correlation = rank_correlation(&predicted, &measured);
        predictor.check.median_error = errors[errors.len() / 2];
        predictor.check.greatest_error = errors[errors.len() - 1];
        Ok(predictor)
    }

    /// How well it predicts.
    pub fn check(&self) -> &LatencyCheck {
        &self.check
    }

    /// The measured layers.
    pub fn table(&self) -> &LatencyTable {
        &self.table
    }

    /// The predicted seconds of a network.
    ///
    /// # Errors
    /// If a layer cannot be run.
    pub fn predict(&mut self, graph: &Graph) -> Result<f64, SearchError> {
        Ok(product(self.factors, self.parts(graph)?))
    }

    /// The seconds of a network: as predicted if these are beyond `limit` by more than any prediction was wrong, else measured.
    ///
    /// # Errors
    /// If the network or a layer cannot be run.
    pub fn seconds(&mut self, graph: &Graph, limit: f64) -> Result<f64, SearchError> {
        let predicted = self.predict(graph)?;
        match predicted > limit * (1.0 + self.check.greatest_error) {
            true => Ok(predicted),
            false => measure_latency(graph, self.batch, &self.options),
        }
    }

    /// The sum of the seconds of a network's layers, and the elements of other values for a batch.
    fn parts(&mut self, graph: &Graph) -> Result<[f64; 2], SearchError> {
        let [_, height, width] = graph.input_size();
        let shapes = graph.shapes(height, width)?;
        // Whether a node's arithmetic is done by the layer before it.
        let mut is_fused = vec![false; graph.nodes.len()];
        let mut parts = [0.0; 2];
        for (index, node) in graph.nodes.iter().enumerate() {
            let Some(&first) = node.inputs.first() else { continue };
            let input = shapes[first.0];
            if node.op.is_layer() {
                let Self { table, options, batch, .. } = self;
                let (channels, size) = (input.channels, [input.height, input.width]);
                parts[0] +=
                    table.seconds(&node.op, size, *batch, || time_layer(&node.op, channels, size, *batch, options))?;
            } else {
                let follows = graph.node(first).op.is_layer() || is_fused[first.0];
                is_fused[index] = follows && matches!(node.op, Op::BatchNorm2d { .. } | Op::Relu);
                if !is_fused[index] {
                    parts[1] += (self.batch * shapes[index].len()) as f64;
                }
            }
        }
        Ok(parts)
    }
}

fn product([a, b]: [f64; 2], [layers, elements]: [f64; 2]) -> f64 {
    a * layers + b * elements
}

/// The factors, not below 0, of the least squares of relative errors.
fn fit(parts: &[[f64; 2]], measured: &[f64]) -> [f64; 2] {
    let relative: Vec<[f64; 2]> =
        parts.iter().zip(measured).map(|(parts, measured)| parts.map(|part| part / measured)).collect();
    let sum = |value: &dyn Fn(&[f64; 2]) -> f64| relative.iter().map(value).sum::<f64>();
    let [xx, xy, yy] = [sum(&|[x, _]| x * x), sum(&|[x, y]| x * y), sum(&|[_, y]| y * y)];
    let [x, y] = [sum(&|[x, _]| *x), sum(&|[_, y]| *y)];
    let determinant = xx * yy - xy * xy;
    let (a, b) = ((x * yy - y * xy) / determinant, (y * xx - x * xy) / determinant);
    if a > 0.0 && b > 0.0 { [a, b] } else { [x / xx, 0.0] }
}

/// Spearman's rank correlation of numbers of which no two are alike.
fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |values: &[f64]| -> Vec<f64> {
        values.iter().map(|value| values.iter().filter(|other| *other < value).count() as f64).collect()
    };
    let n = a.len() as f64;
    let squares: f64 = ranks(a).iter().zip(ranks(b)).map(|(a, b)| (a - b).powi(2)).sum();
    1.0 - 6.0 * squares / (n * (n * n - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_fit_and_ranks_correlate() {
        let parts = [[1.0, 10.0], [2.0, 5.0], [4.0, 40.0], [3.0, 1.0]];
        let measured = parts.map(|parts| product([1.5, 0.1], parts));
        let [a, b] = fit(&parts, &measured);
        assert!((a - 1.5).abs() < 1e-9 && (b - 0.1).abs() < 1e-9, "{a} and {b}");
        // Where the elements would count below 0, the layers alone do.
        let [a, b] = fit(&parts, &parts.map(|parts| product([1.5, -0.01], parts)));
        assert!((a - 1.46).abs() < 0.05 && b == 0.0, "{a} and {b}");
        assert_eq!(rank_correlation(&[1.0, 2.0, 3.0], &[10.0, 20.0, 40.0]), 1.0);
        assert_eq!(rank_correlation(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), -1.0);
        // scipy.stats.spearmanr([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
        assert!((rank_correlation(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 4.0, 3.0, 5.0]) - 0.8).abs() < 1e-12);
    }
}
