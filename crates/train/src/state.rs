//! The training state: a single file with everything that a resume needs, so that it is always consistent.

use crate::{Job, Plateau, Recipe, RunFolder, TrainError};
use residual_infer::Metrics;
use residual_tensor::{NamedTensors, Tensor};
use residual_weights::{load_tensors, save_tensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// Parameters and running statistics, under their state-dict keys.
const MODEL: &str = "model.";
/// The averaged model, under its state-dict keys.
const AVERAGED: &str = "ema.";
/// The optimiser's state tensors, under their names and the parameters' keys.
const OPTIMIZER: &str = "optimizer.";
/// What is trained beside the network, with its optimiser's state.
const DISTILLATION: &str = "distillation.";
/// The masks of the weights that stay zero, under the weights' keys.
const ZEROS: &str = "zeros.";
/// The metadata key of [`Progress`], as JSON.
const PROGRESS: &str = "residual.progress";
/// The metadata key of the resolved recipe, as TOML.
const RECIPE: &str = "residual.recipe";

/// The progress of a run. Steps, epochs and batches count from 0 here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Steps taken.
    pub(crate) step: u64,
    /// The current epoch.
    pub(crate) epoch: u64,
    /// Number of its steps so far.
    pub(crate) epoch_step: u64,
    /// Its training metrics so far.
    pub(crate) train_metrics: Metrics,
    /// Rows of `metrics.csv`.
    pub(crate) metrics_rows: u64,
    /// Lines of `events.jsonl`.
    pub(crate) event_lines: u64,
    /// Lines of `gradients.jsonl`; states of earlier versions have none.
    #[serde(default)]
    pub(crate) gradient_lines: u64,
    /// Bytes of the TensorBoard event file.
    pub(crate) tensorboard_bytes: u64,
    /// The best epoch so far.
    pub(crate) best: Option<Best>,
    /// The last evaluation on the held-out images.
    pub(crate) last: Option<Metrics>,
    /// The epochs whose weights are kept by `checkpoint_hist`, the best one first.
    pub(crate) kept: Vec<Best>,
    /// What a plateau schedule has observed.
    pub(crate) plateau: Plateau,
    /// Skipped images and their errors.
    pub(crate) skipped: BTreeSet<String>,
    /// Seconds of work up to this state.
    pub(crate) seconds: f64,
    /// The shape of the data.
    pub(crate) data: DataShape,
    /// The [fingerprints](residual_data::Dataset::fingerprint_set) of the training and of the held-out images at the
    /// start of the run.
    pub(crate) fingerprints: [u32; 2],
    /// The checksums of the teachers at the start of the run; states of earlier versions have none.
    #[serde(default)]
    pub(crate) teachers: Vec<u32>,
    /// The name of the companion that the run was started with, if it has one; states of earlier versions have none.
    #[serde(default)]
    pub(crate) companion: Option<String>,
    /// The instruction set at the start of the run.
    pub(crate) isa: String,
}

/// An epoch and its evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Best {
    pub(crate) epoch: u64,
    /// Its evaluation on the held-out images; nothing is counted if there are none.
    pub(crate) metrics: Metrics,
}

/// Distinguishes datasets of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataShape {
    pub(crate) train_images: usize,
    pub(crate) held_out_images: usize,
    pub(crate) classes: Vec<String>,
}

impl DataShape {
    pub(crate) fn of(job: &Job) -> Self {
        Self {
            train_images: job.train.len(),
            held_out_images: job.held_out.as_ref().map_or(0, |images| images.len()),
            classes: job.train.class_names().to_vec(),
        }
    }
}

impl Progress {
    /// The epoch whose size of images the training engine has: at the beginning of an epoch still the one before, whose
    /// weights are evaluated.
    pub(crate) fn size_epoch(&self) -> u64 {
        if self.epoch_step == 0 { self.epoch.saturating_sub(1) } else { self.epoch }
    }

