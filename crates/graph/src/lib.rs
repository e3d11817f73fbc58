//! Residual networks as data: ops, nodes, builder, shape inference and analysis
#![forbid(unsafe_code)]
