//! Post-training quantisation, static, of weights only, or dynamic: what it needs to know is measured on calibration images.

mod bias_correction;
mod equalize;
mod observe;
mod range;
mod rounding;
mod sensitivity;

pub use range::RangeMethod;
pub use sensitivity::LayerDamage;

use crate::{CalibrationImages, CompressError};
use bias_correction::corrected_biases;
use equalize::equalize;
use observe::{Observed, observe};
use range::Histogram;
use residual_engine::Options;
use residual_graph::{Graph, NodeId, Op, is_inside};
use residual_model::{
    Model, Quantization, QuantizedWeight, WeightBits, fold_batch_norm, quantize, quantize_dynamic, quantized_values,
};
use residual_tensor::Tensor;
use rounding::{Layer, learned};
use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

/// What becomes integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Weights, and the values between layers at scales that do not change, in 8 bits.
    Static,
    /// Weights alone: the network computes in f32 with what they stand for, and only its file is smaller.
    WeightsOnly(WeightBits),
    /// The weights of linear layers, and what they read in the range that it has in each batch, in 8 bits. Convolutions stay f32. torch's
    /// `quantize_dynamic` does the same.
    Dynamic,
}

impl Scheme {
    fn weight_bits(self) -> WeightBits {
        match self {
            Scheme::Static | Scheme::Dynamic => WeightBits::Eight,
            Scheme::WeightsOnly(bits) => bits,
        }
    }

    /// The layers of a graph that it quantises.
    fn layers(self, graph: &Graph) -> Vec<NodeId> {
        let mut layers = layers(graph);
        if self == Scheme::Dynamic {
            layers.retain(|id| matches!(graph.node(*id).op, Op::Linear { .. }));
        }
        layers
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Static => "static, 8 bits",
            Self::Dynamic => "dynamic, linear layers in 8 bits",
            Self::WeightsOnly(WeightBits::Eight) => "weights only, 8 bits",
            Self::WeightsOnly(WeightBits::Four) => "weights only, 4 bits",
        })
    }
}

/// How weights become integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// The nearest ones.
    Nearest,
    /// One of the two nearest each, learned so that the results of layers are kept (AdaRound: Nagel et al., arXiv:2004.10568).
    AdaRound {
        /// Steps of the optimiser for a layer.
        steps: u32,
    },
}

/// The steps of `adaround`.
const STEPS: u32 = 1000;

impl FromStr for Rounding {
    type Err = CompressError;

    /// `nearest`, `adaround` or, with a number of steps, `adaround:1000`.
    fn from_str(text: &str) -> Result<Self, CompressError> {
        let steps = match text {
            "nearest" => return Ok(Self::Nearest),
            "adaround" => Some(STEPS),
            _ => text.strip_prefix("adaround:").and_then(|steps| steps.parse().ok()).filter(|steps| *steps > 0),
        };
        let expected = "nearest, adaround or adaround:STEPS";
        let fail = || CompressError::Setting { what: "rounding", expected, got: text.to_owned() };
        steps.map(|steps| Self::AdaRound { steps }).ok_or_else(fail)
    }
}

impl std::fmt::Display for Rounding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nearest => f.write_str("nearest"),
            Self::AdaRound { steps } => write!(f, "adaround:{steps}"),
        }
    }
}

/// What is done of a calibration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalibrationEvent {
    /// What is being measured, the number of images that are done, and their total.
    Images(&'static str, usize, usize),
    /// The number of layers whose rounding is learned, and their total.
    Layers(usize, usize),
}

/// How a network is quantised.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// What becomes integers.
    pub scheme: Scheme,
    /// How weights become integers.
    pub rounding: Rounding,
    /// Determines the pixels that rounding is learned on.
    pub seed: u64,
    /// How the ranges of values are found, where these are quantised.
    pub method: RangeMethod,
    /// Whether the mean error that a layer's rounded weights cause is taken out of its bias (Nagel et al., "Data-free quantization
    /// through weight equalization and bias correction", 2019, with measured means).
    pub bias_correction: bool,
    /// Whether channels between two layers are scaled so that both layers' weights use their ranges equally (the same paper).
    pub equalize: bool,
    /// Instruction set and threads.
    pub engine: Options,
}

/// What a network's quantisation needs to know, measured on calibration images.
#[derive(Clone, Debug)]
pub struct Calibration {
    scheme: Scheme,
    /// The model of floats, with batch norms folded, and a bias at every layer.
    folded: Model,
    /// By the name of its layer.
    weights: HashMap<String, QuantizedWeight>,
    /// The biases that make up for rounded weights.
    biases: HashMap<String, Vec<f32>>,
    /// By the name of its node; only with [`Scheme::Static`].
    values: HashMap<String, Quantization>,
}

