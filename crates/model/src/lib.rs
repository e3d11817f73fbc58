//! A network with its tensors, preprocessing and labels, and the rewrites that touch tensors.
//!
//! A [`Model`] is made from a graph by [`initialise`], or read from a file by the `residual-weights` crate. Rewrites
//! take a model and return another: [`fold_batch_norm`], [`replace_head`], [`reorder_head`], [`replace_input`], [`prune_channels`],
//! [`remove_blocks`], [`quantize`], [`quantize_dynamic`] and [`dequantize`]; [`average`] takes several.
//!
//! ```
//! use residual_graph::{Builder, Conv2d};
//! use residual_model::{Initialisation, Model, fold_batch_norm, initialise};
//! use residual_preprocess::Preprocessing;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut net = Builder::new("tiny", [3, 8, 8]);
//! let x = net.conv("conv1", net.input(), Conv2d::new(3, 4, 3))?;
//! let x = net.batch_norm("bn1", x)?;
//! let graph = net.finish(x)?;
//!
//! let tensors = initialise(&graph, Initialisation::Torch, 0);
//! let preprocessing = Preprocessing::unscaled([8, 8], &[0.5; 3], &[0.25; 3]);
//! let model = Model::new(graph, tensors, preprocessing, Vec::new())?;
//!
//! let folded = fold_batch_norm(&model, &[]);
//! assert_eq!(folded.tensors.keys().collect::<Vec<_>>(), ["conv1.weight", "conv1.bias"]);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod average;
mod error;
mod fold;
mod head;
mod initialise;
mod input;
mod prune;
mod quantize;

pub use average::average;
pub use error::{ModelError, TensorProblem};
pub use fold::{Folded, fold_batch_norm, fold_batch_norm_but_scales};
pub use head::{reorder_head, replace_head};
pub use initialise::{Initialisation, initialise};
pub use input::replace_input;
pub use prune::{prune_channels, remove_blocks};
pub use quantize::{
    Quantization, QuantizedWeight, WeightBits, dequantize, dequantized_weight, quantize, quantize_dynamic,
    quantized_values, unpack_weights,
};

use residual_graph::{Graph, ParameterSpec, Role};
use residual_preprocess::Preprocessing;
use residual_tensor::{NamedTensors, Tensor};
use serde::{Deserialize, Serialize};

/// How the probabilities of a model's classes follow from its logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The softmax: an image has exactly one class.
    #[default]
    Softmax,
    /// The sigmoid of each logit by itself: an image has any number of classes (multi-label).
    Sigmoid,
}

/// A network that can be run: a graph, a tensor for every key of the graph, preprocessing and labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The network.
    pub graph: Graph,
    /// Its state dict: torch's keys, shapes and order.
    pub tensors: NamedTensors,
    /// The preprocessing of images.
    pub preprocessing: Preprocessing,
    /// The name of each class; empty when they are not known.
    pub labels: Vec<String>,
    /// How its probabilities follow from logits / temperature.
    pub activation: Activation,
    /// The temperature of its probabilities: 1, or another number that calibrates
    /// them (Guo et al., "On Calibration of Modern Neural Networks", 2017). The logits themselves do not depend on it.
    pub temperature: f32,
}

impl Model {
    /// Combines the parts and checks that they fit together. The tensors are sorted into the graph's order; probabilities
    /// are the softmax at the temperature 1.
    ///
    /// # Errors
    /// If the graph is no network, if a tensor is missing, unexpected, mis-shaped or of the wrong type (all at fault
    /// are listed), if preprocessing and graph disagree about the channels or the graph cannot run at the
    /// preprocessing's size, or if there are labels but not one for each output.
    pub fn new(
        graph: Graph,
        mut tensors: NamedTensors,
        preprocessing: Preprocessing,
        labels: Vec<String>,
    ) -> Result<Self, ModelError> {
        graph.validate()?;
        check_tensors(&graph, &tensors)?;
        check_preprocessing(&graph, &preprocessing)?;
        check_labels(&graph, &labels)?;
        let tensors =
            graph.parameters().filter_map(|(key, _)| tensors.swap_remove(&key).map(|tensor| (key, tensor))).collect();
        Ok(Self { graph, tensors, preprocessing, labels, activation: Activation::Softmax, temperature: 1.0 })
    }

