//! What a run tells its caller while it goes on.

use serde::Serialize;
use std::path::PathBuf;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The run begins, or goes on where it was interrupted.
    Started {
        /// Its folder.
        run: PathBuf,
        /// Steps that a checkpoint already holds.
        step: u64,
        /// Steps in total.
        steps: u64,
        /// Steps of an epoch.
        epoch_steps: u64,
        /// Bytes that it will hold at most, a dataset that lies in memory not counted.
        memory: u64,
    },
    /// The weights that the run starts from are of other classes, and their head was replaced.
    NewHead(NewHead),
    /// Features of images were computed, to be kept.
    Features {
        /// Images so far.
        done: u64,
        /// Images in total.
        total: u64,
    },
    /// A step was taken.
    Step(Step),
    /// Images were evaluated.
    Evaluated {
        /// Images so far.
        done: u64,
        /// Images in total.
        total: u64,
    },
    /// An epoch was trained and evaluated.
    Epoch(EpochRow),
    /// A checkpoint was written.
    Checkpoint {
        /// Steps that it holds.
        step: u64,
    },
    /// An image was left out, for the first time in this run.
    Skipped {
        /// Which it is and what is wrong with it.
        reason: String,
    },
    /// Something a user should know.
    Note(String),
}

/// A head that took another's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHead {
    /// The layer's name.
    pub layer: String,
    /// Outputs of the old one.
    pub old: usize,
    /// Outputs of the new one, whose weights are drawn anew.
    pub new: usize,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Its number, from 1.
    pub step: u64,
    /// Its epoch, from 1.
    pub epoch: u64,
    /// Mean loss of the step's images.
    pub loss: f64,
    /// The learning rate it used.
    pub lr: f64,
    /// Share of the epoch's images so far that were classified rightly, in percent.
    pub top1: f64,
    /// Images a second since the step before.
    pub images_per_second: f64,
    /// Whether it stands in `events.jsonl`.
    pub logged: bool,
}

/// A line of `events.jsonl`: one logged step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct EventLine {
    pub(crate) step: u64,
    pub(crate) epoch: u64,
    pub(crate) loss: f64,
    pub(crate) lr: f64,
    pub(crate) images_per_second: f64,
}

/// A row of `metrics.csv`: one epoch. Accuracies are in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EpochRow {
    /// The epoch, from 1.
    pub epoch: u64,
    /// Steps taken by its end.
    pub step: u64,
    /// The learning rate of its last step.
    pub lr: f64,
    /// Mean loss of its training images, with label smoothing and augmentation.
    pub train_loss: f64,
    /// Top-1 accuracy on its training images while they were learnt.
    pub train_top1: f64,
    /// Mean loss of the held-out images.
    pub loss: f64,
    /// Top-1 accuracy on the held-out images.
    pub top1: f64,
    /// Top-5 accuracy on the held-out images.
    pub top5: f64,
    /// Training images a second.
    pub images_per_second: f64,
    /// Seconds since the run began, interruptions not counted.
    pub seconds: f64,
}

impl EpochRow {
    /// The names of the columns.
    pub const HEADER: &'static str = "epoch,step,lr,train_loss,train_top1,loss,top1,top5,images_per_second,seconds";

    /// The row as it stands in `metrics.csv`.
    pub fn to_csv(&self) -> String {
        let Self { epoch, step, lr, train_loss, train_top1, loss, top1, top5, .. } = self;
        let Self { images_per_second, seconds, .. } = self;
        format!(
            "{epoch},{step},{lr},{train_loss},{train_top1},{loss},{top1},{top5},{images_per_second:.1},{seconds:.3}"
        )
    }
}
