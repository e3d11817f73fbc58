//! Gradient flow and activation statistics, beside the engine's own values.

use residual_engine::{Engine, Mode, Options};
use residual_explain::{ActivationRecorder, gradient_flow};
use residual_kernels::loss::{Targets, cross_entropy};
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::Stream;

fn model(name: &str) -> Model {
    let graph = residual_zoo::build(name, 4).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    Model::new(graph, tensors, Preprocessing::unscaled([16, 16], &[0.0; 3], &[1.0; 3]), Vec::new()).unwrap()
}

fn images(count: usize) -> Vec<f32> {
    let mut stream = Stream::new(2, &[]);
    (0..count * 16 * 16 * 3).map(|_| stream.normal()).collect()
}

#[test]
fn gradient_flow_is_that_of_a_training_steps_loss_and_changes_no_weight() {
    let (model, images, labels) = (model("resnet20"), images(5), [0, 3, 1, 1, 2]);
    let before = model.tensors.clone();
    let flow = gradient_flow(&model, &images, &labels, 0, &Options::threads(1)).unwrap();
    assert_eq!(model.tensors, before);
    let mut engine = Engine::new(&model, Mode::Train, 5, [16, 16], &[], &Options::threads(1)).unwrap();
    engine.forward(&images).unwrap();
    let mut gradient = vec![0.0; 20];
    let loss = cross_entropy(engine.output(), Targets::Hard(&labels), 4, 0.0, Some(&mut gradient));
    engine.backward_output(&gradient).unwrap();
    assert_eq!(flow.loss, loss);
    for (key, gradient) in engine.gradients() {
        let values = gradient.as_f32().unwrap();
        let statistics = flow.tensors.iter().find(|statistics| statistics.name == key).unwrap();
        let mean = values.iter().map(|value| f64::from(value.abs())).sum::<f64>() / values.len() as f64;
        assert!((statistics.mean - mean).abs() <= 1e-6 * mean, "{key}");
    }
    let refused =
        |labels: &[u32]| gradient_flow(&model, &images, labels, 0, &Options::threads(1)).unwrap_err().to_string();
    assert_eq!(refused(&[0, 1, 2, 3, 4]), "class: expected a number below 4, got 4");
    assert_eq!(refused(&[0]), "images: expected 768 values, got 3840");
}

/// A channel whose batch norm is always far below zero is dead; one far above it is always on.
#[test]
fn dead_channels_are_counted_and_statistics_are_those_of_the_values() {
    let mut model = model("resnet20");
    let bias = model.tensors.get_mut("bn1.bias").unwrap().as_f32_mut().unwrap();
    bias[..3].fill(-1e3);
    bias[3] = 1e3;
    let images = images(6);
    let mut recorder = ActivationRecorder::new(&model, 4, &Options::threads(1)).unwrap();
    recorder.record(&images).unwrap();
    let all = recorder.finish();
    let relu = all.iter().find(|statistics| statistics.node == "relu").expect("the stem's ReLU");
    assert_eq!((relu.dead, relu.shape, relu.op), (Some(3), [16, 16, 16], "relu"));
    assert!(relu.zeros > 3.0 / 16.0 && relu.zeros < 12.0 / 16.0 && relu.min == 0.0 && relu.max > 900.0);
    let mut engine = Engine::new(&model, Mode::Eval, 6, [16, 16], &["bn1"], &Options::threads(1)).unwrap();
    engine.forward(&images).unwrap();
    let values: Vec<f64> = engine.node_value("bn1").unwrap().iter().map(|&value| value.into()).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
    let norm = all.iter().find(|statistics| statistics.node == "bn1").unwrap();
    assert!((norm.mean - mean).abs() < 1e-3 && (norm.deviation / variance.sqrt() - 1.0).abs() < 1e-4, "{norm:?}");
    assert_eq!(norm.dead, None);
}
