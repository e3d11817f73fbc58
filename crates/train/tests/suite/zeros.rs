//! Pruned networks in training: weights that are zero at the start stay zero, and no others.

use crate::support;

use residual_model::{Initialisation, Model, initialise};
use residual_tensor::Tensor;
use residual_train::{Job, Layer, Opt, Recipe, RunFolder, resume, train};
use residual_weights::{load, load_tensors, save, save_tensors};
use std::path::{Path, PathBuf};
use support::{assert_same_run, dataset, finished, interrupted, never, options, recipe};

/// A network of which every third weight is zero, and one layer's all.
fn pruned(folder: &Path) -> PathBuf {
    let graph = residual_zoo::build("resnet20", 3).unwrap();
    let mut tensors = initialise(&graph, Initialisation::Torch, 1);
    for (key, tensor) in &mut tensors {
        if tensor.shape().len() > 1 {
            let all = key == "layer2.1.conv1.weight";
            let values = tensor.as_f32_mut().unwrap().iter_mut().enumerate();
            values.filter(|(index, _)| all || index % 3 == 0).for_each(|(_, value)| *value = 0.0);
        }
    }
    let preprocessing = residual_preprocess::Preprocessing::unscaled([12, 12], &[0.5; 3], &[0.25; 3]);
    let labels = ["0", "1", "2"].map(str::to_owned).to_vec();
    let path = folder.join("pruned.safetensors");
    save(&path, &Model::new(graph, tensors, preprocessing, labels).unwrap(), None).unwrap();
    path
}

fn zeros(tensor: &Tensor) -> Vec<bool> {
    tensor.as_f32().unwrap().iter().map(|value| *value == 0.0).collect()
}

/// Weight decay, momentum, averaged weights, recorded gradients and clipping change no zero; Muon's orthogonal updates are of all
/// elements of a matrix.
#[test]
fn zeros_stay_zero_and_all_other_weights_are_trained() {
    let folder = tempfile::tempdir().unwrap();
    let (data, weights) = (dataset(folder.path(), None), pruned(folder.path()));
    let before = load(&weights).unwrap().model;
    for (opt, lr, momentum) in [(Opt::Sgd, 0.05, 0.9), (Opt::AdamW, 0.01, 0.9), (Opt::Muon, 0.01, 0.95)] {
        let job = Job::prepare(Recipe {
            opt,
            lr,
            momentum,
            nesterov: None,
            weights: Some(weights.clone()),
            keep_zeros: true,
            model_ema: true,
            model_ema_decay: 0.9,
            clip_grad: Some(1.0),
            log_gradients: Some(2),
            max_steps: Some(9),
            ..recipe(&data)
        });
        let outcome = train(&job.unwrap(), &folder.path().join("runs"), &options(2), &never(), &mut |_| {});
        let run = finished(&outcome.unwrap());
        let averaged = load(&run.last()).unwrap().model.tensors;
        let (state, _) = load_tensors(&run.state()).unwrap();
        for (key, before) in before.tensors.iter().filter(|(_, tensor)| tensor.shape().len() > 1) {
            let trained = &state[format!("model.{key}").as_str()];
            assert_eq!(zeros(trained), zeros(before), "{opt:?}: {key}");
            assert_eq!(zeros(&averaged[key.as_str()]), zeros(before), "{opt:?}: {key}, averaged");
            let pairs = trained.as_f32().unwrap().iter().zip(before.as_f32().unwrap());
            let unmoved = pairs.filter(|(after, before)| after == before && **before != 0.0).count();
            assert!(50 * unmoved <= before.len(), "{opt:?}: {unmoved} of {} of {key}", before.len());
        }
    }
}

#[test]
fn a_resumed_run_is_bit_identical_also_where_layers_are_unfrozen() {
    let folder = tempfile::tempdir().unwrap();
    let base = Recipe {
        weights: Some(pruned(folder.path())),
        keep_zeros: true,
        model_ema: true,
        ..recipe(&dataset(folder.path(), None))
    };
    let unfrozen = Recipe { freeze: Some("2".into()), unfreeze_at: Some(vec!["3:layer1".into()]), ..base.clone() };
    let runs = folder.path().join("runs");
    for recipe in [base, unfrozen] {
        let job = Job::prepare(recipe).unwrap();
        let reference = finished(&train(&job, &runs, &options(2), &never(), &mut |_| {}).unwrap());
        let (interruptions, outcome) = interrupted(&job, &runs, &[3], &[6, 12, 14]);
        assert_eq!(interruptions, 4);
        assert_same_run(&reference, &finished(&outcome));
        let last = load(&reference.last()).unwrap().model;
        for (key, before) in job.model.tensors.iter().filter(|(_, tensor)| tensor.shape().len() > 1) {
            assert_eq!(zeros(&last.tensors[key.as_str()]), zeros(before), "{key}");
        }
    }
}

/// A weight may pass through zero between two steps, at which the run is resumed.
#[test]
fn a_weight_that_is_zero_by_chance_is_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        weights: Some(pruned(folder.path())),
        keep_zeros: true,
        max_steps: Some(8),
        ..recipe(&dataset(folder.path(), None))
    };
    let job = Job::prepare(recipe).unwrap();
    let stop = never();
    let outcome = train(&job, &folder.path().join("runs"), &options(1), &stop, &mut |event| {
        if matches!(event, residual_train::Event::Step(step) if step.step == 4) {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let run = RunFolder::open(&outcome.unwrap().summary().run).unwrap();
    let (mut state, metadata) = load_tensors(&run.state()).unwrap();
    let weight = state["model.conv1.weight"].as_f32_mut().unwrap();
    assert!(weight[0] == 0.0 && weight[1] != 0.0);
    weight[1] = 0.0;
    // As the state was written, with masks of bytes.
    let bytes = |(key, tensor): (String, Tensor)| match (key.starts_with("zeros."), tensor.as_i64()) {
        (true, Some(values)) => (key, Tensor::u8(tensor.shape(), values.iter().map(|&value| value as u8).collect())),
        _ => (key, tensor),
    };
    save_tensors(&run.state(), &state.into_iter().map(bytes).collect(), &metadata).unwrap();
    let began = Recipe::resolve(&[Layer::run(&run.config()).unwrap()]).unwrap().recipe;
    let job = Job::resume(began, &run).unwrap();
    let run = finished(&resume(&job, run, &options(1), &never(), &mut |_| {}).unwrap());
    let weight = load(&run.last()).unwrap().model.tensors["conv1.weight"].clone();
    assert!(weight.as_f32().unwrap()[0] == 0.0 && weight.as_f32().unwrap()[1] != 0.0);
}

#[test]
fn weights_without_zeros_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), None);
    let refused = |recipe: Recipe| Job::prepare(recipe).map(drop).unwrap_err().to_string();
    let error = refused(Recipe { keep_zeros: true, ..recipe(&data) });
    assert!(error.contains("keep_zeros") && error.contains("weights"), "{error}");
    let graph = residual_zoo::build("resnet20", 3).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    let path = folder.path().join("dense.safetensors");
    save_tensors(&path, &tensors, &Default::default()).unwrap();
    let error = refused(Recipe { keep_zeros: true, weights: Some(path), ..recipe(&data) });
    assert_eq!(error, "keep_zeros: expected weights of which some are zero, got none that is");
}
