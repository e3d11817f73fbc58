//! Times the layers of a network, and single layers of other widths.

use crate::CompressError;
use residual_engine::{Engine, Mode, Options};
use residual_graph::{Builder, Graph, NodeId, Op};
use residual_infer::Latency;
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::Stream;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Shortest time of a measurement, and the numbers of passes that are timed.
const AT_LEAST: Duration = Duration::from_millis(30);
const FEWEST: usize = 7;
const MOST: usize = 300;
/// Passes before the first timed one.
const WARM_UP: usize = 2;

/// The times of a network's steps for one batch, in inference.
#[derive(Clone, Debug)]
pub struct StepTimes {
    /// The median time in seconds of the steps that belong to each node. Nodes that are folded or fused into others have none.
    pub nodes: HashMap<NodeId, f64>,
    /// The median time in seconds of a whole pass.
    pub pass: f64,
}

impl StepTimes {
    /// Measures `model` on batches of `batch` images of noise.
    ///
    /// # Errors
    /// If the network cannot be run.
    pub fn measure(model: &Model, batch: usize, options: &Options) -> Result<Self, CompressError> {
        let size = model.preprocessing.size;
        let mut engine = Engine::new(model, Mode::Infer, batch, size, &[], options)?;
        engine.time_steps();
        let mut random = Stream::new(0, &[]);
        let len = batch * size.iter().product::<usize>() * model.preprocessing.channels();
        let images: Vec<f32> = (0..len).map(|_| random.normal()).collect();
        for _ in 0..WARM_UP {
            engine.forward(&images)?;
        }
        let mut passes = Vec::new();
        let mut nodes: HashMap<NodeId, Vec<f64>> = HashMap::new();
        let begin = Instant::now();
        while passes.len() < FEWEST || (passes.len() < MOST && begin.elapsed() < AT_LEAST) {
            let start = Instant::now();
            engine.forward(&images)?;
            passes.push(start.elapsed().as_secs_f64());
            let mut sums: HashMap<&str, f64> = HashMap::new();
            for step in engine.steps() {
                *sums.entry(step.node).or_default() += step.time.unwrap_or_default().as_secs_f64();
            }
            for (name, seconds) in sums {
                if let Some(id) = model.graph.find(name) {
                    nodes.entry(id).or_default().push(seconds);
                }
            }
        }
        let median = |seconds: Vec<f64>| Latency::new(seconds).map_or(0.0, |latency| latency.median());
        let nodes = nodes.into_iter().map(|(id, seconds)| (id, median(seconds))).collect();
        Ok(Self { nodes, pass: median(passes) })
    }
}

/// The median time in seconds of a layer by itself, on an input of `size` (height, width) pixels.
///
/// # Errors
/// If the layer cannot be run.
pub fn time_layer(
    op: &Op,
    input: usize,
    size: [usize; 2],
    batch: usize,
    options: &Options,
) -> Result<f64, CompressError> {
    let graph = layer(op, input, size)?;
    let id = graph.output;
    let tensors = initialise(&graph, Initialisation::Torch, 0);
    let preprocessing = Preprocessing::unscaled(size, &vec![0.0; input], &vec![1.0; input]);
    let model = Model::new(graph, tensors, preprocessing, Vec::new())?;
    let times = StepTimes::measure(&model, batch, options)?;
    Ok(times.nodes.get(&id).copied().unwrap_or(times.pass))
}

/// A network of one layer.
fn layer(op: &Op, input: usize, [height, width]: [usize; 2]) -> Result<Graph, CompressError> {
    let mut net = Builder::new("layer", [input, height, width]);
    let x = net.push("layer", op.clone(), &[net.input()])?;
    Ok(net.finish(x)?)
}