    /// The model with other tensors. Its temperature, which calibrated the old ones, becomes 1.
    ///
    /// # Errors
    /// If a tensor is missing, unexpected, mis-shaped or of the wrong type.
    pub fn with_tensors(&self, tensors: NamedTensors) -> Result<Self, ModelError> {
        let model = Self::new(self.graph.clone(), tensors, self.preprocessing.clone(), self.labels.clone())?;
        Ok(model.with_activation(self.activation))
    }

    /// The model with another preprocessing.
    ///
    /// # Errors
    /// If preprocessing and graph disagree about the channels, or the graph cannot run at the preprocessing's size.
    pub fn with_preprocessing(self, preprocessing: Preprocessing) -> Result<Self, ModelError> {
        check_preprocessing(&self.graph, &preprocessing)?;
        Ok(Self { preprocessing, ..self })
    }

    /// The model with other class names, or with none.
    ///
    /// # Errors
    /// If there are labels but not one for each output.
    pub fn with_labels(self, labels: Vec<String>) -> Result<Self, ModelError> {
        check_labels(&self.graph, &labels)?;
        Ok(Self { labels, ..self })
    }

    /// The model with probabilities that follow differently from its logits.
    #[must_use]
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The model with another temperature.
    ///
    /// # Errors
    /// If it is not a positive finite number.
    pub fn with_temperature(self, temperature: f32) -> Result<Self, ModelError> {
        match temperature.is_finite() && temperature > 0.0 {
            true => Ok(Self { temperature, ..self }),
            false => Err(ModelError::Temperature { got: temperature }),
        }
    }
}

fn check_preprocessing(graph: &Graph, preprocessing: &Preprocessing) -> Result<(), ModelError> {
    preprocessing.validate()?;
    let channels = graph.input_size()[0];
    if preprocessing.channels() != channels {
        return Err(ModelError::Channels { expected: channels, got: preprocessing.channels() });
    }
    let [height, width] = preprocessing.size;
    graph.shapes(height, width)?;
    Ok(())
}

fn check_labels(graph: &Graph, labels: &[String]) -> Result<(), ModelError> {
    let classes = graph.output_channels()?;
    match labels.is_empty() || labels.len() == classes {
        true => Ok(()),
        false => Err(ModelError::Labels { expected: classes, got: labels.len() }),
    }
}

/// Compares a state dict with a graph.
///
/// # Errors
/// [`ModelError::Tensors`] with every tensor that is missing, unexpected, mis-shaped or of the wrong type.
pub fn check_tensors(graph: &Graph, tensors: &NamedTensors) -> Result<(), ModelError> {
    let mut problems = Vec::new();
    let mut known = std::collections::HashSet::new();
    for (key, spec) in graph.parameters() {
        problems.extend(check_tensor(&key, &spec, tensors.get(&key)));
        known.insert(key);
    }
    for (key, tensor) in tensors {
        if !known.contains(key) {
            problems.push(TensorProblem::Unexpected { key: key.clone(), got: tensor.shape().to_vec() });
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(ModelError::Tensors { problems }) }
}

fn check_tensor(key: &str, spec: &ParameterSpec, tensor: Option<&Tensor>) -> Option<TensorProblem> {
    let key = key.to_owned();
    let Some(tensor) = tensor else {
        return Some(TensorProblem::Missing { key, expected: spec.shape.clone() });
    };
    if tensor.shape() != spec.shape {
        return Some(TensorProblem::Shape { key, expected: spec.shape.clone(), got: tensor.shape().to_vec() });
    }
    let (expected, got) = (spec.role.type_name(), tensor.elements().type_name());
    if expected != got {
        return Some(TensorProblem::Type { key, expected, got: got.into() });
    }
    let scales = tensor.as_f32().filter(|_| spec.role == Role::Scale)?;
    let bad = scales.iter().find(|scale| !(scale.is_finite() && **scale > 0.0))?;
    Some(TensorProblem::Scale { key, got: bad.to_string() })
}
