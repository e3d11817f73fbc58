//! All tests of the crate but those of single modules, in one binary: they are linked once, and run beside each other.

mod description;
mod drop;
mod keys;
mod macs;
mod modules;
mod nasbench201;
mod published;
mod receptive_field;
