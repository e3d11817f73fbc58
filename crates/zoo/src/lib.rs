//! Families of residual networks as functions that return a graph, and the registry that names them.
//!
//! ```
//! let graph = residual_zoo::build("resnet50", 1000).unwrap();
//! assert_eq!(graph.parameter_count(), 25_557_032);
//! ```
#![forbid(unsafe_code)]

mod cifar_resnet;
mod registry;
mod resnet;

pub use cifar_resnet::{CifarResNet, Shortcut};
pub use registry::{Entry, UnknownModel, build, entries, find};
pub use resnet::{Block, ResNet};
