//! Static post-training quantisation: the ranges of values are measured on calibration images.

mod bias_correction;
mod equalize;
mod observe;
mod range;
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
use residual_model::{Model, Quantization, QuantizedWeight, fold_batch_norm, quantize, quantized_values};
use residual_tensor::Tensor;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;

/// How a network is quantised.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// How the ranges of values are found. Weights are quantised from −max to max of each output channel.
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
    /// The model of floats, with batch norms folded, and a bias at every layer.
    folded: Model,
    /// By the name of its layer.
    weights: HashMap<String, QuantizedWeight>,
    /// The biases that make up for rounded weights.
    biases: HashMap<String, Vec<f32>>,
    /// By the name of its node.
    values: HashMap<String, Quantization>,
}

impl Calibration {
    /// Measures `model` on `images`. `None` if `stop` was set. `on_progress` gets what is being done, the number of images that are
    /// done, and their total.
    ///
    /// # Errors
    /// If the model is quantised already or cannot be run, has no layers, or has values that are not finite.
    pub fn new(
        model: &Model,
        images: &CalibrationImages,
        options: &QuantizeOptions,
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(&'static str, usize, usize),
    ) -> Result<Option<Self>, CompressError> {
        if model.graph.is_quantized() {
            return Err(CompressError::Quantized);
        }
        let mut folded = with_biases(fold_batch_norm(model, &[]))?;
        if options.equalize {
            equalize(&mut folded);
        }
        let layers = layers(&folded.graph);
        if layers.is_empty() {
            return Err(CompressError::NoLayers);
        }
        let nodes = quantized_values(&folded.graph, &layers.iter().copied().collect());
        let Some(histograms) = histograms(&folded, &nodes, images, options, stop, on_progress)? else {
            return Ok(None);
        };
        let name = |id: &NodeId| folded.graph.node(*id).name.clone();
        let quantization = |histogram: &Histogram| histogram.quantization(options.method);
        let values = nodes.iter().map(name).zip(histograms.iter().map(quantization)).collect();
        let weight = |id: &NodeId| {
            let node = folded.graph.node(*id);
            (node.name.clone(), QuantizedWeight::nearest(&folded.tensors[node.key("weight").as_str()]))
        };
        let weights: HashMap<String, QuantizedWeight> = layers.iter().map(weight).collect();
        let mut biases = HashMap::new();
        if options.bias_correction {
            match corrected_biases(&folded, &layers, &weights, images, options, stop, on_progress)? {
                Some(corrected) => biases = corrected,
                None => return Ok(None),
            }
        }
        Ok(Some(Self { folded, weights, biases, values }))
    }

    /// The names of the layers that can be quantised, in the graph's order.
    pub fn layers(&self) -> Vec<&str> {
        layers(&self.folded.graph).iter().map(|id| self.folded.graph.node(*id).name.as_str()).collect()
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
        let values =
            quantized_values(graph, &layers).into_iter().map(|id| (name(id), self.values[&name(id)])).collect();
        let weights = layers.iter().map(|id| (name(*id), self.weights[&name(*id)].clone())).collect();
        let mut model = quantize(&self.folded, &weights, &values)?;
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
