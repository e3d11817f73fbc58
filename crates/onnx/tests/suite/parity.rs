//! Exported files give in another program, rten, what the engine gives.

use crate::support;

use residual_engine::{Engine, EngineError, Mode, Options};
use residual_graph::{Builder, Conv2d, Graph, Op, Pool2d};
use residual_model::{Model, fold_batch_norm};
use residual_onnx::{Input, OnnxModel};
use residual_tensor::Stream;
use residual_zoo::Config;

/// The largest difference that rounding may make, over the largest logit.
const TOLERANCE: f32 = 1e-4;

/// N×C×H×W random values, of another mean and deviation in each image.
fn images(model: &Model, count: usize) -> Vec<f32> {
    let [channels, height, width] = model.graph.input_size();
    let mut stream = Stream::new(5, &[]);
    let len = channels * height * width;
    (0..count * len).map(|index| (index / len) as f32 + (1 + index / len) as f32 * stream.normal()).collect()
}

/// What rten makes of the file.
fn run_file(model: &Model, images: Vec<f32>, count: usize) -> Vec<f32> {
    let onnx = OnnxModel::new(model).unwrap();
    let mut file = Vec::new();
    onnx.write(&mut file).unwrap();
    assert_eq!(file.len() as u64, onnx.bytes());
    let network = rten::Model::load(file).unwrap_or_else(|error| panic!("{}: {error}", model.graph.name));
    let [channels, height, width] = model.graph.input_size();
    let input = rten::Value::from_shape(&[count, channels, height, width], images).unwrap();
    let output = network.run_one(input.into(), None).unwrap_or_else(|error| panic!("{}: {error}", model.graph.name));
    output.into_tensor::<f32>().unwrap().into_data()
}

/// What the engine makes of the model, as N×C×H×W.
fn run_engine(model: &Model, images: &[f32], count: usize) -> Result<Vec<f32>, EngineError> {
    let [channels, height, width] = model.graph.input_size();
    let mut engine = Engine::new(model, Mode::Infer, count, [height, width], &[], &Options::default())?;
    engine.forward(&transposed(images, channels, height * width))?;
    let output = engine.output();
    let shape = model.graph.shapes(height, width)?[model.graph.output.0];
    Ok(transposed(output, shape.height * shape.width, shape.channels))
}

/// Each image's rows×columns as columns×rows.
fn transposed(images: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let turned = |image: &[f32]| -> Vec<f32> {
        (0..columns)
            .flat_map(|column| (0..rows).map(move |row| (row, column)))
            .map(|(r, c)| image[r * columns + c])
            .collect()
    };
    images.chunks_exact(rows * columns).flat_map(turned).collect()
}

fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.map(f32::abs).fold(0.0, f32::max)
}

/// Holds the file of `graph`, with and without batch norms, against the engine.
fn check(graph: Graph) {
    let model = support::random_model(graph, 3);
    let (count, name) = (2, &model.graph.name);
    let images = images(&model, count);
    let expected = run_engine(&model, &images, count).unwrap_or_else(|error| panic!("{name}: {error}"));
    let scale = largest(expected.iter().copied());
    let (first, second) = expected.split_at(expected.len() / 2);
    let spread = largest(first.iter().zip(second).map(|(a, b)| a - b)) / scale;
    // Networks of such depth without shortcuts forget the image, which is what they are there to show.
    let forgets = ["plain34", "plain56", "plain110"].contains(&name.as_str());
    assert!(forgets || spread > 100.0 * TOLERANCE, "{name}: logits hardly depend on the image: {spread}");
    for (model, what) in [(model.clone(), "as it is"), (fold_batch_norm(&model, &[]), "folded")] {
        let got = run_file(&model, images.clone(), count);
        assert_eq!(got.len(), expected.len(), "{name} {what}");
        let difference = largest(got.iter().zip(&expected).map(|(a, b)| a - b)) / scale;
        eprintln!("{name} {what}: {difference:.1e} of logits up to {scale:.2}, which differ by {spread:.2}");
        // Not a number is no small difference.
        assert!(difference <= TOLERANCE, "{name} {what}: {difference}");
    }
}

