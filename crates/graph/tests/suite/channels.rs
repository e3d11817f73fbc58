//! The couplings of channels, worked out by hand, and the graphs that remain.

use residual_graph::{Builder, Channel, ChannelGroup, Conv2d, Graph, NodeId, Op, Pool2d, UnitId};

/// The groups of a graph, each as the name of its layer, its number of units and the channels of the first unit.
fn groups(graph: &Graph) -> Vec<(String, usize, Vec<String>)> {
    let name = |channel: &Channel| format!("{}:{}", graph.node(channel.node).name, channel.index);
    let described = |group: ChannelGroup| {
        let first = group.units[0].channels.iter().map(name).collect();
        (group.name, group.units.len(), first)
    };
    graph.channel_groups().unwrap().into_iter().map(described).collect()
}

fn group(name: &str, units: usize, first: &[&str]) -> (String, usize, Vec<String>) {
    (name.to_owned(), units, first.iter().map(|&name| name.to_owned()).collect())
}

/// The graph without the first unit of every group.
fn narrowed(graph: &Graph) -> Graph {
    let groups = graph.channel_groups().unwrap();
    let removed: Vec<UnitId> = (0..groups.len()).map(|group| UnitId { group, unit: 0 }).collect();
    graph.without_units(&groups, &removed).unwrap().graph
}

fn classifier(mut net: Builder, x: NodeId) -> Graph {
    let x = net.global_avg_pool("mean", x).unwrap();
    let x = net.linear("fc", x, 5, true).unwrap();
    net.finish(x).unwrap()
}

#[test]
fn a_block_has_inner_channels_and_shares_its_outer_ones() {
    let mut net = Builder::new("block", [3, 8, 8]);
    let x = net.conv("stem", net.input(), Conv2d::new(3, 6, 3)).unwrap();
    let y = net.conv("conv1", x, Conv2d::new(6, 4, 1)).unwrap();
    let y = net.batch_norm("bn1", y).unwrap();
    let y = net.relu("relu1", y).unwrap();
    let y = net.conv("conv2", y, Conv2d::new(4, 6, 1).bias()).unwrap();
    let sum = net.add("add", y, x).unwrap();
    let graph = classifier(net, sum);
    assert_eq!(
        groups(&graph),
        [
            group("stem", 6, &["stem:0", "conv2:0", "add:0", "mean:0"]),
            group("conv1", 4, &["conv1:0", "bn1:0", "relu1:0"])
        ]
    );
    let less = narrowed(&graph);
    let op = |name: &str| less.node(less.find(name).unwrap()).op.clone();
    assert_eq!(op("conv2"), Op::Conv2d(Conv2d::new(3, 5, 1).bias()));
    assert_eq!(op("bn1"), Op::BatchNorm2d { channels: 3, eps: 1e-5, momentum: 0.1 });
    assert_eq!(op("fc"), Op::Linear { in_features: 5, out_features: 5, bias: true, quantized: false });
}

/// Of 4 padded channels two are before the old ones and two after: they go in pairs, so that the op stays symmetric.
#[test]
fn padded_channels_go_in_pairs() {
    let mut net = Builder::new("padded", [3, 8, 8]);
    let x = net.conv("stem", net.input(), Conv2d::new(3, 4, 1)).unwrap();
    let y = net.conv("conv", x, Conv2d::new(4, 8, 1).stride(2)).unwrap();
    let pad = net.push("pad", Op::PadShortcut { in_channels: 4, out_channels: 8, stride: 2 }, &[x]).unwrap();
    let sum = net.add("add", y, pad).unwrap();
    let graph = classifier(net, sum);
    assert_eq!(
        groups(&graph),
        [
            group("stem", 4, &["stem:0", "conv:2", "pad:2", "add:2", "mean:2"]),
            group("conv", 2, &["conv:0", "conv:6", "pad:0", "pad:6", "add:0", "add:6", "mean:0", "mean:6"]),
        ]
    );
    let less = narrowed(&graph);
    let pad = less.node(less.find("pad").unwrap());
    assert_eq!(pad.op, Op::PadShortcut { in_channels: 3, out_channels: 5, stride: 2 });
}

#[test]
fn operands_of_a_concatenation_are_apart_and_read_together() {
    let mut net = Builder::new("concat", [3, 8, 8]);
    let a = net.conv("a", net.input(), Conv2d::new(3, 2, 1)).unwrap();
    let b = net.conv("b", a, Conv2d::new(2, 3, 1)).unwrap();
    let both = net.push("both", Op::Concat, &[a, b]).unwrap();
    let graph = classifier(net, both);
    assert_eq!(
        groups(&graph),
        [group("a", 2, &["a:0", "both:0", "mean:0"]), group("b", 3, &["b:0", "both:2", "mean:2"])]
    );
    let all = graph.channel_groups().unwrap();
    let removed = [UnitId { group: 0, unit: 1 }, UnitId { group: 1, unit: 0 }, UnitId { group: 1, unit: 2 }];
    let narrowed = graph.without_units(&all, &removed).unwrap();
    assert_eq!(narrowed.kept[graph.find("both").unwrap().0], [0, 3]);
}

