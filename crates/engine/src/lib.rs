//! Compiles a model to a plan and runs it: training, frozen and inference modes
#![forbid(unsafe_code)]