/// A network of the registry for images of `side` pixels, with ten classes.
fn named(name: &str, side: usize) -> Graph {
    let entry = residual_zoo::find(name).unwrap();
    Config { num_classes: 10, image_size: [side; 2], ..entry.config }.graph().unwrap()
}

macro_rules! families {
    ($($test:ident: $($name:literal $side:literal),+;)*) => {
        $(#[test]
        fn $test() {
            for (name, side) in [$(($name, $side)),+] {
                check(named(name, side));
            }
        })*
    };
}

families! {
    resnets_agree: "resnet18" 64;
    cifar_resnets_agree: "resnet20" 32, "resnet20_a" 32;
    resnet_ds_with_their_average_pools_agree: "resnet18d" 40;
    se_resnets_with_their_gates_agree: "seresnet50" 32;
    resnexts_agree: "resnext50_32x4d" 32;
    small_resnexts_agree: "resnext29_32x4d" 16;
    wide_resnets_agree: "wrn16_4" 16;
    preactivation_resnets_agree: "preact_resnet18" 16, "resnetv2_50" 32;
    convnexts_agree: "convnext_tiny" 32;
    plain_networks_agree: "plain20" 32;
    vggs_agree: "vgg19_bn" 32;
    densenets_agree: "densenet121" 32;
    googlenets_with_their_branches_agree: "googlenet" 56;
    the_resnet_of_lecture_notes_agrees: "lecture_resnet50" 16;
}

/// Every op, also in forms that no network of the registry has.
#[test]
fn every_op_agrees() {
    let mut net = Builder::new("every op", [5, 23, 18]);
    let conv = Conv2d {
        kernel: [3, 5],
        stride: [2, 1],
        padding: [0, 3],
        dilation: [2, 1],
        groups: 2,
        bias: true,
        ..Conv2d::new(6, 8, 1)
    };
    let x = net.conv("conv", net.input(), Conv2d::new(5, 6, 1)).unwrap();
    let x = net.conv("grouped", x, conv).unwrap();
    let x = net.batch_norm("norm", x).unwrap();
    let x = net.layer_norm("layer_norm", x, 1e-6).unwrap();
    let x = net.linear("pixelwise", x, 8, true).unwrap();
    let y = net.push("gelu", Op::Gelu, &[x]).unwrap();
    let y = net.push("scale", Op::LayerScale { channels: 8 }, &[y]).unwrap();
    let y = net.push("drop_path", Op::DropPath { p: 0.5 }, &[y]).unwrap();
    let z = net.relu("relu", x).unwrap();
    let x = net.push("sum", Op::Add, &[x, y, z]).unwrap();
    let pooled = net.global_avg_pool("squeeze", x).unwrap();
    let gate = net.flatten("squeezed", pooled).unwrap();
    let gate = net.push("vector_norm", Op::LayerNorm { channels: 8, eps: 1e-5 }, &[gate]).unwrap();
    let gate = net.linear("excite", gate, 8, false).unwrap();
    let gate = net.push("sigmoid", Op::Sigmoid, &[gate]).unwrap();
    let x = net.push("gate", Op::Gate, &[x, gate]).unwrap();
    let pad = Op::PadShortcut { in_channels: 8, out_channels: 12, stride: 2 };
    let padded = net.push("shortcut", pad, &[x]).unwrap();
    let pool = net.max_pool("max_pool", x, Pool2d::new(3, 2, 0).ceil_mode()).unwrap();
    let joined = net.push("joined", Op::Concat, &[padded, pool]).unwrap();
    let x = net.push("windows", Op::AdaptiveAvgPool2d { output: [3, 4] }, &[joined]).unwrap();
    let x = net.flatten("flatten", x).unwrap();
    let x = net.push("dropout", Op::Dropout { p: 0.5 }, &[x]).unwrap();
    let x = net.linear("fc", x, 7, true).unwrap();
    check(net.finish(x).unwrap());
}