/// Two inputs and three outputs in each of four groups; then a depthwise convolution with two outputs for every input.
#[test]
fn groups_of_a_convolution_go_as_a_whole() {
    let mut net = Builder::new("grouped", [3, 8, 8]);
    let x = net.conv("stem", net.input(), Conv2d::new(3, 8, 1)).unwrap();
    let x = net.conv("grouped", x, Conv2d::new(8, 12, 3).groups(4)).unwrap();
    let x = net.conv("between", x, Conv2d::new(12, 3, 1)).unwrap();
    let x = net.conv("depthwise", x, Conv2d::new(3, 6, 3).groups(3)).unwrap();
    let graph = classifier(net, x);
    assert_eq!(
        groups(&graph),
        [
            group("stem", 4, &["stem:0", "stem:1", "grouped:0", "grouped:1", "grouped:2"]),
            group("between", 3, &["between:0", "depthwise:0", "depthwise:1", "mean:0", "mean:1"]),
        ]
    );
    let less = narrowed(&graph);
    let op = |name: &str| less.node(less.find(name).unwrap()).op.clone();
    assert_eq!(op("grouped"), Op::Conv2d(Conv2d::new(6, 9, 3).groups(3)));
    assert_eq!(op("depthwise"), Op::Conv2d(Conv2d::new(2, 4, 3).groups(2)));
}

#[test]
fn a_flattened_channel_takes_its_pixels_along() {
    let mut net = Builder::new("flat", [3, 2, 1]);
    let x = net.conv("conv", net.input(), Conv2d::new(3, 4, 1)).unwrap();
    let x = net.flatten("flat", x).unwrap();
    let x = net.linear("fc", x, 5, false).unwrap();
    let graph = net.finish(x).unwrap();
    assert_eq!(groups(&graph), [group("conv", 4, &["conv:0", "flat:0", "flat:1"])]);
    let all = graph.channel_groups().unwrap();
    let narrowed = graph.without_units(&all, &[UnitId { group: 0, unit: 1 }]).unwrap();
    assert_eq!(narrowed.kept[2], [0, 1, 4, 5, 6, 7]);
}

/// A layer norm's mean and variance are over all channels: only what is hidden between two layers can go.
#[test]
fn channels_of_a_layer_norm_stay() {
    let mut net = Builder::new("next", [3, 8, 8]);
    let x = net.conv("stem", net.input(), Conv2d::new(3, 4, 1)).unwrap();
    let y = net.conv("depthwise", x, Conv2d::new(4, 4, 3).padding(1).groups(4)).unwrap();
    let y = net.layer_norm("norm", y, 1e-6).unwrap();
    let y = net.linear("wide", y, 16, true).unwrap();
    let y = net.push("gelu", Op::Gelu, &[y]).unwrap();
    let y = net.linear("back", y, 4, true).unwrap();
    let y = net.push("scale", Op::LayerScale { channels: 4 }, &[y]).unwrap();
    let sum = net.add("add", y, x).unwrap();
    let graph = classifier(net, sum);
    assert_eq!(groups(&graph), [group("wide", 16, &["wide:0", "gelu:0"])]);
}

#[test]
fn a_gate_goes_with_what_it_scales_and_the_classes_stay() {
    let mut net = Builder::new("gated", [3, 8, 8]);
    let x = net.conv("conv", net.input(), Conv2d::new(3, 4, 1)).unwrap();
    let gate = net.global_avg_pool("squeeze", x).unwrap();
    let gate = net.conv("fc1", gate, Conv2d::new(4, 2, 1).bias()).unwrap();
    let gate = net.conv("fc2", gate, Conv2d::new(2, 4, 1).bias()).unwrap();
    let gate = net.push("sigmoid", Op::Sigmoid, &[gate]).unwrap();
    let x = net.push("gate", Op::Gate, &[x, gate]).unwrap();
    let x = net.max_pool("pool", x, Pool2d::new(2, 2, 0)).unwrap();
    let x = net.conv("head", x, Conv2d::new(4, 5, 4)).unwrap();
    let x = net.flatten("flat", x).unwrap();
    let graph = net.finish(x).unwrap();
    let first = ["conv:0", "squeeze:0", "fc2:0", "sigmoid:0", "gate:0", "pool:0"];
    assert_eq!(groups(&graph), [group("conv", 4, &first), group("fc1", 2, &["fc1:0"])]);
}

