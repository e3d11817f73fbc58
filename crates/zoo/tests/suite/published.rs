//! The zoo's networks have the published sizes and see as far as published.

use residual_graph::{Graph, Op};
use residual_zoo::{Config, ResNet, Stem, ZooError, build, entries, find};

fn graph(name: &str, classes: usize) -> Graph {
    build(name, classes).unwrap()
}

#[test]
fn parameter_counts_are_torchvisions_and_the_papers() {
    let counts = [
        ("resnet18", 1000, 11_689_512),
        ("resnet34", 1000, 21_797_672),
        ("resnet50", 1000, 25_557_032),
        ("resnet101", 1000, 44_549_160),
        ("resnet152", 1000, 60_192_808),
        ("resnet20", 10, 272_474),
        ("resnet20_a", 10, 269_722),
        ("wrn28_10", 10, 36_479_194),
        ("preact_resnet18", 10, 11_172_170),
    ];
    for (name, classes, parameters) in counts {
        assert_eq!(graph(name, classes).parameter_count(), parameters, "{name}");
    }
    // Table 6 of the paper, in millions.
    let table = [
        ("resnet32_a", 0.46),
        ("resnet44_a", 0.66),
        ("resnet56_a", 0.85),
        ("resnet110_a", 1.7),
        ("resnet1202_a", 19.4),
    ];
    assert_millions(&table, 0.02);
    // Zagoruyko & Komodakis, tables 3 to 6, and He et al., arXiv:1603.05027, table 4: as many digits as they print.
    let table = [
        ("wrn16_4", 2.75),
        ("wrn16_8", 11.0),
        ("wrn40_2", 2.2),
        ("wrn40_4", 8.9),
        ("resnet164", 1.7),
        ("resnet1001", 10.2),
        ("preact_resnet110", 1.7),
        ("preact_resnet164", 1.7),
        ("preact_resnet1001", 10.2),
    ];
    assert_millions(&table, 0.03);
}

fn assert_millions(table: &[(&str, f64)], tolerance: f64) {
    for (name, millions) in table {
        let got = graph(name, 10).parameter_count() as f64 / 1e6;
        assert!((got / millions - 1.0).abs() < tolerance, "{name}: {got}");
    }
}

/// A plain network is its ResNet without shortcuts: option A's have no parameters, and projections are counted here.
#[test]
fn plain_networks_are_resnets_without_shortcuts() {
    for (plain, resnet) in [("plain20", "resnet20_a"), ("plain56", "resnet56_a"), ("plain110", "resnet110_a")] {
        assert_eq!(graph(plain, 10).parameter_count(), graph(resnet, 10).parameter_count(), "{plain}");
    }
    for (plain, resnet) in [("plain18", "resnet18"), ("plain34", "resnet34")] {
        let projections: usize = [64, 128, 256].map(|width| 2 * width * width + 2 * 2 * width).iter().sum();
        assert_eq!(graph(plain, 1000).parameter_count() + projections, graph(resnet, 1000).parameter_count());
        assert!(graph(plain, 1000).nodes.iter().all(|node| node.op != Op::Add));
    }
}

/// By hand, from the block of 1×1, 3×3, 1×1 convolutions and a projection for each stage; in millions as in table 7 of
/// the paper and in the notes.
#[test]
fn cifar_resnexts_are_the_papers_and_the_notes() {
    for (name, cardinality, base_width, out_width, millions) in [
        ("resnext29_8x64d", 8, 64, 256, 34.4),
        ("resnext29_16x64d", 16, 64, 256, 68.1),
        ("resnext29_32x4d", 32, 4, 256, 4.8),
        ("lecture_resnext29", 8, 64, 1024, 89.6),
    ] {
        let mut expected = 3 * 64 * 9 + 2 * 64;
        let mut channels = 64;
        for stage in 0..3 {
            let (width, out) = ((cardinality * base_width) << stage, out_width << stage);
            for block in 0..3 {
                expected += channels * width + 9 * width * width / cardinality + width * out;
                expected += 2 * (2 * width + out);
                expected += if block == 0 { channels * out + 2 * out } else { 0 };
                channels = out;
            }
        }
        expected += channels * 10 + 10;
        assert_eq!(graph(name, 10).parameter_count(), expected, "{name}");
        assert!((expected as f64 / 1e6 - millions).abs() < 0.07, "{name}: {expected}");
    }
}