    /// A line for the training and for the held-out images each, if they are not those of the start of the run.
    pub(crate) fn changed_images(&self, job: &Job) -> Vec<String> {
        let known = self.fingerprints.iter().zip(fingerprints(job));
        let changed = ["training", "held-out"].iter().zip(known).filter(|(_, (began, now))| *began != now);
        let note = |what| {
            format!("the {what} images are not those that the run was started with: their files or labels have changed")
        };
        changed.map(|(what, _)| note(what)).collect()
    }
}

/// The fingerprints of the training and of the held-out images; 0 if there are none.
pub(crate) fn fingerprints(job: &Job) -> [u32; 2] {
    [Some(&job.train), job.held_out.as_ref()].map(|images| images.map_or(0, |images| images.fingerprint_set()))
}

/// A whole training state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) progress: Progress,
    /// The resolved recipe's text.
    pub(crate) recipe: String,
    /// The state dict.
    pub(crate) model: NamedTensors,
    /// The optimiser's state.
    pub(crate) optimizer: NamedTensors,
    /// The state dict of the averaged model, if the weights are averaged.
    pub(crate) averaged: Option<NamedTensors>,
    /// What is trained beside the network, with its optimiser's state: the regressors of a distillation.
    pub(crate) distillation: NamedTensors,
    /// The masks of the weights that stay zero.
    pub(crate) zeros: NamedTensors,
}

impl State {
    /// Writes the state as one file, atomically.
    pub(crate) fn save(&self, path: &Path) -> Result<(), TrainError> {
        let named = |prefix, tensors: &NamedTensors| {
            let tensors = tensors.clone().into_iter();
            tensors.map(move |(key, tensor)| (format!("{prefix}{key}"), tensor)).collect::<NamedTensors>()
        };
        let mut tensors = named(MODEL, &self.model);
        tensors.extend(named(OPTIMIZER, &self.optimizer));
        tensors.extend(named(DISTILLATION, &self.distillation));
        tensors.extend(named(ZEROS, &self.zeros));
        tensors.extend(self.averaged.iter().flat_map(|averaged| named(AVERAGED, averaged)));
        let progress = serde_json::to_string(&self.progress).expect("progress has a JSON form");
        let metadata =
            [(PROGRESS.to_owned(), progress), (RECIPE.to_owned(), self.recipe.clone())].into_iter().collect();
        Ok(save_tensors(path, &tensors, &metadata)?)
    }

    /// Reads a state.
    pub(crate) fn load(path: &Path) -> Result<Self, TrainError> {
        let fail = |what: &str, expected: &str, got: String| TrainError::State {
            path: path.to_path_buf(),
            what: what.into(),
            expected: expected.into(),
            got,
        };
        let (tensors, metadata) = load_tensors(path)?;
        let get = |key| metadata.get(key).ok_or_else(|| fail(key, "a training state", "none".into()));
        let progress = serde_json::from_str(get(PROGRESS)?)
            .map_err(|error| fail(PROGRESS, "the progress of a run", error.to_string()))?;
        let recipe = get(RECIPE)?.clone();
        let (mut model, mut optimizer, mut averaged) = (NamedTensors::new(), NamedTensors::new(), NamedTensors::new());
        let (mut distillation, mut zeros) = (NamedTensors::new(), NamedTensors::new());
        for (key, tensor) in tensors {
            if let Some(key) = key.strip_prefix(MODEL) {
                model.insert(key.to_owned(), tensor);
            } else if let Some(key) = key.strip_prefix(OPTIMIZER) {
                optimizer.insert(key.to_owned(), tensor);
            } else if let Some(key) = key.strip_prefix(AVERAGED) {
                averaged.insert(key.to_owned(), tensor);
            } else if let Some(key) = key.strip_prefix(DISTILLATION) {
                distillation.insert(key.to_owned(), tensor);
            } else if let Some(key) = key.strip_prefix(ZEROS) {
                // Integers of all widths are read as the widest.
                let bytes = tensor.as_i64().unwrap_or_default().iter().map(|&byte| byte as u8).collect();
                zeros.insert(key.to_owned(), Tensor::u8(tensor.shape(), bytes));
            } else {
                return Err(fail(
                    &format!("tensor \"{key}\""),
                    "a name that begins with model., optimizer., ema., distillation. or zeros.",
                    "another".into(),
                ));
            }
        }
        let averaged = Some(averaged).filter(|averaged| !averaged.is_empty());
        Ok(Self { progress, recipe, model, optimizer, averaged, distillation, zeros })
    }

