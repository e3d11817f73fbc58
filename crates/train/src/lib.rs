//! Recipes, the training loop, schedules, metrics, events, checkpoint and resume.
//!
//! A [`Recipe`] is resolved from [`Layer`]s, a [`Job`] is prepared from it, and [`train`] runs the job in a new
//! [`RunFolder`]; [`resume`] goes on with one. Nothing here prints: a run tells its caller what happens through
//! [`Event`]s.
#![forbid(unsafe_code)]

mod error;
mod event;
mod prepare;
mod probe;
mod recipe;
mod run;
mod run_folder;
mod schedule;
mod state;
mod transfer;

pub use error::TrainError;
pub use event::{EpochRow, Event, NewHead, Step};
pub use prepare::Job;
pub use recipe::{
    Augment, Condition, Difference, Init, Kind, Layer, Opt, Order, Origin, Origins, PRESETS, Preset, Range, Recipe,
    RecipeError, Resolved, Resume, SETTINGS, Sched, Setting,
};
pub use run::{Outcome, Summary, resume, train};
pub use run_folder::RunFolder;
pub use schedule::Schedule;
