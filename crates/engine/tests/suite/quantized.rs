//! Quantised networks: the engine's bytes against the same roundings between layers of floats.

use crate::support;

use residual_engine::{CompiledModel, Engine, EngineError, Mode, Options, PlanSummary};
use residual_graph::{Builder, Conv2d, Graph, NodeId, Op, Pool2d};
use residual_kernels::Isa;
use residual_model::{
    Model, Quantization, QuantizedWeight, WeightBits, dequantize, dequantized_weight, fold_batch_norm, quantize,
    quantize_dynamic, quantized_values,
};
use residual_threads::Pool;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use support::{every_op, images, model, options, packed_on_use, wide};

const BATCH: usize = 3;

fn engine(model: &Model, batch: usize, outputs: &[&str], options: &Options) -> Engine {
    let [_, height, width] = model.graph.input_size();
    Engine::new(model, Mode::Infer, batch, [height, width], outputs, options).unwrap()
}

/// `model` with all layers quantised that `is_quantized`, by their ranges on some images.
fn quantized_where(model: &Model, is_quantized: impl Fn(&str) -> bool) -> Model {
    let folded = fold_batch_norm(model, &[]);
    let graph = &folded.graph;
    let is_layer = |id: &NodeId| matches!(graph.node(*id).op, Op::Conv2d(_) | Op::Linear { .. });
    let layers = (0..graph.nodes.len()).map(NodeId).filter(is_layer);
    let layers: HashSet<NodeId> = layers.filter(|id| is_quantized(&graph.node(*id).name)).collect();
    let values = quantized_values(graph, &layers);
    let name = |id: &NodeId| graph.node(*id).name.clone();
    let names: Vec<String> = values.iter().map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut engine = engine(&folded, BATCH, &names, &options(1));
    engine.forward(&images(&folded, BATCH)).unwrap();
    let quantization = |id: &NodeId| {
        let values = engine.node_value(&name(id)).unwrap();
        let [least, greatest] = [f32::min, f32::max].map(|pick| values.iter().copied().fold(0.0, pick));
        (name(id), Quantization::of_range(least, greatest))
    };
    let weight = |id: &NodeId| {
        (
            name(id),
            QuantizedWeight::nearest(&folded.tensors[format!("{}.weight", name(id)).as_str()], WeightBits::Eight),
        )
    };
    let weights: HashMap<_, _> = layers.iter().map(weight).collect();
    quantize(&folded, &weights, &values.iter().map(quantization).collect()).unwrap()
}

fn quantized(model: &Model) -> Model {
    quantized_where(model, |_| true)
}

/// The same roundings between layers of floats with the same weights.
fn between_floats(model: &Model) -> Model {
    let mut floats = model.clone();
    for index in 0..model.graph.nodes.len() {
        let node = model.graph.nodes[index].clone();
        if let Op::Conv2d(Conv2d { quantized: quantized @ true, .. }) | Op::Linear { quantized: quantized @ true, .. } =
            &mut floats.graph.nodes[index].op
        {
            *quantized = false;
            let weight = dequantized_weight(&node, &model.tensors);
            floats.tensors.insert(node.key("weight"), weight);
            floats.tensors.swap_remove(&node.key("weight_scale"));
        }
    }
    floats
}

/// Networks in which every layer is of bytes.
fn networks() -> Vec<Model> {
    let zoo = ["resnet20_a", "preact_resnet110", "resnext29_32x4d"];
    let small = |name: &&str| {
        let config = residual_zoo::find(name).unwrap().config;
        residual_zoo::Config { num_classes: 7, image_size: [32; 2], ..config }.graph().unwrap()
    };
    [every_op(), wide()].into_iter().chain(zoo.iter().map(small)).map(model).collect()
}

#[test]
fn every_op_is_among_them() {
    let graph = quantized(&model(every_op())).graph;
    let missing = |name: &&str| !graph.nodes.iter().any(|node| node.op.name() == *name);
    // Batch norms that stand behind convolutions, and layer scales, are folded. Dynamic quantisation has a test of its own.
    assert_eq!(Op::NAMES.iter().copied().filter(missing).collect::<Vec<_>>(), [Op::QuantizeDynamic.name()]);
}

