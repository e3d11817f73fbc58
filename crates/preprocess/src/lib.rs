//! What happens to an image before a network sees it: resize, crop, normalise.
//!
//! One [`Preprocessing`] is stored in a checkpoint and used by training, evaluation, prediction and serving.
#![forbid(unsafe_code)]

mod description;

pub use description::{Interpolation, Preprocessing, PreprocessingError};
