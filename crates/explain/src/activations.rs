//! Statistics of a network's activations: how large each node's values are, how many are zero, and which channels never fire.

use crate::ExplainError;
use residual_engine::{Engine, Mode, Options};
use residual_graph::{Op, Shape};
use residual_model::Model;
use serde::Serialize;

/// The values of one node over some images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActivationStatistics {
    /// The node.
    pub node: String,
    /// Its op.
    pub op: &'static str,
    /// Height, width and channels of its value.
    pub shape: [usize; 3],
    /// The mean.
    pub mean: f64,
    /// The standard deviation: the layer's response in He et al., figure 7, for a batch norm.
    pub deviation: f64,
    /// The smallest value.
    pub min: f32,
    /// The largest value.
    pub max: f32,
    /// The share of values that are zero, 0 to 1.
    pub zeros: f64,
    /// For a ReLU, the number of dead channels: zero at every pixel of every image.
    pub dead: Option<usize>,
}

/// The running statistics of all nodes of a model, in evaluation mode.
pub struct ActivationRecorder {
    engine: Engine,
    nodes: Vec<Recorded>,
    image_len: usize,
    batch: usize,
}

struct Recorded {
    node: String,
    op: &'static str,
    is_relu: bool,
    shape: Shape,
    count: u64,
    sum: f64,
    squares: f64,
    min: f32,
    max: f32,
    zeros: u64,
    /// Whether each channel had a value other than zero.
    fired: Vec<bool>,
}

impl ActivationRecorder {
    /// Compiles `model` for batches of up to `batch` images, keeping the value of every node.
    ///
    /// # Errors
    /// If the network cannot be run.
    pub fn new(model: &Model, batch: usize, options: &Options) -> Result<Self, ExplainError> {
        let size = model.preprocessing.size;
        let is_layer =
            |op: &Op| !matches!(op, Op::Input { .. } | Op::Flatten | Op::Dropout { .. } | Op::DropPath { .. });
        let nodes: Vec<_> = model.graph.nodes.iter().filter(|node| is_layer(&node.op)).collect();
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        let batch = batch.max(1);
        let engine = Engine::new(model, Mode::Infer, batch, size, &names, options)?;
        let recorded = |node: &&residual_graph::Node| {
            let shape = engine.node_shape(&node.name).expect("every node is kept");
            Recorded {
                node: node.name.clone(),
                op: node.op.name(),
                is_relu: node.op == Op::Relu,
                shape,
                count: 0,
                sum: 0.0,
                squares: 0.0,
                min: f32::INFINITY,
                max: f32::NEG_INFINITY,
                zeros: 0,
                fired: vec![false; shape.channels],
            }
        };
        let nodes = nodes.iter().map(recorded).collect();
        let image_len = size.iter().product::<usize>() * model.graph.input_size()[0];
        Ok(Self { engine, nodes, image_len, batch })
    }

    /// Records normalised images, n × height × width × channels.
    ///
    /// # Errors
    /// If the number of values is not a whole number of images.
    pub fn record(&mut self, images: &[f32]) -> Result<(), ExplainError> {
        if !images.len().is_multiple_of(self.image_len) {
            let expected = images.len().div_ceil(self.image_len) * self.image_len;
            return Err(ExplainError::Images { expected, got: images.len() });
        }
        for chunk in images.chunks(self.batch * self.image_len) {
            self.engine.forward(chunk)?;
            for recorded in &mut self.nodes {
                recorded.add(self.engine.node_value(&recorded.node).expect("every node is kept"));
            }
        }
        Ok(())
    }

    /// The statistics of every node, in the graph's order.
    pub fn finish(&self) -> Vec<ActivationStatistics> {
        self.nodes.iter().map(Recorded::statistics).collect()
    }
}

impl Recorded {
    fn add(&mut self, values: &[f32]) {
        self.count += values.len() as u64;
        for pixel in values.chunks_exact(self.shape.channels) {
            for (&value, fired) in pixel.iter().zip(&mut self.fired) {
                self.sum += f64::from(value);
                self.squares += f64::from(value).powi(2);
                self.min = self.min.min(value);
                self.max = self.max.max(value);
                *fired |= value != 0.0;
                self.zeros += u64::from(value == 0.0);
            }
        }
    }

    fn statistics(&self) -> ActivationStatistics {
        let count = self.count.max(1) as f64;
        let mean = self.sum / count;
        ActivationStatistics {
            node: self.node.clone(),
            op: self.op,
            shape: [self.shape.height, self.shape.width, self.shape.channels],
            mean,
            deviation: (self.squares / count - mean * mean).max(0.0).sqrt(),
            min: self.min,
            max: self.max,
            zeros: self.zeros as f64 / count,
            dead: self.is_relu.then(|| self.fired.iter().filter(|fired| !**fired).count()),
        }
    }
}
