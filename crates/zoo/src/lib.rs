//! Families of residual networks as functions that return a graph, and the registry that names them.
//!
//! ```
//! let graph = residual_zoo::build("resnet50", 1000).unwrap();
//! assert_eq!(graph.parameter_count(), 25_557_032);
//! ```
//!
//! A network is described by a [`Config`]: by name ([`find`]), from TOML ([`from_toml`]), or field by field.
#![forbid(unsafe_code)]

mod cifar_resnet;
mod config;
mod convnext;
mod densenet;
mod description;
mod error;
mod googlenet;
mod layers;
mod lecture;
mod nasbench201;
mod plain;
mod preact;
mod registry;
mod resnet;
mod resnetv2;
mod resnext;
mod vgg;
mod wide;

pub use cifar_resnet::{CifarResNet, Shortcut};
pub use config::{Config, Family};
pub use convnext::ConvNeXt;
pub use densenet::DenseNet;
pub use description::{from_table, from_toml};
pub use error::ZooError;
pub use googlenet::GoogLeNet;
pub use layers::Block;
pub use lecture::LectureResNet;
pub use nasbench201::{Cell, CellOp, NasBench201};
pub use plain::Plain;
pub use preact::PreActResNet;
pub use registry::{Accuracy, Entry, build, entries, find};
pub use resnet::{ResNet, Stem};
pub use resnetv2::ResNetV2;
pub use resnext::CifarResNeXt;
pub use vgg::Vgg;
pub use wide::WideResNet;
