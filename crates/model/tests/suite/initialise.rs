//! Initial values follow torch's and torchvision's distributions and depend on nothing but seed and place.

use residual_graph::{Builder, Conv2d, Graph};
use residual_model::{Initialisation, check_tensors, initialise};
use residual_tensor::{NamedTensors, Tensor};

const TORCHVISION: Initialisation = Initialisation::KaimingFanOut { zero_init_residual: false };
const ZERO_RESIDUAL: Initialisation = Initialisation::KaimingFanOut { zero_init_residual: true };

fn values<'a>(tensors: &'a NamedTensors, key: &str) -> &'a [f32] {
    tensors[key].as_f32().unwrap()
}

/// Mean, standard deviation and largest magnitude.
fn moments(values: &[f32]) -> (f64, f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
    (mean, (square - mean * mean).sqrt(), values.iter().map(|&v| f64::from(v).abs()).fold(0.0, f64::max))
}

fn assert_uniform(values: &[f32], bound: f64) {
    let (mean, deviation, largest) = moments(values);
    let tolerance = 5.0 * bound / (values.len() as f64).sqrt();
    assert!(mean.abs() < tolerance, "mean {mean} of U(±{bound})");
    assert!((deviation - bound / 3f64.sqrt()).abs() < tolerance, "deviation {deviation} of U(±{bound})");
    assert!(largest <= bound * (1.0 + 1e-6) && largest > bound * 0.9, "largest {largest} of U(±{bound})");
}

fn grouped_with_bias() -> Graph {
    let mut net = Builder::new("grouped", [32, 8, 8]);
    let conv = Conv2d::new(32, 64, 3).groups(4).bias();
    let x = net.conv("conv", net.input(), conv).unwrap();
    let x = net.global_avg_pool("pool", x).unwrap();
    let x = net.linear("fc", x, 500, true).unwrap();
    net.finish(x).unwrap()
}

#[test]
fn torchs_default_is_uniform_within_one_over_root_fan_in() {
    let tensors = initialise(&grouped_with_bias(), Initialisation::Torch, 3);
    let fan_in = 32.0 / 4.0 * 9.0;
    assert_uniform(values(&tensors, "conv.weight"), 1.0 / f64::sqrt(fan_in));
    assert_uniform(values(&tensors, "conv.bias"), 1.0 / f64::sqrt(fan_in));
    assert_uniform(values(&tensors, "fc.weight"), 1.0 / f64::sqrt(64.0));
    assert_uniform(values(&tensors, "fc.bias"), 1.0 / f64::sqrt(64.0));
}

#[test]
fn torchvisions_convolutions_are_normal_with_variance_two_over_fan_out() {
    let tensors = initialise(&grouped_with_bias(), TORCHVISION, 3);
    let expected = f64::sqrt(2.0 / (64.0 * 9.0));
    let (mean, deviation, largest) = moments(values(&tensors, "conv.weight"));
    assert!(mean.abs() < 0.1 * expected && (deviation / expected - 1.0).abs() < 0.05, "{mean} {deviation} {expected}");
    assert!(largest > 2.5 * expected, "a normal of 4608 values has tails, got {largest}");
    assert_uniform(values(&tensors, "fc.weight"), 1.0 / f64::sqrt(64.0));
}

#[test]
fn batch_norms_start_as_the_identity_and_the_result_fits_the_graph() {
    let graph = residual_zoo::build("resnet18", 10).unwrap();
    let tensors = initialise(&graph, TORCHVISION, 0);
    check_tensors(&graph, &tensors).unwrap();
    assert_eq!(tensors["bn1.weight"], Tensor::full(&[64], 1.0));
    assert_eq!(tensors["bn1.bias"], Tensor::full(&[64], 0.0));
    assert_eq!(tensors["bn1.running_mean"], Tensor::full(&[64], 0.0));
    assert_eq!(tensors["bn1.running_var"], Tensor::full(&[64], 1.0));
    assert_eq!(tensors["bn1.num_batches_tracked"], Tensor::i64(&[], vec![0]));
}

#[test]
fn zero_init_residual_zeroes_what_torchvision_zeroes() {
    // timm's too: through squeeze-and-excitation, and the last convolution of a pre-activation block.
    let cases = [
        ("resnet18", "bn2"),
        ("resnet50", "bn3"),
        ("resnet20", "bn2"),
        ("resnet20_a", "bn2"),
        ("seresnet50", "bn3"),
        ("preact_resnet18", "conv2"),
        ("preact_resnet164", "conv3"),
    ];
    for (name, last) in cases {
        let graph = residual_zoo::build(name, 10).unwrap();
        let tensors = initialise(&graph, ZERO_RESIDUAL, 0);
        let mut zeroed = 0;
        for (key, tensor) in tensors.iter().filter(|(key, _)| key.ends_with(".weight")) {
            let is_zero = tensor.as_f32().unwrap().iter().all(|&v| v == 0.0);
            let expected = key.starts_with("layer") && key.split('.').nth(2) == Some(last);
            assert_eq!(is_zero, expected, "{name}: {key}");
            zeroed += usize::from(is_zero);
        }
        assert_eq!(zeroed, graph.nodes.iter().filter(|node| node.op.name() == "add").count(), "{name}");
    }
}

#[test]
fn a_tensor_depends_on_seed_and_place_alone() {
    let graph = residual_zoo::build("resnet20", 10).unwrap();
    let wider = residual_zoo::build("resnet20", 100).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 7);
    assert_eq!(tensors, initialise(&graph, Initialisation::Torch, 7));
    for (key, tensor) in initialise(&wider, Initialisation::Torch, 7) {
        assert_eq!(tensors[&key] == tensor, !key.starts_with("fc."), "{key}");
    }
    let other = initialise(&graph, Initialisation::Torch, 8);
    assert_ne!(tensors["conv1.weight"], other["conv1.weight"]);
    assert_ne!(tensors["layer1.0.conv1.weight"], tensors["layer1.0.conv2.weight"]);
}

#[test]
fn convnext_starts_as_torchvisions() {
    let graph = residual_zoo::from_toml("family = 'convnext'\ndepths = [1, 1, 1, 1]").unwrap().graph().unwrap();
    assert_eq!(Initialisation::usual(&graph), Initialisation::Normal { deviation: 0.02 });
    assert_eq!(Initialisation::usual(&residual_zoo::build("resnet20", 10).unwrap()), TORCHVISION);
    let tensors = initialise(&graph, Initialisation::usual(&graph), 3);
    check_tensors(&graph, &tensors).unwrap();
    for key in ["features.0.0.weight", "features.1.0.block.0.weight", "features.1.0.block.3.weight"] {
        let (mean, deviation, _) = moments(values(&tensors, key));
        assert!(mean.abs() < 0.002 && (deviation / 0.02 - 1.0).abs() < 0.05, "{key}: {mean} {deviation}");
    }
    for key in ["features.0.0.bias", "features.1.0.block.3.bias", "features.0.1.bias", "classifier.2.bias"] {
        assert!(values(&tensors, key).iter().all(|&v| v == 0.0), "{key}");
    }
    assert_eq!(tensors["features.0.1.weight"], Tensor::full(&[96], 1.0));
    assert_eq!(tensors["features.1.0.layer_scale"], Tensor::full(&[96, 1, 1], 1e-6));
}
