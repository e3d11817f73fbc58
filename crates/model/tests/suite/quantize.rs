//! Quantised models: the nearest bytes, where values are rounded, and dequantisation.

use residual_graph::{Builder, Conv2d, Graph, NodeId, Op, Pool2d};
use residual_model::{
    Initialisation, Model, ModelError, Quantization, QuantizedWeight, TensorProblem, WeightBits, dequantize,
    fold_batch_norm, initialise, quantize, quantized_values, replace_head,
};
use residual_preprocess::Preprocessing;
use residual_tensor::Tensor;
use std::collections::{HashMap, HashSet};

fn model(graph: Graph) -> Model {
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    let [channels, height, width] = graph.input_size();
    let preprocessing = Preprocessing::unscaled([height, width], &vec![0.5; channels], &vec![0.25; channels]);
    fold_batch_norm(&Model::new(graph, tensors, preprocessing, Vec::new()).unwrap(), &[])
}

fn layers(graph: &Graph) -> HashSet<NodeId> {
    let is_layer = |id: &NodeId| matches!(graph.node(*id).op, Op::Conv2d(_) | Op::Linear { .. });
    (0..graph.nodes.len()).map(NodeId).filter(is_layer).collect()
}

fn quantized(model: &Model, layers: &HashSet<NodeId>) -> Model {
    let name = |id: &NodeId| model.graph.node(*id).name.clone();
    let weight = |id: &NodeId| {
        QuantizedWeight::nearest(&model.tensors[format!("{}.weight", name(id)).as_str()], WeightBits::Eight)
    };
    let weights = layers.iter().map(|id| (name(id), weight(id))).collect();
    let values = quantized_values(&model.graph, layers);
    let values = values.iter().map(|id| (name(id), Quantization::of_range(-1.0, 3.0))).collect();
    quantize(model, &weights, &values).unwrap()
}

/// The numbers of torch.quantization's affine quint8 for these ranges: scale = range / 255, zero_point = round(−min / scale).
#[test]
fn a_range_becomes_256_numbers_one_of_which_is_zero() {
    let quantization = Quantization::of_range(-1.0, 3.0);
    assert_eq!(quantization, Quantization { scale: 4.0 / 255.0, zero_point: 64 });
    assert_eq!(Quantization::of_range(0.5, 2.55), Quantization { scale: 0.01, zero_point: 0 });
    assert_eq!(Quantization::of_range(-2.55, -1.0), Quantization { scale: 0.01, zero_point: 255 });
    for byte in 0..=255 {
        assert_eq!(quantization.byte(quantization.value(byte)), byte);
    }
    assert_eq!([-9.0, 9.0, f32::NEG_INFINITY].map(|x| quantization.byte(x)), [0, 255, 0]);
    // Halves go to the even number, as in torch and ONNX.
    let halves = Quantization { scale: 2.0, zero_point: 0 };
    assert_eq!([1.0, 3.0, 5.0].map(|x| halves.byte(x)), [0, 2, 2]);
}

#[test]
fn a_weight_is_within_half_a_step_and_its_largest_is_127() {
    let weight = Tensor::f32(&[2, 3], vec![0.5, -1.0, 0.25, 0.0, 0.0, 0.0]);
    let QuantizedWeight { values, scale } = QuantizedWeight::nearest(&weight, WeightBits::Eight);
    assert_eq!(values, [64, -127, 32, 0, 0, 0]);
    assert!((scale[0] - 1.0 / 127.0).abs() < 1e-9 && scale[1] > 0.0);
    for (value, byte) in weight.as_f32().unwrap().iter().zip(&values).take(3) {
        assert!((f32::from(*byte) * scale[0] - value).abs() <= scale[0] / 2.0);
    }
}

#[test]
fn four_bits_cut_off_large_weights_where_that_is_nearer() {
    // One of 100 weights is ten times as large as the others.
    let mut values: Vec<f32> = (0..100).map(|index| (index as f32 / 99.0 - 0.5) * 0.2).collect();
    values[0] = -1.0;
    let weight = Tensor::f32(&[1, 100], values);
    let error = |QuantizedWeight { values, scale }: QuantizedWeight| -> f32 {
        let pairs = weight.as_f32().unwrap().iter().zip(&values);
        pairs.map(|(value, &integer)| (f32::from(integer) * scale[0] - value).powi(2)).sum()
    };
    let nearest = QuantizedWeight::nearest(&weight, WeightBits::Four);
    assert!(nearest.values.iter().all(|value| (-8..8).contains(value)) && nearest.values[0] == -8, "{nearest:?}");
    let whole = QuantizedWeight::with_scale(&weight, vec![1.0 / 7.0], WeightBits::Four);
    let [nearest, whole] = [nearest, whole].map(error);
    assert!(nearest < 0.7 * whole, "{nearest} against {whole}");
}

