//! Spaces of networks: what a description means, what is refused, and how large a space is.

use residual_engine::Options;
use residual_infer::LatencyTable;
use residual_search::{
    Bounded, Candidate, LatencyLimit, LatencyPredictor, Limits, NetworkSpace, Space, Supernets, measure_latency,
};
use residual_tensor::Stream;
use residual_zoo::{Config, build};
use std::cell::Cell;
use std::collections::HashSet;

fn draw(space: &NetworkSpace, number: u64) -> Candidate {
    let mut random = Stream::new(1, &[number]);
    Candidate(space.sizes().iter().map(|&size| random.below(size as u32) as usize).collect())
}

const SPACE: &str = "
[[network]]
family = 'cifar_resnet'
depths = { each = [[1, 2], { from = 1, to = 5, step = 2 }, [3]] }
shortcut = { choose = ['padding', 'projection'] }
image_size = 24

[[network]]
family = 'nasbench201'
cell = { format = '|{}~0|+|none~0|{}~1|+|skip_connect~0|none~1|skip_connect~2|', each = [['skip_connect', 'nor_conv_3x3'], ['nor_conv_3x3']] }
width = 8
shortcuts = 3
";

#[test]
fn a_candidate_is_the_network_of_its_choices() {
    let space = NetworkSpace::parse("s", &SPACE.replace("shortcuts = 3", "cells = 5")).unwrap();
    // Which network, two and three and one depths, two shortcuts; then two ops and one.
    assert_eq!(space.sizes(), [2, 2, 3, 1, 2, 2, 1]);
    assert_eq!(space.size(), 2 * 3 * 2 + 2);
    let member = space.member(&Candidate(vec![0, 1, 2, 0, 1, 1, 0])).unwrap();
    let text = "family = 'cifar_resnet'\ndepths = [2, 5, 3]\nshortcut = 'projection'\nimage_size = 24";
    let expected = residual_zoo::from_toml(text).unwrap();
    assert_eq!((&member.config, member.parameters), (&expected, expected.graph().unwrap().parameter_count()));
    let resnet = space.member(&Candidate(vec![1, 0, 0, 0, 0, 1, 0])).unwrap();
    let named = build("nasbench201_resnet", 10).unwrap();
    assert_eq!(resnet.graph.nodes.len(), named.nodes.len());
    let photos = space.for_images(1, 3).member(&Candidate(vec![0; 7])).unwrap();
    assert_eq!((photos.config.in_chans, photos.config.num_classes), (1, 3));
}

#[test]
fn networks_with_the_same_choices_of_a_field_share_them() {
    let one = "family = 'plain'\nsmall_images = true\nwidths = { each = [[8, 16], [8, 16]] }\ndepths = [1, 1]";
    let two = "family = 'preact_resnet'\nwidths = { each = [[8, 16], [8, 24]] }\ndepths = [1, 1]";
    let space = NetworkSpace::parse("s", &format!("[[network]]\n{one}\n[[network]]\n{two}")).unwrap();
    assert_eq!(space.sizes(), [2, 2, 2, 2]);
    assert_eq!(space.size(), 8);
}

/// The benchmark's published smallest and largest networks.
#[test]
fn the_extremes_of_nasbench201_are_the_published_ones() {
    let space = NetworkSpace::open("nasbench201").unwrap();
    assert_eq!(space.size(), 15_625);
    let [smallest, largest] = space.extremes().unwrap();
    assert_eq!((smallest.parameters, smallest.macs + 10), (73_306, 7_783_050));
    assert_eq!((largest.parameters, largest.macs + 10), (1_531_546, 220_119_690));
}

#[test]
fn every_member_of_a_built_in_space_is_a_network_between_the_extremes() {
    for name in NetworkSpace::names() {
        let space = NetworkSpace::open(name).unwrap();
        let [smallest, largest] = space.extremes().unwrap();
        let members: Vec<_> = (0..100).filter_map(|number| space.member(&draw(&space, number)).ok()).collect();
        assert!(members.len() > 70, "{name}: {} of 100 are networks", members.len());
        for member in members {
            assert!((smallest.macs..=largest.macs).contains(&member.macs), "{name}: {:?}", member.config);
            assert_eq!(
                Config { name: "x".into(), ..member.config }.graph().unwrap().parameter_count(),
                member.parameters
            );
        }
    }
    // resnet20 and resnet18 are within.
    let resnet20 = build("resnet20", 10).unwrap().analyse(32, 32).unwrap().macs;
    let [smallest, largest] = NetworkSpace::open("cifar-resnet").unwrap().extremes().unwrap();
    assert!(smallest.macs < resnet20 / 5 && largest.macs > 10 * resnet20, "{} {}", smallest.macs, largest.macs);
}

