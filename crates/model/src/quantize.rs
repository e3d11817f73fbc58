//! Quantised networks: layers whose weights are signed bytes, between values that are rounded to unsigned bytes.

use crate::{Model, ModelError};
use residual_graph::{Conv2d, Graph, Node, NodeId, Op};
use residual_tensor::{NamedTensors, Tensor};
use std::collections::{HashMap, HashSet};

/// What the bytes of a value mean: (byte − `zero_point`) · `scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// The distance of two neighbouring numbers.
    pub scale: f32,
    /// The byte that means zero.
    pub zero_point: u8,
}

/// The least scale: with one, everything smaller is zero.
const LEAST_SCALE: f32 = 1e-12;

impl Quantization {
    /// 256 numbers from `least` to `greatest`, stretched to include zero, which one of them is.
    pub fn of_range(least: f32, greatest: f32) -> Self {
        let (least, greatest) = (f64::from(least.min(0.0)), f64::from(greatest.max(0.0)));
        let scale = (((greatest - least) / 255.0) as f32).max(LEAST_SCALE);
        let zero_point = (-least / f64::from(scale)).round_ties_even().clamp(0.0, 255.0) as u8;
        Self { scale, zero_point }
    }

    /// The byte nearest to `x`.
    pub fn byte(self, x: f32) -> u8 {
        ((x / self.scale).round_ties_even() + f32::from(self.zero_point)).clamp(0.0, 255.0) as u8
    }

    /// What `byte` means.
    pub fn value(self, byte: u8) -> f32 {
        (f32::from(byte) - f32::from(self.zero_point)) * self.scale
    }
}

/// The integers of a quantised weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightBits {
    /// −127 to 127, so that each has its negative.
    Eight,
    /// −8 to 7. Files have two in a byte; in memory they are signed bytes like the others.
    Four,
}

impl WeightBits {
    /// The least and the greatest integer.
    pub fn range(self) -> [f32; 2] {
        match self {
            WeightBits::Eight => [-127.0, 127.0],
            WeightBits::Four => [-8.0, 7.0],
        }
    }
}

/// The scales that are tried for a filter of 4 bits: these percentages of the one at which nothing is cut off.
const TRIED: std::ops::RangeInclusive<usize> = 30..=100;

/// The weight of a convolution or linear layer in signed bytes and their scale for each output channel.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedWeight {
    /// The bytes in torch's order.
    pub values: Vec<i8>,
    /// A factor for each output channel.
    pub scale: Vec<f32>,
}

impl QuantizedWeight {
    /// The nearest integers to a weight `[output channels, …]`. With 8 bits the largest of each output channel becomes ±127; with 4
    /// the scale of each is the one with the least squared error, so that large weights may be cut off.
    ///
    /// # Panics
    /// If it is not a tensor of floats with at least one dimension.
    pub fn nearest(weight: &Tensor, bits: WeightBits) -> Self {
        let largest = |filter: &[f32]| filter.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let [_, most] = bits.range();
        let whole = |filter: &[f32]| (largest(filter) / most).max(LEAST_SCALE);
        let scale = |filter: &[f32]| match bits {
            WeightBits::Eight => whole(filter),
            WeightBits::Four => least_error(filter, whole(filter), bits),
        };
        let scales = filters(weight).map(scale).collect();
        Self::with_scale(weight, scales, bits)
    }

    /// The nearest integers to a weight at given scales.
    ///
    /// # Panics
    /// As [`nearest`](Self::nearest), or if there is not a scale for each output channel.
    pub fn with_scale(weight: &Tensor, scale: Vec<f32>, bits: WeightBits) -> Self {
        assert_eq!(scale.len(), weight.shape()[0], "a scale for each output channel");
        let bytes = filters(weight)
            .zip(&scale)
            .flat_map(|(filter, &scale)| filter.iter().map(move |&value| nearest(value, scale, bits) as i8));
        Self { values: bytes.collect(), scale }
    }
}

/// The integer nearest to `value` / `scale`.
fn nearest(value: f32, scale: f32, bits: WeightBits) -> f32 {
    let [least, most] = bits.range();
    (value / scale).round_ties_even().clamp(least, most)
}

/// The scale, of some up to `whole`, with the least squared error of a filter.
fn least_error(filter: &[f32], whole: f32, bits: WeightBits) -> f32 {
    let error = |scale: f32| -> f64 {
        filter.iter().map(|&value| f64::from(nearest(value, scale, bits) * scale - value).powi(2)).sum()
    };
    let scales = TRIED.map(|percent| (whole * (percent as f32 / 100.0)).max(LEAST_SCALE));
    let errors = scales.map(|scale| (error(scale), scale));
    errors.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(whole, |(_, scale)| scale)
}

