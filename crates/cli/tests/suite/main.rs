//! All tests of the crate but those of single modules, in one binary: they are linked once, and run beside each other.

mod bad_input;
mod bench;
mod classes;
mod commands;
mod distill;
mod eval;
mod explain;
mod export;
mod features;
mod help;
mod hub;
mod inspect;
mod models;
mod predict;
mod prune;
mod quantize;
mod readme;
mod report;
mod reproduce;
mod search;
mod settings;
mod signals;
mod sources;
mod support;
mod tour;
mod train;
