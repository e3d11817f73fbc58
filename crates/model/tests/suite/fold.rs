//! Folding batch norms leaves the function alone, as a naive evaluator in f64 sees it.

use residual_graph::{Builder, Conv2d, Graph, Node, NodeId, Op, Pool2d};
use residual_model::{Initialisation, Model, check_tensors, fold_batch_norm, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::{NamedTensors, Stream};

/// A feature map: channels, height, width and values in that order.
#[derive(Clone)]
struct Map {
    extent: [usize; 3],
    values: Vec<f64>,
}

impl Map {
    fn at(&self, c: usize, y: isize, x: isize) -> f64 {
        let [_, h, w] = self.extent;
        let inside = (0..h as isize).contains(&y) && (0..w as isize).contains(&x);
        if inside { self.values[(c * h + y as usize) * w + x as usize] } else { 0.0 }
    }
}

fn evaluate(model: &Model, image: &Map) -> Vec<f64> {
    let [_, height, width] = image.extent;
    let shapes = model.graph.shapes(height, width).unwrap();
    let mut maps: Vec<Map> = Vec::new();
    for (node, shape) in model.graph.nodes.iter().zip(shapes) {
        let inputs: Vec<&Map> = node.inputs.iter().map(|input| &maps[input.0]).collect();
        let extent = [shape.channels, shape.height, shape.width];
        let mut values = Vec::with_capacity(shape.len());
        for c in 0..extent[0] {
            for y in 0..extent[1] {
                for x in 0..extent[2] {
                    values.push(value(node, &inputs, &model.tensors, image, [c, y, x]));
                }
            }
        }
        maps.push(Map { extent, values });
    }
    maps[model.graph.output.0].values.clone()
}

fn value(node: &Node, inputs: &[&Map], tensors: &NamedTensors, image: &Map, [c, y, x]: [usize; 3]) -> f64 {
    let parameter = |name: &str, index: usize| f64::from(tensors[&node.key(name)].as_f32().unwrap()[index]);
    let (row, column) = (y as isize, x as isize);
    match node.op {
        Op::Input { .. } => image.at(c, row, column),
        Op::Conv2d(conv) => {
            let mut sum = if conv.bias { parameter("bias", c) } else { 0.0 };
            let depth = conv.in_channels / conv.groups;
            let first = c / (conv.out_channels / conv.groups) * depth;
            let [kh, kw] = conv.kernel;
            for i in 0..depth {
                for ky in 0..kh {
                    for kx in 0..kw {
                        let from_y = (y * conv.stride[0] + ky * conv.dilation[0]) as isize - conv.padding[0] as isize;
                        let from_x = (x * conv.stride[1] + kx * conv.dilation[1]) as isize - conv.padding[1] as isize;
                        let weight = parameter("weight", ((c * depth + i) * kh + ky) * kw + kx);
                        sum += weight * inputs[0].at(first + i, from_y, from_x);
                    }
                }
            }
            sum
        }
        Op::BatchNorm2d { eps, .. } => {
            let variance = parameter("running_var", c) + f64::from(eps);
            let normal = (inputs[0].at(c, row, column) - parameter("running_mean", c)) / variance.sqrt();
            normal * parameter("weight", c) + parameter("bias", c)
        }
        Op::Linear { in_features, bias, .. } => {
            let term = |i| inputs[0].at(i, row, column) * parameter("weight", c * in_features + i);
            let sum: f64 = (0..in_features).map(term).sum();
            sum + if bias { parameter("bias", c) } else { 0.0 }
        }
        Op::LayerScale { .. } => inputs[0].at(c, row, column) * parameter("layer_scale", c),
        Op::Relu => inputs[0].at(c, row, column).max(0.0),
        Op::Sigmoid => 1.0 / (1.0 + (-inputs[0].at(c, row, column)).exp()),
        Op::Gate => inputs[0].at(c, row, column) * inputs[1].at(c, 0, 0),
        Op::Dropout { .. } | Op::DropPath { .. } => inputs[0].at(c, row, column),
        Op::Concat => {
            let first = inputs[0].extent[0];
            if c < first { inputs[0].at(c, row, column) } else { inputs[1].at(c - first, row, column) }
        }
        Op::MaxPool2d(pool) => window(inputs[0], pool, [c, y, x]).into_iter().fold(f64::MIN, f64::max),
        // All of them here leave padding out, or have none.
        Op::AvgPool2d { pool, .. } => {
            let seen = window(inputs[0], pool, [c, y, x]);
            seen.iter().sum::<f64>() / seen.len() as f64
        }
        Op::Add => inputs.iter().map(|map| map.at(c, row, column)).sum(),
        Op::GlobalAvgPool => {
            let area = inputs[0].extent[1] * inputs[0].extent[2];
            inputs[0].values[c * area..(c + 1) * area].iter().sum::<f64>() / area as f64
        }
        Op::Flatten => inputs[0].values[c],
        Op::PadShortcut { in_channels, out_channels, stride } => {
            let before = (out_channels - in_channels) / 2;
            let kept = (before..before + in_channels).contains(&c);
            if kept { inputs[0].at(c - before, (y * stride) as isize, (x * stride) as isize) } else { 0.0 }
        }
        _ => panic!("the test's networks have no {}", node.op.name()),
    }
}

/// The pixels of the image that the window of output (c, y, x) covers.
fn window(map: &Map, pool: Pool2d, [c, y, x]: [usize; 3]) -> Vec<f64> {
    let [_, h, w] = map.extent;
    let span = |axis: usize, at: usize, size: usize| {
        let start = (at * pool.stride[axis]) as isize - pool.padding[axis] as isize;
        (start..start + pool.kernel[axis] as isize).filter(move |i| (0..size as isize).contains(i))
    };
    span(0, y, h).flat_map(|row| span(1, x, w).map(move |column| map.at(c, row, column))).collect()
}

fn model(graph: Graph, size: usize) -> Model {
    let mut tensors = initialise(&graph, Initialisation::Torch, 11);
    // Statistics as after training: nothing is 0 or 1.
    for (index, (key, tensor)) in tensors.iter_mut().enumerate() {
        let mut stream = Stream::new(12, &[index as u64]);
        let [low, high] = match key.rsplit('.').next().unwrap() {
            "running_var" => [0.2, 3.0],
            "running_mean" | "bias" => [-0.5, 0.5],
            "weight" if tensor.shape().len() == 1 => [-1.5, 1.5],
            "layer_scale" => [-1.5, 1.5],
            _ => continue,
        };
        tensor.as_f32_mut().unwrap().iter_mut().for_each(|v| *v = stream.range(low, high));
    }
    let channels = graph.input_size()[0];
    let preprocessing = Preprocessing::unscaled([size; 2], &vec![0.5; channels], &vec![0.25; channels]);
    Model::new(graph, tensors, preprocessing, Vec::new()).unwrap()
}

fn assert_same_function(model: &Model, folded: &Model) {
    check_tensors(&folded.graph, &folded.tensors).unwrap();
    folded.graph.validate().unwrap();
    let [height, width] = model.preprocessing.size;
    let extent = [model.graph.input_size()[0], height, width];
    let mut stream = Stream::new(13, &[]);
    let values = (0..extent.iter().product()).map(|_| f64::from(stream.normal())).collect();
    let image = Map { extent, values };
    let (expected, got) = (evaluate(model, &image), evaluate(folded, &image));
    let scale = expected.iter().map(|v| v.abs()).fold(1e-3, f64::max);
    for (a, b) in expected.iter().zip(&got) {
        assert!((a - b).abs() < 1e-5 * scale, "{expected:?} against {got:?}");
    }
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.name.as_str()).collect()
}

