//! Ten or twenty training steps are PyTorch's: the loss of every step and the state dict after the last, through `train()` itself.
//! `golden/make_golden.py` states the runs and made the files.
//!
//! An instruction set that this machine lacks is skipped, and says so, unless `RESIDUAL_REQUIRE_ISA` names it.

use residual_engine::Options;
use residual_kernels::Isa;
use residual_tensor::{NamedTensors, Tensor};
use residual_threads::Pool;
use residual_train::{Event, Job, Layer, Outcome, Recipe, RunFolder, train};
use residual_weights::{load, load_tensors};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Losses and learning rates, relative to themselves.
const VALUE: f64 = 1e-5;
/// The error of a tensor after the run, relative to the norm of its change: `TOLERANCE` of `make_golden.py`, which checks that
/// rounding errors are less than a tenth of it, and that a run without any one of the settings differs by more than ten times
/// as much.
const CHANGE: f64 = 5e-4;

/// Nesterov momentum, label smoothing, weight decay, warm-up, cosine schedule, layer-wise learning-rate decay and the head's
/// learning rate.
#[test]
fn sgd_is_torchs() {
    check("sgd");
}

/// The same, with no weight decay for norms and biases.
#[test]
fn parameter_groups_without_weight_decay_are_timms() {
    check("sgd_groups");
}

/// Decoupled weight decay, bias correction and parameter groups.
#[test]
fn adamw_is_torchs() {
    check("adamw");
}

/// Weight decay in the gradient.
#[test]
fn adam_is_torchs() {
    check("adam");
}

/// The momentum schedule.
#[test]
fn nadam_is_torchs() {
    check("nadam");
}

/// The trust ratio of tensors with weight decay, none for the others, and the clipping by the norm of all gradients.
#[test]
fn lamb_is_timms() {
    check("lamb");
}

#[test]
fn rmsprop_is_torchs() {
    check("rmsprop");
}

#[test]
fn tensorflows_rmsprop_is_timms() {
    check("rmsproptf");
}

#[test]
fn lion_is_timms() {
    check("lion");
}

/// Orthogonalised momentum of weights as matrices, and AdamW at half the rate for the others.
#[test]
fn muon_is_torchs() {
    check("muon");
}

/// Summed over classes, with label smoothing.
#[test]
fn binary_cross_entropy_is_timms() {
    check("binary");
}

/// Weights from the numbers of training images, with label smoothing.
#[test]
fn class_weights_are_scikit_learns_and_torchs() {
    check("balanced");
}

/// Temperature, the weight of the labels' loss with smoothing, and temperature² on the divergence.
#[test]
fn distillation_is_torchs() {
    check("kd");
}

/// Decoupled, with a warm-up of two epochs.
#[test]
fn decoupled_distillation_is_mdistillers() {
    check("dkd");
}

/// Hints at the ends of the stages.
#[test]
fn hints_are_torchs() {
    check("fitnet");
}

/// Attention maps at the ends of the stages, with softened probabilities beside them.
#[test]
fn attention_transfer_is_torchs() {
    check("at");
}

#[test]
fn gradients_clipped_by_value_are_torchs() {
    check("clipped_values");
}

/// Adaptive gradient clipping of all layers but the head.
#[test]
fn gradients_clipped_by_units_are_timms() {
    check("clipped_units");
}

/// Half of every convolution's weights are zero and stay zero; their gradients have no part in the norm that is clipped.
#[test]
fn pruned_networks_are_trained_as_with_torchs_masks() {
    check("pruned");
}

