//! Residual image classifiers on CPUs.
#![forbid(unsafe_code)]
