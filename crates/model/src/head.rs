//! Replaces the classification head.

use crate::initialise::{Initialisation, first_values};
use crate::{Model, ModelError};
use residual_graph::Op;

/// The model with a fresh last linear layer of `num_classes` outputs, initialised from `seed` as in torch; everything
/// before it is kept, the labels are cleared. A 1×1 convolution of a single pixel (timm's `head.fc`) is a linear layer too.
///
/// # Errors
/// If it is quantised, if the last op with parameters is no linear layer of a vector, if it does not decide the number of outputs, or if
/// `num_classes` is out of range.
pub fn replace_head(model: &Model, num_classes: usize, seed: u64) -> Result<Model, ModelError> {
    change_head(model, num_classes, |_| None, seed)
}

/// The model with other outputs in its last linear layer: number i is the old output `order[i]` with its trained weights
/// and bias, or, if that is `None`, a new one, initialised as in [`replace_head`]. Classes that the old and the new
/// dataset share thus keep their trained weights.
///
/// The labels move with their outputs; they are cleared if some output is new.
///
/// # Errors
/// As [`replace_head`].
///
/// # Panics
/// If `order` names an output that the old layer has not.
pub fn reorder_head(model: &Model, order: &[Option<usize>], seed: u64) -> Result<Model, ModelError> {
    change_head(model, order.len(), |output| order[output], seed)
}

/// The model with `outputs` outputs: each copied from an old output or new.
fn change_head(
    model: &Model,
    outputs: usize,
    from: impl Fn(usize) -> Option<usize>,
    seed: u64,
) -> Result<Model, ModelError> {
    if model.graph.is_quantized() {
        return Err(ModelError::Quantized);
    }
    let mut graph = model.graph.clone();
    let [_, height, width] = graph.input_size();
    let shapes = graph.shapes(height, width)?;
    let Some(head) = graph.nodes.iter().rposition(|node| node.op.has_parameters()) else {
        return Err(ModelError::NoHead { got: "no parameters at all".into() });
    };
    let node = &mut graph.nodes[head];
    let is_vector = [shapes[head].height, shapes[head].width] == [1, 1];
    match &mut node.op {
        Op::Linear { out_features, .. } if is_vector => *out_features = outputs,
        Op::Conv2d(conv) if is_vector && conv.kernel == [1, 1] && conv.groups == 1 => conv.out_channels = outputs,
        op => return Err(ModelError::NoHead { got: format!("{} \"{}\"", op.name(), node.name) }),
    }
    let node = node.clone();
    graph.validate()?;
    if graph.output_channels()? != outputs {
        let got = format!("{} \"{}\", which does not decide the number of outputs", node.op.name(), node.name);
        return Err(ModelError::NoHead { got });
    }
    let mut tensors = model.tensors.clone();
    for spec in node.op.parameters() {
        let key = node.key(spec.name);
        let index = tensors.get_index_of(&key).unwrap_or(tensors.len());
        let mut tensor = first_values(&node, &spec, Initialisation::Torch, seed, index);
        let old = tensors[key.as_str()].as_f32().expect("a model has its graph's tensors");
        let new = tensor.as_f32_mut().expect("weights and biases are floats");
        let row = new.len() / outputs;
        for (output, new) in new.chunks_exact_mut(row).enumerate() {
            if let Some(from) = from(output) {
                new.copy_from_slice(&old[from * row..][..row]);
            }
        }
        tensors.insert(key, tensor);
    }
    // Of a model without labels, none is found.
    let labels: Option<Vec<String>> = (0..outputs).map(|output| model.labels.get(from(output)?).cloned()).collect();
    Model::new(graph, tensors, model.preprocessing.clone(), labels.unwrap_or_default())
}
