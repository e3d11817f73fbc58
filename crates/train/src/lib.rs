//! Recipes, the training loop, schedules, metrics, events, checkpoint and resume.
//!
//! A [`Recipe`] is resolved from [`Layer`]s, a [`Job`] is prepared from it, and [`train`] runs the job in a new
//! [`RunFolder`]; [`resume`] goes on with one. Nothing here prints: a run tells its caller what happens through
//! [`Event`]s.
#![forbid(unsafe_code)]

mod error;
mod evaluate;
mod event;
mod metrics;
mod model_file;
mod network;
mod prepare;
mod probe;
mod recipe;
mod run;
mod run_folder;
mod schedule;
mod state;
mod transfer;
mod tuning_file;

pub use error::TrainError;
pub use evaluate::{EvaluateOptions, Evaluation, check_labels, evaluate};
pub use event::{EpochRow, Event, NewHead, Step};
pub use metrics::{Tally, cross_entropy_sum};
pub use model_file::read_model;
pub use network::network;
pub use prepare::{Job, usual_preprocessing};
pub use recipe::{Augment, Difference, Init, Layer, PRESETS, Preset, Recipe, RecipeError, Sched};
pub use run::{Outcome, Summary, resume, train};
pub use run_folder::RunFolder;
pub use schedule::Schedule;
pub use tuning_file::{read_tuning, write_tuning};
