//! Pruned networks compute what the original computes without the removed channels, and are networks like any other.

use residual_compress::{
    Calibration, CalibrationImages, QuantizeOptions, RangeMethod, Rounding, Scheme, TrainingImages,
    recalibrate_batch_norms,
};
use residual_data::{Loader, LoaderOptions, Shapes, Split, Subset, Transform};
use residual_engine::{Engine, Mode, Options};
use residual_graph::{ChannelGroup, Graph, UnitId};
use residual_kernels::Isa;
use residual_kernels::loss::{Targets, cross_entropy};
use residual_model::{Initialisation, Model, initialise, prune_channels, remove_blocks};
use residual_onnx::OnnxModel;
use residual_preprocess::Preprocessing;
use residual_tensor::Stream;
use residual_threads::Pool;
use residual_zoo::{
    Block, CifarResNeXt, CifarResNet, Config, ConvNeXt, DenseNet, Family, GoogLeNet, LectureResNet, Plain,
    PreActResNet, ResNet, ResNetV2, Shortcut, Vgg, WideResNet,
};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const SIZE: usize = 32;
const CLASSES: usize = 5;
const BATCH: usize = 4;

/// A small member of every family, and of every option that couples channels in another way.
fn families() -> Vec<(&'static str, Family)> {
    let widths = [16, 32, 48, 64];
    let resnet = |block| ResNet { widths, stem_width: 16, ..ResNet::new(block, [1, 2, 1, 1]) };
    let vgg =
        |batch_norm| Vgg { depths: [1, 1, 2, 1, 1], widths: [8, 16, 24, 32, 40], hidden: 48, ..Vgg::vgg19(batch_norm) };
    vec![
        ("basic", resnet(Block::Basic).into()),
        ("bottleneck", resnet(Block::Bottleneck).into()),
        ("d", resnet(Block::Bottleneck).d().into()),
        ("se", ResNet { squeeze_excitation: true, ..resnet(Block::Bottleneck) }.into()),
        ("resnext", ResNet { cardinality: 4, base_width: 32, ..resnet(Block::Bottleneck) }.into()),
        ("cifar b", CifarResNet::new(2, Shortcut::Projection).into()),
        ("cifar a", CifarResNet::new(2, Shortcut::Padding).into()),
        ("cifar bottleneck", CifarResNet::bottleneck(1).into()),
        ("preact", PreActResNet::cifar(Block::Basic, 2).into()),
        ("preact bottleneck", PreActResNet::cifar(Block::Bottleneck, 1).into()),
        ("resnetv2", ResNetV2 { widths: [32, 64, 96, 128], stem_width: 16, ..ResNetV2::new([1, 2, 1, 1]) }.into()),
        ("wide", WideResNet::new(10, 2).into()),
        (
            "cifar resnext",
            CifarResNeXt { depths: [1, 2, 1], cardinality: 4, base_width: 4, out_width: 32, stem_width: 16 }.into(),
        ),
        ("convnext", ConvNeXt::new([1, 2, 1, 1], [16, 24, 32, 40], 0.1).into()),
        ("plain", Plain::cifar(1).into()),
        ("vgg", vgg(false).into()),
        ("vgg bn", vgg(true).into()),
        ("densenet", DenseNet { depths: [2; 4], growth_rate: 8, stem_width: 16, bottleneck: 2, dropout: 0.1 }.into()),
        ("googlenet", GoogLeNet::default().into()),
        ("lecture", LectureResNet { depths: [1, 2, 1, 1], widths: [8, 16, 24, 32] }.into()),
    ]
}

/// Random values, also of norms and their statistics.
fn model(graph: Graph) -> Model {
    let mut tensors = initialise(&graph, Initialisation::usual(&graph), 1);
    for (index, (key, _)) in graph.parameters().enumerate() {
        let mut stream = Stream::new(2, &[index as u64]);
        let kind = key.rsplit('.').next().unwrap_or_default();
        let is_weight_of_norm = kind == "weight" && tensors[&key].shape().len() == 1;
        let Some(values) = tensors[&key].as_f32_mut() else { continue };
        for value in values {
            match kind {
                "running_var" => *value = stream.normal().exp(),
                "running_mean" | "bias" => *value = 0.2 * stream.normal(),
                "layer_scale" => *value = stream.normal(),
                _ if is_weight_of_norm => *value = 1.0 + 0.3 * stream.normal(),
                _ => {}
            }
        }
    }
    Model::new(graph, tensors, Preprocessing::unscaled([SIZE; 2], &[0.5; 3], &[0.25; 3]), Vec::new()).unwrap()
}