/// Poolings whose windows reach over the edge, where programs differ.
#[test]
fn poolings_agree_at_the_edges() {
    let average = |pool, count_include_pad| Op::AvgPool2d { pool, count_include_pad };
    let (plain, padded) = (Pool2d::new(3, 2, 0), Pool2d::new(3, 2, 1));
    let wide = Pool2d { kernel: [2, 3], stride: [3, 2], padding: [1, 0], ceil_mode: true };
    let mut ops = vec![Op::MaxPool2d(padded), Op::MaxPool2d(padded.ceil_mode()), Op::MaxPool2d(plain.ceil_mode())];
    for counts in [false, true] {
        ops.extend([plain, padded, plain.ceil_mode(), padded.ceil_mode(), wide].map(|pool| average(pool, counts)));
    }
    ops.extend([[1, 1], [2, 5], [5, 5], [4, 3], [12, 10], [13, 3]].map(|output| Op::AdaptiveAvgPool2d { output }));
    for (index, op) in ops.into_iter().enumerate() {
        let mut net = Builder::new(&format!("{index}: {op:?}"), [3, 12, 10]);
        let x = net.push("pool", op, &[net.input()]).unwrap();
        check(net.finish(x).unwrap());
    }
}

/// Quantised networks: a value that another order of additions moves to the next byte moves by a 255th of its range.
#[test]
fn quantised_networks_agree_but_for_steps_of_bytes() {
    for (name, side) in [("resnet20_a", 32), ("resnet18d", 64), ("seresnet50", 32), ("densenet121", 32)] {
        for values in [true, false] {
            let model = support::quantized_model(named(name, side), 3, values);
            let images = images(&model, 2);
            let expected = run_engine(&model, &images, 2).unwrap_or_else(|error| panic!("{name}: {error}"));
            let got = run_file(&model, images, 2);
            let scale = largest(expected.iter().copied());
            let difference = largest(got.iter().zip(&expected).map(|(a, b)| a - b)) / scale;
            eprintln!("{name}, values {values}: {difference:.1e} of logits up to {scale:.2}");
            assert!(difference <= if values { 0.05 } else { TOLERANCE }, "{name}, values {values}: {difference}");
        }
    }
}

/// One file, run on images of several sizes.
#[test]
fn a_file_for_any_size_agrees_at_every_size() {
    for name in ["resnet18d", "googlenet", "resnet20_a", "densenet121"] {
        let mut model = support::random_model(named(name, 64), 3);
        let mut file = Vec::new();
        OnnxModel::with_input(&model, Input::AnySize).unwrap().write(&mut file).unwrap();
        let network = rten::Model::load(file).unwrap_or_else(|error| panic!("{name}: {error}"));
        for [height, width] in [[64, 64], [75, 53]] {
            model.preprocessing.size = [height, width];
            let mut stream = Stream::new(5, &[height as u64]);
            let images: Vec<f32> = (0..2 * 3 * height * width).map(|_| stream.normal()).collect();
            let mut engine = Engine::new(&model, Mode::Infer, 2, [height, width], &[], &Options::default()).unwrap();
            engine.forward(&transposed(&images, 3, height * width)).unwrap();
            let input = rten::Value::from_shape(&[2, 3, height, width], images).unwrap();
            let got = network.run_one(input.into(), None).unwrap_or_else(|error| panic!("{name}: {error}"));
            let got = got.into_tensor::<f32>().unwrap().into_data();
            let expected = engine.output();
            assert_eq!(got.len(), expected.len(), "{name}");
            let difference = largest(got.iter().zip(expected).map(|(a, b)| a - b));
            assert!(
                difference <= TOLERANCE * largest(expected.iter().copied()),
                "{name} {height}×{width}: {difference}"
            );
        }
    }
}

/// Run once when something changes: every network of the registry, at the smallest size it takes.
#[test]
#[ignore = "takes some minutes: every network of the registry"]
fn every_network_of_the_registry_agrees() {
    for entry in residual_zoo::entries() {
        let side = if entry.config.image_size[0] > 64 { 64 } else { 32 };
        check(named(entry.name, side));
    }
}
