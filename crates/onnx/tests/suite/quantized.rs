//! The contents of a quantised network's file, read as protobuf messages.

use crate::support;

use prost::Message;
use residual_graph::{Builder, Conv2d, Graph, Pool2d};
use residual_model::Model;
use residual_onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use residual_onnx::{OPSET, OnnxModel};
use residual_tensor::Tensor;

/// A stem with its pooling, a residual block, and a head.
fn small() -> Graph {
    let mut net = Builder::new("small", [3, 8, 8]);
    let x = net.conv("stem", net.input(), Conv2d::new(3, 4, 3).padding(1).bias()).unwrap();
    let x = net.relu("relu", x).unwrap();
    let x = net.max_pool("maxpool", x, Pool2d::new(2, 2, 0)).unwrap();
    let y = net.conv("conv1", x, Conv2d::new(4, 4, 3).padding(1).bias()).unwrap();
    let y = net.relu("relu1", y).unwrap();
    let y = net.conv("conv2", y, Conv2d::new(4, 4, 3).padding(1).bias()).unwrap();
    let x = net.add("add", y, x).unwrap();
    let x = net.relu("relu2", x).unwrap();
    let x = net.global_avg_pool("avgpool", x).unwrap();
    let x = net.flatten("flatten", x).unwrap();
    let x = net.linear("fc", x, 5, true).unwrap();
    net.finish(x).unwrap()
}

fn decoded(model: &Model) -> GraphProto {
    let mut bytes = Vec::new();
    OnnxModel::new(model).unwrap().write(&mut bytes).unwrap();
    let onnx = ModelProto::decode(&bytes[..]).unwrap();
    assert_eq!(onnx.opset_import[0].version(), OPSET);
    onnx.graph.unwrap()
}

fn node<'a>(graph: &'a GraphProto, name: &str) -> &'a NodeProto {
    graph.node.iter().find(|node| node.name() == name).unwrap_or_else(|| panic!("no node {name}"))
}

/// The node whose first output is a value.
fn writer<'a>(graph: &'a GraphProto, value: &str) -> &'a NodeProto {
    graph
        .node
        .iter()
        .find(|node| node.output.first().is_some_and(|output| output == value))
        .unwrap_or_else(|| panic!("no node writes {value}"))
}

fn constant<'a>(graph: &'a GraphProto, name: &str) -> &'a TensorProto {
    graph.initializer.iter().find(|tensor| tensor.name() == name).unwrap_or_else(|| panic!("no constant {name}"))
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    assert_eq!(tensor.data_type(), TensorProto::FLOAT, "{}", tensor.name());
    tensor.raw_data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn integers(tensor: &TensorProto) -> Vec<i32> {
    match tensor.data_type() {
        TensorProto::INT8 => tensor.raw_data().iter().map(|&byte| i32::from(byte as i8)).collect(),
        TensorProto::UINT8 => tensor.raw_data().iter().copied().map(i32::from).collect(),
        TensorProto::INT32 => tensor.raw_data().as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect(),
        other => panic!("{}: {other}", tensor.name()),
    }
}

const LAYERS: [&str; 4] = ["stem", "conv1", "conv2", "fc"];

/// What onnxruntime and OpenVINO look for: a layer that reads nothing but integers, each through a `DequantizeLinear`.
#[test]
fn a_quantised_layer_reads_bytes_and_a_bias_in_units_of_their_products() {
    let model = support::quantized_model(small(), 1, true);
    let graph = decoded(&model);
    for name in LAYERS {
        let layer = node(&graph, name);
        let [x, weight, bias] = [0, 1, 2].map(|index| writer(&graph, &layer.input[index]));
        assert!([x, weight, bias].iter().all(|node| node.op_type() == "DequantizeLinear"), "{name}");
        let bytes = writer(&graph, &x.input[0]);
        assert_eq!((bytes.op_type(), &bytes.input[1..]), ("QuantizeLinear", &x.input[1..]), "{name}");
        assert_eq!(integers(constant(&graph, &x.input[2])).len(), 1, "{name}: one zero point for the value");

        let tensor = &model.tensors[format!("{name}.weight").as_str()];
        let outputs = tensor.shape()[0];
        let stored = constant(&graph, &weight.input[0]);
        assert_eq!((stored.data_type(), stored.name()), (TensorProto::INT8, &*format!("{name}.weight")));
        assert!(stored.dims.iter().map(|&extent| extent as usize).eq(tensor.shape().iter().copied()));
        assert!(integers(stored).into_iter().eq(tensor.as_i8().unwrap().iter().copied().map(i32::from)));
        let scale = floats(constant(&graph, &weight.input[1]));
        assert_eq!(scale, model.tensors[format!("{name}.weight_scale").as_str()].as_f32().unwrap());
        assert_eq!(integers(constant(&graph, &weight.input[2])), vec![0; outputs]);
        assert!([weight, bias].iter().all(|node| node.attribute[0].name() == "axis" && node.attribute[0].i == Some(0)));

        let input_scale = floats(constant(&graph, &x.input[1]))[0];
        let products: Vec<f32> = scale.iter().map(|scale| scale * input_scale).collect();
        assert_eq!(floats(constant(&graph, &bias.input[1])), products, "{name}");
        let biases = model.tensors[format!("{name}.bias").as_str()].as_f32().unwrap();
        for ((integer, product), bias) in integers(constant(&graph, &bias.input[0])).iter().zip(products).zip(biases) {
            assert!((*integer as f32 * product - bias).abs() <= 0.5001 * product, "{name}: {integer} for {bias}");
        }
    }
    // A value is rounded after the sum and its ReLU, not between: the sum reads the convolution.
    assert_eq!(node(&graph, "add").input[0], "conv2");
}