    /// Whether this is the state of a run in `folder` with the companion of this name, or with none.
    pub(crate) fn check_companion(&self, companion: Option<&str>, folder: &RunFolder) -> Result<(), TrainError> {
        let began = self.progress.companion.as_deref();
        if began == companion {
            return Ok(());
        }
        let show = |name: Option<&str>| name.map_or_else(|| "none".to_owned(), |name| format!("\"{name}\""));
        let (path, what) = (folder.path().to_path_buf(), "companion".to_owned());
        Err(TrainError::OtherRun { path, what, expected: show(began), got: show(companion) })
    }

    /// Whether this is the state of a run in `folder` with this recipe and data.
    pub(crate) fn check(&self, recipe: &Recipe, data: &DataShape, folder: &RunFolder) -> Result<(), TrainError> {
        let other = |what: &str, expected: String, got: String| {
            Err(TrainError::OtherRun { path: folder.path().to_path_buf(), what: what.into(), expected, got })
        };
        let began: Recipe = toml::from_str(&self.recipe).map_err(|error| TrainError::State {
            path: folder.state(),
            what: RECIPE.into(),
            expected: "a resolved recipe".into(),
            got: error.message().replace('\n', ", "),
        })?;
        if let Some(difference) = began.difference(recipe) {
            return Err(TrainError::other_run(folder.path(), &began, difference));
        }
        if self.progress.data != *data {
            let show = |data: &DataShape| {
                let DataShape { train_images, held_out_images, classes } = data;
                format!("{train_images} + {held_out_images} images of {} classes", classes.len())
            };
            let (expected, got) = (show(&self.progress.data), show(data));
            let got = if expected == got { "other class names".into() } else { got };
            return other("data", expected, got);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_its_file_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let metrics = Metrics { images: 7, top1: 3, top5: 5, loss: 0.1 + 0.2, non_finite: 0 };
        let progress = Progress {
            step: 9,
            epoch: 1,
            epoch_step: 4,
            train_metrics: metrics,
            best: Some(Best { epoch: 0, metrics }),
            skipped: ["a.jpg: broken".to_owned()].into(),
            ..Progress::default()
        };
        let tensors = |value| NamedTensors::from_iter([("fc.bias".to_owned(), Tensor::f32(&[2], vec![value, -value]))]);
        let mut model = tensors(1e-42);
        model.insert("bn1.num_batches_tracked".into(), Tensor::i64(&[], vec![5]));
        let averaged = Some(tensors(0.25));
        let (recipe, distillation) = ("lr = 0.1\n".into(), tensors(0.75));
        let zeros = NamedTensors::from_iter([("fc.weight".to_owned(), Tensor::u8(&[2], vec![200, 1]))]);
        let state = State { progress, recipe, model, optimizer: tensors(3.5), averaged, distillation, zeros };
        state.save(&path).unwrap();
        let mut loaded = State::load(&path).unwrap();
        loaded.model.sort_by(|a, _, b, _| b.cmp(a));
        assert_eq!(loaded, state);
    }

    #[test]
    fn a_file_that_is_no_state_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        save_tensors(&path, &NamedTensors::new(), &Default::default()).unwrap();
        let error = State::load(&path).unwrap_err().to_string();
        assert!(error.ends_with("residual.progress: expected a training state, got none"), "{error}");
        std::fs::write(&path, b"not a state").unwrap();
        State::load(&path).unwrap_err();
    }
}
