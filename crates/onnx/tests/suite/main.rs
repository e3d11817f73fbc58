//! All tests of the crate but those of single modules, in one binary: they are linked once, and run beside each other.

mod parity;
mod quantized;
mod structure;
mod support;