#[test]
fn every_batch_norm_of_a_resnet_folds_into_its_convolution() {
    for name in ["resnet20", "resnet20_a"] {
        let model = model(residual_zoo::build(name, 10).unwrap(), 8);
        let folded = fold_batch_norm(&model, &[]);
        let kept: Vec<&str> = names(&model.graph)
            .into_iter()
            .filter(|name| !matches!(model.graph.node(model.graph.find(name).unwrap()).op, Op::BatchNorm2d { .. }))
            .collect();
        assert_eq!(names(&folded.graph), kept, "{name}");
        assert!(folded.tensors.contains_key("layer2.0.conv2.bias"));
        assert!(!folded.tensors.keys().any(|key| key.contains("bn") || key.contains("running")));
        assert_same_function(&model, &folded);
    }
}

#[test]
fn the_published_bottleneck_network_loses_its_53_batch_norms() {
    let graph = residual_zoo::build("resnet50", 4).unwrap();
    let before = graph.nodes.len();
    let tensors = initialise(&graph, Initialisation::Torch, 0);
    let folded = fold_batch_norm(&Model::new(graph, tensors, Preprocessing::imagenet(), Vec::new()).unwrap(), &[]);
    assert_eq!(folded.graph.nodes.len(), before - 53);
}

#[test]
fn biases_groups_strides_linear_layers_and_chains_fold() {
    let mut net = Builder::new("mixed", [4, 7, 7]);
    let conv = Conv2d::new(4, 6, 3).groups(2).stride(2).padding(1).bias();
    let x = net.conv("grouped", net.input(), conv).unwrap();
    let x = net.batch_norm("bn1", x).unwrap();
    let x = net.batch_norm("bn2", x).unwrap();
    let x = net.relu("relu", x).unwrap();
    let x = net.global_avg_pool("pool", x).unwrap();
    let x = net.linear("fc", x, 5, false).unwrap();
    let x = net.batch_norm("bn3", x).unwrap();
    let model = model(net.finish(x).unwrap(), 7);
    let folded = fold_batch_norm(&model, &[]);
    assert_eq!(names(&folded.graph), ["input", "grouped", "relu", "pool", "fc"]);
    assert_eq!(folded.graph.output, NodeId(4));
    assert_same_function(&model, &folded);
}

