//! Head, parts and levels of the families.

use residual_graph::Graph;

fn build(name: &str) -> Graph {
    residual_zoo::find(name).unwrap().config.graph().unwrap()
}

fn parts(name: &str) -> String {
    let parts = build(name).parts().unwrap();
    parts
        .iter()
        .map(|part| if part.is_stage { format!("[{}]", part.path) } else { part.path.clone() })
        .collect::<Vec<_>>()
        .join(" ")
}

fn levels(name: &str) -> String {
    let graph = build(name);
    let levels = graph.levels().unwrap();
    levels.iter().map(|(level, id)| format!("{level} {}", graph.node(*id).name)).collect::<Vec<_>>().join(", ")
}

#[test]
fn parts_are_stem_stages_and_head_of_every_family() {
    let resnet = "conv1 bn1 [layer1] [layer2] [layer3] [layer4] fc";
    for name in ["resnet18", "resnet152", "seresnet50", "resnext50_32x4d", "plain18"] {
        assert_eq!(parts(name), resnet, "{name}");
    }
    assert_eq!(parts("resnet56_a"), "conv1 bn1 [layer1] [layer2] [layer3] fc");
    assert_eq!(parts("resnet50d"), resnet);
    assert_eq!(parts("wrn28_10"), "conv1 [layer1] [layer2] [layer3] bn fc");
    assert_eq!(parts("lecture_resnet50"), "conv1 [layer1] [layer2] [layer3] [layer4] fc");
    assert_eq!(parts("resnetv2_50"), "stem [stages.0] [stages.1] [stages.2] [stages.3] norm head");
    let convnext: String =
        (1..8).map(|i| if i % 2 == 1 { format!("[features.{i}] ") } else { format!("features.{i} ") }).collect();
    assert_eq!(parts("convnext_tiny"), format!("features.0 {convnext}classifier"));
    let dense: String = (1..4).map(|i| format!("[features.denseblock{i}] features.transition{i} ")).collect();
    assert_eq!(
        parts("densenet121"),
        format!("features.conv0 features.norm0 {dense}[features.denseblock4] features.norm5 classifier")
    );
    assert_eq!(parts("vgg19").split(' ').count(), 17);
}

#[test]
fn levels_are_what_the_next_stage_reads() {
    assert_eq!(
        levels("resnet50"),
        "C1 relu, C2 layer1.2.relu3, C3 layer2.3.relu3, C4 layer3.5.relu3, C5 layer4.2.relu3"
    );
    assert_eq!(levels("resnet56_a"), "C0 layer1.8.relu2, C1 layer2.8.relu2, C2 layer3.8.relu2");
    assert_eq!(
        levels("densenet121"),
        "C1 features.relu0, C2 features.transition1.conv, C3 features.transition2.conv, C4 features.transition3.conv, C5 relu"
    );
    for name in ["convnext_tiny", "resnetv2_50", "vgg19", "resnet18d", "seresnet50"] {
        let levels = levels(name);
        assert!((2..6).all(|level| levels.contains(&format!("C{level} "))), "{name}: {levels}");
    }
}

fn stages(name: &str) -> Vec<String> {
    let graph = build(name);
    let [_, height, width] = graph.input_size();
    let stages = graph.stages(height, width).unwrap();
    assert_eq!(stages[0].nodes.start, 1);
    assert!(stages.windows(2).all(|pair| pair[0].nodes.end == pair[1].nodes.start));
    assert_eq!(stages.last().unwrap().nodes.end, graph.nodes.len());
    stages.iter().map(|stage| format!("{} {}", stage.name, stage.output)).collect()
}

#[test]
fn stages_are_the_papers_rows() {
    assert_eq!(
        stages("resnet50"),
        [
            "conv1 … bn1 56×56×64",
            "layer1 56×56×256",
            "layer2 28×28×512",
            "layer3 14×14×1024",
            "layer4 7×7×2048",
            "fc 1×1×1000"
        ]
    );
    assert_eq!(
        stages("vgg19"),
        [
            "features.0 … features.2 112×112×64",
            "features.5 … features.7 56×56×128",
            "features.10 … features.16 28×28×256",
            "features.19 … features.25 14×14×512",
            "features.28 … features.34 7×7×512",
            "classifier 1×1×1000"
        ]
    );
    assert_eq!(
        stages("googlenet"),
        [
            "conv1 56×56×64",
            "conv2 … conv3 28×28×192",
            "inception3a … inception3b 14×14×480",
            "inception4a … inception4e 7×7×832",
            "inception5a … inception5b 7×7×1024",
            "fc 1×1×1000"
        ]
    );
    assert_eq!(stages("wrn28_10").len(), 6);
    assert_eq!(stages("densenet121").len(), 10);
    let one_block = residual_zoo::from_toml("family = 'resnet'\ndepths = [1, 1, 1, 1]").unwrap().graph().unwrap();
    assert_eq!(one_block.stages(224, 224).unwrap().len(), 6);
}

#[test]
fn the_head_is_what_decides_the_classes_and_the_last_fully_connected_layer() {
    for (name, head) in [
        ("resnet50", "fc"),
        ("vgg19", "classifier.6"),
        ("densenet121", "classifier"),
        ("convnext_tiny", "classifier.2"),
        ("googlenet", "fc"),
        ("resnetv2_50", "head.fc"),
    ] {
        let graph = build(name);
        assert_eq!(graph.node(graph.head().unwrap()).name, head);
    }
    let layers = |name: &str| {
        let graph = build(name);
        graph.fully_connected().into_iter().map(|id| graph.node(id).name.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(layers("vgg19"), "classifier.0 classifier.3 classifier.6");
    assert_eq!(
        ["resnet50", "seresnet50", "convnext_tiny", "resnetv2_50"].map(layers),
        ["fc", "fc", "classifier.2", "head.fc"]
    );
    let headless = residual_zoo::Config { num_classes: 0, ..residual_zoo::find("resnet18").unwrap().config };
    assert_eq!(headless.graph().unwrap().head(), None);
}