/// The weights of each output channel.
fn filters(weight: &Tensor) -> std::slice::ChunksExact<'_, f32> {
    let values = weight.as_f32().expect("a tensor of floats");
    values.chunks_exact((values.len() / weight.shape()[0]).max(1))
}

/// The values that are rounded to bytes if `layers`, convolutions and linear layers of a folded graph, are quantised: what
/// they read, what is added to their results, and what is averaged over all pixels behind them. In the graph's order. Fewer layers have no
/// other values.
pub fn quantized_values(graph: &Graph, layers: &HashSet<NodeId>) -> Vec<NodeId> {
    let consumers = graph.consumers();
    let mut is_quantized = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let rounded: Vec<NodeId> = match node.op {
            _ if layers.contains(&NodeId(index)) => node.inputs.clone(),
            Op::Add => match node.inputs.iter().position(|&input| is_head(graph, &consumers, input)) {
                Some(head) if layers.contains(&node.inputs[head]) => {
                    let others = node.inputs.iter().enumerate().filter(|(place, _)| *place != head);
                    others.map(|(_, id)| *id).collect()
                }
                _ => Vec::new(),
            },
            Op::GlobalAvgPool if follows_layer(graph, layers, node.inputs[0]) => node.inputs.clone(),
            _ => Vec::new(),
        };
        for value in rounded {
            is_quantized[graph.origin(value).0] = true;
        }
    }
    (0..graph.nodes.len()).map(NodeId).filter(|id| is_quantized[id.0]).collect()
}

/// Whether `id` is a layer whose result is only added to something, so that its kernel can do so.
fn is_head(graph: &Graph, consumers: &[Vec<NodeId>], id: NodeId) -> bool {
    let is_layer = matches!(graph.node(id).op, Op::Conv2d(_) | Op::Linear { .. });
    is_layer && consumers[id.0].len() == 1 && id != graph.output
}

/// Whether `id` is the result of a quantised layer after at most a sum and a ReLU.
fn follows_layer(graph: &Graph, layers: &HashSet<NodeId>, mut id: NodeId) -> bool {
    if graph.node(id).op == Op::Relu {
        id = graph.node(id).inputs[0];
    }
    match graph.node(id).op {
        Op::Add => graph.node(id).inputs.iter().any(|input| layers.contains(input)),
        _ => layers.contains(&id),
    }
}

/// A folded model with quantised layers: each layer of `weights`, by name, gets its bytes, and each value of `values`, by name,
/// is rounded by a node `<name>.quantize`, which everything that read the value reads instead.
///
/// # Errors
/// If a name is none of the graph's, or its node no convolution or linear layer of floats.
pub fn quantize(
    model: &Model,
    weights: &HashMap<String, QuantizedWeight>,
    values: &HashMap<String, Quantization>,
) -> Result<Model, ModelError> {
    rounded(model, weights, &values.iter().map(|(name, value)| (name.clone(), Some(*value))).collect())
}

/// A folded model with quantised layers, which get their bytes as in [`quantize`]. Each value that they read is rounded by a node
/// `<name>.quantize` of its own, in the range that it has in a batch.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_dynamic(model: &Model, weights: &HashMap<String, QuantizedWeight>) -> Result<Model, ModelError> {
    let graph = &model.graph;
    let read = |name: &String| {
        let origin = graph.origin(*graph.node(graph.find(name)?).inputs.first()?);
        Some((graph.node(origin).name.clone(), None))
    };
    rounded(model, weights, &weights.keys().filter_map(read).collect())
}

