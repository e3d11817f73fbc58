//! What is removed: scores against what they estimate, and selections under made-up costs.

use residual_compress::{
    Allocation, CompressError, Criterion, LatencyCost, LayerCost, Macs, Saliency, SelectOptions, Selection,
    TrainingImages, select,
};
use residual_data::{Dataset, Shapes, Split, Subset};
use residual_engine::{Engine, Mode, Options};
use residual_graph::{Builder, Conv2d, Graph, NodeId, Op, UnitId};
use residual_infer::{EvaluateOptions, LatencyTable, evaluate};
use residual_kernels::Isa;
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::{NamedTensors, Tensor};
use residual_threads::Pool;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn options() -> Options {
    Options::new(Isa::detect(), Arc::new(Pool::new(1)))
}

fn images(count: usize) -> TrainingImages {
    let dataset = Arc::new(Subset::new(Arc::new(Shapes::new(0, Split::Train)), (0..count).collect()));
    TrainingImages { dataset, workers: 0, skip_bad_images: false }
}

fn model(graph: Graph, tensors: NamedTensors) -> Model {
    Model::new(graph, tensors, Preprocessing::unscaled([32, 32], &[0.5; 3], &[0.25; 3]), Vec::new()).unwrap()
}

fn resnet20() -> Model {
    let graph = residual_zoo::build("resnet20", 10).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    model(graph, tensors)
}

fn measure(criterion: Criterion, model: &Model, images: &TrainingImages) -> Result<Saliency, CompressError> {
    let groups = model.graph.channel_groups().unwrap();
    let measured =
        Saliency::measure(criterion, model, &groups, images, 7, &options(), &AtomicBool::new(false), &mut |_, _| ());
    Ok(measured?.expect("nothing stops it"))
}

/// Two convolutions of 4 and 2 channels whose filters have the mean magnitudes 1, 2, 3, 4 and 1, 7, and a block around the second.
fn two_layers() -> Model {
    let mut net = Builder::new("two", [3, 32, 32]);
    let x = net.conv("conv1", net.input(), Conv2d::new(3, 4, 1)).unwrap();
    let x = net.batch_norm("bn1", x).unwrap();
    let y = net.conv("conv2", x, Conv2d::new(4, 2, 1)).unwrap();
    let y = net.conv("conv3", y, Conv2d::new(2, 4, 1)).unwrap();
    let x = net.add("block.add", y, x).unwrap();
    let x = net.global_avg_pool("mean", x).unwrap();
    let x = net.linear("fc", x, 10, false).unwrap();
    let graph = net.finish(x).unwrap();
    let mut tensors = initialise(&graph, Initialisation::Torch, 1);
    let filled = |sizes: &[f32], columns: usize| -> Tensor {
        let values =
            sizes.iter().flat_map(|&size| (0..columns).map(move |place| if place % 2 == 0 { size } else { -size }));
        Tensor::f32(&[sizes.len(), columns, 1, 1], values.collect())
    };
    tensors.insert("conv1.weight".into(), filled(&[1.0, 2.0, 3.0, 4.0], 3));
    tensors.insert("conv2.weight".into(), filled(&[1.0, 7.0], 4));
    tensors.insert("conv3.weight".into(), filled(&[4.0, 3.0, 2.0, 1.0], 2));
    tensors.insert("bn1.weight".into(), Tensor::f32(&[4], vec![-3.0, 1.0, 1.0, 1.0]));
    model(graph, tensors)
}

#[test]
fn magnitudes_are_relative_to_their_group_and_add_up_over_its_layers() {
    let two = two_layers();
    let groups = two.graph.channel_groups().unwrap();
    let of = |criterion| -> Vec<Vec<f64>> {
        let saliency = measure(criterion, &two, &images(1)).unwrap();
        groups.iter().map(|group| group.units.iter().map(|unit| saliency.of_unit(unit)).collect()).collect()
    };
    // Of the outer channels, conv1 and conv3 have 1 + 4, 2 + 3, … over a mean of 2.5 for each of 4 filters; of the inner ones,
    // conv2 has 1 and 7 over a mean of 4 for each of 2.
    let close = |got: &f64, expected: f64| (got - expected).abs() < 1e-12;
    let [outer, inner] = of(Criterion::L1).try_into().unwrap();
    assert!(outer.iter().all(|score| close(score, 0.5)), "{outer:?}");
    assert!(close(&inner[0], 0.125) && close(&inner[1], 0.875), "{inner:?}");
    let error = measure(Criterion::BatchNorm, &two, &images(1)).unwrap_err().to_string();
    assert_eq!(error, "criterion bn: expected a batch norm of all channels, got none of those of \"conv2\"");
    let random = of(Criterion::Random);
    assert!(random.iter().flatten().all(|score| (0.0..2.0).contains(score)) && random[1][0] != random[1][1]);
    assert_eq!(random, of(Criterion::Random));
}

