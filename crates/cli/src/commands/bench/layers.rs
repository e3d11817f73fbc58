//! `residual bench --layers`: the time of a pass by node.

use super::Subject;
use crate::output::table;
use residual::engine::Kind;
use residual::kernels::conv::Direction;
use serde::Serialize;

/// The times of one node, each the median over all passes.
#[derive(Serialize)]
pub(super) struct Layer {
    node: String,
    /// Multiplications and additions of a direct computation of the batch, forward and backward.
    gflop: f64,
    forward_ms: f64,
    data_ms: f64,
    weights_ms: f64,
    norm_ms: f64,
    other_ms: f64,
}

/// The layers and the times measured so far. `places` has the layer and column of each step of the plan.
pub(super) struct Layers {
    layers: Vec<Layer>,
    places: Vec<(usize, usize)>,
    /// The times in milliseconds of each step, pass by pass.
    times: Vec<Vec<f64>>,
}

const COLUMNS: usize = 5;

impl Layers {
    pub(super) fn new(subject: &Subject) -> Self {
        let mut layers: Vec<Layer> = Vec::new();
        let mut places = Vec::new();
        for step in subject.runner.engine().steps() {
            let layer = layers.iter().position(|layer| layer.node == step.node).unwrap_or_else(|| {
                layers.push(Layer::new(step.node));
                layers.len() - 1
            });
            let column = match (step.kind, step.direction) {
                (Kind::Convolution, Direction::Forward) => 0,
                (Kind::Convolution, Direction::BackwardData) => 1,
                (Kind::Convolution, Direction::BackwardWeights) => 2,
                (Kind::Norm, _) => 3,
                (Kind::Other, _) => 4,
            };
            if column < 3 {
                let macs = subject.macs.get(step.node).copied().unwrap_or(0);
                layers[layer].gflop += 2e-9 * macs as f64 * subject.batch as f64;
            }
            places.push((layer, column));
        }
        Self { times: vec![Vec::new(); places.len()], layers, places }
    }

    /// Notes the times of the pass that was just run.
    pub(super) fn note(&mut self, subject: &Subject) {
        for (times, step) in self.times.iter_mut().zip(subject.runner.engine().steps()) {
            times.push(1e3 * step.time.unwrap_or_default().as_secs_f64());
        }
    }

    /// The medians.
    pub(super) fn finish(mut self) -> Vec<Layer> {
        for (&(layer, column), times) in self.places.iter().zip(&mut self.times) {
            times.sort_by(f64::total_cmp);
            let median = times.get(times.len() / 2).copied().unwrap_or(0.0);
            *self.layers[layer].columns_mut()[column] += median;
        }
        self.layers
    }
}

impl Layer {
    fn new(node: &str) -> Self {
        let (gflop, forward_ms, data_ms, weights_ms, norm_ms, other_ms) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        Self { node: node.to_owned(), gflop, forward_ms, data_ms, weights_ms, norm_ms, other_ms }
    }

    fn columns(&self) -> [f64; COLUMNS] {
        [self.forward_ms, self.data_ms, self.weights_ms, self.norm_ms, self.other_ms]
    }

    fn columns_mut(&mut self) -> [&mut f64; COLUMNS] {
        [&mut self.forward_ms, &mut self.data_ms, &mut self.weights_ms, &mut self.norm_ms, &mut self.other_ms]
    }
}

/// A row per layer, and their sum.
pub(super) fn show(layers: &[Layer], peak: f64) -> String {
    let head = ["node", "forward", "data", "weights", "norm", "other", "ms", "share", "GFLOP/s", "of peak"];
    let total: f64 = layers.iter().flat_map(Layer::columns).sum();
    let line = |name: &str, columns: [f64; COLUMNS], gflop: f64| {
        let time: f64 = columns.iter().sum();
        let multiplying: f64 = columns[..3].iter().sum();
        let mut cells = vec![name.to_owned()];
        cells.extend(columns.iter().map(|&ms| if ms == 0.0 { String::new() } else { format!("{ms:.3}") }));
        cells.push(format!("{time:.3}"));
        cells.push(format!("{:.1} %", 100.0 * time / total));
        if gflop > 0.0 {
            let speed = 1e3 * gflop / multiplying;
            cells.extend([format!("{speed:.0}"), format!("{:.0} %", 100.0 * speed / peak)]);
        }
        cells
    };
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(layers.iter().map(|layer| line(&layer.node, layer.columns(), layer.gflop)));
    let sums = std::array::from_fn(|column| layers.iter().map(|layer| layer.columns()[column]).sum());
    rows.push(line("total", sums, layers.iter().map(|layer| layer.gflop).sum()));
    table(&rows)
}
