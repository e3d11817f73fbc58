//! What training leaves frozen costs nothing in the backward pass, and changes nothing else.

use residual_engine::{Engine, Frozen, GradientOptions, Mode, Options, Pass};
use residual_graph::Op;
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::{NamedTensors, Stream};
use std::sync::Arc;

const BATCH: usize = 6;

fn resnet20() -> Model {
    let graph = residual_zoo::build("resnet20", 5).unwrap();
    let mut tensors = initialise(&graph, Initialisation::Torch, 1);
    for (index, (key, tensor)) in tensors.iter_mut().enumerate() {
        if key.contains("running_") {
            let mut stream = Stream::new(2, &[index as u64]);
            tensor.as_f32_mut().unwrap().iter_mut().for_each(|value| *value = stream.range(0.5, 1.5));
        }
    }
    Model::new(graph, tensors, Preprocessing::unscaled([32, 32], &[0.0; 3], &[1.0; 3]), Vec::new()).unwrap()
}

/// A small ConvNeXt.
fn convnext() -> Model {
    let text = "family = \"convnext\"\ndepths = [1, 1, 1, 1]\nwidths = [16, 16, 24, 32]\ndrop_path = 0\nimage_size = 32\nnum_classes = 5\n";
    let graph = residual_zoo::from_toml(text).unwrap().graph().unwrap();
    let mut tensors = initialise(&graph, Initialisation::Torch, 1);
    for tensor in tensors.values_mut() {
        let mut stream = Stream::new(4, &[]);
        tensor.as_f32_mut().unwrap().iter_mut().for_each(|value| *value += stream.range(-0.1, 0.1));
    }
    Model::new(graph, tensors, Preprocessing::unscaled([32, 32], &[0.0; 3], &[1.0; 3]), Vec::new()).unwrap()
}

/// An engine whose nodes named so are frozen, after a step forward and back.
fn trained(model: &Model, is_frozen: fn(&str) -> bool, statistics: bool, again: bool) -> Engine {
    let names = model.graph.nodes.iter().map(|node| node.name.clone());
    let parameters: std::collections::BTreeSet<String> = names.filter(|name| is_frozen(name)).collect();
    let is_norm = |name: &&String| {
        matches!(model.graph.node(model.graph.find(name).unwrap()).op, Op::BatchNorm2d { .. }) && statistics
    };
    let statistics = parameters.iter().filter(is_norm).cloned().collect();
    let frozen = Arc::new(Frozen { parameters, statistics });
    let gradients = GradientOptions { checkpointing: again, frozen, ..GradientOptions::default() };
    let options = Options { gradients, ..Options::threads(2) };
    let mut engine = Engine::new(model, Mode::Train, BATCH, [32, 32], &[], &options).unwrap();
    let mut stream = Stream::new(3, &[]);
    let images: Vec<f32> = (0..BATCH * 32 * 32 * 3).map(|_| stream.normal()).collect();
    engine.forward(&images).unwrap();
    let seed: Vec<f32> = (0..BATCH * 5).map(|_| stream.normal()).collect();
    let head = model.graph.node(model.graph.output).name.clone();
    engine.backward(&[(&head, &seed)]).unwrap();
    engine
}

fn backward_nodes(engine: &Engine) -> Vec<&str> {
    engine.steps().filter(|step| step.pass == Pass::Backward).map(|step| step.node).collect()
}

fn bits(tensors: &NamedTensors) -> Vec<(&str, Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    tensors.iter().filter_map(|(key, tensor)| Some((key.as_str(), bits(tensor.as_f32()?)))).collect()
}

#[test]
fn a_frozen_backbone_has_no_backward_work_and_no_gradients() {
    let model = resnet20();
    let whole = trained(&model, |_| false, false, false);
    let mut head = trained(&model, |name| name != "fc", false, false);
    assert_eq!(backward_nodes(&head), ["fc"]);
    assert_eq!(head.gradients().keys().collect::<Vec<_>>(), ["fc.weight", "fc.bias"]);
    let flat = head.flat_mut();
    assert_eq!((flat.values.len(), flat.gradients.len()), (64 * 5 + 16, 64 * 5 + 16));
    assert_eq!(flat.entries.len(), 2);
    let (head, whole) = (head.memory(), whole.memory());
    assert!(8 * head.values < whole.values, "{head:?} of {whole:?}");
    assert_eq!(head.parameters + 4 * (model.graph.parameter_count() - 64 * 5 - 5), whole.parameters);
}

