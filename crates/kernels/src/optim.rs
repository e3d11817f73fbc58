//! Optimiser steps over flat buckets of parameters, their moving average, and the norm of a gradient.

mod adamw;
mod lerp;
mod norm;
mod sgd;

pub use adamw::{AdamW, adamw};
pub use lerp::lerp;
pub use norm::{scale, sum_of_squares};
pub use sgd::{Sgd, sgd};

/// Floats of one task.
const GRAIN: usize = 16 << 10;
