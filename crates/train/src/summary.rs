//! The outcome of a run.

use crate::TrainError;
use crate::run_folder::RunFolder;
use residual_model::Model;
use serde::Serialize;
use std::path::PathBuf;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All its steps were taken.
    Finished(Box<Trained>),
    /// The stop flag was set; a checkpoint holds everything done so far.
    Interrupted(Box<Summary>),
}

impl Outcome {
    /// The results of the run, finished or not.
    pub fn summary(&self) -> &Summary {
        match self {
            Self::Finished(trained) => &trained.summary,
            Self::Interrupted(summary) => summary,
        }
    }
}

/// A run that took all its steps, and its model.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Its results.
    pub summary: Summary,
    /// The model after the last step.
    pub model: Model,
}

impl Trained {
    /// The model of the best epoch, which the run folder holds; the last one if no images were held out.
    ///
    /// # Errors
    /// If the run folder was changed after the run.
    pub fn best_model(&self) -> Result<Model, TrainError> {
        let best = RunFolder::open(&self.summary.run)?.best();
        if self.summary.best_epoch.is_none() {
            Ok(self.model.clone())
        } else {
            Ok(residual_weights::load(&best)?.model)
        }
    }
}

/// The evaluation of a finished run on test images. Accuracies are in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Test {
    /// The weights that were judged: `best` or `last`.
    pub weights: &'static str,
    /// Description of the images, in one line.
    pub data: String,
    /// Number of images.
    pub images: u64,
    /// Top-1.
    pub top1: f64,
    /// Top-5.
    pub top5: f64,
    /// Mean loss.
    pub loss: f64,
}

/// The evaluation of a teacher on the images that its student was judged on, of the same size. Accuracies are in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// Its weights, as the recipe names them.
    pub weights: String,
    /// Its network's name.
    pub network: String,
    /// Top-1 on the held-out images; `None` if none are held out, or if the student learns feature maps alone, so that its
    /// classes may be others.
    pub top1: Option<f64>,
    /// Top-1 on the test images; `None` as for the held-out ones, or if there are none besides the held-out ones.
    pub test_top1: Option<f64>,
}

/// The results of a run. Accuracies are in percent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The run's folder.
    pub run: PathBuf,
    /// Number of finished epochs.
    pub epochs: u64,
    /// Steps (updates of the weights) that were taken.
    pub steps: u64,
    /// Top-1 on the held-out images at the last evaluation; `None` before the first, or if none are held out.
    pub top1: Option<f64>,
    /// Top-5 at the last evaluation.
    pub top5: Option<f64>,
    /// Mean loss at the last evaluation.
    pub loss: Option<f64>,
    /// Top-1 of the best epoch.
    pub best_top1: Option<f64>,
    /// The best epoch, from 1, by the recipe's `eval_metric`.
    pub best_epoch: Option<u64>,
    /// The metric that chose it.
    pub metric: &'static str,
    /// The evaluation on the test images, which chose nothing: `None` if there are none besides the held-out ones, or the
    /// run is not finished.
    pub test: Option<Test>,
    /// Training images per second in this process, without evaluations.
    pub images_per_second: f64,
    /// Seconds of work, without interruptions.
    pub seconds: f64,
    /// Skipped images and their errors.
    pub skipped: Vec<String>,
    /// The teachers of a distillation, once the run is finished.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub teachers: Vec<Judged>,
}
