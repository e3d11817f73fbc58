//! Events that a run reports to its caller.

use crate::prepare::Job;
use crate::state::Progress;
use crate::{RunFolder, Schedule};
use residual_engine::Options;
use residual_model::Model;
use serde::Serialize;
use std::path::PathBuf;

/// An event of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The run begins, or is resumed.
    Started(Box<RunInfo>),
    /// The initial weights have other classes, and their head was replaced.
    NewHead(NewHead),
    /// Features of images were computed, to be cached.
    Features {
        /// Number of images so far.
        done: u64,
        /// Total number of images.
        total: u64,
    },
    /// A step was taken.
    Step(Step),
    /// Images were evaluated.
    Evaluated {
        /// Number of images so far.
        done: u64,
        /// Total number of images.
        total: u64,
    },
    /// An epoch was trained and evaluated.
    Epoch(EpochRow),
    /// A checkpoint was written.
    Checkpoint {
        /// Number of steps up to the checkpoint.
        step: u64,
    },
    /// An image was skipped, for the first time in this run.
    Skipped {
        /// The image and its error.
        reason: String,
    },
    /// Something a user should know.
    Note(String),
}

/// The configuration at the start of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunInfo {
    /// The run's folder.
    pub run: PathBuf,
    /// Number of steps taken before the resume.
    pub step: u64,
    /// Steps in total.
    pub steps: u64,
    /// Steps per epoch.
    pub epoch_steps: u64,
    /// The network's name.
    pub model: String,
    /// Its parameters, running statistics not counted.
    pub parameters: u64,
    /// Channels, height and width of its input.
    pub input: [usize; 3],
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Description of the training set, in one line.
    pub train: String,
    /// Training images.
    pub train_images: usize,
    /// Description of the validation set, in one line; `None` if nothing is held out.
    pub held_out: Option<String>,
    /// Images of it.
    pub held_out_images: usize,
    /// Description of the test set that is judged after the last step, in one line.
    pub test: Option<String>,
    /// Batch size of a forward pass.
    pub batch_size: usize,
    /// Forward passes per step (gradient accumulation).
    pub grad_accum_steps: usize,
    /// The optimiser's name.
    pub opt: &'static str,
    /// The learning rate after the warm-up.
    pub lr: f64,
    /// The learning-rate schedule's name.
    pub sched: &'static str,
    /// Whether evaluations judge averaged weights.
    pub model_ema: bool,
    /// Compute threads.
    pub threads: usize,
    /// The instruction set's name.
    pub isa: &'static str,
    /// Peak memory of the run in bytes, without a dataset in memory.
    pub memory: u64,
    /// What it would be in f32, of a run in mixed precision.
    pub memory_in_floats: Option<u64>,
}

/// A replaced head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHead {
    /// The layer's name.
    pub layer: String,
    /// Outputs of the old one.
    pub old: usize,
    /// Outputs of the new one.
    pub new: usize,
    /// Number of outputs kept from old classes of the same name; the others are randomly initialised.
    pub kept: usize,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Its number, from 1: updates of the weights so far.
    pub step: u64,
    /// Its epoch, from 1.
    pub epoch: u64,
    /// Mean loss of the step's images.
    pub loss: f64,
    /// The learning rate it used.
    pub lr: f64,
    /// Running training accuracy (top-1) of the epoch, in percent.
    pub top1: f64,
    /// Images per second of this step.
    pub images_per_second: f64,
    /// Whether it is written to `events.jsonl`.
    pub logged: bool,
}

/// A line of `events.jsonl`: one logged step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct EventLine {
    step: u64,
    epoch: u64,
    loss: f64,
    lr: f64,
    images_per_second: f64,
}

impl From<Step> for EventLine {
    fn from(Step { step, epoch, loss, lr, images_per_second, .. }: Step) -> Self {
        Self { step, epoch, loss, lr, images_per_second }
    }
}

