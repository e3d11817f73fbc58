//! How a run ended, and what it came to.

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
    /// What the run came to, finished or not.
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
    /// What it came to.
    pub summary: Summary,
    /// The model after the last step.
    pub model: Model,
}

impl Trained {
    /// The model of the best epoch, which the run folder holds; the last one if no images were held out.
    ///
    /// # Errors
    /// If the run folder is no longer what the run left behind.
    pub fn best_model(&self) -> Result<Model, TrainError> {
        let best = RunFolder::open(&self.summary.run)?.best();
        if self.summary.best_epoch.is_none() {
            Ok(self.model.clone())
        } else {
            Ok(residual_weights::load(&best)?.model)
        }
    }
}

/// What a run came to. Accuracies are in percent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The run's folder.
    pub run: PathBuf,
    /// Epochs that were finished.
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
    /// The epoch of the best top-1, from 1; of equal ones that with the lowest loss.
    pub best_epoch: Option<u64>,
    /// Training images per second in this process, evaluations not counted.
    pub images_per_second: f64,
    /// Seconds of work, interruptions not counted.
    pub seconds: f64,
    /// Images that were skipped, and why.
    pub skipped: Vec<String>,
}
