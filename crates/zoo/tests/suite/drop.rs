//! Stochastic depth and dropout in the networks of the zoo.

use residual_graph::{Graph, Op};
use residual_zoo::{Block, Config, ConvNeXt, PreActResNet, ResNet, entries};

/// The rates of stochastic depth, and the nodes that read a dropped value.
fn drop_paths(graph: &Graph) -> Vec<(f32, String)> {
    let consumers = graph.consumers();
    let drops = graph.nodes.iter().enumerate().filter_map(|(index, node)| match node.op {
        Op::DropPath { p } => Some((p, graph.node(consumers[index][0]).name.clone())),
        _ => None,
    });
    drops.collect()
}

fn graph(config: Config) -> Graph {
    config.graph().unwrap()
}

/// The families that have the setting place it by themselves: the rewrite finds the same branches.
#[test]
fn stochastic_depth_is_where_the_families_have_it() {
    let resnet = |drop_path| graph(Config::new("resnet50", ResNet { drop_path, ..ResNet::resnet50() }));
    let preact = |drop_path| {
        let family = PreActResNet { drop_path, ..PreActResNet::new(Block::Basic, [2; 4]) };
        graph(Config::new("preact_resnet18", family))
    };
    let convnext = |drop_path| graph(Config::new("convnext_tiny", ConvNeXt { drop_path, ..ConvNeXt::tiny() }));
    for (without, with) in [(resnet(0.0), resnet(0.2)), (preact(0.0), preact(0.2)), (convnext(0.0), convnext(0.2))] {
        let rewritten = without.with_drop_path(0.2).unwrap();
        rewritten.validate().unwrap();
        assert_eq!(drop_paths(&rewritten), drop_paths(&with), "{}", with.name);
        assert!(rewritten.parameters().eq(without.parameters()));
        // Set again, and removed.
        assert_eq!(drop_paths(&with.with_drop_path(0.1).unwrap()), drop_paths(&without.with_drop_path(0.1).unwrap()));
        assert_eq!(with.with_drop_path(0.0).unwrap(), without);
    }
}

#[test]
fn every_network_with_shortcuts_has_stochastic_depth_and_every_one_dropout() {
    for entry in entries() {
        let graph = entry.graph(entry.config.num_classes).unwrap();
        let sums = graph.nodes.iter().filter(|node| node.op == Op::Add).count();
        match graph.with_drop_path(0.5) {
            Some(dropped) => {
                dropped.validate().unwrap();
                let rates = drop_paths(&dropped);
                assert_eq!((rates.len(), rates.last().unwrap().0), (sums - 1, 0.5), "{}", entry.name);
            }
            None => assert_eq!(sums, 0, "{}", entry.name),
        }
        let dropped = graph.with_dropout(0.25).unwrap();
        dropped.validate().unwrap();
        let rates =
            dropped.nodes.iter().filter_map(|node| if let Op::Dropout { p } = node.op { Some(p) } else { None });
        assert!(rates.clone().count() > 0 && rates.clone().all(|p| p == 0.25), "{}", entry.name);
        let none = dropped.with_dropout(0.0).unwrap();
        assert!(none.nodes.iter().all(|node| !matches!(node.op, Op::Dropout { .. })), "{}", entry.name);
    }
}
