//! SIMD kernels on slices: convolution, normalisation, pooling, losses and updates
#![forbid(unsafe_code)]
