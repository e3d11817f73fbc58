//! Networks with weights that leave no part of them without effect.

use residual_graph::{Graph, Node, NodeId, Op, Role};
use residual_model::{
    Initialisation, Model, Quantization, QuantizedWeight, WeightBits, fold_batch_norm, initialise, quantize,
    quantize_dynamic, quantized_values,
};
use residual_preprocess::Preprocessing;
use residual_tensor::Stream;
use std::collections::{HashMap, HashSet};

/// `graph` with random weights, running statistics and scales. Those that networks start with would hide much: a batch norm
/// that has seen nothing does nothing, and a layer scale of 10⁻⁶ hides its branch.
///
/// Layers keep the size of what they read, and residual branches are a tenth of what they are added to, so that values stay
/// within f32's range in a thousand layers.
pub(crate) fn random_model(graph: Graph, seed: u64) -> Model {
    // The ends of residual branches are what this leaves zero.
    let mut tensors = initialise(&graph, Initialisation::KaimingFanOut { zero_init_residual: true }, seed);
    for (index, node) in graph.nodes.iter().enumerate() {
        let is_norm = matches!(node.op, Op::BatchNorm2d { .. } | Op::LayerNorm { .. });
        for spec in node.op.parameters().into_iter().filter(|spec| spec.role != Role::Counter) {
            let values = tensors[node.key(spec.name).as_str()].as_f32_mut().expect("only counters are no floats");
            let ends_branch = values.iter().all(|&value| value == 0.0);
            let size = if ends_branch { 0.1 } else { 1.0 };
            let mut stream = Stream::new(seed, &[index as u64, spec.name.len() as u64]);
            let (low, high) = match spec.name {
                "running_var" => (0.5, 1.5),
                "layer_scale" => (0.1, 0.3),
                "weight" if is_norm => (0.7 * size, 1.1 * size),
                "weight" => {
                    let fan_in: usize = spec.shape[1..].iter().product();
                    let bound = size * (6.0 / fan_in as f32).sqrt();
                    (-bound, bound)
                }
                // Biases and running means.
                _ => (-0.2, 0.2),
            };
            values.iter_mut().for_each(|value| *value = stream.range(low, high));
        }
    }
    let [channels, height, width] = graph.input_size();
    let preprocessing = Preprocessing::unscaled([height, width], &vec![0.5; channels], &vec![0.25; channels]);
    Model::new(graph, tensors, preprocessing, Vec::new()).expect("tensors made for this graph")
}

/// The random model of `graph`, folded and quantised, where each layer rounds what it reads in the range of the batch.
#[allow(dead_code, reason = "not every test file quantises")]
pub(crate) fn dynamic_model(graph: Graph, seed: u64) -> Model {
    let model = fold_batch_norm(&random_model(graph, seed), &[]);
    let layers = model.graph.nodes.iter().filter(|node| matches!(node.op, Op::Conv2d(_) | Op::Linear { .. }));
    let weight = |node: &Node| {
        (node.name.clone(), QuantizedWeight::nearest(&model.tensors[node.key("weight").as_str()], WeightBits::Eight))
    };
    quantize_dynamic(&model, &layers.map(weight).collect()).expect("layers of floats")
}

/// The random model of `graph`, folded and quantised: every convolution and linear layer, and with `values` what they read, in a
/// range that their values mostly stay in.
#[allow(dead_code, reason = "not every test file quantises")]
pub(crate) fn quantized_model(graph: Graph, seed: u64, values: bool) -> Model {
    let model = fold_batch_norm(&random_model(graph, seed), &[]);
    let is_layer = |id: &NodeId| matches!(model.graph.node(*id).op, Op::Conv2d(_) | Op::Linear { .. });
    let layers: HashSet<NodeId> = (0..model.graph.nodes.len()).map(NodeId).filter(is_layer).collect();
    let weight = |id: &NodeId| {
        let node = model.graph.node(*id);
        (node.name.clone(), QuantizedWeight::nearest(&model.tensors[node.key("weight").as_str()], WeightBits::Eight))
    };
    let rounding = |id: NodeId| {
        let node = model.graph.node(id);
        let least = if node.op == Op::Relu { 0.0 } else { -6.0 };
        (node.name.clone(), Quantization::of_range(least, 8.0))
    };
    let values: HashMap<_, _> = match values {
        true => quantized_values(&model.graph, &layers).into_iter().map(rounding).collect(),
        false => HashMap::new(),
    };
    quantize(&model, &layers.iter().map(weight).collect(), &values).expect("layers of floats")
}