fn options() -> Options {
    Options::new(Isa::detect(), Arc::new(Pool::new(2)))
}

fn noise(images: usize) -> Vec<f32> {
    let mut stream = Stream::new(3, &[]);
    (0..images * SIZE * SIZE * 3).map(|_| stream.normal()).collect()
}

fn logits(model: &Model) -> Vec<f32> {
    let mut engine = Engine::new(model, Mode::Infer, BATCH, [SIZE; 2], &[], &options()).unwrap();
    engine.forward(&noise(BATCH)).unwrap();
    engine.output().to_vec()
}

/// A third of the units of every group, at random.
fn third(groups: &[ChannelGroup]) -> Vec<UnitId> {
    let of = |(group, channels): (usize, &ChannelGroup)| {
        let mut units: Vec<usize> = (0..channels.units.len()).collect();
        Stream::new(4, &[group as u64]).shuffle(&mut units);
        units.truncate(channels.units.len().div_ceil(3).min(channels.units.len() - 1));
        units.into_iter().map(move |unit| UnitId { group, unit }).collect::<Vec<_>>()
    };
    groups.iter().enumerate().flat_map(of).collect()
}

/// The original with the same channels zero: their filters and biases, and the weights and biases of norms that would shift them.
fn zeroed(model: &Model, groups: &[ChannelGroup], removed: &[UnitId]) -> Model {
    let mut tensors = model.tensors.clone();
    for channel in removed.iter().flat_map(|id| &groups[id.group].units[id.unit].channels) {
        let node = model.graph.node(channel.node);
        for spec in node.op.parameters().iter().filter(|spec| spec.role.is_parameter()) {
            let values = tensors[node.key(spec.name).as_str()].as_f32_mut().unwrap();
            let row = values.len() / spec.shape[0];
            values[channel.index * row..][..row].fill(0.0);
        }
    }
    model.with_tensors(tensors).unwrap()
}

fn assert_close(name: &str, got: &[f32], expected: &[f32]) {
    let scale = expected.iter().fold(1e-3f32, |scale, value| scale.max(value.abs()));
    let largest = got.iter().zip(expected).fold(0.0f32, |largest, (a, b)| largest.max((a - b).abs()));
    assert!(largest <= 1e-4 * scale, "{name}: {largest} of {scale}");
}

/// A step of training has finite gradients.
fn trains(name: &str, model: &Model) {
    let mut engine = Engine::new(model, Mode::Train, BATCH, [SIZE; 2], &[], &options()).unwrap();
    engine.forward(&noise(BATCH)).unwrap();
    let mut seed = vec![0.0; BATCH * CLASSES];
    let loss = cross_entropy(engine.output(), Targets::Hard(&[1, 3, 0, 4]), CLASSES, 0.0, Some(&mut seed));
    engine.backward_output(&seed).unwrap();
    let gradients = engine.flat_mut().gradients.to_vec();
    assert!(loss.is_finite() && gradients.iter().all(|gradient| gradient.is_finite()), "{name}");
    assert!(gradients.iter().any(|gradient| *gradient != 0.0), "{name}");
}