#[test]
fn scales_of_batch_norms_are_scores_where_all_channels_have_one() {
    let mut net = resnet20();
    let values = (0..16).map(|index| if index == 5 { -3.0 } else { 1.0 }).collect();
    net.tensors.insert("layer1.0.bn1.weight".into(), Tensor::f32(&[16], values));
    let groups = net.graph.channel_groups().unwrap();
    let inner = groups.iter().find(|group| group.name == "layer1.0.conv1").unwrap();
    let saliency = measure(Criterion::BatchNorm, &net, &images(1)).unwrap();
    let mean = (15.0 + 3.0) / 16.0;
    for (index, unit) in inner.units.iter().enumerate() {
        let expected = if index == 5 { 3.0 } else { 1.0 } / mean / 16.0;
        assert!((saliency.of_unit(unit) - expected).abs() < 1e-12);
    }
}

/// The score is the derivative of the loss with respect to a factor of the channel, here of a batch norm's weight and bias, or of a
/// layer without one.
#[test]
fn the_taylor_criterion_is_the_derivative_by_a_factor_of_the_channel() {
    let mut net = resnet20();
    for (index, (_, tensor)) in net.tensors.iter_mut().filter(|(key, _)| key.ends_with(".bias")).enumerate() {
        let bias = |place: usize| ((index * 31 + place * 17) % 10) as f32 / 20.0 - 0.2;
        tensor.as_f32_mut().unwrap().iter_mut().enumerate().for_each(|(place, value)| *value = bias(place));
    }
    // One batch: its magnitude is that of the sum over all images.
    let images = images(24);
    let saliency = measure(Criterion::Taylor, &net, &images).unwrap();
    let groups = net.graph.channel_groups().unwrap();
    let loss = |model: &Model| {
        let options = EvaluateOptions { engine: options(), ..EvaluateOptions::default() };
        let dataset: Arc<dyn Dataset> = Arc::clone(&images.dataset);
        evaluate(model, &dataset, &options, &AtomicBool::new(false), &mut |_, _| ()).unwrap().unwrap().calibration.loss
    };
    let scaled = |factor: f32, norm: &str, channel: usize| {
        let mut tensors = net.tensors.clone();
        for name in ["weight", "bias"] {
            tensors[format!("{norm}.{name}").as_str()].as_f32_mut().unwrap()[channel] *= factor;
        }
        loss(&net.with_tensors(tensors).unwrap())
    };
    let step = 0.02;
    for (layer, norm) in [("layer1.0.conv1", "layer1.0.bn1"), ("layer3.1.conv1", "layer3.1.bn1")] {
        let group = groups.iter().find(|group| group.name == layer).unwrap();
        for channel in [0, 3, 7] {
            let derivative =
                (scaled(1.0 + step, norm, channel) - scaled(1.0 - step, norm, channel)) / (2.0 * f64::from(step));
            let score = saliency.of_unit(&group.units[channel]);
            let difference = (score - derivative.abs()).abs();
            assert!(difference <= 0.05 * score + 2e-5, "{layer} {channel}: {score}, expected {derivative}");
        }
    }
}

/// A cost of one for each output channel of a layer.
struct Outputs<'a>(&'a Graph);

impl LayerCost for Outputs<'_> {
    fn cost(&mut self, id: NodeId, _input: usize, output: usize) -> Result<f64, CompressError> {
        Ok(if self.0.node(id).op.is_layer() { output as f64 } else { 0.0 })
    }
}

const EXACT: SelectOptions = SelectOptions { allocation: Allocation::Global, round: 1, blocks: false };

