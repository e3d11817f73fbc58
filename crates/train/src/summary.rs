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
    Interrupted(Summary),
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
    /// The best top-1 of any epoch.
    pub best_top1: Option<f64>,
    /// The epoch of the best top-1, from 1; ties are broken by the lower loss.
    pub best_epoch: Option<u64>,
    /// Training images per second in this process, without evaluations.
    pub images_per_second: f64,
    /// Seconds of work, without interruptions.
    pub seconds: f64,
    /// Skipped images and their errors.
    pub skipped: Vec<String>,
}
