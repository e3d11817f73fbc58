#![no_main]

use libfuzzer_sys::fuzz_target;
use residual_graph::Graph;
use std::sync::LazyLock;

static GRAPHS: LazyLock<Vec<Graph>> = LazyLock::new(|| {
    let networks = ["convnext_tiny", "densenet121", "vgg19_bn", "resnet20"];
    networks.iter().map(|name| residual_zoo::build(name, 10).expect("a network of the zoo")).collect()
});

fuzz_target!(|text: &str| {
    let names: Vec<&str> = text.lines().collect();
    for graph in GRAPHS.iter() {
        assert!(residual_weights::resolved_names(&names, graph).len() <= names.len());
    }
});
