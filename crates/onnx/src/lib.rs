//! ONNX export of residual networks.
//!
//! [`OnnxModel`] exports a model. Every op of `residual-graph` has a form in opset [`OPSET`], which onnxruntime, OpenVINO,
//! tract and rten support; [`Input`] says what the file reads. [`proto`] contains the messages, for reading such files.
//!
//! ```
//! use residual_graph::Builder;
//! use residual_model::{Initialisation, Model, initialise};
//! use residual_onnx::OnnxModel;
//! use residual_preprocess::Preprocessing;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut net = Builder::new("tiny", [3, 8, 8]);
//! let x = net.global_avg_pool("avgpool", net.input())?;
//! let x = net.flatten("flatten", x)?;
//! let x = net.linear("fc", x, 2, true)?;
//! let graph = net.finish(x)?;
//!
//! let tensors = initialise(&graph, Initialisation::Torch, 0);
//! let preprocessing = Preprocessing::unscaled([8, 8], &[0.5; 3], &[0.25; 3]);
//! let model = Model::new(graph, tensors, preprocessing, vec!["cat".into(), "dog".into()])?;
//!
//! let onnx = OnnxModel::new(&model)?;
//! let mut file = Vec::new();
//! onnx.write(&mut file)?;
//! assert_eq!(file.len() as u64, onnx.bytes());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod error;
mod extents;
mod file;
mod initializer;
mod nodes;
pub mod proto;

pub use error::OnnxError;
pub use file::OnnxModel;

/// The opset of the files: the first with layer normalisation.
pub const OPSET: i64 = 17;
/// The opset of files that prepare images: the first with antialiased resizing.
pub const OPSET_OF_IMAGES: i64 = 18;
/// The input of normalised images.
pub const INPUT: &str = "input";
/// The input of images in bytes, [`Input::Images`]; [`INPUT`] is then a value within the graph.
pub const IMAGES: &str = "images";
/// The output: N×classes, or N×C×H×W where the network ends in a feature map.
pub const OUTPUT: &str = "logits";
/// The metadata that holds the preprocessing, as JSON, as in a checkpoint.
pub const PREPROCESSING: &str = "residual.preprocessing";
/// The metadata that holds the classes' names, as a JSON list, as in a checkpoint.
pub const LABELS: &str = "residual.labels";
/// The metadata that says `sigmoid` where the probabilities are not a softmax, but the sigmoid of each logit.
pub const ACTIVATION: &str = "residual.activation";
/// The metadata that holds the temperature of the probabilities, those of logits / temperature, if it is not 1.
pub const TEMPERATURE: &str = "residual.temperature";
/// The metadata that holds the network's name.
pub const MODEL: &str = "residual.model";

/// What a file reads. N is the number of images, which is always dynamic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// [`INPUT`], N×C×H×W, f32 and normalised, of the preprocessing's height and width.
    #[default]
    Normalized,
    /// The same of any height and width, which not every network allows.
    AnySize,
    /// [`IMAGES`], N×H×W×C in bytes, of any height and width: the graph resizes, crops and normalises them as the model's
    /// preprocessing says. They have the network's channels and are upright, if photographs are to be turned.
    Images,
}
