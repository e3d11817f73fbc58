//! All tests of the crate but those of single modules, in one binary: they are linked once, and run beside each other.

mod arrays;
mod cache;
mod cifar;
mod convert;
mod folders;
mod lists;
mod loader;
mod parquet;
mod shapes10;
mod shards;
mod support;
mod tensors;