#[test]
fn what_is_no_space_is_refused_by_its_field() {
    let cases = [
        ("family = ", "s: line 1: "),
        ("network = []", "s: network: expected 1 to 64 tables [[network]] and nothing else"),
        ("network = [1]", "s: network: expected a table, got integer"),
        ("family = 'plain'\n[[network]]\nfamily = 'plain'", "s: network: expected 1 to 64 tables"),
        ("depths = { chose = [1] }", "s: depths: expected a value, or choices: { choose = [..] }, "),
        ("depths = { choose = [1], more = 2 }", "s: depths: expected a value, or choices: "),
        ("depths = { choose = [] }", "s: depths: choices: expected 1 to 256 different choices, or "),
        ("depths = { choose = [1, 1] }", "s: depths: choices: expected 1 to 256 different choices, or "),
        (
            "depths = { choose = { from = 1, to = 257 } }",
            "s: depths: choices: expected 1 to 256 different choices, or ",
        ),
        ("depths = { choose = { from = 2, to = 1 } }", "s: depths: choices: expected 1 to 256 different choices, or "),
        ("depths = { choose = { from = 1, to = 9, step = 0 } }", "s: depths: choices: expected "),
        ("d = { choose = { from = -9223372036854775808, to = 9223372036854775807 } }", "s: d: choices: expected "),
        ("depths = { each = 3 }", "s: depths: each: expected choices for 1 to 64 places, got 3"),
        (
            "cell = { format = '{}-{}', each = [['a']] }",
            "s: cell: each: expected choices for 2 places {} of the format, got 1",
        ),
    ];
    for (text, expected) in &cases {
        let error = NetworkSpace::parse("s", text).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(expected) && !error.contains('\n'), "{text}\n{error}");
    }
    let error = NetworkSpace::open("cifar-resnt").map(drop).unwrap_err().to_string();
    let expected = "space: expected cifar-resnet, imagenet-resnet, nasbench201, or a file .toml, got \"cifar-resnt\" (did you mean \"cifar-resnet\"?)";
    assert_eq!(error, expected);
    // A field that the family does not have.
    let space = NetworkSpace::parse("s", SPACE).unwrap();
    let error = space.member(&Candidate(vec![1, 0, 0, 0, 0, 0, 0])).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("unknown key \"shortcuts\""), "{error}");
    let none = NetworkSpace::parse("s", "family = 'plain'\nwidths = [0]\ndepths = { each = [[1, 2]] }").unwrap();
    assert_eq!(
        none.extremes().map(drop).unwrap_err().to_string(),
        "s: expected a space with valid networks, got none among 1000 drawn ones"
    );
}

#[test]
fn members_are_within_the_limits_and_a_network_is_measured_once() {
    let measured = Cell::new(0);
    // A stand-in for a measurement.
    let latency = |graph: &residual_graph::Graph, batch: usize| {
        measured.set(measured.get() + 1);
        Ok(1e-9 * batch as f64 * graph.parameter_count() as f64)
    };
    let limit: LatencyLimit = "500us@2".parse().unwrap();
    assert_eq!((limit.seconds, limit.batch), (5e-4, 2));
    let limits = Limits { macs: Some(30_000_000), parameters: Some(300_000), latency: Some(limit) };
    let space = Bounded::new(NetworkSpace::open("cifar-resnet").unwrap(), limits, &latency);
    let (mut within, mut beyond) = (0, 0);
    for number in 0..400 {
        let candidate = draw(space.space(), number);
        let Ok(member) = space.space().member(&candidate) else { continue };
        let fits = member.macs <= 30_000_000 && member.parameters <= 250_000;
        let before = measured.get();
        let cost = space.cost(&candidate).unwrap();
        assert_eq!(cost.is_some(), fits, "{candidate:?}");
        assert_eq!(space.identity(&candidate).unwrap(), cost.map(|(identity, _)| identity));
        assert!(measured.get() <= before + 1);
        if fits { within += 1 } else { beyond += 1 }
    }
    assert!(within > 10 && beyond > 10, "{within} {beyond}");
    for text in ["2", "ms", "2ms@0", "0ms", "-1s", "nans", "1h", "2ms@1@2"] {
        let error = text.parse::<LatencyLimit>().unwrap_err().to_string();
        assert!(error.starts_with("latency: expected a time and a batch size such as 2ms@1"), "{error}");
    }
}

