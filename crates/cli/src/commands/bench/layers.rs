//! `residual bench --layers`: the time of a pass by node.

use super::subject::Subject;
use crate::output::table;
use residual::engine::Kind;
use residual::kernels::conv::Direction;
use serde::Serialize;

/// The times of one node, each the median over all passes.
#[derive(Serialize)]
pub(super) struct Layer {
    pub(super) node: String,
    /// Multiplications and additions of a direct computation of the batch, forward and backward.
    pub(super) gflop: f64,
    /// Memory traffic of the batch in bytes: values and packed weights, each counted once for each step.
    pub(super) bytes: u64,
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
        for step in subject.engine().steps() {
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
            layers[layer].bytes += step.touched as u64;
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
        for (times, step) in self.times.iter_mut().zip(subject.engine().steps()) {
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
        Self { node: node.to_owned(), gflop, bytes: 0, forward_ms, data_ms, weights_ms, norm_ms, other_ms }
    }

    fn columns(&self) -> [f64; COLUMNS] {
        [self.forward_ms, self.data_ms, self.weights_ms, self.norm_ms, self.other_ms]
    }

    /// The time of all its steps.
    pub(super) fn total_ms(&self) -> f64 {
        self.columns().iter().sum()
    }

    fn columns_mut(&mut self) -> [&mut f64; COLUMNS] {
        [&mut self.forward_ms, &mut self.data_ms, &mut self.weights_ms, &mut self.norm_ms, &mut self.other_ms]
    }
}

/// The longest bar, in characters.
const BAR: usize = 20;

/// A row per layer with a bar as long as its time, and their sum.
pub(super) fn show(layers: &[Layer], peak: f64) -> String {
    let head = ["node", "forward", "data", "weights", "norm", "other", "ms", "share", "GFLOP/s", "of peak", ""];
    let total: f64 = layers.iter().map(Layer::total_ms).sum();
    let longest = layers.iter().map(Layer::total_ms).fold(0.0, f64::max);
    let line = |name: &str, columns: [f64; COLUMNS], gflop: f64, bar: String| {
        let time: f64 = columns.iter().sum();
        let multiplying: f64 = columns[..3].iter().sum();
        let mut cells = vec![name.to_owned()];
        cells.extend(columns.iter().map(|&ms| if ms == 0.0 { String::new() } else { format!("{ms:.3}") }));
        cells.push(format!("{time:.3}"));
        cells.push(format!("{:.1} %", 100.0 * time / total));
        let speed = 1e3 * gflop / multiplying;
        cells.extend(match gflop > 0.0 {
            true => [format!("{speed:.0}"), format!("{:.0} %", 100.0 * speed / peak)],
            false => [String::new(), String::new()],
        });
        cells.push(bar);
        cells
    };
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(layers.iter().map(|layer| {
        let bar = bar(layer.total_ms() / longest);
        line(&layer.node, layer.columns(), layer.gflop, bar)
    }));
    let sums = std::array::from_fn(|column| layers.iter().map(|layer| layer.columns()[column]).sum());
    rows.push(line("total", sums, layers.iter().map(|layer| layer.gflop).sum(), String::new()));
    table(&rows)
}

/// A bar of a share of the longest, in eighths of characters, flush left.
fn bar(share: f64) -> String {
    let eighths = if share.is_finite() { (share * (8 * BAR) as f64).round() as usize } else { 0 };
    let last = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{:<BAR$}", "█".repeat(eighths / 8) + last)
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn bars_are_as_long_as_their_share() {
        let length = |share| bar(share).trim_end().chars().count();
        assert_eq!([0.0, 0.5, 1.0, f64::NAN].map(length), [0, 10, 20, 0]);
        assert_eq!(bar(0.525).trim_end(), "██████████▌");
        assert_eq!(bar(0.0).chars().count(), 20);
    }
}