#[test]
fn layer_scales_fold_into_weight_and_bias() {
    let mut net = Builder::new("scaled", [4, 5, 5]);
    let x = net.conv("conv", net.input(), Conv2d::new(4, 6, 3).bias()).unwrap();
    let x = net.push("a", Op::LayerScale { channels: 6 }, &[x]).unwrap();
    let x = net.batch_norm("norm", x).unwrap();
    let x = net.push("b", Op::LayerScale { channels: 6 }, &[x]).unwrap();
    let x = net.relu("relu", x).unwrap();
    let stays = net.push("stays", Op::LayerScale { channels: 6 }, &[x]).unwrap();
    let x = net.linear("fc", stays, 5, false).unwrap();
    let x = net.push("c", Op::LayerScale { channels: 5 }, &[x]).unwrap();
    let model = model(net.finish(x).unwrap(), 5);
    let folded = fold_batch_norm(&model, &[]);
    assert_eq!(names(&folded.graph), ["input", "conv", "relu", "stays", "fc"]);
    assert!(!folded.tensors.contains_key("fc.bias"), "nothing was to be added");
    assert_same_function(&model, &folded);
    assert_eq!(fold_batch_norm(&model, &["a", "c"]), model);
}

#[test]
fn a_batch_norm_that_cannot_fold_stays() {
    let mut net = Builder::new("stays", [3, 5, 5]);
    // First of all nodes, after a ReLU, and after a convolution that a sum reads too.
    let x = net.batch_norm("data", net.input()).unwrap();
    let x = net.relu("relu", x).unwrap();
    let x = net.batch_norm("pre", x).unwrap();
    let shared = net.conv("shared", x, Conv2d::new(3, 3, 3).padding(1)).unwrap();
    let norm = net.batch_norm("post", shared).unwrap();
    let sum = net.add("add", norm, shared).unwrap();
    let model = model(net.finish(sum).unwrap(), 5);
    let folded = fold_batch_norm(&model, &[]);
    assert_eq!(folded, model);
    assert_same_function(&model, &folded);
}

#[test]
fn a_convolution_that_is_the_result_keeps_its_value() {
    let mut net = Builder::new("output", [3, 5, 5]);
    let conv = net.conv("conv", net.input(), Conv2d::new(3, 2, 3)).unwrap();
    net.batch_norm("unused", conv).unwrap();
    let model = model(net.finish(conv).unwrap(), 5);
    assert_eq!(fold_batch_norm(&model, &[]), model);
}

#[test]
fn a_node_whose_value_will_be_asked_for_keeps_it() {
    let model = model(residual_zoo::build("resnet20", 10).unwrap(), 8);
    let norms = |model: &Model| {
        let is_norm = |node: &&Node| matches!(node.op, Op::BatchNorm2d { .. });
        model.graph.nodes.iter().filter(is_norm).map(|node| node.name.clone()).collect::<Vec<_>>()
    };
    let folded = fold_batch_norm(&model, &["conv1", "layer1.0.bn2", "layer3.2.relu2"]);
    assert_eq!(norms(&folded), ["bn1", "layer1.0.bn2"]);
    assert_same_function(&model, &folded);
}

/// In pre-activation and dense blocks a batch norm that reads a sum or a concatenation stays.
#[test]
fn every_familys_batch_norms_fold_where_a_convolution_goes_before() {
    let small = "depths = [1, 1, 1, 2]\nimage_size = 33\nnum_classes = 3\n";
    let cases = [
        (
            "family = 'resnet'\nstem = 'deep'\navg_shortcut = true\nsqueeze_excitation = true\nstem_width = 4\n\
          widths = [2, 2, 4, 4]\ndrop_path = 0.5\ndropout = 0.5",
            0,
        ),
        ("family = 'resnext'\ncardinality = 2\nbase_width = 32\nwidths = [4, 4, 4, 4]\nstem_width = 4", 0),
        ("family = 'preact_resnet'\nblock = 'bottleneck'\nwidths = [2, 2, 4, 4]\nstem_width = 3\ndropout = 0.3", 5),
        ("family = 'resnetv2'\nwidths = [32, 32, 32, 32]\nstem_width = 3", 6),
        ("family = 'densenet'\ngrowth_rate = 2\nstem_width = 4", 9),
    ];
    for (text, stay) in cases {
        let graph = residual_zoo::from_toml(&format!("{small}{text}")).unwrap().graph().unwrap();
        let model = model(graph, 33);
        let folded = fold_batch_norm(&model, &[]);
        let norms = folded.graph.nodes.iter().filter(|node| matches!(node.op, Op::BatchNorm2d { .. })).count();
        assert_eq!(norms, stay, "{text}");
        assert_same_function(&model, &folded);
    }
}