/// A row of `metrics.csv`: one epoch. Accuracies are in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EpochRow {
    /// The epoch, from 1.
    pub epoch: u64,
    /// Number of steps taken by its end.
    pub step: u64,
    /// The learning rate of its last step.
    pub lr: f64,
    /// Mean loss of its training images, with label smoothing and augmentation.
    pub train_loss: f64,
    /// Top-1 accuracy on its training images during training (running average over the epoch).
    pub train_top1: f64,
    /// Mean loss of the held-out images; `None`, like the next two, if there are none or they were not evaluated.
    pub loss: Option<f64>,
    /// Top-1 accuracy on the held-out images.
    pub top1: Option<f64>,
    /// Top-5 accuracy on the held-out images.
    pub top5: Option<f64>,
    /// If the weights are averaged, which is what the three metrics above judge: the same three of the weights without
    /// averaging.
    pub raw: Option<RawMetrics>,
    /// Training images per second.
    pub images_per_second: f64,
    /// Seconds since the start of the run, without interruptions.
    pub seconds: f64,
    /// Whether it is the best epoch so far. Not in the file.
    pub is_best: bool,
}

/// Metrics on the held-out images of the weights without averaging.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RawMetrics {
    /// Mean loss.
    pub loss: f64,
    /// Top-1 accuracy in percent.
    pub top1: f64,
    /// Top-5 accuracy in percent.
    pub top5: f64,
}

impl EpochRow {
    /// The names of the columns.
    pub const HEADER: &'static str =
        "epoch,step,lr,train_loss,train_top1,loss,top1,top5,raw_loss,raw_top1,raw_top5,images_per_second,seconds";

    /// The row of `metrics.csv`.
    pub fn to_csv(&self) -> String {
        let Self { epoch, step, lr, train_loss, train_top1, images_per_second, seconds, .. } = self;
        let cell = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let [loss, top1, top5] = [self.loss, self.top1, self.top5].map(cell);
        let raw = self.raw;
        let raw = [raw.map(|raw| raw.loss), raw.map(|raw| raw.top1), raw.map(|raw| raw.top5)].map(cell).join(",");
        format!(
            "{epoch},{step},{lr},{train_loss},{train_top1},{loss},{top1},{top5},{raw},{images_per_second:.1},{seconds:.3}"
        )
    }
}

impl RunInfo {
    pub(crate) fn new(
        job: &Job,
        model: &Model,
        folder: &RunFolder,
        schedule: &Schedule,
        progress: &Progress,
        options: &Options,
        memory: u64,
    ) -> Self {
        let recipe = &job.recipe;
        let parameters = model.graph.parameters().filter(|(_, spec)| spec.role.is_parameter());
        // With cached features, `model` is the whole network, and all sizes are the same.
        let size = if recipe.cache_features { model.preprocessing.size } else { job.train_size(0) };
        let [height, width] = size;
        Self {
            run: folder.path().to_path_buf(),
            step: progress.step,
            steps: schedule.total_steps(),
            epoch_steps: job.epoch_steps(),
            model: model.graph.name.clone(),
            parameters: parameters.map(|(_, spec)| spec.shape.iter().product::<usize>() as u64).sum(),
            input: [model.graph.input_size()[0], height, width],
            classes: job.train.class_names().to_vec(),
            train: job.train.describe_set(),
            train_images: job.train.len(),
            held_out: job.held_out.as_ref().map(|images| images.describe_set()),
            held_out_images: job.held_out.as_ref().map_or(0, |images| images.len()),
            test: job.test.as_ref().map(|images| images.describe_set()),
            batch_size: recipe.batch_size,
            grad_accum_steps: recipe.grad_accum_steps,
            opt: recipe.opt.name(),
            lr: recipe.peak_lr(),
            sched: recipe.sched.name(),
            model_ema: recipe.model_ema,
            threads: options.pool.threads(),
            isa: options.isa.name(),
            memory,
            memory_in_floats: None,
        }
    }
}
