//! Optimiser steps over flat buckets of parameters, their moving average, and the clipping of gradients.

mod adam;
mod clip;
mod lamb;
mod lerp;
mod lion;
mod norm;
mod orthogonal;
mod rmsprop;
mod sgd;
mod step;

pub use adam::{Adam, adam, nadam};
pub use clip::{clamp, clip_units};
pub use lamb::{Lamb, lamb_direction};
pub use lerp::lerp;
pub use lion::{Lion, lion};
pub use norm::{scale, sum_of_squares};
pub use orthogonal::Orthogonalisation;
pub(crate) use orthogonal::{COEFFICIENTS, ITERATIONS, LEAST_NORM};
pub use rmsprop::{RmsProp, rmsprop};
pub use sgd::{Sgd, sgd};
pub use step::step_along;

/// Floats of one task.
const GRAIN: usize = 16 << 10;

/// The order of a parameter's elements in a bucket, `[group][row][output]`: that of a weight in the engine, whose rows are taps
/// and input channels. A tensor in torch's order has each output as a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketOrder {
    /// Groups.
    pub groups: usize,
    /// Elements of each output.
    pub rows: usize,
    /// Outputs of one group.
    pub outputs: usize,
}

impl BucketOrder {
    /// The index of an element: output of all groups, and row.
    fn index(&self, output: usize, row: usize) -> usize {
        (output / self.outputs * self.rows + row) * self.outputs + output % self.outputs
    }
}
