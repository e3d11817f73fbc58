//! Residual image classifiers on CPUs: train, evaluate and predict, without Python.
//!
//! Classify an image:
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
//! Images need not be files: [`Classifier::classify_bytes`] takes the bytes of an image file,
//! [`Image::new`] takes pixels. A [`Classification`] owns its values and does not borrow the classifier. Weights of
//! torchvision and timm are loaded by name (`residual::load("torchvision:resnet50.v2")`), or as a `.pth` or `.safetensors`
//! file, whose network is inferred from its tensors.
//!
//! In a service each thread that classifies has a [`Classifier`] of its own, which is `Send` but needs `&mut`; give it one
//! thread to compute on. In async code call it inside `spawn_blocking`:
//!
//! ```
//! use residual::{Classifier, Image, Pool, engine::Options};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let graph = residual::zoo::build("resnet20", 3)?;
//! # let tensors = residual::model::initialise(&graph, residual::model::Initialisation::Torch, 0);
//! # let preprocessing = residual::preprocess::Preprocessing::unscaled([32, 32], &[0.5; 3], &[0.25; 3]);
//! # let model = residual::Model::new(graph, tensors, preprocessing, Vec::new())?;
//! let first = Classifier::with_options(model, 1, &Options::threads(1))?;
//! let workers = [0, 1].map(|_| {
//!     // One copy of the weights, and threads of its own.
//!     let mut classifier = first.on_pool(Arc::new(Pool::new(1)));
//!     std::thread::spawn(move || {
//!         let image = Image::new(32, 32, 3, vec![128; 32 * 32 * 3]).expect("a value for each channel");
//!         classifier.classify(&image)
//!     })
//! });
//! for worker in workers {
//!     let classification = worker.join().expect("the thread does not panic")?;
//!     assert_eq!(classification.logits().len(), 3);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Fine-tune a model on a folder of photos, `photos/<class>/…`; a head for other classes is replaced (see [`FineTune`]):
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tuned = residual::FineTune::new("resnet50.safetensors", "photos").epochs(10).freeze("backbone").run(|_| {})?;
//! println!("{:?} % of the held-out images", tuned.summary.best_top1);
//! # Ok(())
//! # }
//! ```
//!
//! Evaluate it on other photos, whose folders are matched with the model's classes by name:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = residual::load("runs/1-resnet50-photos")?;
//! println!("{:.2} %", residual::evaluate(&model, "other-photos")?.top1);
//! # Ok(())
//! # }
//! ```
//!
//! Extract the feature maps of any layers:
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
//! # Layouts
//!
//! Values in memory are NHWC (channels last): as in [`Classifier::classify_nhwc`] and [`LayerFeatures`]. Files
//! (`.npy`, `.safetensors`, ONNX) are torch's NCHW.
//!
//! # Cargo features
//!
//! - `hub` (default): weights by name are downloaded, which needs an HTTPS client and its C code (`ring`). Without it
//!   (`default-features = false`) only cached weights are found.
//! - `parquet`: images in Parquet files; features and predictions as such files.
//!
//! # Modules
//!
//! The most common items are at the root. The crates, each a module here: [`graph`] (networks as data), [`zoo`] (networks
//! by name), [`model`] (networks with their tensors), [`weights`] (models as files), [`hub`] (weights by name),
//! [`preprocess`] and [`data`] (images), [`infer`] (classifying, features, evaluation), [`engine`] (running a network,
//! forward and backward), [`compress`] (quantised networks), [`search`] (the best network within a limit), [`doctor`] (what is wrong
//! with a dataset), [`explain`] (what a network looks at), [`onnx`] (models for other programs), and [`train`].
#![forbid(unsafe_code)]

mod fine_tune;

pub use fine_tune::{FineTune, FineTuned};
pub use residual_infer::{
    ClassList, Classification, Classifier, ClassifyError, EvaluateOptions, Evaluation, FeatureExtractor, FeatureFile,
    FeatureFileError, FeatureRow, FeatureTable, InferError, InferError as Error, LayerFeatures, ModelRequest,
    Prediction, UnknownLayer, layer_node,
};

