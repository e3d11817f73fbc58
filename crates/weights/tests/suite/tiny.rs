//! The network of `golden/make.py` and its tensors.

use residual_graph::{Builder, Conv2d, Graph, Role};
use residual_model::{Initialisation, Model, QuantizedWeight, WeightBits, initialise, quantize};
use residual_preprocess::Preprocessing;
use residual_tensor::{NamedTensors, Tensor};
use std::collections::HashMap;
use std::path::PathBuf;

pub(crate) fn graph() -> Graph {
    graph_with_outputs(3)
}

pub(crate) fn graph_with_outputs(outputs: usize) -> Graph {
    let mut net = Builder::new("tiny", [1, 4, 4]);
    let x = net.conv("conv1", net.input(), Conv2d::new(1, 2, 3)).unwrap();
    let x = net.batch_norm("bn1", x).unwrap();
    let x = net.relu("relu", x).unwrap();
    let x = net.global_avg_pool("avgpool", x).unwrap();
    let x = net.linear("fc", x, outputs, true).unwrap();
    net.finish(x).unwrap()
}

pub(crate) fn tensors() -> NamedTensors {
    let tensor = |(t, (key, spec)): (usize, (String, residual_graph::ParameterSpec))| {
        let len = spec.shape.iter().product::<usize>();
        let tensor = match spec.role {
            Role::Counter => Tensor::i64(&spec.shape, vec![5]),
            _ => Tensor::f32(&spec.shape, (0..len).map(|i| ((7 * t + i) % 64) as f32 / 16.0 - 2.0).collect()),
        };
        (key, tensor)
    };
    graph().parameters().enumerate().map(tensor).collect()
}

/// A network with a convolution of 288 weights, of which every fourth is not zero and the first is a negative zero.
pub(crate) fn sparse() -> Model {
    let mut net = Builder::new("sparse", [4, 4, 4]);
    let x = net.conv("conv1", net.input(), Conv2d::new(4, 8, 3)).unwrap();
    let x = net.global_avg_pool("avgpool", x).unwrap();
    let x = net.linear("fc", x, 3, true).unwrap();
    let graph = net.finish(x).unwrap();
    let value = |i: usize| if i % 4 == 1 { i as f32 / 16.0 - 2.5 } else { 0.0 };
    let mut tensors = NamedTensors::new();
    for (key, spec) in graph.parameters() {
        let len = spec.shape.iter().product();
        let values = (0..len).map(|i| if key == "conv1.weight" { value(i) } else { 0.5 }).collect();
        tensors.insert(key, Tensor::f32(&spec.shape, values));
    }
    tensors["conv1.weight"].as_f32_mut().unwrap()[0] = -0.0;
    Model::new(graph, tensors, Preprocessing::unscaled([4, 4], &[0.5; 4], &[0.25; 4]), Vec::new()).unwrap()
}

/// A network with quantised weights of 4 bits: of 288, 24 and 9 integers.
pub(crate) fn four_bits() -> Model {
    let mut net = Builder::new("four_bits", [4, 4, 4]);
    let x = net.conv("conv1", net.input(), Conv2d::new(4, 8, 3)).unwrap();
    let x = net.conv("conv2", x, Conv2d::new(8, 3, 1)).unwrap();
    let x = net.global_avg_pool("avgpool", x).unwrap();
    let x = net.linear("fc", x, 3, true).unwrap();
    let graph = net.finish(x).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    let preprocessing = Preprocessing::unscaled([4, 4], &[0.5; 4], &[0.25; 4]);
    let model = Model::new(graph, tensors, preprocessing, Vec::new()).unwrap();
    let weight = |layer: &str| QuantizedWeight::nearest(&model.tensors[&format!("{layer}.weight")], WeightBits::Four);
    let weights = ["conv1", "conv2", "fc"].map(|layer| (layer.to_owned(), weight(layer)));
    quantize(&model, &weights.into(), &HashMap::new()).unwrap()
}

pub(crate) fn preprocessing() -> Preprocessing {
    Preprocessing::unscaled([4, 4], &[0.485], &[0.229])
}

pub(crate) fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}
