//! Families of residual networks as functions that return a graph
#![forbid(unsafe_code)]