#[test]
fn the_lecture_resnet50_is_as_it_was_trained() {
    let net = graph("lecture_resnet50", 10);
    let shapes = net.shapes(32, 32).unwrap();
    let shape = |name: &str| shapes[net.find(name).unwrap().0].to_string();
    let stages = ["maxpool", "layer1.1.add", "layer1.2.add", "layer2.3.add", "layer3.5.add", "layer4.2.add"];
    assert_eq!(stages.map(shape), ["8×8×64", "8×8×256", "4×4×256", "2×2×512", "1×1×1024", "1×1×2048"]);
    let convs = net.nodes.iter().filter_map(|node| match node.op {
        Op::Conv2d(conv) => Some((node.name.as_str(), conv)),
        _ => None,
    });
    for (name, conv) in convs {
        assert!(conv.bias, "{name}");
        let strides = ["conv1", "layer1.2.conv1", "layer2.3.conv1", "layer3.5.conv1"].contains(&name)
            || ["layer1.2.downsample.0", "layer2.3.downsample.0", "layer3.5.downsample.0"].contains(&name);
        assert_eq!(conv.stride, if strides { [2, 2] } else { [1, 1] }, "{name}");
    }
    let shortcuts = net.nodes.iter().filter(|node| node.name.ends_with("downsample.0")).count();
    let norms = net.nodes.iter().filter(|node| matches!(node.op, Op::BatchNorm2d { .. })).count();
    assert_eq!([shortcuts, norms], [16, 3 * 16]);
    let sum = net.find("layer1.0.add").unwrap();
    assert!(net.consumers()[sum.0].iter().all(|&reader| net.node(reader).op != Op::Relu));
}

#[test]
fn a_dilation_in_a_strides_place_keeps_weights_and_sight() {
    let dilated = ResNet { replace_stride_with_dilation: [false, true, true], ..ResNet::resnet50() };
    let dilated = Config::new("resnet50", dilated).graph().unwrap();
    let usual = graph("resnet50", 1000);
    assert!(dilated.parameters().eq(usual.parameters()));
    let shapes = dilated.shapes(224, 224).unwrap();
    let shape = |name: &str| shapes[dilated.find(name).unwrap().0].to_string();
    assert_eq!(shape("layer4.2.relu3"), "28×28×2048");
    let dilation = |name: &str| match dilated.node(dilated.find(name).unwrap()).op {
        Op::Conv2d(conv) => conv.dilation[0],
        _ => 0,
    };
    // As torchvision: the first block of a stage keeps the dilation of the stage before.
    let convs = ["layer2.0", "layer3.0", "layer3.1", "layer4.0", "layer4.1"].map(|block| format!("{block}.conv2"));
    assert_eq!(convs.map(|name| dilation(&name)), [1, 1, 2, 2, 4]);
    let small = Config::new("small", ResNet { stem: Stem::Small, ..ResNet::resnet50() });
    assert_eq!((small.image_size, small.num_classes), ([32, 32], 10));
    assert_eq!(small.graph().unwrap().analyse(32, 32).unwrap().nodes[3].output.height, 32);
}

#[test]
fn receptive_fields_are_computed_from_the_graph() {
    assert_eq!(graph("resnet50", 10).analyse(224, 224).unwrap().receptive_field, 427);
    assert_eq!(graph("resnet50_v1", 10).analyse(224, 224).unwrap().receptive_field, 483);
}

/// The numbers in their names. A wide ResNet's counts its three projections too, which lie beside the longest path.
#[test]
fn depth_counts_the_layers_that_the_names_count() {
    let named = [("resnet18", 18), ("resnet34", 34), ("resnet50", 50), ("resnet101", 101), ("resnet152", 152)]
        .into_iter()
        .chain([("resnet20", 20), ("resnet110_a", 110), ("plain56", 56), ("seresnet50", 50), ("preact_resnet164", 164)])
        .chain([("vgg19", 19), ("vgg19_bn", 19), ("densenet121", 121), ("googlenet", 22), ("wrn28_10", 28 - 2)]);
    for (name, depth) in named {
        let graph = find(name).unwrap().config.graph().unwrap();
        let [_, height, width] = graph.input_size();
        assert_eq!(graph.analyse(height, width).unwrap().depth, depth, "{name}");
    }
}

/// torchvision's documented GFLOPS (multiply-accumulates) of each model.
#[test]
fn multiply_accumulates_are_torchvisions() {
    for (name, giga) in
        [("resnet18", 1.814), ("resnet34", 3.664), ("resnet50", 4.089), ("resnet101", 7.801), ("resnet152", 11.514)]
    {
        let macs = graph(name, 1000).analyse(224, 224).unwrap().macs as f64 / 1e9;
        assert!((macs - giga).abs() < 0.001, "{name}: {macs}");
    }
}

