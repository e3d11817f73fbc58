//! Times the layers of a network, and single layers, and keeps these in a table for each instruction set and number of threads.

use crate::{InferError, Latency};
use residual_engine::{Engine, Mode, Options};
use residual_files::{FileError, atomic_write, read_text};
use residual_graph::{Builder, Graph, NodeId, Op};
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::Stream;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

/// The largest file that is read: some ten thousand layers.
const MAX_BYTES: u64 = 16 << 20;

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
    pub fn measure(model: &Model, batch: usize, options: &Options) -> Result<Self, InferError> {
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
pub fn time_layer(op: &Op, input: usize, size: [usize; 2], batch: usize, options: &Options) -> Result<f64, InferError> {
    let graph = layer(op, input, size)?;
    let id = graph.output;
    let tensors = initialise(&graph, Initialisation::Torch, 0);
    let preprocessing = Preprocessing::unscaled(size, &vec![0.0; input], &vec![1.0; input]);
    let model = Model::new(graph, tensors, preprocessing, Vec::new())?;
    let times = StepTimes::measure(&model, batch, options)?;
    Ok(times.nodes.get(&id).copied().unwrap_or(times.pass))
}

/// A network of one layer.
fn layer(op: &Op, input: usize, [height, width]: [usize; 2]) -> Result<Graph, InferError> {
    let mut net = Builder::new("layer", [input, height, width]);
    let x = net.push("layer", op.clone(), &[net.input()])?;
    Ok(net.finish(x)?)
}

/// Measured times of layers, for one instruction set and number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyTable {
    /// The version of this program, whose kernels were measured.
    version: String,
    /// The instruction set.
    isa: String,
    threads: usize,
    /// Seconds by layer.
    seconds: BTreeMap<String, f64>,
}

impl LatencyTable {
    /// An empty table.
    pub fn new(options: &Options) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            isa: options.isa.name().to_owned(),
            threads: options.pool.threads(),
            seconds: BTreeMap::new(),
        }
    }

    /// Reads what [`LatencyTable::write`] wrote. A table of another version, instruction set or number of threads is as good as
    /// none: it is empty then.
    ///
    /// # Errors
    /// If the file cannot be read, is too large, or is no such table.
    pub fn read(path: &Path, options: &Options) -> Result<Self, InferError> {
        let fail = |got: String| InferError::LayerTimes { path: path.to_path_buf(), got };
        let table: Self =
            serde_json::from_str(&read_text(path, MAX_BYTES)?).map_err(|error| fail(error.to_string()))?;
        if let Some(bad) = table.seconds.values().find(|seconds| !(seconds.is_finite() && **seconds > 0.0)) {
            return Err(fail(format!("{bad} seconds")));
        }
        let empty = Self::new(options);
        let is_same = (&table.version, &table.isa, table.threads) == (&empty.version, &empty.isa, empty.threads);
        Ok(if is_same { table } else { empty })
    }

    /// The table that [`LatencyTable::write`] wrote to `path`, or an empty one where there is none. If the file cannot be read, an empty
    /// one and what `warn` gets.
    pub fn open(path: Option<&Path>, options: &Options, warn: impl FnOnce(String)) -> Self {
        let Some(path) = path.filter(|path| path.exists()) else { return Self::new(options) };
        Self::read(path, options).unwrap_or_else(|error| {
            warn(format!("{error}; measuring again"));
            Self::new(options)
        })
    }

    /// Writes the table atomically, and its folder if there is none.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), InferError> {
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(FileError::write(path))?;
        let text = serde_json::to_string_pretty(self).expect("numbers and names have a JSON form");
        Ok(atomic_write(path, |file| file.write_all(text.as_bytes()))?)
    }

    /// Writes the table where there is a `path`; what fails is said to `warn`, as it is only measured again then.
    pub fn keep(&self, path: Option<&Path>, warn: impl FnOnce(String)) {
        if let Some(Err(error)) = path.map(|path| self.write(path)) {
            warn(format!("{error}; the measurements are not cached"));
        }
    }

    /// The number of measurements.
    pub fn len(&self) -> usize {
        self.seconds.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.seconds.is_empty()
    }

    /// The seconds of a layer for a batch, on an input of `size` (height, width) pixels, by `measure` if they are not known.
    ///
    /// # Errors
    /// Those of `measure`.
    pub fn seconds<E>(
        &mut self,
        op: &Op,
        size: [usize; 2],
        batch: usize,
        measure: impl FnOnce() -> Result<f64, E>,
    ) -> Result<f64, E> {
        let [height, width] = size;
        let key = format!("{batch}x{height}x{width} {}", serde_json::to_string(op).expect("an op has a JSON form"));
        if let Some(seconds) = self.seconds.get(&key) {
            return Ok(*seconds);
        }
        let seconds = measure()?.max(f64::MIN_POSITIVE);
        self.seconds.insert(key, seconds);
        Ok(seconds)
    }
}
