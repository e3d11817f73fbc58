//! Datasets, decoding, augmentation and a deterministic parallel loader
#![forbid(unsafe_code)]
