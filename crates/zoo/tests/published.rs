//! The zoo's networks have the published sizes and see as far as published.

use residual_graph::Graph;
use residual_zoo::{UnknownModel, build, entries};

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
    for (name, millions) in table {
        let got = graph(name, 10).parameter_count() as f64 / 1e6;
        assert!((got / millions - 1.0).abs() < 0.02, "{name}: {got}");
    }
}

#[test]
fn receptive_fields_are_computed_from_the_graph() {
    assert_eq!(graph("resnet50", 10).analyse(224, 224).unwrap().receptive_field, 427);
    assert_eq!(graph("resnet50_v1", 10).analyse(224, 224).unwrap().receptive_field, 483);
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
        for classes in [1, 7, entry.num_classes] {
            assert_eq!(entry.graph(classes).unwrap().output_channels().unwrap(), classes, "{}", entry.name);
        }
        assert!(entry.graph(0).unwrap_err().to_string().starts_with("node \"fc\""));
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
    assert!(matches!(build("x", 10), Err(UnknownModel::Name { .. })));
}
