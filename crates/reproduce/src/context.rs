//! What a claim is run with.

use crate::{Finding, Form, ReproduceError};
use residual_data::Source;
use residual_engine::Options;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How far a measurement or training is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What is running.
    pub what: &'a str,
    /// Steps so far.
    pub done: u64,
    /// Steps in total.
    pub total: u64,
}

/// What a claim is run with.
pub struct Context<'a> {
    /// How much is run.
    pub form: Form,
    /// Threads and instruction set.
    pub options: &'a Options,
    /// The folder of the runs that trainings leave.
    pub runs: &'a Path,
    /// The folder with the files of CIFAR-10, and of CIFAR-100 for claims about transfer.
    pub data_dir: Option<&'a Path>,
    /// Images in ImageNet's layout, for published weights.
    pub imagenet: Option<&'a Path>,
    /// Ends the reproduction; a training is saved first.
    pub stop: &'a Arc<AtomicBool>,
    /// Called with the progress.
    pub on_progress: &'a mut dyn FnMut(&Progress<'_>),
}

impl Context<'_> {
    /// Reports progress of a measurement, and ends it if the stop flag is set.
    pub(crate) fn progress(&mut self, what: &str, done: u64, total: u64) -> Result<(), ReproduceError> {
        (self.on_progress)(&Progress { what, done, total });
        match self.stop.load(Ordering::Relaxed) {
            true => Err(ReproduceError::Interrupted { training: None }),
            false => Ok(()),
        }
    }
}

impl Context<'_> {
    /// The settings of a recipe for the images of CIFAR.
    pub(crate) fn cifar(&self, data: &str) -> String {
        let folder = self.data_dir.map(|folder| format!("data_dir = {:?}\n", folder.display().to_string()));
        format!("data = \"{data}\"\n{}", folder.unwrap_or_default())
    }

    /// The finding of a claim whose form needs images of CIFAR that are not there.
    pub(crate) fn missing_cifar(&self, data: &str) -> Option<Finding> {
        let needs = self.form != Form::Quick;
        let found = || self.data_dir.is_some_and(|folder| Source::open(data, Some(folder)).is_ok());
        (needs && !found()).then(|| Finding::not_run(format!("the files of {data} are not in --data-dir")))
    }
}