/// 32 bits in units of such products end far below the bias.
#[test]
fn a_filter_that_is_next_to_nothing_keeps_its_bias() {
    let mut model = support::quantized_model(small(), 1, true);
    let outputs = 4;
    let scale: Vec<f32> = vec![1e-12, 1e-12, 3e-11, 1e-3];
    let bias = vec![0.5, -2.0, 0.25, 0.75];
    model.tensors.insert("conv1.weight_scale".into(), Tensor::f32(&[outputs], scale.clone()));
    model.tensors.insert("conv1.bias".into(), Tensor::f32(&[outputs], bias.clone()));
    let graph = decoded(&model);
    let layer = node(&graph, "conv1");
    let [weight, stored] = [1, 2].map(|index| writer(&graph, &layer.input[index]));
    let (units, values) = (floats(constant(&graph, &stored.input[1])), integers(constant(&graph, &stored.input[0])));
    let new_scale = floats(constant(&graph, &weight.input[1]));
    let bytes = integers(constant(&graph, &weight.input[0]));
    let old = model.tensors["conv1.weight"].as_i8().unwrap();
    for output in 0..outputs {
        assert!(values[output].abs() <= (1 << 30) + 64, "room for the products");
        let got = f64::from(values[output]) * f64::from(units[output]);
        let rounding = 0.5 * f64::from(units[output]) + 1e-6 * f64::from(bias[output].abs());
        assert!((got - f64::from(bias[output])).abs() <= rounding, "{output}: {got}");
        // 36 products with the largest byte change the sum by less than a thousandth of the bias.
        for tap in output * 36..(output + 1) * 36 {
            let was = f64::from(old[tap]) * f64::from(scale[output]);
            let is = f64::from(bytes[tap]) * f64::from(new_scale[output]);
            assert!((was - is).abs() * 36.0 * 14.0 < 1e-3 * f64::from(bias[output].abs()), "{output}: {is} for {was}");
        }
    }
    assert_eq!(new_scale[3], scale[3], "a filter that counts is as it was");
}

#[test]
fn a_layer_with_bytes_for_weights_alone_computes_with_floats() {
    let model = support::quantized_model(small(), 1, false);
    let graph = decoded(&model);
    assert!(graph.node.iter().all(|node| node.op_type() != "QuantizeLinear"));
    for name in LAYERS {
        let layer = node(&graph, name);
        assert_eq!(writer(&graph, &layer.input[1]).op_type(), "DequantizeLinear");
        let bias = floats(constant(&graph, &layer.input[2]));
        assert_eq!(bias, model.tensors[format!("{name}.bias").as_str()].as_f32().unwrap());
    }
}

#[test]
fn a_value_in_the_range_of_its_batch_is_rounded_by_the_runtime() {
    let model = support::dynamic_model(small(), 1);
    let graph = decoded(&model);
    for name in ["stem", "conv2"] {
        let layer = node(&graph, name);
        let rounded = writer(&graph, &layer.input[0]);
        assert_eq!(rounded.op_type(), "DequantizeLinear", "{name}");
        let bytes = writer(&graph, &rounded.input[0]);
        assert_eq!((bytes.op_type(), &bytes.output), ("DynamicQuantizeLinear", &rounded.input));
        // The scale of products is not known: a bias is of floats.
        let bias = floats(constant(&graph, &layer.input[2]));
        assert_eq!(bias, model.tensors[format!("{name}.bias").as_str()].as_f32().unwrap());
    }
}

/// A weight is a byte, and so is its share of the file.
#[test]
fn the_file_is_a_quarter_of_the_floats() {
    let float = support::random_model(residual_zoo::build("resnet20", 10).unwrap(), 1);
    let quantized = support::quantized_model(residual_zoo::build("resnet20", 10).unwrap(), 1, true);
    let [float, quantized] = [&float, &quantized].map(|model| OnnxModel::new(model).unwrap().bytes());
    assert!((quantized as f64) < 0.3 * float as f64, "{quantized} of {float}");
}
