//! All tests of the crate but those of single modules, in one binary: they are linked once, and run beside each other.

mod cifar;
mod doctor;
mod support;
