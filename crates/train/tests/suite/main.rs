//! All tests of the crate but those of single modules, in one binary: they are linked once, and run beside each other.

mod amp;
mod companion;
mod distillation;
mod epochs;
mod golden;
mod gradients;
mod lists;
mod optimizers;
mod presets;
mod recipe;
mod schedules;
mod settings;
mod sizes;
mod support;
mod training;
mod transfer;
mod zeros;