impl Calibration {
    /// Measures `model` on `images`. `None` if `stop` was set.
    ///
    /// # Errors
    /// If the model is quantised already or cannot be run, has no layers, or has values that are not finite.
    pub fn new(
        model: &Model,
        images: &CalibrationImages,
        options: &QuantizeOptions,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(CalibrationEvent),
    ) -> Result<Option<Self>, CompressError> {
        if model.graph.is_quantized() {
            return Err(CompressError::Quantized);
        }
        let mut folded = with_biases(fold_batch_norm(model, &[]))?;
        if options.equalize {
            equalize(&mut folded);
        }
        let layers = options.scheme.layers(&folded.graph);
        if layers.is_empty() {
            return Err(CompressError::NoLayers);
        }
        let nodes = match options.scheme {
            Scheme::Static => quantized_values(&folded.graph, &layers.iter().copied().collect()),
            Scheme::WeightsOnly(_) | Scheme::Dynamic => Vec::new(),
        };
        let on_images = &mut |what, done, all| on_event(CalibrationEvent::Images(what, done, all));
        let Some(histograms) = histograms(&folded, &nodes, images, options, stop, on_images)? else {
            return Ok(None);
        };
        let name = |id: &NodeId| folded.graph.node(*id).name.clone();
        let quantization = |histogram: &Histogram| histogram.quantization(options.method);
        let values = nodes.iter().map(name).zip(histograms.iter().map(quantization)).collect();
        let bits = options.scheme.weight_bits();
        let weight = |id: &NodeId| {
            let node = folded.graph.node(*id);
            (node.name.clone(), QuantizedWeight::nearest(&folded.tensors[node.key("weight").as_str()], bits))
        };
        let weights: HashMap<String, QuantizedWeight> = layers.iter().map(weight).collect();
        let mut calibration = Self { scheme: options.scheme, folded, weights, biases: HashMap::new(), values };
        if let Rounding::AdaRound { steps } = options.rounding
            && !calibration.learn_rounding(steps, images, options, stop, on_event)?
        {
            return Ok(None);
        }
        if options.bias_correction {
            let Self { folded, weights, .. } = &calibration;
            let on_images = &mut |what, done, all| on_event(CalibrationEvent::Images(what, done, all));
            match corrected_biases(folded, &layers, weights, images, options, stop, on_images)? {
                Some(corrected) => calibration.biases = corrected,
                None => return Ok(None),
            }
        }
        Ok(Some(calibration))
    }

    /// Learns the rounding of one layer after the other. Whether `stop` was not set.
    fn learn_rounding(
        &mut self,
        steps: u32,
        images: &CalibrationImages,
        options: &QuantizeOptions,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(CalibrationEvent),
    ) -> Result<bool, CompressError> {
        let (layers, bits) = (self.scheme.layers(&self.folded.graph), self.scheme.weight_bits());
        let names: Vec<String> = layers.iter().map(|id| self.folded.graph.node(*id).name.clone()).collect();
        for (index, (&id, name)) in layers.iter().zip(&names).enumerate() {
            let so_far: Vec<&str> = names[..=index].iter().map(String::as_str).collect();
            let quantized = &self.model_of(&so_far)?;
            let layer = Layer { exact: &self.folded, id, quantized, nearest: &self.weights[name], bits };
            match learned(&layer, images, (steps, options.seed), &options.engine, stop)? {
                Some(weight) => self.weights.insert(name.clone(), weight),
                None => return Ok(false),
            };
            on_event(CalibrationEvent::Layers(index + 1, layers.len()));
        }
        Ok(true)
    }

    /// The names of the layers that can be quantised, in the graph's order.
    pub fn layers(&self) -> Vec<&str> {
        self.scheme.layers(&self.folded.graph).iter().map(|id| self.folded.graph.node(*id).name.as_str()).collect()
    }

    /// The quantised model, in which the layers named by `keep_f32`, or of modules named there, stay as they are.
    ///
    /// # Errors
    /// If a name is of no layer or module with layers, or no layer is left.
    pub fn model(&self, keep_f32: &[String]) -> Result<Model, CompressError> {
        check_layers(&self.folded, keep_f32)?;
        let all = self.layers();
        let is_kept = |layer: &str| keep_f32.iter().any(|name| is_inside(layer, name));
        self.model_of(&all.into_iter().filter(|layer| !is_kept(layer)).collect::<Vec<_>>())
    }