/// Another rounding of a sum turns a byte into its neighbour now and then, which later layers carry on.
#[test]
fn the_result_is_that_of_roundings_between_layers_of_floats() {
    for model in networks() {
        let model = quantized(&model);
        let images = images(&model, BATCH);
        let [mut bytes, mut floats] =
            [&model, &between_floats(&model)].map(|model| engine(model, BATCH, &[], &options(2)));
        bytes.forward(&images).unwrap();
        floats.forward(&images).unwrap();
        let (bytes, floats) = (bytes.output(), floats.output());
        let mean = floats.iter().sum::<f32>() / floats.len() as f32;
        let deviation = (floats.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / floats.len() as f32).sqrt();
        let error = bytes.iter().zip(floats).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(error < 0.05 * deviation, "{}: {error} of {deviation}", model.graph.name);
    }
}

#[test]
fn every_value_of_one_layer_is_within_a_rounding() {
    let mut net = Builder::new("block", [5, 9, 7]);
    let stem = net.conv("stem", net.input(), Conv2d::new(5, 6, 3).padding(1).bias()).unwrap();
    let stem = net.relu("stem_relu", stem).unwrap();
    let x = net.conv("conv", stem, Conv2d::new(6, 6, 3).padding(1).bias()).unwrap();
    let x = net.add("add", x, stem).unwrap();
    let x = net.relu("relu", x).unwrap();
    let y = net.conv("last", x, Conv2d::new(6, 4, 1)).unwrap();
    let model = quantized(&model(net.finish(y).unwrap()));
    let images = images(&model, BATCH);
    let kept = ["stem_relu.quantize", "relu.quantize"];
    let [mut bytes, mut floats] =
        [&model, &between_floats(&model)].map(|model| engine(model, BATCH, &kept, &options(2)));
    bytes.forward(&images).unwrap();
    floats.forward(&images).unwrap();
    for name in kept {
        let scale = model.tensors[format!("{name}.scale").as_str()].as_f32().unwrap()[0];
        let (x, y) = (bytes.node_value(name).unwrap(), floats.node_value(name).unwrap());
        let steps: Vec<f32> = x.iter().zip(y).map(|(x, y)| ((x - y) / scale).abs()).collect();
        assert!(steps.iter().all(|step| *step < 1.01), "{name}");
        let others = steps.iter().filter(|step| **step > 0.01).count();
        assert!(others * 20 < steps.len(), "{name}: {others} of {} differ", steps.len());
    }
}

#[test]
fn all_instruction_sets_and_numbers_of_threads_give_the_same_bits() {
    for model in networks().into_iter().filter(|model| is_bytes_throughout(&model.graph)) {
        let model = quantized(&model);
        let images = images(&model, BATCH);
        let results: Vec<Vec<f32>> = Isa::available()
            .into_iter()
            .flat_map(|isa| [1, 3].map(|threads| Options::new(isa, Arc::new(Pool::new(threads)))))
            .map(|options| {
                let mut engine = engine(&model, BATCH, &[], &options);
                engine.forward(&images).unwrap();
                engine.output().to_vec()
            })
            .collect();
        assert!(results.iter().all(|result| *result == results[0]), "{}", model.graph.name);
        // Nor does it matter what else is in the batch.
        let mut single = engine(&model, 1, &[], &options(2));
        let (len, classes) = (images.len() / BATCH, results[0].len() / BATCH);
        for (image, logits) in images.chunks_exact(len).zip(results[0].chunks_exact(classes)) {
            single.forward(image).unwrap();
            assert_eq!(single.output(), logits, "{}", model.graph.name);
        }
    }
}

