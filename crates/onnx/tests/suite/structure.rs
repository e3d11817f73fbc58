//! The contents of a file, read as protobuf messages.

use crate::support;

use prost::Message;
use residual_graph::{Builder, Conv2d, Op, Pool2d};
use residual_model::{Activation, Model, fold_batch_norm};
use residual_onnx::proto::{AttributeProto, ModelProto, TensorProto, ValueInfoProto};
use residual_onnx::{ACTIVATION, Input, LABELS, MODEL, OPSET, OnnxError, OnnxModel, PREPROCESSING, TEMPERATURE};
use residual_preprocess::{CropMode, Interpolation, Preprocessing};
use residual_tensor::{AlignedBuffer, Floats, NamedTensors, Tensor};
use std::collections::HashSet;
use std::sync::Arc;

fn file(model: &Model) -> Vec<u8> {
    let mut bytes = Vec::new();
    OnnxModel::new(model).unwrap().write(&mut bytes).unwrap();
    bytes
}

fn decoded(model: &Model) -> ModelProto {
    ModelProto::decode(&file(model)[..]).unwrap()
}

fn decoded_with(model: &Model, input: Input) -> ModelProto {
    let mut bytes = Vec::new();
    OnnxModel::with_input(model, input).unwrap().write(&mut bytes).unwrap();
    ModelProto::decode(&bytes[..]).unwrap()
}

/// A network with ten classes for small images, with random weights.
fn named(name: &str) -> Model {
    support::random_model(residual_zoo::build(name, 10).unwrap(), 1)
}

/// The extents of a tensor, names in place of numbers where any number goes.
fn extents(info: &ValueInfoProto) -> Vec<String> {
    let tensor = info.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
    let extent = |dim: &residual_onnx::proto::Dimension| {
        dim.dim_param.clone().unwrap_or_else(|| dim.dim_value.unwrap().to_string())
    };
    tensor.shape.as_ref().unwrap().dim.iter().map(extent).collect()
}

/// Checks a file against ONNX's rules: each value is written once, before it is read.
fn assert_in_order(model: &ModelProto) {
    let graph = model.graph.as_ref().unwrap();
    let mut known = HashSet::new();
    let names =
        graph.initializer.iter().map(|tensor| tensor.name()).chain(graph.input.iter().map(|input| input.name()));
    names.for_each(|name| assert!(known.insert(name), "{name}"));
    for node in &graph.node {
        // An optional input that is not there has no name.
        let inputs = node.input.iter().filter(|input| !input.is_empty());
        inputs.for_each(|input| assert!(known.contains(input.as_str()), "{input}"));
        node.output.iter().for_each(|output| assert!(known.insert(output), "{output}"));
    }
    assert!(known.contains(graph.output[0].name()));
}

#[test]
fn the_batch_is_free_and_the_image_is_the_preprocessings() {
    let mut model = named("resnet20");
    model.preprocessing.size = [40, 48];
    let onnx = decoded(&model);
    let graph = onnx.graph.as_ref().unwrap();
    assert_eq!((graph.input.len(), graph.output.len()), (1, 1));
    assert_eq!(
        (graph.input[0].name(), extents(&graph.input[0])),
        ("input", ["N", "3", "40", "48"].map(String::from).into())
    );
    assert_eq!((graph.output[0].name(), extents(&graph.output[0])), ("logits", ["N", "10"].map(String::from).into()));
    assert_eq!(onnx.opset_import.len(), 1);
    assert_eq!((onnx.opset_import[0].domain(), onnx.opset_import[0].version()), ("", OPSET));
}

#[test]
fn nodes_and_constants_have_the_names_of_the_graph_and_the_state_dict() {
    let model = named("resnet20_a");
    let onnx = decoded(&model);
    assert_in_order(&onnx);
    let graph = onnx.graph.unwrap();
    let of_graph = model.graph.nodes.iter().filter(|node| !matches!(node.op, Op::Input { .. } | Op::Dropout { .. }));
    let nodes: Vec<&str> = graph.node.iter().map(|node| node.name()).filter(|name| !name.contains('/')).collect();
    assert_eq!(nodes, of_graph.map(|node| node.name.as_str()).collect::<Vec<_>>());
    let constants: Vec<&TensorProto> =
        graph.initializer.iter().filter(|t| t.data_type() == TensorProto::FLOAT).collect();
    let state: Vec<(&String, &Tensor)> = model.tensors.iter().filter(|(_, tensor)| tensor.as_f32().is_some()).collect();
    assert_eq!(constants.len(), state.len());
    for (constant, (key, tensor)) in constants.iter().zip(state) {
        assert_eq!(constant.name(), key);
        assert!(constant.dims.iter().map(|&extent| extent as usize).eq(tensor.shape().iter().copied()));
        let bytes = tensor.as_f32().unwrap().iter().flat_map(|value| value.to_le_bytes());
        assert!(constant.raw_data().iter().copied().eq(bytes), "{key}");
    }
}