fn selected(
    model: &Model,
    costs: &mut dyn LayerCost,
    budget: f64,
    options: SelectOptions,
) -> Result<Selection, CompressError> {
    let groups = model.graph.channel_groups().unwrap();
    let saliency = measure(Criterion::L1, model, &images(1)).unwrap();
    select(&model.graph, &groups, &saliency, costs, budget, &options)
}

/// In all 20 outputs. A unit of the outer channels has a saliency of 0.5 and saves two; one of the inner saves one and has 0.125 or 0.875.
#[test]
fn what_has_the_least_saliency_for_its_cost_goes_first() {
    let two = two_layers();
    let mut costs = Outputs(&two.graph);
    let cost = |budget: f64, costs: &mut Outputs<'_>| selected(&two, costs, budget, EXACT).unwrap();
    let inner = UnitId { group: 1, unit: 0 };
    let outer = |unit| UnitId { group: 0, unit };
    assert_eq!(cost(20.0, &mut costs).units, []);
    assert_eq!(
        cost(19.0, &mut costs),
        Selection { units: vec![inner], blocks: Vec::new(), cost: 19.0, cost_before: 20.0 }
    );
    assert_eq!(cost(17.0, &mut costs).units, [outer(0), inner]);
    // One more is removed than is needed, and the inner one comes back.
    assert_eq!(
        cost(18.0, &mut costs),
        Selection { units: vec![outer(0)], blocks: Vec::new(), cost: 18.0, cost_before: 20.0 }
    );
    let error = selected(&two, &mut costs, 12.0, EXACT).unwrap_err();
    assert!(matches!(error, CompressError::Budget { least: 13.0, got: 12.0 }), "{error}");
}

#[test]
fn a_block_goes_as_one_where_it_may() {
    let two = two_layers();
    let mut costs = Outputs(&two.graph);
    // Without it 13 are the least; it has two of them then, of which one comes back as an output of conv1.
    let options = SelectOptions { blocks: true, ..EXACT };
    let selection = selected(&two, &mut costs, 12.0, options).unwrap();
    assert_eq!(selection.cost, 12.0);
    assert_eq!(selection.blocks.iter().map(|block| &*block.name).collect::<Vec<_>>(), ["block"]);
    let less = selection.apply(&two).unwrap();
    assert!(less.graph.find("conv2").is_none() && less.graph.find("fc").is_some());
}

/// Random scores add up to least in the first stage, which has the fewest filters: alone, it would lose all its blocks first.
#[test]
fn blocks_of_a_stage_count_more_the_fewer_are_left() {
    let graph = residual_zoo::build("resnet56", 10).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    let net = model(graph, tensors);
    let mut macs = Macs::new(&net.graph, [32, 32]).unwrap();
    let all = net.graph.analyse(32, 32).unwrap().macs as f64;
    let saliency = measure(Criterion::Random, &net, &images(1)).unwrap();
    let options = SelectOptions { blocks: true, ..EXACT };
    let selection = select(&net.graph, &[], &saliency, &mut macs, 0.65 * all, &options).unwrap();
    let lost = |stage: &str| selection.blocks.iter().filter(|block| block.name.starts_with(stage)).count();
    let lost = ["layer1.", "layer2.", "layer3."].map(lost);
    assert!((4..8).contains(&lost[0]) && (1..4).contains(&lost[1]), "{lost:?} blocks of 8 each");
}

#[test]
fn a_uniform_selection_takes_the_same_share_of_every_group() {
    let net = resnet20();
    let mut macs = Macs::new(&net.graph, [32, 32]).unwrap();
    let options = SelectOptions { allocation: Allocation::Uniform, ..EXACT };
    let all = net.graph.analyse(32, 32).unwrap().macs as f64;
    let selection = selected(&net, &mut macs, 0.5 * all, options).unwrap();
    let pruned = selection.apply(&net).unwrap();
    let macs = pruned.graph.analyse(32, 32).unwrap().macs as f64;
    assert_eq!(macs, selection.cost);
    assert!(macs <= 0.5 * all && macs > 0.45 * all, "{}", macs / all);
    for (node, before) in pruned.graph.nodes.iter().zip(&net.graph.nodes) {
        if let (Op::Conv2d(conv), Op::Conv2d(before)) = (&node.op, &before.op) {
            let share = conv.out_channels as f64 / before.out_channels as f64;
            assert!((0.6..0.8).contains(&share), "{}: {share}", node.name);
        }
    }
}

