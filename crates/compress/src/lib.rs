//! Smaller and faster networks, with the accuracy they keep.
//!
//! Post-training quantisation: a [`Calibration`] runs a network on some [`CalibrationImages`] and finds the scale of
//! every value and weight; it then makes the quantised [`Model`](residual_model::Model), of all layers or of some, and says what each
//! layer costs ([`Calibration::sensitivity`]). A [`Scheme`] says what becomes integers: with weights alone only the file is smaller.
//!
//! Structured pruning: a [`Criterion`] gives the [`Saliency`] of every channel; [`select`] finds what to remove so that the network
//! costs what it may, in multiply-accumulates ([`Macs`]) or in the latency of this machine ([`LatencyCost`], [`approach`]). What is left
//! is a smaller dense [`Model`](residual_model::Model), whose batch norms [`recalibrate_batch_norms`] measures anew. Unstructured
//! pruning ([`prune_weights`]) makes single weights zero.
//!
//! [`Pruner`] does the one or the other towards a [`Goal`], and [`FineTuning`] trains what is left. A [`Pipeline`] distils, prunes,
//! trains and quantises to several networks, of which it chooses one within a [`Budget`].
//!
//! [`Outcome`] is what every command that compresses reports.
#![forbid(unsafe_code)]

mod error;
mod fine_tuning;
mod images;
mod outcome;
mod pipeline;
mod prune;
mod quantize;
mod recalibrate;
mod training_images;

pub use error::CompressError;
pub use fine_tuning::{FineTuning, Tuned};
pub use images::{CalibrationImages, choose_images};
pub use outcome::{LatencyChange, Outcome, compare_latency};
pub use pipeline::{
    Budget, Compressed, Event, ImageSet, Pipeline, Point, PruningTarget, PruningTargets, Settings, Start, Student,
};
pub use prune::{
    Allocation, Approach, Criterion, Goal, LatencyCost, LatencySearch, LatencyTarget, LayerCost, Macs, MacsTarget,
    Pattern, PruneEvent, Pruned, Pruner, Saliency, SelectOptions, Selection, Sparsity, SpeedupTarget, approach,
    prune_weights, select,
};
pub use quantize::{
    Calibration, CalibrationEvent, LayerDamage, QuantizeOptions, RangeMethod, Rounding, Scheme, check_layers,
};
pub use recalibrate::recalibrate_batch_norms;
pub use training_images::TrainingImages;