pub use residual_compress as compress;
pub use residual_data as data;
pub use residual_doctor as doctor;
pub use residual_engine as engine;
pub use residual_explain as explain;
#[doc(hidden)]
pub use residual_files as files;
pub use residual_graph as graph;
pub use residual_hub as hub;
pub use residual_infer as infer;
#[doc(hidden)]
pub use residual_kernels as kernels;
pub use residual_kernels::{Isa, IsaError};
pub use residual_model as model;
pub use residual_model::Model;
pub use residual_onnx as onnx;
pub use residual_preprocess as preprocess;
pub use residual_preprocess::Image;
pub use residual_report as report;
pub use residual_reproduce as reproduce;
pub use residual_search as search;
pub use residual_tensor as tensor;
pub use residual_threads::{Pool, PoolError};
pub use residual_train as train;
pub use residual_weights as weights;
pub use residual_zoo as zoo;

use residual_data::{Selection, Source};
use residual_preprocess::Preprocessing;
use std::path::Path;

/// Reads a model: a `residual` checkpoint (a file, or a run folder, whose best weights are used), a bare state dict
/// (safetensors, or torch's `.pth`) whose network is inferred from its tensors, or weights by name, as [`pretrained`]. For
/// more options, see [`ModelRequest`].
///
/// # Errors
/// If there are no such weights, they cannot be read or are damaged, or are a state dict that matches no known network, or
/// several (see [`load_state_dict`]).
pub fn load(weights: impl AsRef<Path>) -> Result<Model, Error> {
    Ok(ModelRequest::new(weights.as_ref()).read()?.model)
}

/// Reads a bare state dict (safetensors, or torch's `.pth`) into the network of the registry called `name`, with as
/// many outputs as the file's last layer has.
///
/// # Errors
/// If the file cannot be read, the name is not known, or they do not fit together.
pub fn load_state_dict(path: impl AsRef<Path>, name: &str, preprocessing: Preprocessing) -> Result<Model, Error> {
    let request = ModelRequest { model: Some(name.to_owned()), ..ModelRequest::new(path.as_ref()) };
    Ok(request.read()?.model.with_preprocessing(preprocessing)?)
}

/// The model of weights by name: `torchvision:resnet50.v2`, `timm:resnet50.a1_in1k`, which come with network, preprocessing
/// and ImageNet's classes; see [`hub`]. The file is downloaded if it is not in the cache; [`hub::Hub::fetch`] reports the
/// progress.
///
/// # Errors
/// If the name is not known, or its file is not cached and cannot be downloaded.
pub fn pretrained(name: &str) -> Result<Model, Error> {
    match hub::HubName::parse(name) {
        Some(_) => load(name),
        None => Err(infer::no_weights(name)),
    }
}

/// Evaluates `model` on `data`: a folder of class folders, with or without splits, or another source of
/// [`data::Source::open`]. Uses its test split, else its validation split, else all images. Classes are matched by name.
/// [`infer::evaluate`] has options, reports progress and can be stopped.
///
/// # Errors
/// If the data cannot be read, or has classes that the model does not know.
pub fn evaluate(model: &Model, data: impl AsRef<Path>) -> Result<Evaluation, Error> {
    let source = Source::open(&data.as_ref().to_string_lossy(), None)?;
    let Selection { dataset, part } = source.evaluation(None, None)?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
    let options = EvaluateOptions { workers, ..EvaluateOptions::default() };
    let evaluation = infer::evaluate(model, &dataset, &options, &Default::default(), &mut |_, _| ())?;
    let evaluation = evaluation.expect("nothing stops it");
    Ok(Evaluation { data: source.name().to_owned(), split: part.name().into(), ..evaluation })
}

/// Maximum number of data-loading threads, in addition to the compute threads.
const MOST_WORKERS: usize = 8;

/// Reads and decodes an image file (JPEG, PNG, WebP, BMP, GIF, TIFF or PNM). [`Image::decode`] does the same with bytes in
/// memory.
///
/// # Errors
/// If it cannot be read or decoded.
pub fn read_image(path: impl AsRef<Path>) -> Result<Image, Error> {
    Ok(data::read_image(path.as_ref())?)
}
