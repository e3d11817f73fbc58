//! A graph is refused with the node at fault, survives JSON, and adds up.

use residual_graph::{Builder, Conv2d, Graph, NodeId, Op, Pool2d};

fn small() -> Graph {
    let mut net = Builder::new("small", [3, 32, 32]);
    let stem = net.conv("conv1", net.input(), Conv2d::new(3, 8, 7).stride(2).padding(3)).unwrap();
    let pool = net.max_pool("maxpool", stem, Pool2d::new(3, 2, 1)).unwrap();
    let conv = net.conv("layer1.conv", pool, Conv2d::new(8, 8, 3).padding(2).dilation(2).groups(4).bias()).unwrap();
    let norm = net.batch_norm("layer1.bn", conv).unwrap();
    let sum = net.add("layer1.add", norm, pool).unwrap();
    let average = Op::AvgPool2d { pool: Pool2d::new(2, 2, 0), count_include_pad: true };
    let average = net.push("transition", average, &[sum]).unwrap();
    let both = net.push("concat", Op::Concat, &[average, average]).unwrap();
    let mean = net.global_avg_pool("avgpool", both).unwrap();
    let fc = net.linear("fc", mean, 5, true).unwrap();
    net.finish(fc).unwrap()
}

#[test]
fn shapes_follow_torchs_formulas() {
    let graph = small();
    let shapes: Vec<String> = graph.shapes(33, 64).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        shapes,
        ["33×64×3", "17×32×8", "9×16×8", "9×16×8", "9×16×8", "9×16×8", "4×8×8", "4×8×16", "1×1×16", "1×1×5"]
    );
}

#[test]
fn parameters_and_macs_add_up() {
    let analysis = small().analyse(32, 32).unwrap();
    assert_eq!(analysis.parameters, 3 * 8 * 49 + (2 * 8 * 9 + 8) + 2 * 8 + 16 * 5 + 5);
    assert_eq!(analysis.macs, 16 * 16 * 8 * 147 + 8 * 8 * 8 * 18 + 80);
    // 7 (stem) + 2·2 (pool) + 2·2·4 (dilated) + 1·4 (average)
    assert_eq!(analysis.receptive_field, 7 + 4 + 16 + 4);
}

#[test]
fn keys_stand_in_torchs_order() {
    let keys: Vec<String> = small().parameters().map(|(key, _)| key).collect();
    assert_eq!(keys[..4], ["conv1.weight", "layer1.conv.weight", "layer1.conv.bias", "layer1.bn.weight"]);
    assert_eq!(keys[7..], ["layer1.bn.num_batches_tracked", "fc.weight", "fc.bias"]);
}

#[test]
fn json_brings_the_same_graph_back() {
    let graph = small();
    assert_eq!(Graph::from_json(&graph.to_json()).unwrap(), graph);
}

/// One node of every op that [`small`] has none of.
fn other_ops() -> Graph {
    let mut net = Builder::new("others", [3, 17, 9]);
    let stem = net.conv("features.0", net.input(), Conv2d::new(3, 8, 4).stride(2).bias()).unwrap();
    let norm = net.layer_norm("block.0.norm", stem, 1e-6).unwrap();
    let wide = net.linear("block.0.linear", norm, 32, true).unwrap();
    let gelu = net.push("block.0.gelu", Op::Gelu, &[wide]).unwrap();
    let back = net.linear("block.0.back", gelu, 8, false).unwrap();
    let scale = net.push("block.0", Op::LayerScale { channels: 8 }, &[back]).unwrap();
    let path = net.push("block.0.drop_path", Op::DropPath { p: 0.25 }, &[scale]).unwrap();
    let sum = net.add("block.0.add", path, stem).unwrap();
    let mean = net.global_avg_pool("gate.pool", sum).unwrap();
    let sigmoid = net.push("gate.sigmoid", Op::Sigmoid, &[mean]).unwrap();
    let gate = net.push("gate", Op::Gate, &[sum, sigmoid]).unwrap();
    let pool = Op::AvgPool2d { pool: Pool2d::new(2, 2, 0).ceil_mode(), count_include_pad: false };
    let pool = net.push("pool", pool, &[gate]).unwrap();
    let adaptive = net.push("adaptive", Op::AdaptiveAvgPool2d { output: [3, 2] }, &[pool]).unwrap();
    net.finish(adaptive).unwrap()
}