/// [`quantize`], with `None` for values that are rounded in the range of a batch.
fn rounded(
    model: &Model,
    weights: &HashMap<String, QuantizedWeight>,
    values: &HashMap<String, Option<Quantization>>,
) -> Result<Model, ModelError> {
    let unknown = |name: &String| model.graph.find(name).is_none();
    if let Some(name) = weights.keys().chain(values.keys()).find(|name| unknown(name)) {
        return Err(ModelError::NotQuantized { node: name.clone(), got: "no node of that name".into() });
    }
    let mut tensors: NamedTensors = model.tensors.clone();
    let mut nodes: Vec<Node> = Vec::with_capacity(model.graph.nodes.len() + values.len());
    let mut moved: Vec<NodeId> = Vec::with_capacity(model.graph.nodes.len());
    for node in &model.graph.nodes {
        let mut op = node.op.clone();
        if let Some(QuantizedWeight { values, scale }) = weights.get(&node.name) {
            let (Op::Conv2d(Conv2d { quantized, .. }) | Op::Linear { quantized, .. }) = &mut op else {
                return Err(ModelError::NotQuantized { node: node.name.clone(), got: op.name().into() });
            };
            if std::mem::replace(quantized, true) {
                return Err(ModelError::NotQuantized { node: node.name.clone(), got: "a quantized layer".into() });
            }
            let shape = tensors[node.key("weight").as_str()].shape().to_vec();
            tensors.insert(node.key("weight"), Tensor::i8(&shape, values.as_slice()));
            tensors.insert(node.key("weight_scale"), Tensor::f32(&[scale.len()], scale.clone()));
        }
        let inputs = node.inputs.iter().map(|input| moved[input.0]).collect();
        nodes.push(Node { name: node.name.clone(), op, inputs });
        if let Some(quantization) = values.get(&node.name) {
            let rounded = Node {
                name: format!("{}.quantize", node.name),
                op: if quantization.is_some() { Op::Quantize } else { Op::QuantizeDynamic },
                inputs: vec![NodeId(nodes.len() - 1)],
            };
            if let Some(Quantization { scale, zero_point }) = quantization {
                tensors.insert(rounded.key("scale"), Tensor::f32(&[], vec![*scale]));
                tensors.insert(rounded.key("zero_point"), Tensor::u8(&[], vec![*zero_point]));
            }
            nodes.push(rounded);
        }
        moved.push(NodeId(nodes.len() - 1));
    }
    let graph = Graph { name: model.graph.name.clone(), nodes, output: moved[model.graph.output.0] };
    with_graph(model, graph, tensors)
}

/// The model of floats that a quantised one came from, up to rounding: weights are their bytes times their scales, and values
/// are not rounded. It can be trained, which a quantised one cannot. A model without quantised layers is returned as it is.
///
/// # Panics
/// If the model's public fields were changed so that tensors and graph no longer fit.
pub fn dequantize(model: &Model) -> Model {
    let mut tensors = model.tensors.clone();
    let mut nodes: Vec<Node> = Vec::with_capacity(model.graph.nodes.len());
    let mut moved: Vec<NodeId> = Vec::with_capacity(model.graph.nodes.len());
    for node in &model.graph.nodes {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|input| moved[input.0]).collect();
        if node.op.quantizes() {
            tensors.swap_remove(&node.key("scale"));
            tensors.swap_remove(&node.key("zero_point"));
            moved.push(inputs[0]);
            continue;
        }
        moved.push(NodeId(nodes.len()));
        nodes.push(Node { name: node.name.clone(), op: node.op.clone(), inputs });
    }
    let mut graph = Graph { name: model.graph.name.clone(), nodes, output: moved[model.graph.output.0] };
    unpack_weights(&mut graph, &mut tensors);
    with_graph(model, graph, tensors).expect("the same network without rounding")
}

/// Turns the quantised layers that read values of floats into layers of floats with the same weights: only their files are
/// smaller.
///
/// # Panics
/// If the tensors are not those of the graph.
pub fn unpack_weights(graph: &mut Graph, tensors: &mut NamedTensors) {
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        if !node.op.is_quantized() || graph.quantized_by(node.inputs[0]).is_some() {
            continue;
        }
        let weight = dequantized_weight(node, tensors);
        tensors.insert(node.key("weight"), weight);
        tensors.swap_remove(&node.key("weight_scale"));
        if let Op::Conv2d(Conv2d { quantized, .. }) | Op::Linear { quantized, .. } = &mut graph.nodes[index].op {
            *quantized = false;
        }
    }
}

/// The weight of a quantised layer in floats.
///
/// # Panics
/// If the tensors are not those of a quantised layer.
pub fn dequantized_weight(node: &Node, tensors: &NamedTensors) -> Tensor {
    let weight = &tensors[node.key("weight").as_str()];
    let bytes = weight.as_i8().expect("a quantised weight is of signed bytes");
    let scale = tensors[node.key("weight_scale").as_str()].as_f32().expect("scales are floats");
    let filters = bytes.chunks_exact(bytes.len() / scale.len()).zip(scale);
    let values = filters.flat_map(|(filter, scale)| filter.iter().map(move |&byte| f32::from(byte) * scale));
    Tensor::f32(weight.shape(), values.collect())
}

fn with_graph(model: &Model, graph: Graph, tensors: NamedTensors) -> Result<Model, ModelError> {
    let changed = Model::new(graph, tensors, model.preprocessing.clone(), model.labels.clone())?;
    changed.with_activation(model.activation).with_temperature(model.temperature)
}