#[test]
fn nothing_goes_back_below_the_lowest_trained_layer() {
    let model = resnet20();
    let engine = trained(&model, |name| !name.starts_with("layer3") && name != "fc", false, false);
    let nodes = backward_nodes(&engine);
    let is_above = |name: &&str| name.starts_with("layer3") || ["avgpool", "flatten", "fc"].contains(name);
    assert!(nodes.iter().all(is_above), "{nodes:?}");
    // The lowest layers need their own gradients, but pass none on.
    let of = |node: &str| engine.steps().filter(|step| step.pass == Pass::Backward && step.node == node).count();
    assert_eq!((of("layer3.0.conv1"), of("layer3.0.conv2")), (1, 2));
}

#[test]
fn what_is_trained_has_the_gradients_it_would_have_without_frozen_parts() {
    let model = resnet20();
    for again in [false, true] {
        let whole = trained(&model, |_| false, false, again).gradients();
        let cases: [fn(&str) -> bool; 4] = [
            |name| name != "fc",
            |name| !name.starts_with("layer3") && name != "fc",
            // Frozen above what is trained: gradients pass through.
            |name| name.starts_with("layer2") || name.starts_with("layer3.1"),
            |name| name.contains("bn"),
        ];
        for is_frozen in cases {
            let part = trained(&model, is_frozen, false, again).gradients();
            let expected: NamedTensors = whole.clone().into_iter().filter(|(key, _)| part.contains_key(key)).collect();
            let expected_count = model.graph.nodes.iter().filter(|node| !is_frozen(&node.name));
            assert!(part.keys().all(|key| !is_frozen(key.rsplit_once('.').unwrap().0)));
            assert!(expected_count.count() > 0 && bits(&part) == bits(&expected));
        }
    }
}

#[test]
fn frozen_statistics_are_used_and_kept_and_others_follow_the_batch() {
    let model = resnet20();
    let before = bits(&model.tensors);
    let is_frozen = |name: &str| !name.starts_with("layer3") && name != "fc";
    for statistics in [false, true] {
        let engine = trained(&model, is_frozen, statistics, false);
        let after = engine.state_dict();
        for ((key, old), (_, new)) in before.iter().zip(bits(&after)) {
            let follows = key.contains("running_") && (key.starts_with("layer3") || !statistics);
            assert_eq!(*old != new, follows, "{key}");
        }
    }
    // With every statistic frozen, training computes the same as evaluation.
    let all = trained(&model, |name| name.contains("bn") || name.contains("downsample.1"), true, false);
    let mut frozen = Engine::new(&model, Mode::Eval, BATCH, [32, 32], &[], &Options::threads(1)).unwrap();
    let mut stream = Stream::new(3, &[]);
    let images: Vec<f32> = (0..BATCH * 32 * 32 * 3).map(|_| stream.normal()).collect();
    frozen.forward(&images).unwrap();
    let seed: Vec<f32> = (0..BATCH * 5).map(|_| stream.normal()).collect();
    frozen.backward(&[("fc", &seed)]).unwrap();
    assert_eq!(all.output(), frozen.output());
    let expected = frozen.gradients();
    for (key, values) in bits(&all.gradients()) {
        assert!(bits(&expected).contains(&(key, values)), "{key}");
    }
}

#[test]
fn layer_norms_and_scales_pass_gradients_on_where_they_are_frozen() {
    let model = convnext();
    for again in [false, true] {
        let whole = trained(&model, |_| false, false, again).gradients();
        let cases: [fn(&str) -> bool; 3] = [
            // Frozen above what is trained, and below it.
            |name| name.starts_with("features.3") || name.starts_with("classifier"),
            |name| !name.starts_with("classifier"),
            |name| !name.starts_with("features.3"),
        ];
        for is_frozen in cases {
            let part = trained(&model, is_frozen, false, again).gradients();
            let expected: NamedTensors = whole.clone().into_iter().filter(|(key, _)| part.contains_key(key)).collect();
            assert!(part.keys().len() > 1 && part.len() < whole.len());
            assert_eq!(bits(&part), bits(&expected));
        }
    }
}
