//! Smaller and faster networks, with the accuracy they keep.
//!
//! Static post-training quantisation to 8 bits: a [`Calibration`] runs a network on some [`CalibrationImages`] and finds the scale of
//! every value and weight; it then makes the quantised [`Model`](residual_model::Model), of all layers or of some, and says what each
//! layer costs ([`Calibration::sensitivity`]). [`Outcome`] is what every command that compresses reports.
#![forbid(unsafe_code)]

mod error;
mod images;
mod outcome;
mod quantize;

pub use error::CompressError;
pub use images::{CalibrationImages, choose_images};
pub use outcome::{LatencyChange, Outcome};
pub use quantize::{Calibration, LayerDamage, QuantizeOptions, RangeMethod, check_layers};