#[test]
fn metadata_say_what_a_checkpoint_says() {
    let mut model = named("resnet20");
    model.labels = (0..10).map(|index| format!("class \"{index}\"")).collect();
    model.preprocessing.crop_pct = 0.875;
    let onnx = decoded(&model);
    let metadata = |name: &str| onnx.metadata_props.iter().find(|entry| entry.key() == name).map(|entry| entry.value());
    let preprocessing: Preprocessing = serde_json::from_str(metadata(PREPROCESSING).unwrap()).unwrap();
    let labels: Vec<String> = serde_json::from_str(metadata(LABELS).unwrap()).unwrap();
    assert_eq!((&preprocessing, &labels), (&model.preprocessing, &model.labels));
    assert_eq!(metadata(MODEL), Some("resnet20"));
    assert_eq!((metadata(ACTIVATION), metadata(TEMPERATURE)), (None, None));
    assert_eq!((onnx.producer_name(), onnx.producer_version()), ("residual", env!("CARGO_PKG_VERSION")));
    model.labels.clear();
    assert!(decoded(&model).metadata_props.iter().all(|entry| entry.key() != LABELS));
    let model = model.with_activation(Activation::Sigmoid).with_temperature(1.5).unwrap();
    for input in [Input::Normalized, Input::AnySize, Input::Images] {
        let onnx = decoded_with(&model, input);
        let has = |key, value| onnx.metadata_props.iter().any(|entry| (entry.key(), entry.value()) == (key, value));
        assert!(has(ACTIVATION, "sigmoid") && has(TEMPERATURE, "1.5"), "{input:?}");
        assert!(has(PREPROCESSING, &serde_json::to_string(&model.preprocessing).unwrap()), "{input:?}");
    }
}

/// Nothing in a file for images of any size comes from the size that its model was made for.
#[test]
fn a_file_for_images_of_any_size_knows_no_size() {
    for name in ["resnet20_a", "resnet18d", "googlenet", "densenet121"] {
        let mut model = named(name);
        let [first, second] = [[64, 96], [128, 80]].map(|size| {
            model.preprocessing.size = size;
            decoded_with(&model, Input::AnySize)
        });
        assert_in_order(&first);
        let graph = first.graph.as_ref().unwrap();
        assert_eq!(extents(&graph.input[0]), ["N", "3", "height", "width"], "{name}");
        assert_eq!(extents(&graph.output[0]), ["N", "10"], "{name}");
        assert!(first.graph == second.graph, "{name}");
    }
    let features = decoded_with(&support::random_model(map(), 1), Input::AnySize);
    assert_eq!(extents(&features.graph.unwrap().output[0]), ["N", "4", "output_height", "output_width"]);
}

/// A network whose result is a map.
fn map() -> residual_graph::Graph {
    let mut net = Builder::new("map", [3, 4, 4]);
    let x = net.conv("conv", net.input(), Conv2d::new(3, 4, 4)).unwrap();
    net.finish(x).unwrap()
}

#[test]
fn a_network_for_one_size_is_refused_for_any() {
    let refused = |op: Op| {
        let mut net = Builder::new("one size", [3, 9, 9]);
        let x = net.push("node", op, &[net.input()]).unwrap();
        let x = net.flatten("flatten", x).unwrap();
        let model = support::random_model(net.finish(x).unwrap(), 1);
        OnnxModel::new(&model).unwrap();
        OnnxModel::with_input(&model, Input::AnySize).unwrap_err().to_string()
    };
    let pool = Pool2d { kernel: [2, 2], stride: [3, 3], padding: [1, 1], ceil_mode: true };
    let cases = [
        (Op::AdaptiveAvgPool2d { output: [7, 7] }, "node", "adaptive pooling to 7×7, whose windows depend"),
        (Op::MaxPool2d(pool), "node", "a pooling in ceil_mode, whose last windows depend"),
        (Op::Relu, "flatten", "a map as a vector, whose length depends"),
    ];
    for (op, node, got) in cases {
        let expected =
            format!("onnx: node \"{node}\": expected a network for images of any size, got {got} on the image's size");
        assert_eq!(refused(op), expected);
    }
}

#[test]
fn preprocessing_is_part_of_the_graph() {
    let attribute = |attributes: &[AttributeProto], name: &str| {
        attributes.iter().find(|attribute| attribute.name() == name).cloned().unwrap_or_default()
    };
    for (channels, size) in [(3, [32, 32]), (1, [28, 28]), (3, [24, 40])] {
        for crop_mode in [CropMode::Center, CropMode::Squash, CropMode::Border] {
            let mut net = Builder::new("small", [channels, size[0], size[1]]);
            let x = net.global_avg_pool("avgpool", net.input()).unwrap();
            let mut model = support::random_model(net.finish(x).unwrap(), 1);
            model.preprocessing.crop_mode = crop_mode;
            model.preprocessing.crop_pct = 0.875;
            model.preprocessing.interpolation = Interpolation::Bicubic;
            let onnx = decoded_with(&model, Input::Images);
            assert_in_order(&onnx);
            assert_eq!(onnx.opset_import[0].version(), 18);
            let graph = onnx.graph.unwrap();
            assert_eq!(graph.input[0].name(), "images");
            assert_eq!(extents(&graph.input[0]), ["N", "height", "width", &channels.to_string()]);
            let tensor = graph.input[0].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
            assert_eq!(tensor.elem_type, Some(TensorProto::UINT8));
            let resize = graph.node.iter().find(|node| node.op_type() == "Resize").unwrap();
            assert_eq!(attribute(&resize.attribute, "antialias").i, Some(1));
            assert_eq!(attribute(&resize.attribute, "exclude_outside").i, Some(1));
            assert_eq!(attribute(&resize.attribute, "cubic_coeff_a").f, Some(-0.5));
            assert_eq!(attribute(&resize.attribute, "mode").s(), b"cubic");
            assert_eq!(graph.node.iter().any(|node| node.op_type() == "Pad"), crop_mode == CropMode::Border);
            // Where the file for normalised images begins.
            assert!(graph.node.iter().any(|node| node.output == ["input"]));
        }
    }
}

