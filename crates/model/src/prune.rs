//! Removes channels and residual branches: the result is a smaller dense network like any other.

use crate::{Model, ModelError};
use residual_graph::{Conv2d, Node, Op, ParameterSpec, ResidualBlock, UnitId};
use residual_tensor::{NamedTensors, Tensor};

/// The model without some units of its graph's [channel groups](residual_graph::Graph::channel_groups). Layers keep their names;
/// preprocessing, labels and activation stay. The temperature, which calibrated other logits, becomes 1.
///
/// # Errors
/// If it is quantised, a unit is none of the graph's, or all units of a group are removed.
///
/// # Panics
/// If the model's public fields were changed so that tensors and graph no longer fit (see [`crate::check_tensors`]).
pub fn prune_channels(model: &Model, removed: &[UnitId]) -> Result<Model, ModelError> {
    if model.graph.is_quantized() {
        return Err(ModelError::Quantized);
    }
    let groups = model.graph.channel_groups()?;
    let narrowed = model.graph.without_units(&groups, removed)?;
    let mut tensors = NamedTensors::new();
    for (node, outputs) in model.graph.nodes.iter().zip(&narrowed.kept) {
        let inputs = node.inputs.first().map(|input| &*narrowed.kept[input.0]).unwrap_or_default();
        for spec in node.op.parameters() {
            let key = node.key(spec.name);
            let tensor = sliced(&model.tensors[key.as_str()], node, &spec, inputs, outputs);
            tensors.insert(key, tensor);
        }
    }
    let model = Model { graph: narrowed.graph, ..model.clone() };
    model.with_tensors(tensors)
}

/// The model without the branches of some of its graph's [residual blocks](residual_graph::Graph::residual_blocks). The temperature
/// becomes 1.
///
/// # Errors
/// If what remains is no network, which blocks of another graph may cause.
pub fn remove_blocks(model: &Model, removed: &[ResidualBlock]) -> Result<Model, ModelError> {
    let graph = model.graph.without_branches(removed);
    let tensors =
        graph.parameters().filter_map(|(key, _)| model.tensors.get(&key).cloned().map(|tensor| (key, tensor)));
    let tensors = tensors.collect();
    Model { graph, ..model.clone() }.with_tensors(tensors)
}

/// A tensor of `node` with the remaining outputs, and of a layer without groups with the remaining inputs. What a filter of a
/// grouped convolution reads remains as a whole.
fn sliced(tensor: &Tensor, node: &Node, spec: &ParameterSpec, inputs: &[usize], outputs: &[usize]) -> Tensor {
    let (Some(values), Some(&rows)) = (tensor.as_f32(), spec.shape.first()) else { return tensor.clone() };
    let row = values.len() / rows;
    let reads_all = matches!(node.op, Op::Conv2d(Conv2d { groups: 1, .. }) | Op::Linear { .. });
    let mut shape = spec.shape.clone();
    shape[0] = outputs.len();
    let mut kept = Vec::new();
    match (reads_all, shape.get_mut(1)) {
        (true, Some(columns)) => {
            let column = row / *columns;
            *columns = inputs.len();
            for &output in outputs {
                let filter = &values[output * row..][..row];
                inputs.iter().for_each(|&input| kept.extend_from_slice(&filter[input * column..][..column]));
            }
        }
        _ => outputs.iter().for_each(|&output| kept.extend_from_slice(&values[output * row..][..row])),
    }
    Tensor::f32(&shape, kept)
}