/// Gradients of two batches summed before each update, and clipped to a norm that only some steps exceed.
#[test]
fn accumulated_and_clipped_gradients_are_torchs() {
    check("accumulated");
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Runs the recipe of this name on every instruction set.
fn check(name: &str) {
    let text = std::fs::read_to_string(golden("runs.json")).unwrap();
    let runs: Value = serde_json::from_str(&text).unwrap();
    let recipe = Layer::parse(name, runs[name]["recipe"].as_str().unwrap()).unwrap();
    let path = |name: &str| golden(name).display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::resolve(&[recipe]).unwrap().recipe;
    let recipe = Recipe {
        model: path("small.toml"),
        data: path("images.safetensors"),
        weights: Some(golden("").join(recipe.weights.as_deref().unwrap_or("initial.safetensors".as_ref()))),
        val_split: Some(0.0),
        ..recipe
    };
    let recipe = Recipe { teacher: recipe.teacher.is_some().then(|| vec![teacher(folder.path())]), ..recipe };
    let job = Job::prepare(recipe).unwrap();
    for isa in ["portable", "avx2", "avx512"] {
        match Isa::from_name(isa) {
            Ok(isa) => check_run(&job, isa, &runs[name], &golden(&format!("{name}.safetensors"))),
            Err(error) => {
                let required = std::env::var("RESIDUAL_REQUIRE_ISA").unwrap_or_default();
                assert!(!required.split(',').any(|required| required == isa), "{error}");
                eprintln!("skipped: {error}");
            }
        }
    }
}

/// A checkpoint in `folder` with the network and the weights of the teacher; its path.
fn teacher(folder: &Path) -> String {
    let graph = residual_infer::network(golden("small.toml").to_str().unwrap()).unwrap().graph().unwrap();
    let (tensors, _) = load_tensors(&golden("teacher.safetensors")).unwrap();
    let preprocessing = residual_preprocess::Preprocessing::unscaled([12, 12], &[0.5; 3], &[0.25; 3]);
    let model = residual_model::Model::new(graph, tensors, preprocessing, Vec::new()).unwrap();
    let path = folder.join("teacher.safetensors");
    residual_weights::save(&path, &model, None).unwrap();
    path.to_str().unwrap().to_owned()
}

fn check_run(job: &Job, isa: Isa, expected: &Value, state: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(isa, Arc::new(Pool::new(2)));
    let (mut rates, mut losses) = (Vec::new(), Vec::new());
    let outcome = train(job, folder.path(), &options, &Arc::default(), &mut |event| {
        if let Event::Step(step) = event {
            rates.push(step.lr);
            losses.push(step.loss);
        }
    });
    let Outcome::Finished(trained) = outcome.unwrap() else { panic!("nobody stops this run") };
    let expected_rates = floats(&expected["lr"]);
    close(&rates, &expected_rates, "learning rate");
    // The loss of a step is the mean over its batches.
    let batch_losses = floats(&expected["losses"]);
    let batches = batch_losses.chunks_exact(batch_losses.len() / expected_rates.len());
    close(&losses, &batches.map(mean).collect::<Vec<_>>(), "loss");

    let last = RunFolder::open(&trained.summary.run).unwrap().last();
    let trained = load(&last).unwrap().model.tensors;
    let (initial, _) = load_tensors(job.recipe.weights.as_deref().unwrap()).unwrap();
    let (expected, _) = load_tensors(state).unwrap();
    assert_eq!(trained.len(), expected.len());
    for key in expected.keys() {
        check_change(key, [&initial, &expected, &trained]);
    }
}

/// Compares how a tensor changed from the first of these state dicts to the second with how it changed to the third.
fn check_change(key: &str, states: [&NamedTensors; 3]) {
    let tensors = states.map(|state| &state[key]);
    if let [_, Some(expected), Some(got)] = tensors.map(Tensor::as_i64) {
        assert_eq!(got, expected, "{key}");
        return;
    }
    let [initial, expected, got] = tensors.map(|tensor| tensor.as_f32().expect("floats"));
    assert_eq!((got.len(), initial.len()), (expected.len(), expected.len()), "{key}");
    let distance = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
    };
    let (change, error) = (distance(expected, initial), distance(got, expected));
    assert!(error <= CHANGE * change, "{key}: changes by {change} in torch, and ends {error} away from it");
}

fn floats(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn close(got: &[f64], expected: &[f64], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (step, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= VALUE * expected, "{what} of step {step}: {expected}, got {got}");
    }
}