/// Whether nothing but layers of bytes, poolings and sums is between the image and the logits.
fn is_bytes_throughout(graph: &Graph) -> bool {
    graph.nodes.iter().all(|node| {
        matches!(
            node.op,
            Op::Input { .. } | Op::Conv2d(_) | Op::Linear { .. } | Op::BatchNorm2d { .. } | Op::Relu | Op::Add
        ) || matches!(node.op, Op::MaxPool2d(_) | Op::GlobalAvgPool | Op::Flatten | Op::PadShortcut { .. })
            || matches!(node.op, Op::Dropout { .. })
    }) && !graph.name.starts_with("preact")
}

#[test]
fn layers_of_floats_and_bytes_go_together() {
    let model = model(every_op());
    let names = ["a", "up", "se_fc", "strided", "narrow"];
    let model = quantized_where(&model, |name| names.contains(&name));
    let images = images(&model, BATCH);
    let [mut bytes, mut floats] = [&model, &between_floats(&model)].map(|model| engine(model, BATCH, &[], &options(2)));
    bytes.forward(&images).unwrap();
    floats.forward(&images).unwrap();
    for (x, y) in bytes.output().iter().zip(floats.output()) {
        assert!((x - y).abs() < 0.05, "{x} {y}");
    }
}

#[test]
fn a_quantised_weight_alone_is_one_of_floats() {
    let model = model(wide());
    let folded = fold_batch_norm(&model, &[]);
    let weight = QuantizedWeight::nearest(&folded.tensors["c.weight"], WeightBits::Eight);
    let packed = quantize(&folded, &HashMap::from([("c".to_owned(), weight)]), &HashMap::new()).unwrap();
    let images = images(&model, BATCH);
    let [mut packed, mut unpacked] =
        [&packed, &dequantize(&packed)].map(|model| engine(model, BATCH, &[], &options(2)));
    packed.forward(&images).unwrap();
    unpacked.forward(&images).unwrap();
    assert_eq!(packed.output(), unpacked.output());
}

/// A convolution and a linear layer, and the value between them, in the ranges of each batch.
#[test]
fn dynamic_quantisation_is_that_of_the_batchs_ranges() {
    let mut net = Builder::new("dynamic", [3, 8, 8]);
    let x = net.conv("conv", net.input(), Conv2d::new(3, 6, 3).padding(1).bias()).unwrap();
    let x = net.max_pool("pool", x, Pool2d::new(2, 2, 0)).unwrap();
    let x = net.flatten("flat", x).unwrap();
    let x = net.linear("fc", x, 5, true).unwrap();
    let floats = model(net.finish(x).unwrap());
    let weight = |layer: &str| {
        let weight = &floats.tensors[format!("{layer}.weight").as_str()];
        (layer.to_owned(), QuantizedWeight::nearest(weight, WeightBits::Eight))
    };
    let weights: HashMap<_, _> = ["conv", "fc"].map(weight).into();
    let dynamic = quantize_dynamic(&floats, &weights).unwrap();
    let mut run = engine(&dynamic, BATCH, &["conv"], &options(2));
    for scale in [1.0, 0.3] {
        let images: Vec<f32> = images(&floats, BATCH).iter().map(|value| value * scale).collect();
        run.forward(&images).unwrap();
        // Static quantisation in the same ranges gives the same up to rounding.
        let range = |values: &[f32]| {
            let [least, greatest] = [f32::min, f32::max].map(|pick| values.iter().copied().fold(0.0, pick));
            Quantization::of_range(least, greatest)
        };
        let values = [("input", range(&images)), ("conv", range(run.node_value("conv").unwrap()))];
        let fixed = quantize(&floats, &weights, &values.map(|(name, value)| (name.to_owned(), value)).into()).unwrap();
        let mut fixed = engine(&fixed, BATCH, &["conv"], &options(1));
        fixed.forward(&images).unwrap();
        let largest = fixed.output().iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        for (value, expected) in run.output().iter().zip(fixed.output()) {
            assert!((value - expected).abs() <= 1e-5 * largest, "{value} against {expected}");
        }
    }
    // The range of a batch is not that of one image.
    let images = images(&floats, BATCH);
    run.forward(&images).unwrap();
    let together = run.output()[..5].to_vec();
    run.forward(&images[..images.len() / BATCH]).unwrap();
    assert_ne!(run.output(), together);
}

