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

#[test]
fn a_bad_graph_is_refused_by_the_name_of_its_node() {
    let error = |change: &dyn Fn(&mut Graph)| {
        let mut graph = small();
        change(&mut graph);
        let json = graph.to_json();
        Graph::from_json(&json).unwrap_err().to_string()
    };
    type Change<'a> = &'a dyn Fn(&mut Graph);
    let cases: [(Change<'_>, &str); 8] = [
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
    let hostile = small().to_json().replace("\"in_channels\":8", "\"in_channels\":18446744073709551615");
    assert!(Graph::from_json(&hostile).is_err());
    assert!(Graph::from_json("{\"format\":2,\"graph\":{\"name\":\"x\",\"nodes\":[],\"output\":0}}").is_err());
    assert!(Graph::from_json(&"[".repeat(100_000)).is_err());
}
