//! A new classifier on an old network.

use crate::initialise::{Initialisation, first_values};
use crate::{Model, ModelError};
use residual_graph::Op;

/// The model with a fresh last linear layer of `num_classes` outputs, drawn from `seed` as torch does; everything
/// before it stays, the labels are cleared. A 1×1 convolution of a single pixel (timm's `head.fc`) is a linear layer too.
///
/// # Errors
/// If the last op with parameters is no linear layer of a vector, if it does not decide the number of outputs, or if
/// `num_classes` is out of range.
pub fn replace_head(model: &Model, num_classes: usize, seed: u64) -> Result<Model, ModelError> {
    let mut graph = model.graph.clone();
    let [_, height, width] = graph.input_size();
    let shapes = graph.shapes(height, width)?;
    let Some(head) = graph.nodes.iter().rposition(|node| !node.op.parameters().is_empty()) else {
        return Err(ModelError::NoHead { got: "no parameters at all".into() });
    };
    let node = &mut graph.nodes[head];
    let is_vector = [shapes[head].height, shapes[head].width] == [1, 1];
    match &mut node.op {
        Op::Linear { out_features, .. } if is_vector => *out_features = num_classes,
        Op::Conv2d(conv) if is_vector && conv.kernel == [1, 1] && conv.groups == 1 => conv.out_channels = num_classes,
        op => return Err(ModelError::NoHead { got: format!("{} \"{}\"", op.name(), node.name) }),
    }
    let node = node.clone();
    graph.validate()?;
    if graph.output_channels()? != num_classes {
        let got = format!("{} \"{}\", which does not decide the number of outputs", node.op.name(), node.name);
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
