//! The naive twins: loops that follow the definitions, summing in f64, for tests to hold the kernels against.

mod conv;

pub use conv::{conv_backward_data, conv_backward_weights, conv_forward};
