//! A new classifier on an old network.

use crate::initialise::{Initialisation, first_values};
use crate::{Model, ModelError};
use residual_graph::Op;

/// The model with a fresh last linear layer of `num_classes` outputs, drawn from `seed` as torch does; everything
/// before it stays, the labels are cleared.
///
/// # Errors
/// If the last op with parameters is no linear layer, if it does not decide the number of outputs, or if
/// `num_classes` is out of range.
pub fn replace_head(model: &Model, num_classes: usize, seed: u64) -> Result<Model, ModelError> {
    let mut graph = model.graph.clone();
    let Some(head) = graph.nodes.iter().rposition(|node| !node.op.parameters().is_empty()) else {
        return Err(ModelError::NoHead { got: "no parameters at all".into() });
    };
    let node = &mut graph.nodes[head];
    let Op::Linear { out_features, .. } = &mut node.op else {
        return Err(ModelError::NoHead { got: format!("{} \"{}\"", node.op.name(), node.name) });
    };
    *out_features = num_classes;
    let node = node.clone();
    graph.validate()?;
    if graph.output_channels()? != num_classes {
        let got = format!("linear \"{}\", which does not decide the number of outputs", node.name);
        return Err(ModelError::NoHead { got });
    }
    let mut tensors = model.tensors.clone();
    for spec in node.op.parameters() {
        let key = node.key(spec.name);
        let index = tensors.get_index_of(&key).unwrap_or(tensors.len());
        let tensor = first_values(&node, &spec, Initialisation::Torch, seed, index);
        tensors.insert(key, tensor);
    }
    Model::new(graph, tensors, model.preprocessing.clone(), Vec::new())
}
