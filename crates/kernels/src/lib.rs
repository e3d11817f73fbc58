//! SIMD kernels on slices: convolution, normalisation, pooling, losses and optimiser steps; decoding and resampling of images.
//!
//! Activations are NHWC: floats, bf16 in pixels of an even number of channels ([`conv::Elements::pixel`]), or bytes in pixels of whole
//! groups of four channels ([`conv::QuantizedConv::pixel`]). Every kernel takes an [`Isa`], which only detection can make, so that the token is the
//! proof that its instructions exist here; it reads no environment, allocates nothing and owns no threads. Results are
//! bit-identical for any number of threads of the pool.
//!
//! [`mod@reference`] has a naive, safe implementation of each kernel, with which the tests compare it.

pub mod activation;
pub mod batch_norm;
pub mod conv;
pub mod convert;
pub mod elementwise;
mod extents;
pub mod image;
mod isa;
pub mod layer_norm;
pub mod loss;
pub mod optim;
mod peak;
pub mod pool;
pub mod quantize;
mod raw;
pub mod reference;
pub mod rows;
pub mod scale;

pub use half::bf16;
pub use isa::{Element, Isa, IsaError};
pub use peak::{peak_gflops, read_bandwidth};
