//! Gradients recorded during training.

use crate::support;

use residual_tensor::NamedTensors;
use residual_train::{Augment, Job, Recipe, Record, Sched, train};
use residual_weights::load;
use std::path::Path;
use support::{assert_same_run, dataset, finished, interrupted, never, options, recipe};

/// A step of plain SGD moves a weight by the learning rate times its gradient: the weights before and after it give both.
#[test]
fn recorded_gradients_and_updates_are_those_that_the_weights_show() {
    let folder = tempfile::tempdir().unwrap();
    let lr = 0.5;
    let recipe = Recipe {
        lr,
        momentum: 0.0,
        nesterov: None,
        weight_decay: 0.0,
        sched: Sched::Constant,
        warmup_steps: None,
        augment: Augment::None,
        crop_padding: Recipe::default().crop_padding,
        hflip: 0.0,
        epochs: None,
        max_steps: Some(1),
        log_gradients: Some(1),
        ..recipe(&dataset(folder.path(), None))
    };
    let job = Job::prepare(recipe).unwrap();
    let run = finished(&train(&job, &folder.path().join("runs"), &options(2), &never(), &mut |_| {}).unwrap());
    let rows = Record::read(run.path()).unwrap().gradients().unwrap();
    assert_eq!(rows.iter().map(|row| (row.step, row.epoch)).collect::<Vec<_>>(), [(1, 1)]);
    let after = load(&run.last()).unwrap().model.tensors;
    let filters = |tensors: &NamedTensors| tensors.iter().filter(|(_, tensor)| tensor.shape().len() > 1).count();
    assert_eq!(rows[0].layers.len(), filters(&after), "every convolution and linear layer");
    for layer in &rows[0].layers {
        let values = |tensors: &NamedTensors| -> Vec<f64> {
            tensors[layer.name.as_str()].as_f32().unwrap().iter().map(|&value| f64::from(value)).collect()
        };
        let (before, after) = (values(&job.model.tensors), values(&after));
        let moved: Vec<f64> = before.iter().zip(&after).map(|(before, after)| (before - after).abs()).collect();
        let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let close = |got: Option<f64>, expected: f64, what: &str| {
            let got = got.unwrap();
            // The weights are rounded to 24 bits, of which a small step uses the last ones.
            assert!((got - expected).abs() <= 2e-3 * expected, "{}: {what} {got}, expected {expected}", layer.name);
        };
        close(layer.mean, moved.iter().sum::<f64>() / moved.len() as f64 / lr, "mean");
        close(layer.max, moved.iter().copied().fold(0.0, f64::max) / lr, "max");
        close(layer.update_ratio, norm(&moved) / norm(&before), "update ratio");
    }
}

#[test]
fn recording_changes_no_bit_and_resumes_without_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), None);
    let trained = |log_gradients: Option<u64>, runs: &Path| {
        let job = Job::prepare(Recipe { log_gradients, ..recipe(&data) }).unwrap();
        let run = finished(&train(&job, runs, &options(2), &never(), &mut |_| {}).unwrap());
        (job, run)
    };
    let runs = folder.path().join("runs");
    let (_, without) = trained(None, &runs);
    let (job, with) = trained(Some(5), &runs);
    assert!(!without.gradients().exists());
    assert_same_run(&without, &with);
    let rows = Record::read(with.path()).unwrap().gradients().unwrap();
    assert_eq!(rows.iter().map(|row| row.step).collect::<Vec<_>>(), [1, 5, 10, 15, 20]);

    let (interruptions, outcome) = interrupted(&job, &runs, &[3], &[6, 12]);
    assert_eq!(interruptions, 3);
    let resumed = finished(&outcome);
    assert_same_run(&with, &resumed);
    let text = |run: &residual_train::RunFolder| std::fs::read_to_string(run.gradients()).unwrap();
    assert_eq!(text(&with), text(&resumed));
}
