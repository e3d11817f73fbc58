//! One file per command.

pub(crate) mod average;
pub(crate) mod bench;
mod changed;
pub(crate) mod compress;
pub(crate) mod data;
pub(crate) mod distill;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod features;
pub(crate) mod inspect;
mod judged;
pub(crate) mod models;
pub(crate) mod predict;
pub(crate) mod prune;
pub(crate) mod quantize;
pub(crate) mod recipes;
pub(crate) mod report;
pub(crate) mod reproduce;
pub(crate) mod runs;
pub(crate) mod search;
pub(crate) mod train;
mod trials;
pub(crate) mod tune;
