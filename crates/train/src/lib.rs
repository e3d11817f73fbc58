//! Recipes, the training loop, schedules, metrics, events, checkpoint and resume.
//!
//! Nothing here prints: a run tells its caller what happens through [`Event`]s.
#![forbid(unsafe_code)]

mod recipe;
mod schedule;

pub use recipe::{Augment, Difference, Init, Layer, PRESETS, Preset, Recipe, RecipeError, Sched};
pub use schedule::Schedule;
