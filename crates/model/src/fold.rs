//! Folds batch norms and layer scales into the preceding convolutions.

use crate::Model;
use residual_graph::{Graph, Node, NodeId, Op};
use residual_tensor::{NamedTensors, Tensor};
use std::collections::HashMap;

/// A network with folded batch norms and layer scales, except for the scaling of the weights: see
/// [`fold_batch_norm_but_scales`].
#[derive(Clone, Debug)]
pub struct Folded {
    /// The network without the batch norms and layer scales.
    pub graph: Graph,
    /// Its tensors; the weights of `scales` are not scaled yet.
    pub tensors: NamedTensors,
    /// For each weight that one of them is folded into, by key, the factor of every output's filter, in f64.
    pub scales: HashMap<String, Vec<f64>>,
}

/// The same function, for inference, with fewer nodes: every convolution or linear layer whose only reader is a batch
/// norm takes over that batch norm's running statistics, weight and bias.
///
/// With s = weight / √(running_var + eps) the new weight is s·w and the new bias is bias + s·(b − running_mean),
/// computed in f64. The convolution keeps its name and gains a bias, the batch norm's node disappears, and all others
/// stay as they are. A layer scale folds in the same way: s is its factors, weight and bias become s·w and s·b.
///
/// A batch norm or layer scale is not folded if it follows another op or a convolution with other readers, or if `keep`
/// names it or the node before it: callers name the nodes whose values they will read.
///
/// # Panics
/// If the model's public fields were changed so that tensors and graph no longer fit (see [`crate::check_tensors`]).
pub fn fold_batch_norm(model: &Model, keep: &[&str]) -> Model {
    let Folded { graph, mut tensors, scales } = fold_batch_norm_but_scales(model, keep);
    scales.iter().for_each(|(key, scale)| multiply(&mut tensors[key.as_str()], scale));
    Model {
        graph,
        tensors,
        preprocessing: model.preprocessing.clone(),
        labels: model.labels.clone(),
        activation: model.activation,
        temperature: model.temperature,
    }
}

/// As [`fold_batch_norm`], but the caller scales the weights, which avoids a copy if the caller changes their layout
/// anyway. All tensors but the new biases are shared with the model.
///
/// # Panics
/// As [`fold_batch_norm`].
pub fn fold_batch_norm_but_scales(model: &Model, keep: &[&str]) -> Folded {
    let graph = &model.graph;
    let consumers = graph.consumers();
    let mut tensors: NamedTensors = model.tensors.clone();
    let mut scales = HashMap::new();
    let mut nodes: Vec<Node> = Vec::with_capacity(graph.nodes.len());
    // For every old node, the new node that holds its value.
    let mut moved: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    // Old nodes whose value is a weighted sum that the new node computes, so that a product can fold into it.
    let mut linear: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        if let Op::BatchNorm2d { .. } | Op::LayerScale { .. } = node.op {
            let input = node.inputs[0];
            let read = |name: &str| keep.contains(&name);
            let folds = linear[input.0] && consumers[input.0].len() == 1 && input != graph.output;
            if folds && !read(&node.name) && !read(&graph.node(input).name) {
                let target = moved[input.0];
                fold(&mut nodes[target.0], node, &mut tensors, &mut scales);
                moved.push(target);
                linear.push(true);
                continue;
            }
        }
        linear.push(matches!(node.op, Op::Conv2d(_) | Op::Linear { .. }) && !node.op.is_quantized());
        moved.push(NodeId(nodes.len()));
        let inputs = node.inputs.iter().map(|input| moved[input.0]).collect();
        nodes.push(Node { name: node.name.clone(), op: node.op.clone(), inputs });
    }
    let graph = Graph { name: graph.name.clone(), nodes, output: moved[graph.output.0] };
    let tensors = graph
        .parameters()
        .map(|(key, _)| {
            let tensor = tensors.swap_remove(&key).expect("a model has every tensor of its graph");
            (key, tensor)
        })
        .collect();
    Folded { graph, tensors, scales }
}

/// The affine function of a node per channel: factor and offset.
fn affine(node: &Node, tensors: &NamedTensors) -> (Vec<f64>, Vec<f64>) {
    let values = |name: &str| tensors.get(&node.key(name)).and_then(Tensor::as_f32).expect("a model has its tensors");
    let Op::BatchNorm2d { channels, eps, .. } = node.op else {
        let factors: Vec<f64> = values("layer_scale").iter().copied().map(f64::from).collect();
        return (factors.clone(), vec![0.0; factors.len()]);
    };
    let [gamma, beta, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map(values);
    let factor = |c: usize| f64::from(gamma[c]) / (f64::from(variance[c]) + f64::from(eps)).sqrt();
    let factors: Vec<f64> = (0..channels).map(factor).collect();
    let shifts = (0..channels).map(|c| f64::from(beta[c]) - factors[c] * f64::from(mean[c])).collect();
    (factors, shifts)
}

fn fold(target: &mut Node, node: &Node, tensors: &mut NamedTensors, scales: &mut HashMap<String, Vec<f64>>) {
    let (factors, shifts) = affine(node, tensors);
    let (Op::Conv2d(residual_graph::Conv2d { bias: has_bias, .. }) | Op::Linear { bias: has_bias, .. }) =
        &mut target.op
    else {
        unreachable!("only convolutions and linear layers take anything in")
    };
    let (weight, bias) = (target_key(&target.name, "weight"), target_key(&target.name, "bias"));
    let adds = matches!(node.op, Op::BatchNorm2d { .. });
    if *has_bias || adds {
        let old = tensors.get(&bias).filter(|_| *has_bias).and_then(Tensor::as_f32);
        let old = |c: usize| old.map_or(0.0, |old| f64::from(old[c]));
        let new = (0..factors.len()).map(|c| (shifts[c] + factors[c] * old(c)) as f32).collect();
        tensors.insert(bias, Tensor::f32(&[factors.len()], new));
        *has_bias = true;
    }
    // A second folded node multiplies the result of the first, rounded as without folding.
    if let Some(first) = scales.insert(weight.clone(), factors) {
        multiply(&mut tensors[weight.as_str()], &first);
    }
}

/// Multiplies each output's filter of a weight.
fn multiply(weight: &mut Tensor, scale: &[f64]) {
    let values = weight.as_f32().expect("a model has its graph's tensors");
    let mut product = Vec::with_capacity(values.len());
    for (filter, scale) in values.chunks_exact(values.len() / scale.len()).zip(scale) {
        product.extend(filter.iter().map(|value| (f64::from(*value) * scale) as f32));
    }
    *weight = Tensor::f32(weight.shape(), product);
}

/// [`Node::key`], for a node that is being changed.
fn target_key(name: &str, tensor: &str) -> String {
    format!("{name}.{tensor}")
}
