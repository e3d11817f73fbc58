//! Residual image classifiers on CPUs: train, evaluate and predict, without Python.
//!
//! Name what is in a picture:
//!
//! ```no_run
//! use residual::Classifier;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = residual::load("runs/1-resnet20-shapes10")?;
//! let mut classifier = Classifier::new(model)?;
//! let image = residual::read_image("photo.jpg")?;
//! for prediction in classifier.classify(&image)?.top(5) {
//!     println!("{:5.1} %  {}", 100.0 * prediction.probability, prediction.label);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Fine-tune a checkpoint on a folder of photos, `photos/<class>/…`; a head of other classes is replaced:
//!
//! ```no_run
//! use residual::engine::Options;
//! use residual::train::{Event, Job, Layer, Recipe, train};
//! use std::{path::Path, sync::Arc};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let own = r#"
//!     weights = "resnet50.safetensors"
//!     data = "photos"
//!     epochs = 10
//!     freeze = "backbone"
//!     freeze_bn = true
//!     unfreeze_at = ["5:layer4"]
//! "#;
//! let recipe = Recipe::resolve(&[Layer::preset("folder-quick")?, Layer::parse("fine-tuning", own)?])?.recipe;
//! let job = Job::prepare(recipe)?;
//! let outcome = train(&job, Path::new("runs"), &Options::default(), &Arc::default(), &mut |event| {
//!     if let Event::Epoch(row) = event {
//!         println!("epoch {}: {:.2} % of the held-out images", row.epoch, row.top1);
//!     }
//! })?;
//! println!("{outcome:?}");
//! # Ok(())
//! # }
//! ```
//!
//! Ask for the feature maps of any layers:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut model = residual::FeatureExtractor::new(residual::load("resnet50.safetensors")?)?;
//! let images = [residual::read_image("photo.jpg")?];
//! let features = model.features(&images, &["layer1", "layer4", "pooled"])?;
//! assert_eq!(features[0].shape.channels, 256);
//! # Ok(())
//! # }
//! ```
//!
//! The parts, each a module here: [`graph`] (networks as data), [`zoo`] (networks by name), [`model`] (networks with
//! their tensors), [`weights`] (models as files), [`preprocess`] and [`data`] (images), [`engine`] (running a network,
//! forward and backward), [`onnx`] (models for other programs), and [`train`].
#![forbid(unsafe_code)]

pub use residual_infer::{
    Classifier, ClassifyError, Contents, Feature, FeatureExtractor, FeatureFile, FeatureFileError, InferError, Output,
    Prediction, Source, UnknownLayer, default_preprocessing, layer_node,
};

pub use residual_data as data;
pub use residual_engine as engine;
pub use residual_files as files;
pub use residual_graph as graph;
pub use residual_hub as hub;
pub use residual_infer as infer;
pub use residual_kernels as kernels;
pub use residual_kernels::{Isa, IsaError};
pub use residual_model as model;
pub use residual_onnx as onnx;
pub use residual_preprocess as preprocess;
pub use residual_tensor as tensor;
pub use residual_threads::{Pool, PoolError};
pub use residual_train as train;
pub use residual_weights as weights;
pub use residual_zoo as zoo;

use residual_data::DataError;
use residual_model::Model;
use residual_preprocess::{Image, Preprocessing};
use residual_weights::WeightsError;
use std::path::Path;

/// Reads a checkpoint of ours: a file, or the folder of a run, whose best weights are taken.
///
/// # Errors
/// If it cannot be read, is damaged, or is a state dict without a network (see [`load_state_dict`]).
pub fn load(path: impl AsRef<Path>) -> Result<Model, WeightsError> {
    Ok(weights::load(path.as_ref())?.model)
}

/// Reads a bare state dict (safetensors, or torch's `.pth`) into the network of the registry called `name`, with as
/// many outputs as the file's last layer has.
///
/// # Errors
/// If the file cannot be read, the name is not known, or one does not fit the other.
pub fn load_state_dict(path: impl AsRef<Path>, name: &str, preprocessing: Preprocessing) -> Result<Model, InferError> {
    infer::read_model(path.as_ref(), Some(name), |_| preprocessing)
}

/// The model of weights by name (`torchvision:resnet50.v2`, `timm:resnet50.a1_in1k`, which bring network, preprocessing and
/// ImageNet's classes along; see [`hub`]), downloaded if it is not in the cache. [`infer::read_model`] is the same for
/// all else that `--weights` takes, and [`hub::Hub`] tells how a download goes on.
///
/// # Errors
/// If the name is not known, or its file is neither here nor can be brought here.
pub fn pretrained(name: &str) -> Result<Model, InferError> {
    infer::read_model(name.as_ref(), None, default_preprocessing)
}

/// Reads and decodes an image file (JPEG, PNG, WebP or BMP).
///
/// # Errors
/// If it cannot be read or decoded.
pub fn read_image(path: impl AsRef<Path>) -> Result<Image, DataError> {
    data::read_image(path.as_ref())
}