/// A strided block, as the first of a ResNet's later stages, between a stem with a pooling and a head.
fn block() -> Graph {
    let mut net = Builder::new("block", [3, 16, 16]);
    let conv = |net: &mut Builder, name: &str, x, conv: Conv2d| {
        let x = net.conv(name, x, conv).unwrap();
        net.batch_norm(format!("{name}_bn"), x).unwrap()
    };
    let input = net.input();
    let stem = conv(&mut net, "stem", input, Conv2d::new(3, 4, 3).padding(1));
    let stem = net.relu("stem_relu", stem).unwrap();
    let pooled = net.max_pool("pool", stem, Pool2d::new(2, 2, 0)).unwrap();
    let x = conv(&mut net, "conv1", pooled, Conv2d::new(4, 8, 3).stride(2).padding(1));
    let x = net.relu("relu1", x).unwrap();
    let x = conv(&mut net, "conv2", x, Conv2d::new(8, 8, 3).padding(1));
    let shortcut = conv(&mut net, "downsample", pooled, Conv2d::new(4, 8, 1).stride(2));
    let x = net.add("add", x, shortcut).unwrap();
    let x = net.relu("relu2", x).unwrap();
    let x = net.global_avg_pool("mean", x).unwrap();
    let x = net.flatten("flat", x).unwrap();
    let x = net.linear("fc", x, 5, true).unwrap();
    net.finish(x).unwrap()
}

/// A sum is rounded once, after it: what is added to a layer's result is bytes, the result itself is not.
#[test]
fn values_are_rounded_where_a_kernel_ends() {
    let model = model(block());
    let names = |layers: &HashSet<NodeId>| -> Vec<String> {
        let values = quantized_values(&model.graph, layers);
        values.into_iter().map(|id| model.graph.node(id).name.clone()).collect()
    };
    assert_eq!(names(&layers(&model.graph)), ["input", "stem_relu", "relu1", "downsample", "relu2", "mean"]);
    let only = |name: &str| HashSet::from([model.graph.find(name).unwrap()]);
    assert_eq!(names(&only("conv1")), ["stem_relu"]);
    assert_eq!(names(&only("fc")), ["mean"]);
    // The sum is part of the second convolution's kernel.
    assert_eq!(names(&only("conv2")), ["relu1", "downsample", "relu2"]);
    assert_eq!(names(&only("downsample")), ["stem_relu", "relu2"]);
    let quantized = quantized(&model, &layers(&model.graph));
    let read = |name: &str| -> Vec<&str> {
        let node = quantized.graph.node(quantized.graph.find(name).unwrap());
        node.inputs.iter().map(|id| quantized.graph.node(*id).name.as_str()).collect()
    };
    assert_eq!(read("pool"), ["stem_relu.quantize"]);
    assert_eq!(read("add"), ["conv2", "downsample.quantize"]);
    assert_eq!(read("flat"), ["mean.quantize"]);
    assert_eq!(quantized.tensors["conv1.weight"].elements().type_name(), "i8");
    assert_eq!(quantized.graph.parameter_count(), model.graph.parameter_count());
}

#[test]
fn floats_come_back_within_half_a_step_of_each_weight() {
    let model = model(block());
    let back = dequantize(&quantized(&model, &layers(&model.graph)));
    assert_eq!(back.graph, model.graph);
    for (key, tensor) in &model.tensors {
        let (old, new) = (tensor.as_f32().unwrap(), back.tensors[key.as_str()].as_f32().unwrap());
        let filter = old.len() / tensor.shape()[0];
        for (old, new) in old.chunks(filter).zip(new.chunks(filter)) {
            let largest = old.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let bound = if key.ends_with("bias") { 0.0 } else { 0.501 * largest / 127.0 };
            assert!(old.iter().zip(new).all(|(old, new)| (old - new).abs() <= bound), "{key}");
        }
    }
    assert_eq!(dequantize(&model), model);
}

#[test]
fn what_cannot_be_quantised_or_changed_is_refused() {
    let model = model(block());
    let weight = || QuantizedWeight { values: vec![0; 8], scale: vec![1.0; 8] };
    let refused = |model: &Model, name: &str| {
        quantize(model, &HashMap::from([(name.to_owned(), weight())]), &HashMap::new()).unwrap_err().to_string()
    };
    assert!(refused(&model, "conv9").starts_with("node \"conv9\": expected a convolution or linear layer"));
    assert!(refused(&model, "relu1").ends_with("got relu"));
    let quantized = quantized(&model, &layers(&model.graph));
    assert!(refused(&quantized, "conv1").ends_with("got a quantized layer"));
    assert_eq!(replace_head(&quantized, 3, 0).unwrap_err(), ModelError::Quantized);
    for bad in [0.0, -1.0, f32::INFINITY] {
        let mut tensors = quantized.tensors.clone();
        tensors.insert("relu1.quantize.scale".into(), Tensor::f32(&[], vec![bad]));
        let Err(ModelError::Tensors { problems }) = quantized.with_tensors(tensors) else { panic!("{bad}") };
        assert!(matches!(&problems[..], [TensorProblem::Scale { key, .. }] if key == "relu1.quantize.scale"));
    }
}
