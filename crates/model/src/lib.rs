//! A network with its tensors, preprocessing and labels, and the rewrites that touch tensors.
#![forbid(unsafe_code)]

mod error;

pub use error::ModelError;

use residual_graph::{Graph, ParameterSpec, Role};
use residual_preprocess::Preprocessing;
use residual_tensor::{Elements, NamedTensors};

/// A network that can be run: a graph, a tensor for every key the graph names, and what surrounds them.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The network.
    pub graph: Graph,
    /// Its state dict: torch's keys, shapes and order.
    pub tensors: NamedTensors,
    /// How an image becomes the network's input.
    pub preprocessing: Preprocessing,
    /// The name of each class; empty when they are not known.
    pub labels: Vec<String>,
}

impl Model {
    /// Joins the parts and holds them against each other.
    ///
    /// # Errors
    /// If a tensor is missing, unexpected or mis-shaped, if preprocessing and graph disagree about the channels, or
    /// if there are labels but not one for each output. All tensors at fault are listed.
    pub fn new(
        graph: Graph,
        tensors: NamedTensors,
        preprocessing: Preprocessing,
        labels: Vec<String>,
    ) -> Result<Self, ModelError> {
        check_tensors(&graph, &tensors)?;
        preprocessing.validate()?;
        let channels = graph.input_size()[0];
        if preprocessing.channels() != channels {
            return Err(ModelError::Channels { expected: channels, got: preprocessing.channels() });
        }
        let classes = graph.output_channels()?;
        if !labels.is_empty() && labels.len() != classes {
            return Err(ModelError::Labels { expected: classes, got: labels.len() });
        }
        let tensors = graph
            .parameters()
            .map(|(key, _)| {
                let tensor = tensors[&key].clone();
                (key, tensor)
            })
            .collect();
        Ok(Self { graph, tensors, preprocessing, labels })
    }
}

/// Holds a state dict against a graph.
///
/// # Errors
/// [`ModelError::Tensors`] with every tensor that is missing, unexpected, mis-shaped or of the wrong type.
pub fn check_tensors(graph: &Graph, tensors: &NamedTensors) -> Result<(), ModelError> {
    let mut problems = Vec::new();
    let mut known = std::collections::HashSet::new();
    for (key, spec) in graph.parameters() {
        match tensors.get(&key) {
            None => problems.push(format!("tensor \"{key}\": expected {:?}, got none", spec.shape)),
            Some(tensor) if tensor.shape() != spec.shape => {
                problems.push(format!("tensor \"{key}\": expected {:?}, got {:?}", spec.shape, tensor.shape()));
            }
            Some(tensor) if !type_fits(&spec, tensor.elements()) => {
                problems.push(format!("tensor \"{key}\": expected another element type"));
            }
            Some(_) => {}
        }
        known.insert(key);
    }
    for (key, tensor) in tensors {
        if !known.contains(key) {
            problems.push(format!("tensor \"{key}\": unexpected, {:?}", tensor.shape()));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(ModelError::Tensors { problems }) }
}

fn type_fits(spec: &ParameterSpec, elements: &Elements) -> bool {
    matches!(
        (spec.role, elements),
        (Role::Counter, Elements::I64(_)) | (Role::Parameter | Role::Buffer, Elements::F32(_))
    )
}