#[test]
fn every_entry_builds_with_any_number_of_classes() {
    for entry in entries() {
        for classes in [1, 7, entry.config.num_classes] {
            assert_eq!(entry.graph(classes).unwrap().output_channels().unwrap(), classes, "{}", entry.name);
        }
        assert!(entry.graph(usize::MAX).unwrap_err().to_string().starts_with("num_classes: expected 0 to "));
        // Without a head the result is the vector that it would read.
        let (headless, full) = (entry.graph(0).unwrap(), entry.graph(1).unwrap());
        let head: Vec<_> = full.parameters().skip(headless.parameters().count()).collect();
        let shapes: Vec<_> = head.iter().map(|(_, spec)| spec.shape.clone()).collect();
        let features = headless.output_channels().unwrap();
        assert!(shapes[..] == [vec![1, features], vec![1]] || shapes[..] == [vec![1, features, 1, 1], vec![1]]);
        let [_, height, width] = headless.input_size();
        let output = headless.shapes(height, width).unwrap()[headless.output.0];
        assert_eq!([output.height, output.width], [1, 1], "{}", entry.name);
    }
}

#[test]
fn every_entry_builds_for_any_number_of_channels() {
    for entry in entries() {
        for in_chans in [1, 5] {
            let config = Config { in_chans, ..entry.config.clone() };
            assert_eq!(config.graph().unwrap().input_size()[0], in_chans, "{}", entry.name);
        }
    }
}

#[test]
fn stochastic_depth_rises_from_zero_to_the_rate_of_the_last_block() {
    let drops = |rate: f32| {
        let config = residual_zoo::from_toml(&format!("family = 'convnext'\ndrop_path = {rate}")).unwrap();
        let graph = config.graph().unwrap();
        let rate = |op: &Op| if let Op::DropPath { p } = op { Some(*p) } else { None };
        graph.nodes.iter().filter_map(|node| rate(&node.op)).collect::<Vec<_>>()
    };
    assert!(drops(0.0).is_empty());
    // 18 blocks, the first of them never dropped.
    let rates = drops(0.34);
    assert_eq!(rates.len(), 17);
    assert!((rates[0] - 0.02).abs() < 1e-6 && (rates[16] - 0.34).abs() < 1e-6, "{rates:?}");
}

#[test]
fn names_are_unique_and_weights_are_of_their_network() {
    let mut names = std::collections::HashSet::new();
    for entry in entries() {
        assert!(names.insert(entry.name), "{}", entry.name);
        for weights in &entry.weights {
            let (source, tag) = weights.split_once(':').unwrap();
            assert!(["torchvision", "timm"].contains(&source), "{weights}");
            assert_eq!(tag.split_once('.').unwrap().0, entry.name);
        }
    }
    assert_eq!(find("resnet50").unwrap().weights[..2], ["torchvision:resnet50.v1", "torchvision:resnet50.v2"]);
    assert_eq!(find("resnet50d").unwrap().weights[0], "timm:resnet50d.ra2_in1k");
}

/// The notes agree with torchvision's first weights to 0.1.
#[test]
fn accuracies_are_torchvisions_and_the_notes_agree_to_a_tenth() {
    let all = entries();
    assert_eq!(all.iter().flat_map(|entry| &entry.accuracies).filter(|it| it.source.starts_with("torch")).count(), 25);
    let of_notes: Vec<_> =
        all.iter().filter(|entry| entry.accuracies.iter().any(|it| it.source == "lecture notes")).collect();
    assert_eq!(of_notes.len(), 8);
    for entry in of_notes {
        let by = |source: &str| entry.accuracies.iter().find(|it| it.source.ends_with(source)).unwrap();
        let (first, notes) = (by(".v1"), by("notes"));
        assert!((first.top1 - notes.top1).abs() < 0.1 && (first.top5 - notes.top5).abs() < 0.1, "{}", entry.name);
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    let message = |name| build(name, 10).unwrap_err().to_string();
    assert!(
        message("resnet-50").ends_with("got \"resnet-50\" (did you mean \"resnet50\"?)"),
        "{}",
        message("resnet-50")
    );
    assert!(message("resnet5o").ends_with("(did you mean \"resnet50\"?)"), "{}", message("resnet5o"));
    assert!(message("zzz").ends_with("got \"zzz\""));
    assert!(matches!(build("x", 10), Err(ZooError::Name { .. })));
}