#[test]
fn the_other_ops_have_shapes_parameters_costs_and_sight() {
    let graph = other_ops();
    assert_eq!(Graph::from_json(&graph.to_json()).unwrap(), graph);
    let analysis = graph.analyse(17, 9).unwrap();
    let node = |name: &str| analysis.nodes.iter().find(|node| node.name == name).unwrap();
    let output = |name: &str| node(name).output.to_string();
    assert_eq!(
        ["block.0.linear", "block.0.add", "gate.pool", "gate"].map(output),
        ["7×3×32", "7×3×8", "1×1×8", "7×3×8"]
    );
    assert_eq!(["pool", "adaptive"].map(output), ["4×2×8", "3×2×8"]);
    let parameters = |name: &str| node(name).parameters;
    assert_eq!(["block.0.norm", "block.0.linear", "block.0", "gate"].map(parameters), [16, 8 * 32 + 32, 8, 0]);
    assert_eq!([node("block.0.linear").macs, node("block.0.back").macs], [7 * 3 * 256; 2]);
    let sight = |name: &str| node(name).receptive_field.map(|field| (field.size, field.stride));
    assert_eq!(["features.0", "block.0.add", "gate"].map(sight), [Some((4, 2)); 3]);
    // Bins of rows 0..2, 1..3 and 2..4 of four, each two long.
    assert_eq!(["pool", "adaptive", "gate.pool"].map(sight), [Some((6, 4)), Some((10, 4)), None]);
}

/// Value i of one branch sees pixels 2i − 1 and 2i, of the other 2i and 2i + 1.
#[test]
fn where_paths_meet_the_field_is_the_union_of_theirs() {
    let mut net = Builder::new("paths", [1, 17, 17]);
    let early = net.conv("early", net.input(), Conv2d::new(1, 1, 2).stride(2).padding(1)).unwrap();
    let late = net.max_pool("late", net.input(), Pool2d::new(2, 2, 0).ceil_mode()).unwrap();
    let sum = net.add("sum", early, late).unwrap();
    let analysis = net.finish(sum).unwrap().analyse(17, 17).unwrap();
    let field = analysis.nodes[3].receptive_field.unwrap();
    assert_eq!((field.size, field.stride, field.padding, field.pixels(3)), (3, 2, 1, 5..8));
}

#[test]
fn a_modules_own_tensors_come_before_those_inside_it() {
    let keys: Vec<String> = other_ops().parameters().map(|(key, _)| key).collect();
    assert_eq!(keys[..3], ["features.0.weight", "features.0.bias", "block.0.layer_scale"]);
    assert_eq!(keys[3..5], ["block.0.norm.weight", "block.0.norm.bias"]);
    assert_eq!(keys.len(), 8);
}

/// As torch 2.15 computes them: extent, kernel, stride, padding, output without and with `ceil_mode`.
#[test]
fn partly_filled_windows_count_with_ceil_mode() {
    let cases = [
        (7, 2, 2, 0, Some(3), 4),
        (6, 3, 2, 1, Some(3), 4),
        (5, 2, 3, 1, Some(2), 2),
        (1, 2, 2, 0, None, 1),
        (4, 3, 3, 1, Some(2), 2),
        (8, 3, 2, 0, Some(3), 4),
        (9, 2, 4, 1, Some(3), 3),
        (2, 3, 5, 1, Some(1), 1),
        (10, 4, 3, 2, Some(4), 4),
    ];
    for (extent, kernel, stride, padding, floor, ceil) in cases {
        let output = |pool: Pool2d| {
            let mut net = Builder::new("pool", [1, extent, extent]);
            let pool = net.max_pool("pool", net.input(), pool).ok()?;
            Some(net.shape(pool).height)
        };
        let pool = Pool2d::new(kernel, stride, padding);
        assert_eq!([output(pool), output(pool.ceil_mode())], [floor, Some(ceil)], "{pool:?} of {extent}");
    }
    assert!(!small().to_json().contains("ceil_mode"), "networks without it keep their JSON form");
}

#[test]
fn every_op_has_the_name_that_its_json_form_has() {
    let ops: Vec<Op> = small().nodes.into_iter().chain(other_ops().nodes).map(|node| node.op).collect();
    for op in ops {
        let name = op.name();
        assert!(Op::NAMES.contains(&name), "{name}");
        let json = serde_json::to_value(&op).unwrap();
        assert_eq!(json["op"], name);
    }
}

