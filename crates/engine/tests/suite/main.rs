//! All tests of the crate but those of single modules, in one binary: they are linked once, and run beside each other.

mod bf16;
mod engine;
mod frozen;
mod golden;
mod inference;
mod quantized;
mod registry;
mod support;