#[test]
fn a_folded_model_has_no_batch_norms() {
    let model = named("resnet20");
    let ops = |model: &Model| -> HashSet<String> {
        decoded(model).graph.unwrap().node.iter().map(|node| node.op_type().to_owned()).collect()
    };
    assert!(ops(&model).contains("BatchNormalization"));
    let folded = ops(&fold_batch_norm(&model, &[]));
    let expected = ["Conv", "Relu", "Add", "GlobalAveragePool", "Flatten", "Gemm"];
    assert_eq!(folded, expected.map(String::from).into());
}

#[test]
fn equal_models_give_equal_bytes() {
    assert!(file(&named("preact_resnet18")) == file(&named("preact_resnet18")));
}

#[test]
fn every_value_is_written_once_and_before_it_is_read() {
    for name in ["resnet18d", "seresnet50", "densenet121", "googlenet", "convnext_tiny", "resnext29_32x4d", "wrn16_4"] {
        assert_in_order(&decoded(&named(name)));
    }
}

/// Names that a checkpoint of unknown origin may bring.
#[test]
fn names_that_collide_are_kept_apart() {
    let mut net = Builder::new("names", [3, 4, 4]);
    let x = net.conv("a", net.input(), Conv2d::new(3, 4, 1)).unwrap();
    let x = net.relu("a.weight", x).unwrap();
    let x = net.relu("logits", x).unwrap();
    let x = net.layer_norm("b", x, 1e-5).unwrap();
    let x = net.relu("b/to_nhwc", x).unwrap();
    let x = net.push("c", Op::Gelu, &[x]).unwrap();
    let x = net.relu("constant/one", x).unwrap();
    assert_in_order(&decoded(&support::random_model(net.finish(x).unwrap(), 1)));
}

/// The network whose result is its input, and one whose result is a feature map.
#[test]
fn any_node_can_be_the_result() {
    let mut net = Builder::new("nothing", [3, 4, 5]);
    let x = net.push("dropout", Op::Dropout { p: 0.5 }, &[net.input()]).unwrap();
    let graph = net.finish(x).unwrap();
    let onnx = decoded(&support::random_model(graph, 1));
    assert_in_order(&onnx);
    assert_eq!(extents(&onnx.graph.unwrap().output[0]), ["N", "3", "4", "5"]);
    let onnx = decoded(&support::random_model(residual_zoo::build("resnet20", 0).unwrap(), 1));
    assert_in_order(&onnx);
    assert_eq!(extents(&onnx.graph.unwrap().output[0]), ["N", "64"]);
}

#[test]
fn a_file_past_protobufs_limit_is_refused() {
    // 32 weights of 64 MiB, which are one in memory.
    const WIDTH: usize = 4096;
    let buffer = Arc::new(AlignedBuffer::zeros(WIDTH * WIDTH));
    let zeros = |shape: &[usize]| Tensor::floats(shape, Floats::part(&buffer, 0..shape.iter().product()));
    let layers = |count: usize| {
        let mut net = Builder::new("large", [WIDTH, 1, 1]);
        let mut x = net.flatten("flatten", net.input()).unwrap();
        for index in 0..count {
            x = net.linear(format!("fc{index}"), x, WIDTH, false).unwrap();
        }
        let graph = net.finish(x).unwrap();
        let tensors: NamedTensors = graph.parameters().map(|(key, spec)| (key, zeros(&spec.shape))).collect();
        let preprocessing = Preprocessing::unscaled([1, 1], &vec![0.5; WIDTH], &vec![0.5; WIDTH]);
        Model::new(graph, tensors, preprocessing, Vec::new()).unwrap()
    };
    assert!(OnnxModel::new(&layers(31)).unwrap().bytes() > 31 << 26);
    let error = OnnxModel::new(&layers(32)).unwrap_err();
    assert!(matches!(error, OnnxError::TooLarge { got } if got > 32 << 26), "{error}");
    let line = error.to_string();
    assert!(line.starts_with("onnx: expected at most 2147483647 bytes, the limit of protobuf, got 2147"), "{line}");
}
