//! Optimiser steps over flat buckets of parameters, and the norm of a gradient.

mod adamw;
mod norm;
mod sgd;

pub use adamw::{AdamW, adamw};
pub use norm::{scale, sum_of_squares};
pub use sgd::{Sgd, sgd};

/// Floats of one task.
const GRAIN: usize = 16 << 10;