#[test]
fn packing_on_use_and_other_sessions_change_nothing() {
    let model = quantized(&model(every_op()));
    let images = images(&model, BATCH);
    let [_, height, width] = model.graph.input_size();
    let mut first = engine(&model, BATCH, &[], &options(2));
    first.forward(&images).unwrap();
    let compiled = CompiledModel::new(&model, BATCH, [height, width], &[], &options(1)).unwrap();
    let mut session = compiled.session(&Arc::new(Pool::new(2))).unwrap();
    session.forward(&images).unwrap();
    assert_eq!(session.output(), first.output());
    let mut lazy = engine(&model, BATCH, &[], &packed_on_use(true, options(2)));
    lazy.forward(&images).unwrap();
    for (x, y) in lazy.output().iter().zip(first.output()) {
        assert!((x - y).abs() < 1e-2, "{x} {y}");
    }
}

#[test]
fn new_weights_bring_their_scales() {
    let first = quantized(&model(wide()));
    let mut other = first.clone();
    for tensor in other.tensors.iter_mut().filter(|(key, _)| key.ends_with("scale")).map(|(_, tensor)| tensor) {
        tensor.as_f32_mut().unwrap().iter_mut().for_each(|scale| *scale *= 1.25);
    }
    let images = images(&first, BATCH);
    let mut expected = engine(&other, BATCH, &[], &options(1));
    expected.forward(&images).unwrap();
    let mut loaded = engine(&first, BATCH, &[], &options(1));
    loaded.forward(&images).unwrap();
    assert_ne!(loaded.output(), expected.output());
    loaded.load_model(&other).unwrap();
    loaded.forward(&images).unwrap();
    assert_eq!(loaded.output(), expected.output());
}

/// What a file can say, but no machine can hold, and sums that 32 bits do not hold.
#[test]
fn extents_beyond_the_kernels_are_refused_or_computed_in_floats() {
    let conv = Conv2d::new(2, 2, 2).groups(2).padding(1 << 20).dilation(1 << 20).bias();
    let mut net = Builder::new("wide_padding", [2, 2, 2]);
    let x = net.conv("conv", net.input(), conv.stride(1 << 20)).unwrap();
    let folded = model(net.finish(x).unwrap());
    let weight = QuantizedWeight::nearest(&folded.tensors["conv.weight"], WeightBits::Eight);
    let values = HashMap::from([("input".to_owned(), Quantization::of_range(-1.0, 1.0))]);
    let wide = quantize(&folded, &HashMap::from([("conv".to_owned(), weight)]), &values).unwrap();
    let error = Engine::new(&wide, Mode::Infer, 1, [2, 2], &[], &options(2)).unwrap_err();
    assert!(matches!(error, EngineError::Memory { .. }), "{error}");

    let mut net = Builder::new("mean", [1, 8, 8]);
    let x = net.conv("conv", net.input(), Conv2d::new(1, 1, 1).bias()).unwrap();
    let x = net.global_avg_pool("mean", x).unwrap();
    let x = net.linear("fc", x, 2, true).unwrap();
    let mean = quantized(&model(net.finish(x).unwrap()));
    for (side, is_floats) in [(8, false), (4095, false), (4096, true)] {
        let summary = PlanSummary::new(&mean, Mode::Infer, 1, [side; 2], &[], &options(1)).unwrap();
        assert_eq!(summary.steps().any(|step| step.work == "dequantize"), is_floats, "{side}");
    }
}

#[test]
fn bytes_take_less_memory_and_have_no_gradients() {
    let floats = model(residual_zoo::build("resnet20_a", 10).unwrap());
    let model = quantized(&floats);
    let [large, small] = [&floats, &model].map(|model| engine(model, 8, &[], &options(1)).memory().values);
    assert!(small * 2 < large, "{small} against {large} bytes");
    for mode in [Mode::Train, Mode::Eval] {
        let error = Engine::new(&model, mode, 2, [32, 32], &[], &options(1)).unwrap_err();
        assert!(matches!(&error, EngineError::Unsupported { .. }), "{error}");
    }
}