#[test]
fn a_target_in_multiply_accumulates_is_met_with_widths_of_eight() {
    let net = resnet20();
    let all = net.graph.analyse(32, 32).unwrap().macs as f64;
    let mut macs = Macs::new(&net.graph, [32, 32]).unwrap();
    let options = SelectOptions { round: 8, blocks: true, ..EXACT };
    let selection = selected(&net, &mut macs, 0.5 * all, options).unwrap();
    let pruned = selection.apply(&net).unwrap();
    let left = pruned.graph.analyse(32, 32).unwrap().macs as f64;
    assert!(left <= 0.5 * all && left > 0.4 * all, "{}", left / all);
    for node in &pruned.graph.nodes {
        if let Op::Conv2d(conv) = &node.op {
            assert!(conv.out_channels.is_multiple_of(8), "{}: {}", node.name, conv.out_channels);
        }
    }
    let mut engine = Engine::new(&pruned, Mode::Infer, 1, [32, 32], &[], &self::options()).unwrap();
    engine.forward(&[0.5; 32 * 32 * 3]).unwrap();
    assert!(engine.output().iter().all(|logit| logit.is_finite()));
}

/// A machine whose layers take as long as 16 channels do, however few of them there are.
#[test]
fn a_latency_is_met_by_the_times_of_layers_and_each_is_measured_once() {
    let net = resnet20();
    let graph = &net.graph;
    let seconds = |op: &Op, input: usize, size: [usize; 2]| {
        let outputs = op.parameters()[0].shape[0];
        (outputs.div_ceil(16) * input * size[0] * size[1]) as f64 * 1e-9
    };
    let shapes = graph.shapes(32, 32).unwrap();
    let of = |(index, node): (usize, &residual_graph::Node)| {
        let input = shapes[node.inputs.first()?.0];
        let seconds = node.op.is_layer().then(|| seconds(&node.op, input.channels, [input.height, input.width]))?;
        Some((NodeId(index), seconds))
    };
    let times: HashMap<NodeId, f64> = graph.nodes.iter().enumerate().filter_map(of).collect();
    let all: f64 = times.values().sum();
    let mut table = LatencyTable::new(&options());
    let mut measured = Vec::new();
    let mut costs = LatencyCost::new(graph, [32, 32], 1, times.clone(), &mut table, |op: &Op, input, size| {
        measured.push(format!("{op:?} {input} {size:?}"));
        Ok(seconds(op, input, size))
    })
    .unwrap();
    let options = SelectOptions { round: 8, ..EXACT };
    let selection = selected(&net, &mut costs, 0.6 * all, options).unwrap();
    assert!(selection.cost <= 0.6 * all && (selection.cost_before / all - 1.0).abs() < 1e-9);
    let count = measured.len();
    measured.sort();
    measured.dedup();
    assert_eq!(measured.len(), count, "each layer is measured once");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layers.json");
    table.write(&path).unwrap();
    let mut read = LatencyTable::read(&path, &self::options()).unwrap();
    assert_eq!(read, table);
    let none = |_: &Op, _: usize, _: [usize; 2]| -> Result<f64, CompressError> { panic!("all are known") };
    let mut costs = LatencyCost::new(graph, [32, 32], 1, times, &mut read, none).unwrap();
    assert_eq!(selected(&net, &mut costs, 0.6 * all, options).unwrap(), selection);
    let other = Options::new(Isa::detect(), Arc::new(Pool::new(2)));
    assert!(LatencyTable::read(&path, &other).unwrap().is_empty(), "other threads take other times");
    for bad in ["{}", "{\"version\":\"1\",\"isa\":\"x\",\"threads\":1,\"seconds\":{\"a\":-1}}", ""] {
        std::fs::write(&path, bad).unwrap();
        let error = LatencyTable::read(&path, &self::options()).unwrap_err().to_string();
        assert!(error.contains("layers.json: expected measured times of layers, got "), "{error}");
    }
}