#[test]
fn what_would_be_no_network_is_refused() {
    let mut net = Builder::new("small", [3, 8, 8]);
    let x = net.conv("conv", net.input(), Conv2d::new(3, 2, 1)).unwrap();
    let mut graph = classifier(net, x);
    let all = graph.channel_groups().unwrap();
    let refused = |units: &[usize]| {
        let removed: Vec<UnitId> = units.iter().map(|&unit| UnitId { group: 0, unit }).collect();
        graph.without_units(&all, &removed).unwrap_err().to_string()
    };
    assert_eq!(refused(&[0, 1]), "node \"conv\": expected one of 2 units of channels to remain, got none");
    assert_eq!(refused(&[2]), "node \"small\": expected a unit of its channels, got unit 2 of group 0");
    assert!(graph.without_units(&all, &[UnitId { group: 0, unit: 1 }; 2]).is_ok());
    graph.nodes[1].op = Op::Conv2d(Conv2d { quantized: true, ..Conv2d::new(3, 2, 1) });
    let refused = graph.channel_groups().unwrap_err().to_string();
    assert_eq!(refused, "node \"small\": expected layers of floats, got quantized ones");
}

/// Three sums: one with an identity, one with a projection, one whose branch is read elsewhere too.
fn three_sums() -> Graph {
    let mut net = Builder::new("sums", [3, 8, 8]);
    let conv = |net: &mut Builder, name: &str, x| net.conv(name, x, Conv2d::new(4, 4, 1)).unwrap();
    let x = net.conv("stem", net.input(), Conv2d::new(3, 4, 1)).unwrap();
    let x = net.relu("relu", x).unwrap();
    let y = conv(&mut net, "0.conv1", x);
    let y = conv(&mut net, "0.conv2", y);
    let sum = net.add("0.add", y, x).unwrap();
    let x = net.relu("0.relu", sum).unwrap();
    let y = conv(&mut net, "1.conv", x);
    let shortcut = conv(&mut net, "1.downsample", x);
    let x = net.add("1.add", y, shortcut).unwrap();
    let y = conv(&mut net, "2.conv", x);
    let sum = net.add("2.add", x, y).unwrap();
    let both = net.push("both", Op::Concat, &[sum, y]).unwrap();
    classifier(net, both)
}

#[test]
fn blocks_with_an_identity_can_go_and_others_cannot() {
    let graph = three_sums();
    let blocks = graph.residual_blocks();
    let names = |ids: &[NodeId]| ids.iter().map(|id| graph.node(*id).name.clone()).collect::<Vec<_>>();
    assert_eq!(blocks.len(), 1);
    assert_eq!((&*blocks[0].name, names(&blocks[0].branch)), ("0", names(&[NodeId(3), NodeId(4)])));
    let less = graph.without_branches(&blocks);
    less.validate().unwrap();
    let names: Vec<&str> = less.nodes.iter().map(|node| node.name.as_str()).collect();
    // The ReLU after the sum has become one of a ReLU.
    let expected =
        ["input", "stem", "relu", "1.conv", "1.downsample", "1.add", "2.conv", "2.add", "both", "mean", "fc"];
    assert_eq!(names, expected);
    assert_eq!(less.node(NodeId(3)).inputs, [NodeId(2)]);
}

/// A pre-activation network, whose blocks begin with a norm and end with the sum.
#[test]
fn blocks_one_after_another_go_together_and_nested_ones_with_their_outer() {
    let mut net = Builder::new("nested", [3, 8, 8]);
    let conv = |net: &mut Builder, name: &str, x| net.conv(name, x, Conv2d::new(4, 4, 1)).unwrap();
    let x = net.conv("stem", net.input(), Conv2d::new(3, 4, 1)).unwrap();
    let a = conv(&mut net, "outer.conv", x);
    let b = conv(&mut net, "outer.inner.conv", a);
    let inner = net.add("outer.inner.add", b, a).unwrap();
    let outer = net.add("outer.add", inner, x).unwrap();
    let norm = net.batch_norm("last.norm", outer).unwrap();
    let y = conv(&mut net, "last.conv", norm);
    let last = net.add("last.add", y, outer).unwrap();
    let graph = classifier(net, last);
    let blocks = graph.residual_blocks();
    let names: Vec<&str> = blocks.iter().map(|block| block.name.as_str()).collect();
    assert_eq!(names, ["outer.inner", "outer", "last"]);
    let less = graph.without_branches(&blocks);
    less.validate().unwrap();
    assert_eq!(less.nodes.iter().map(|node| &*node.name).collect::<Vec<_>>(), ["input", "stem", "mean", "fc"]);
    let less = graph.without_branches(&blocks[..1]);
    less.validate().unwrap();
    assert_eq!(less.node(less.find("outer.add").unwrap()).inputs, [NodeId(2), NodeId(1)]);
}