    /// The model in which these layers are quantised.
    fn model_of(&self, names: &[&str]) -> Result<Model, CompressError> {
        if names.is_empty() {
            return Err(CompressError::NoLayers);
        }
        let graph = &self.folded.graph;
        let layers: HashSet<NodeId> = names.iter().filter_map(|name| graph.find(name)).collect();
        let name = |id: NodeId| graph.node(id).name.clone();
        let value = |id: NodeId| Some((name(id), *self.values.get(&name(id))?));
        let values = quantized_values(graph, &layers).into_iter().filter_map(value).collect();
        let weights = layers.iter().map(|id| (name(*id), self.weights[&name(*id)].clone())).collect();
        let mut model = match self.scheme {
            Scheme::Dynamic => quantize_dynamic(&self.folded, &weights)?,
            Scheme::Static | Scheme::WeightsOnly(_) => quantize(&self.folded, &weights, &values)?,
        };
        for layer in names {
            if let Some(bias) = self.biases.get(*layer) {
                model.tensors.insert(format!("{layer}.bias"), Tensor::f32(&[bias.len()], bias.clone()));
            }
        }
        Ok(model)
    }
}

/// Checks the names of layers to keep in f32, before a model is calibrated.
///
/// # Errors
/// If a name is of no layer or module with layers.
pub fn check_layers(model: &Model, names: &[String]) -> Result<(), CompressError> {
    let layers = layers(&model.graph);
    let is_known = |name: &String| layers.iter().any(|id| is_inside(&model.graph.node(*id).name, name));
    match names.iter().find(|name| !is_known(name)) {
        Some(name) => Err(CompressError::UnknownLayer { name: name.clone() }),
        None => Ok(()),
    }
}

/// The convolutions and linear layers.
fn layers(graph: &Graph) -> Vec<NodeId> {
    let is_layer = |id: &NodeId| matches!(graph.node(*id).op, Op::Conv2d(_) | Op::Linear { .. });
    (0..graph.nodes.len()).map(NodeId).filter(is_layer).collect()
}

/// Whether the value of `id` is a flattened feature map, which in memory is still one.
fn is_flattened(graph: &Graph, mut id: NodeId) -> bool {
    while let Op::Dropout { .. } | Op::DropPath { .. } = graph.node(id).op {
        id = graph.node(id).inputs[0];
    }
    graph.node(id).op == Op::Flatten
}

/// The model with a bias, which may be zero, at every layer.
fn with_biases(model: Model) -> Result<Model, CompressError> {
    let Model { mut graph, mut tensors, preprocessing, labels, activation, temperature } = model;
    for id in layers(&graph) {
        let node = &mut graph.nodes[id.0];
        if let Op::Conv2d(residual_graph::Conv2d { bias: bias @ false, out_channels: outputs, .. })
        | Op::Linear { bias: bias @ false, out_features: outputs, .. } = &mut node.op
        {
            *bias = true;
            let outputs = *outputs;
            tensors.insert(node.key("bias"), Tensor::full(&[outputs], 0.0));
        }
    }
    let model = Model::new(graph, tensors, preprocessing, labels)?;
    Ok(model.with_activation(activation).with_temperature(temperature)?)
}

/// The distribution of the values of `nodes`. `None` if `stop` was set.
fn histograms(
    model: &Model,
    nodes: &[NodeId],
    images: &CalibrationImages,
    options: &QuantizeOptions,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(&'static str, usize, usize),
) -> Result<Option<Vec<Histogram>>, CompressError> {
    if nodes.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let ranges = vec![Range::default(); nodes.len()];
    let progress = &mut |done, all| on_progress("ranges", done, all);
    let extend = &|range: &mut Range, observed: Observed<'_>| range.extend(observed.values);
    let Some(ranges) = observe(model, nodes, images, &options.engine, stop, progress, ranges, extend)? else {
        return Ok(None);
    };
    for (&node, range) in nodes.iter().zip(&ranges) {
        if let Some(got) = range.not_finite {
            return Err(CompressError::NotFinite { node: model.graph.node(node).name.clone(), got });
        }
    }
    let histograms: Vec<Histogram> = ranges.iter().map(|range| Histogram::new(range.least, range.greatest)).collect();
    if options.method == RangeMethod::MinMax {
        return Ok(Some(histograms));
    }
    let progress = &mut |done, all| on_progress("values", done, all);
    let add = &|histogram: &mut Histogram, observed: Observed<'_>| histogram.add(observed.values);
    observe(model, nodes, images, &options.engine, stop, progress, histograms, add)
}

/// The least and greatest of some values.
#[derive(Clone, Copy, Debug, Default)]
struct Range {
    least: f32,
    greatest: f32,
    /// The first value that is not finite.
    not_finite: Option<f32>,
}

impl Range {
    fn extend(&mut self, values: &[f32]) {
        for &value in values {
            if !value.is_finite() {
                self.not_finite.get_or_insert(value);
            }
            self.least = self.least.min(value);
            self.greatest = self.greatest.max(value);
        }
    }
}