#[test]
fn a_pruned_member_of_every_family_is_the_original_with_zeroed_channels() {
    let mut names = std::collections::HashSet::new();
    for (name, family) in families() {
        names.insert(std::mem::discriminant(&family));
        let config = Config { num_classes: CLASSES, image_size: [SIZE; 2], ..Config::new(name, family) };
        let original = model(config.graph().unwrap());
        let groups = original.graph.channel_groups().unwrap();
        let removed = third(&groups);
        let pruned = prune_channels(&original, &removed).unwrap();
        pruned.graph.validate().unwrap();
        assert!(pruned.graph.parameter_count() < original.graph.parameter_count(), "{name}");
        assert_close(name, &logits(&pruned), &logits(&zeroed(&original, &groups, &removed)));
        trains(name, &pruned);
        let calibrated = Calibration::new(
            &pruned,
            &CalibrationImages::new(noise(8), SIZE * SIZE * 3).unwrap(),
            &QuantizeOptions {
                scheme: Scheme::Static,
                rounding: Rounding::Nearest,
                seed: 0,
                method: RangeMethod::MinMax,
                bias_correction: false,
                equalize: false,
                engine: options(),
            },
            &AtomicBool::new(false),
            &mut |_| (),
        );
        let quantized = calibrated.unwrap().unwrap().model(&[]).unwrap();
        assert!(logits(&quantized).iter().all(|logit| logit.is_finite()), "{name}");
        let mut file = Vec::new();
        OnnxModel::new(&pruned).unwrap().write(&mut file).unwrap();
        assert!(!file.is_empty(), "{name}");
        // It is pruned again as it was the first time.
        let groups = pruned.graph.channel_groups().unwrap();
        let removed = third(&groups);
        let again = prune_channels(&pruned, &removed).unwrap();
        assert_close(name, &logits(&again), &logits(&zeroed(&pruned, &groups, &removed)));
    }
    assert_eq!(names.len(), 12, "a member of every family");
}

/// A branch that ends in zeros adds nothing.
#[test]
fn a_network_without_a_block_is_the_original_whose_branch_is_zero() {
    for (name, family) in families() {
        let config = Config { num_classes: CLASSES, image_size: [SIZE; 2], ..Config::new(name, family) };
        let original = model(config.graph().unwrap());
        let blocks = original.graph.residual_blocks();
        let Some(block) = blocks.first() else { continue };
        let mut tensors = original.tensors.clone();
        for id in &block.branch {
            let node = original.graph.node(*id);
            for spec in node.op.parameters().iter().filter(|spec| spec.role.is_parameter()) {
                tensors[node.key(spec.name).as_str()].as_f32_mut().unwrap().fill(0.0);
            }
        }
        let zeroed = original.with_tensors(tensors).unwrap();
        let less = remove_blocks(&original, std::slice::from_ref(block)).unwrap();
        assert_close(name, &logits(&less), &logits(&zeroed));
        trains(name, &less);
    }
}

/// Of one batch, the mean and variance of the first convolution's results are computed here as well.
#[test]
fn recalibrated_statistics_are_those_of_the_images() {
    let original = model(residual_zoo::build("resnet20", 10).unwrap());
    let count = 60;
    let dataset = Arc::new(Subset::new(Arc::new(Shapes::new(0, Split::Train)), (0..count).collect()));
    let images = TrainingImages { dataset, workers: 0, skip_bad_images: false };
    let stop = AtomicBool::new(false);
    let recalibrated = recalibrate_batch_norms(&original, &images, &options(), &stop, &mut |_, _| ()).unwrap().unwrap();
    let transform = Transform::evaluation(original.preprocessing.clone()).unwrap();
    let whole = LoaderOptions { batch_size: count, ..LoaderOptions::default() };
    let batch = Loader::new(Arc::clone(&images.dataset), transform, whole).unwrap().next().unwrap().unwrap();
    let mut engine = Engine::new(&original, Mode::Eval, count, [SIZE; 2], &["conv1"], &options()).unwrap();
    engine.forward(batch.images()).unwrap();
    let values = engine.node_value("conv1").unwrap();
    let pixels = values.len() / 16;
    for channel in 0..16 {
        let of = || values.iter().skip(channel).step_by(16).map(|&value| f64::from(value));
        let mean = of().sum::<f64>() / pixels as f64;
        let variance = of().map(|value| (value - mean).powi(2)).sum::<f64>() / (pixels - 1) as f64;
        for (key, expected) in [("bn1.running_mean", mean), ("bn1.running_var", variance)] {
            let got = f64::from(recalibrated.tensors[key].as_f32().unwrap()[channel]);
            assert!((got - expected).abs() <= 1e-4 * expected.abs().max(0.1), "{key}: {got}, expected {expected}");
        }
    }
    assert_eq!(recalibrated.tensors["conv1.weight"], original.tensors["conv1.weight"]);
    assert_ne!(recalibrated.tensors["layer3.2.bn2.running_mean"], original.tensors["layer3.2.bn2.running_mean"]);
    assert_eq!(recalibrated.graph, original.graph);
}