#[test]
fn members_are_drawn_once_each() {
    let space = NetworkSpace::parse("s", SPACE).unwrap();
    let members = space.sample(50, 1);
    assert_eq!(members.len(), 12, "all valid ones");
    let identities: HashSet<String> = members.iter().map(|member| format!("{:?}", member.config)).collect();
    assert_eq!(identities.len(), 12);
    let of_four = space.sample(4, 1);
    assert!(of_four.iter().zip(&members).all(|(a, b)| a.config == b.config) && of_four.len() == 4);
}

/// Predictions follow from the table alone; a network far beyond the limit is not measured.
#[test]
fn latencies_are_predicted_from_layers_that_are_measured_once() {
    let space = NetworkSpace::parse("s", SPACE).unwrap();
    let graphs: Vec<_> = space.sample(14, 1).into_iter().map(|member| member.graph).collect();
    let options = Options::threads(1);
    let mut shown = 0;
    let mut predictor =
        LatencyPredictor::new(&graphs[..6], 2, LatencyTable::new(&options), &options, &mut |done| shown = done)
            .unwrap();
    let check = *predictor.check();
    assert_eq!((shown, check.networks), (6, 6));
    assert!(check.rank_correlation <= 1.0 && check.median_error <= check.greatest_error, "{check:?}");
    let predicted: Vec<f64> = graphs.iter().map(|graph| predictor.predict(graph).unwrap()).collect();
    assert!(predicted.iter().all(|seconds| *seconds > 0.0));
    let known = predictor.table().len();
    let again: Vec<f64> = graphs.iter().map(|graph| predictor.predict(graph).unwrap()).collect();
    assert_eq!((again, predictor.table().len()), (predicted.clone(), known));
    // All are slower than 1 ns, and none than a second.
    assert_eq!(predictor.seconds(&graphs[0], 1e-9).unwrap(), predicted[0]);
    assert_ne!(predictor.seconds(&graphs[0], 1.0).unwrap(), predicted[0]);
    assert!(measure_latency(&graphs[0], 2, &options).unwrap() < 1.0);
}

#[test]
fn networks_that_share_weights_have_one_supernet() {
    let supernets = |text: &str| Supernets::new(&NetworkSpace::parse("s", text)?);
    let largest = |supernets: &Supernets| -> Vec<usize> {
        supernets.all().iter().map(|supernet| supernet.network().parameters).collect()
    };
    // Depths, widths, shortcuts and gates are parts of the largest network; blocks of other types are none.
    let cifar = NetworkSpace::open("cifar-resnet").unwrap();
    let of_cifar = Supernets::new(&cifar).unwrap();
    assert_eq!(of_cifar.all().len(), 3);
    assert!(largest(&of_cifar).contains(&cifar.extremes().unwrap()[1].parameters));
    let blocks =
        "family = 'cifar_resnet'\nblock = { choose = ['basic', 'bottleneck'] }\ndepths = { each = [[1, 2], [1], [1]] }";
    let of = |block: &str| {
        let text = format!("family = 'cifar_resnet'\nblock = '{block}'\ndepths = [2, 1, 1]");
        residual_zoo::from_toml(&text).unwrap().graph().unwrap().parameter_count()
    };
    assert_eq!(largest(&supernets(blocks).unwrap()), [of("basic"), of("bottleneck")]);

    let error = |space| Supernets::new(&NetworkSpace::open(space).unwrap()).unwrap_err().to_string();
    let expected = "expected networks that share the weights of at most 4 supernets, got more; choices of";
    let cells = error("nasbench201");
    assert!(cells.starts_with(&format!("nasbench201: {expected} cell share none: ")), "{cells}");
    let photos = error("imagenet-resnet");
    assert!(photos.starts_with(&format!("imagenet-resnet: {expected} avg_shortcut share none: ")), "{photos}");

    // By hand: the largest network has no projection in its first block, but any narrower stem or stage makes one.
    let stems = "family = 'resnet'\nblock = 'basic'\nstem = 'small'\ndepths = [1, 1, 1, 1]\nstem_width = { choose = [8, 16] }\n\
                 widths = { each = [[8, 16], [16, 32], [16], [16]] }";
    assert_eq!(supernets(stems).unwrap().all().len(), 2 * 2);
}
