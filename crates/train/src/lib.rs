//! Training: recipes, the training step, optimisers, learning-rate schedules, the loop over epochs, checkpoints and resume.
//!
//! A [`Recipe`] is resolved from [`Layer`]s, a [`Job`] is prepared from it, and [`train()`] runs the job in a new
//! [`RunFolder`]; [`resume`] continues one. Nothing here prints: a run reports to its caller through [`Event`]s.
//!
//! One step is [`TrainStep`]: forward pass, objective, backward pass, gradient hooks (accumulate, clip), optimiser.
#![forbid(unsafe_code)]

mod augmentation;
mod budget;
mod companion;
mod distill;
mod ema;
mod error;
mod event;
mod gradients;
mod hooks;
mod memory;
mod objective;
mod optimizer;
mod prepare;
mod probe;
mod range_test;
mod recipe;
mod record;
mod run;
mod run_folder;
mod schedule;
mod snapshot;
mod state;
mod step;
mod summary;
mod tensorboard;
mod train;
mod transfer;
mod verify;
mod zeros;

pub use companion::{Companion, Pass};
pub use error::TrainError;
pub use event::{EpochRow, Event, NewHead, RawMetrics, RunInfo, Step};
pub use gradients::{GradientRow, LayerGradient};
pub use prepare::{GivenSetting, Job};
pub use range_test::{RangePoint, RangeTest, find_lr};
pub use recipe::{
    About, Augment, Band, ClassWeights, ClipMode, Condition, Contract, Difference, EvalMetric, Init, KdLoss, Kind,
    Layer, LrScale, MuonAdjustLr, Opt, Order, Origin, Origins, PRESETS, Preset, Range, Recipe, RecipeError, Resolved,
    Resume, SETTINGS, Sched, Setting, Short, Trace,
};
pub use recipe::{CropPaddingMode, HflipMode, Remode, Sampler, TrainCropMode, TrainInterpolation, Tta};
pub use record::{Paired, Record, Row, Spread, StepRow, differences, paired};
pub use run_folder::RunFolder;
pub use schedule::{Plateau, Schedule};
pub use step::TrainStep;
pub use summary::{Judged, Outcome, Summary, Test, Trained};
pub use train::{resume, resume_with, train, train_with};
pub use verify::{Check, check_results, check_trace, short_form};