/// A chain as deep as a graph may be, and one node more.
#[test]
fn a_graph_has_a_bounded_number_of_nodes_and_of_elements() {
    let deep = |nodes: usize| {
        let mut net = Builder::new("deep", [1, 1, 1]);
        let mut x = net.input();
        for index in 1..nodes {
            x = net.relu(index.to_string(), x).unwrap();
        }
        net.finish(x)
    };
    assert_eq!(deep(100_000).unwrap().nodes.len(), 100_000);
    assert_eq!(deep(100_001).unwrap_err().to_string(), "node \"deep\": expected at most 100000 nodes, got 100001");

    let mut net = Builder::new("wide", [4096, 1024, 1024]);
    let mut x = net.input();
    for index in 1..257 {
        x = net.relu(index.to_string(), x).unwrap();
    }
    let error = net.finish(x).unwrap_err().to_string();
    let expected = "node \"256\": output: expected at most 1099511627776 elements of all nodes together, got ";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn costs_too_large_to_count_are_the_largest_number() {
    let mut net = Builder::new("costly", [1, 1 << 16, 1 << 16]);
    let conv = Conv2d { stride: [1 << 20; 2], ..Conv2d::new(1, 1, 1).padding(1 << 15) };
    let mut x = net.input();
    for index in 0..4 {
        x = net.conv(index.to_string(), x, conv).unwrap();
    }
    let analysis = net.finish(x).unwrap().analyse(1 << 16, 1 << 16).unwrap();
    assert_eq!(analysis.nodes[4].receptive_field.unwrap().stride, i64::MAX as usize);
}

#[test]
fn a_bad_graph_is_refused_by_the_name_of_its_node() {
    let error = |change: &dyn Fn(&mut Graph)| {
        let mut graph = small();
        change(&mut graph);
        let json = graph.to_json();
        Graph::from_json(&json).unwrap_err().to_string()
    };
    type Change<'a> = &'a dyn Fn(&mut Graph);
    let long = format!("node \"{}…\": expected a name of at most 256 bytes, got 65536", "n".repeat(40));
    let cases: [(Change<'_>, &str); 12] = [
        (&|g| g.nodes[3].name = "n".repeat(1 << 16), &long),
        (&|g| g.name = "n".repeat(1 << 16), &long),
        (
            &|g| g.nodes[3].name = "a\u{1b}]52;c\r\n".into(),
            "node \"a\\u{1b}]52;c\\r\\n\": expected a name without control characters",
        ),
        (
            &|g| g.nodes[3].op = Op::Conv2d(Conv2d::new(1 << 20, 1 << 20, 1 << 20)),
            "node \"layer1.conv\": weight: expected at most 4294967296 elements, \
             got [1048576, 1048576, 1048576, 1048576]",
        ),
        (&|g| g.nodes[3].name = "conv1".into(), "node \"conv1\": expected a unique, non-empty name"),
        (&|g| g.nodes[2].inputs = vec![NodeId(9)], "node \"maxpool\": expected inputs before node 2, got 9"),
        (&|g| g.nodes[5].inputs.truncate(1), "node \"layer1.add\": expected 2 input(s), got 1"),
        (
            &|g| g.nodes[5].inputs[1] = NodeId(1),
            "node \"layer1.add\": expected inputs of one shape, got 8×8×8 and 16×16×8",
        ),
        (&|g| g.output = NodeId(99), "node \"small\": expected an output among 10 nodes"),
        (&|g| g.nodes.truncate(0), "node \"graph\": expected at least one node, got none"),
        (
            &|g| g.nodes[3].op = Op::Conv2d(Conv2d::new(8, 8, 3).groups(3)),
            "node \"layer1.conv\": groups: expected a divisor of 8 and 8, got 3",
        ),
        (
            &|g| g.nodes[3].op = Op::Conv2d(Conv2d::new(8, 8, 99)),
            "node \"layer1.conv\": expected an input of at least the window (99×99, padding 0×0), got 8×8×8",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(error(change), expected);
    }
    let refused = |op: Op, inputs: &[usize]| {
        let mut net = Builder::new("refused", [3, 8, 8]);
        let mean = net.global_avg_pool("mean", net.input()).unwrap();
        assert_eq!(mean, NodeId(1));
        let inputs: Vec<NodeId> = inputs.iter().copied().map(NodeId).collect();
        net.push("op", op, &inputs).unwrap_err().to_string()
    };
    let cases = [
        (Op::Gate, &[0, 0][..], "node \"op\": expected a second input of 1×1×3, got 8×8×3"),
        (Op::Gate, &[0][..], "node \"op\": expected 2 input(s), got 1"),
        (Op::LayerNorm { channels: 4, eps: 1e-6 }, &[0][..], "node \"op\": expected 4 input channels, got 3"),
        (Op::LayerNorm { channels: 3, eps: 0.0 }, &[0][..], "node \"op\": eps: expected a positive number, got 0"),
        (Op::LayerScale { channels: 2 }, &[1][..], "node \"op\": expected 2 input channels, got 3"),
        (Op::DropPath { p: 1.0 }, &[0][..], "node \"op\": p: expected 0 to below 1, got 1"),
        (Op::AdaptiveAvgPool2d { output: [7, 0] }, &[0][..], "node \"op\": output: expected 1 to 1048576, got 0"),
        (
            Op::Linear { in_features: 192, out_features: 2, bias: true, quantized: false },
            &[0][..],
            "node \"op\": expected 192 input channels, got 3",
        ),
    ];
    for (op, inputs, expected) in cases {
        assert_eq!(refused(op, inputs), expected);
    }
    let hostile = small().to_json().replace("\"in_channels\":8", "\"in_channels\":18446744073709551615");
    assert!(Graph::from_json(&hostile).is_err());
    assert!(Graph::from_json("{\"format\":2,\"graph\":{\"name\":\"x\",\"nodes\":[],\"output\":0}}").is_err());
    assert!(Graph::from_json(&"[".repeat(100_000)).is_err());
}
