//! Pruned models: which values remain, for a network worked out by hand, and that every network of the zoo can be pruned.

use residual_graph::{Builder, Conv2d, Graph, Op, UnitId};
use residual_model::{Initialisation, Model, ModelError, initialise, prune_channels, remove_blocks};
use residual_preprocess::Preprocessing;
use residual_tensor::{NamedTensors, Tensor};

fn model(graph: Graph) -> Model {
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    let [channels, height, width] = graph.input_size();
    let preprocessing = Preprocessing::unscaled([height, width], &vec![0.5; channels], &vec![0.25; channels]);
    Model::new(graph, tensors, preprocessing, Vec::new()).unwrap()
}

/// A tensor of 0, 1, 2, …
fn counted(shape: &[usize]) -> Tensor {
    Tensor::f32(shape, (0..shape.iter().product::<usize>()).map(|value| value as f32).collect())
}

#[test]
fn filters_inputs_and_norms_lose_the_same_channels() {
    let mut net = Builder::new("net", [2, 2, 2]);
    let x = net.conv("conv1", net.input(), Conv2d::new(2, 3, 1)).unwrap();
    let x = net.batch_norm("bn", x).unwrap();
    let x = net.conv("conv2", x, Conv2d::new(3, 4, 1).groups(1).bias()).unwrap();
    let x = net.conv("grouped", x, Conv2d::new(4, 2, 1).groups(2)).unwrap();
    let x = net.flatten("flat", x).unwrap();
    let x = net.linear("fc", x, 2, true).unwrap();
    let graph = net.finish(x).unwrap();
    let model = model(graph);
    let floats =
        |(key, tensor): (&String, &Tensor)| Some((key.clone(), counted(tensor.as_f32().map(|_| tensor.shape())?)));
    let mut tensors: NamedTensors = model.tensors.iter().filter_map(floats).collect();
    tensors.insert("bn.num_batches_tracked".into(), Tensor::i64(&[], vec![7]));
    let model = model.with_tensors(tensors).unwrap().with_labels(vec!["a".into(), "b".into()]).unwrap();
    // The middle channel of conv1, and the first group of conv2 and grouped.
    let pruned = prune_channels(&model, &[UnitId { group: 0, unit: 1 }, UnitId { group: 1, unit: 0 }]).unwrap();
    let values = |key: &str| pruned.tensors[key].as_f32().unwrap().to_vec();
    assert_eq!(values("conv1.weight"), [0.0, 1.0, 4.0, 5.0]);
    for key in ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"] {
        assert_eq!(values(key), [0.0, 2.0], "{key}");
    }
    assert_eq!(pruned.tensors["bn.num_batches_tracked"], model.tensors["bn.num_batches_tracked"]);
    assert_eq!(values("conv2.weight"), [6.0, 8.0, 9.0, 11.0]);
    assert_eq!(values("conv2.bias"), [2.0, 3.0]);
    assert_eq!(pruned.tensors["grouped.weight"].shape(), [1, 2, 1, 1]);
    assert_eq!(values("grouped.weight"), [2.0, 3.0]);
    // Each channel is four pixels of the vector.
    assert_eq!(values("fc.weight"), [4.0, 5.0, 6.0, 7.0, 12.0, 13.0, 14.0, 15.0]);
    assert_eq!((&pruned.labels, &pruned.preprocessing), (&model.labels, &model.preprocessing));
}

#[test]
fn a_removed_block_takes_its_tensors_along() {
    let model = model(residual_zoo::build("resnet20", 10).unwrap());
    let blocks = model.graph.residual_blocks();
    assert_eq!(blocks.len(), 7, "the first block of the last two stages has a projection");
    let less = remove_blocks(&model, &blocks[..1]).unwrap();
    assert!(
        less.tensors.keys().all(|key| !key.starts_with("layer1.0.")) && less.tensors.contains_key("layer1.1.bn1.bias")
    );
    assert_eq!(less.graph.parameter_count(), model.graph.parameter_count() - (2 * 16 * 16 * 9 + 4 * 16));
}

#[test]
fn what_cannot_be_pruned_is_refused() {
    let mut model = model(residual_zoo::build("resnet20", 10).unwrap());
    let all: Vec<UnitId> = (0..16).map(|unit| UnitId { group: 1, unit }).collect();
    let refused = prune_channels(&model, &all).unwrap_err().to_string();
    assert_eq!(refused, "node \"layer1.0.conv1\": expected one of 16 units of channels to remain, got none");
    if let Op::Conv2d(conv) = &mut model.graph.nodes[1].op {
        conv.quantized = true;
    }
    assert_eq!(prune_channels(&model, &[]).unwrap_err(), ModelError::Quantized);
}

/// A third of the units of every group, from the graphs alone: every layer but those that read the image, compute the classes or
/// stand before a layer norm shrinks.
#[test]
fn every_network_of_the_zoo_gets_narrower() {
    for entry in residual_zoo::entries() {
        let graph = entry.graph(10).unwrap();
        let groups = graph.channel_groups().unwrap();
        assert!(!groups.is_empty(), "{}", entry.name);
        let third = |(group, units): (usize, usize)| (0..units / 3).map(move |unit| UnitId { group, unit });
        let removed: Vec<UnitId> = groups.iter().map(|group| group.units.len()).enumerate().flat_map(third).collect();
        let less = graph.without_units(&groups, &removed).unwrap().graph;
        less.validate().unwrap_or_else(|error| panic!("{}: {error}", entry.name));
        let is_convnext = entry.family == "ConvNeXt";
        for (old, new) in graph.nodes.iter().zip(&less.nodes).skip(2).filter(|(old, _)| old.op.is_layer()) {
            let shrinks = old.op != new.op;
            let is_hidden = matches!(old.op, Op::Linear { .. }) && old.name.contains("block");
            assert_eq!(shrinks, !is_convnext || is_hidden, "{} {}", entry.name, old.name);
        }
        let blocks = graph.residual_blocks();
        graph.without_branches(&blocks).validate().unwrap_or_else(|error| panic!("{}: {error}", entry.name));
        let is_residual = !["Plain", "VGG", "GoogLeNet", "DenseNet"].contains(&entry.family);
        assert_eq!(is_residual && entry.name != "lecture_resnet50", !blocks.is_empty(), "{}", entry.name);
    }
}
