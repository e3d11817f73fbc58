//! Adapts a network to another number of input channels.

use crate::{Model, ModelError};
use residual_graph::{NodeId, Op};
use residual_tensor::Tensor;

/// The model for images of `in_chans` channels, its first convolution rewritten as timm rewrites pretrained ones
/// (`adapt_input_conv`): for one channel each filter becomes the sum over its channels; otherwise its channels are
/// repeated cyclically and scaled by old / new number of channels, so that the layer's outputs keep their magnitude.
///
/// The preprocessing's means and standard deviations become their averages for one channel, and are repeated cyclically
/// otherwise.
///
/// # Errors
/// If it is quantised, a node other than an ungrouped convolution reads the image, or `in_chans` is out of range.
pub fn replace_input(model: &Model, in_chans: usize) -> Result<Model, ModelError> {
    let mut model = model.clone();
    let old = model.graph.input_size()[0];
    if in_chans == old {
        return Ok(model);
    }
    if model.graph.is_quantized() {
        return Err(ModelError::Quantized);
    }
    if let Op::Input { channels, .. } = &mut model.graph.nodes[0].op {
        *channels = in_chans;
    }
    for index in 1..model.graph.nodes.len() {
        let node = &mut model.graph.nodes[index];
        if !node.inputs.contains(&NodeId(0)) {
            continue;
        }
        match &mut node.op {
            Op::Conv2d(conv) if conv.groups == 1 => conv.in_channels = in_chans,
            op => return Err(ModelError::NoInput { got: format!("{} \"{}\"", op.name(), node.name) }),
        }
    }
    model.graph.validate()?;
    for node in model.graph.nodes.iter().filter(|node| node.inputs.contains(&NodeId(0))) {
        let weight = &mut model.tensors[node.key("weight").as_str()];
        *weight = adapt(weight, old, in_chans);
    }
    let Model { graph, tensors, mut preprocessing, labels, activation, temperature } = model;
    for values in [&mut preprocessing.mean, &mut preprocessing.std] {
        *values = match in_chans {
            1 => vec![values.iter().sum::<f32>() / values.len() as f32],
            _ => (0..in_chans).map(|channel| values[channel % values.len()]).collect(),
        };
    }
    Model::new(graph, tensors, preprocessing, labels)?.with_activation(activation).with_temperature(temperature)
}

/// A weight O×I×H×W of a convolution for `new` instead of `old` channels.
fn adapt(weight: &Tensor, old: usize, new: usize) -> Tensor {
    let shape = weight.shape();
    let values = weight.as_f32().expect("a model has its graph's tensors");
    let [outputs, area] = [shape[0], shape[2] * shape[3]];
    let scale = old as f32 / new as f32;
    let mut adapted = Vec::with_capacity(outputs * new * area);
    for filter in values.chunks_exact(old * area) {
        if new == 1 {
            adapted.extend((0..area).map(|tap| filter.iter().skip(tap).step_by(area).sum::<f32>()));
        } else {
            let channels = (0..new).map(|channel| &filter[channel % old * area..][..area]);
            adapted.extend(channels.flatten().map(|value| value * scale));
        }
    }
    Tensor::f32(&[outputs, new, shape[2], shape[3]], adapted)
}
