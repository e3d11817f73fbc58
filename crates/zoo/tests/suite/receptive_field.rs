//! The receptive field, effective stride and effective padding of the analysis are those of a numeric test, and of the
//! table that was published for the paper's networks.
//!
//! The numeric test measures the extent of the input gradient of one output pixel in a shadow of the graph: poolings take
//! means, norms, activations and gates are identities, weights are 1 / fan-in, and the input is larger than the field.
//! Every op treats rows and columns alike and apart, so that the shadow runs along one axis at a time.

use residual_graph::{Graph, NodeId, Op, ReceptiveField};
use residual_zoo::{build, entries, from_toml};

/// The gradient of the value at `index` of node `of` with respect to the input, along `axis`.
fn input_gradient(graph: &Graph, size: [usize; 2], axis: usize, of: usize, index: usize) -> Vec<f64> {
    let shapes = graph.shapes(size[0], size[1]).unwrap();
    let extent = |node: usize| [shapes[node].height, shapes[node].width][axis];
    let mut gradients: Vec<Vec<f64>> = vec![Vec::new(); of + 1];
    gradients[of] = vec![0.0; extent(of)];
    gradients[of][index] = 1.0;
    for node in (1..=of).rev() {
        let gradient = std::mem::take(&mut gradients[node]);
        if gradient.is_empty() {
            continue;
        }
        let inputs = &graph.nodes[node].inputs;
        let mut add = |input: NodeId, position: usize, value: f64| {
            let into = &mut gradients[input.0];
            if into.is_empty() {
                *into = vec![0.0; extent(input.0)];
            }
            into[position] += value;
        };
        let [kernel, stride, padding, dilation] = match graph.nodes[node].op {
            Op::Conv2d(conv) => [conv.kernel, conv.stride, conv.padding, conv.dilation].map(|pair| pair[axis]),
            Op::MaxPool2d(pool) | Op::AvgPool2d { pool, .. } => {
                [pool.kernel[axis], pool.stride[axis], pool.padding[axis], 1]
            }
            Op::PadShortcut { stride, .. } => [1, stride, 0, 1],
            Op::GlobalAvgPool | Op::AdaptiveAvgPool2d { .. } | Op::Flatten => panic!("no window to test"),
            _ => [1, 1, 0, 1],
        };
        let inputs = if graph.nodes[node].op == Op::Gate { &inputs[..1] } else { inputs };
        let share = 1.0 / (kernel * inputs.len()) as f64;
        for (output, value) in gradient.into_iter().enumerate().filter(|(_, value)| *value > 0.0) {
            for tap in 0..kernel {
                let Some(position) = (output * stride + tap * dilation).checked_sub(padding) else { continue };
                for &input in inputs.iter().filter(|input| position < extent(input.0)) {
                    add(input, position, value * share);
                }
            }
        }
    }
    std::mem::take(&mut gradients[0])
}

/// The nodes to test: the last of each resolution, and the last feature map.
fn tested(graph: &Graph) -> Vec<usize> {
    let [_, height, width] = graph.input_size();
    let analysis = graph.analyse(height, width).unwrap();
    let windows_end = graph.nodes.iter().position(|node| {
        matches!(node.op, Op::AdaptiveAvgPool2d { .. }) || (node.op == Op::GlobalAvgPool && node.name == "avgpool")
    });
    let end = windows_end.unwrap_or(graph.nodes.len());
    let last = (0..end).rev().find(|&index| analysis.nodes[index].receptive_field.is_some());
    let mut nodes: Vec<usize> =
        graph.levels().unwrap().into_iter().map(|(_, id)| id.0).filter(|&id| id < end).collect();
    nodes.extend(last);
    // A 3×3 convolution divides by 3 along an axis: beyond 600 of them, f64 underflows.
    nodes.retain(|&node| analysis.nodes[node].depth <= 600);
    nodes.sort_unstable();
    nodes.dedup();
    assert!(!nodes.is_empty(), "{}", graph.name);
    nodes
}

#[test]
fn the_field_of_every_network_is_the_extent_of_a_numeric_gradient() {
    for entry in entries() {
        let graph = entry.config.graph().unwrap();
        let [_, height, width] = graph.input_size();
        for node in tested(&graph) {
            let field = graph.analyse(height, width).unwrap().nodes[node].receptive_field.unwrap();
            // Room for two values whose fields lie inside, in whole strides.
            let extent = (2 * field.size + 8 * field.stride).next_multiple_of(64).max(height).max(width);
            for axis in 0..2 {
                let mut size = [height, width];
                size[axis] = extent;
                let analysis = graph.analyse(size[0], size[1]).unwrap();
                assert_eq!(
                    analysis.nodes[node].receptive_field,
                    Some(field),
                    "{} {}",
                    entry.name,
                    graph.nodes[node].name
                );
                let first = extent / 2 / field.stride;
                for index in [first, first + 1] {
                    let gradient = input_gradient(&graph, size, axis, node, index);
                    let seen = |position: &usize| gradient[*position] > 0.0;
                    let start = (0..extent).find(seen).unwrap() as i64;
                    let end = (0..extent).rfind(seen).unwrap() as i64 + 1;
                    assert!(start > 0 && end < extent as i64, "{}: the field reaches the edge", entry.name);
                    assert_eq!(field.pixels(index), start..end, "{} {}", entry.name, graph.nodes[node].name);
                }
            }
        }
    }
}

/// github.com/google-research/receptive_field: size, effective stride and effective padding of the last feature map. The
/// paddings there are 2 less: TensorFlow's "SAME" pads the stem's max pooling, of stride 2, by no pixel in front, torch by one.
#[test]
fn fields_of_the_papers_networks_are_the_published_ones() {
    let published = [("resnet50_v1", 483, 32, 239), ("resnet101_v1", 1027, 32, 511), ("resnet152_v1", 1507, 32, 751)];
    for (name, size, stride, padding) in published {
        let analysis = build(name, 1000).unwrap().analyse(224, 224).unwrap();
        let (_, field) = analysis.last_feature_map().unwrap();
        assert_eq!(field, ReceptiveField { size, stride, padding: padding + 2 }, "{name}");
    }
    let vgg16 = from_toml("family = 'vgg'\ndepths = [2, 2, 3, 3, 3]").unwrap().graph().unwrap();
    let analysis = vgg16.analyse(224, 224).unwrap();
    let (_, field) = analysis.last_feature_map().unwrap();
    assert_eq!((field.size, field.stride), (212, 32));
}
