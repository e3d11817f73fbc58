//! Why a network cannot be compressed.

use residual_data::DataError;
use residual_engine::EngineError;
use residual_files::{FileError, one_line};
use residual_graph::GraphError;
use residual_infer::InferError;
use residual_model::ModelError;
use std::path::PathBuf;

/// An error of compressing a network. The message is one line and includes the causes.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// The model's parts do not fit together.
    #[error("{}", one_line(.0))]
    Model(#[from] ModelError),
    /// The network's shapes do not fit together.
    #[error("{}", one_line(.0))]
    Graph(#[from] GraphError),
    /// The network cannot be run.
    #[error("{}", one_line(.0))]
    Engine(#[from] EngineError),
    /// The calibration images cannot be read.
    #[error("{}", one_line(.0))]
    Data(#[from] DataError),
    /// The network is quantised already.
    #[error("network: expected layers of floats, got quantized ones")]
    Quantized,
    /// A name of layers to keep that names none.
    #[error("keep in f32: expected a layer or module of the network, got \"{name}\"")]
    UnknownLayer {
        /// The name.
        name: String,
    },
    /// Nothing is left to quantise.
    #[error("layers: expected at least one to quantize, got none")]
    NoLayers,
    /// No images to calibrate on.
    #[error("calibration: expected at least one image, got none")]
    NoImages,
    /// Values that are not finite.
    #[error("node \"{node}\": expected finite values on the calibration images, got {got}")]
    NotFinite {
        /// The node.
        node: String,
        /// The first of them.
        got: f32,
    },
    /// Images that take more memory than there is.
    #[error("calibration: expected memory for {images} images, got none for {bytes} bytes")]
    Memory {
        /// The number of images.
        images: usize,
        /// What they take.
        bytes: usize,
    },
    /// A name of a method.
    #[error("method: expected minmax, percentile:50 to 100, mse or entropy, got \"{got}\"")]
    Method {
        /// The name.
        got: String,
    },
    /// A setting that is none.
    #[error("{what}: expected {expected}, got \"{got}\"")]
    Setting {
        /// The setting.
        what: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        got: String,
    },
    /// The images' classes are not the network's.
    #[error("{}", one_line(.0))]
    Classes(#[from] InferError),
    /// Images with several labels, where a gradient of one class is needed.
    #[error("criterion taylor: expected images of one class each, got images with several labels")]
    MultiLabel,
    /// Channels that no batch norm scales.
    #[error("criterion bn: expected a batch norm of all channels, got none of those of \"{layer}\"")]
    NoBatchNorm {
        /// The layer whose outputs they are.
        layer: String,
    },
    /// A network that costs more, whatever is removed.
    #[error("target: expected at least {least:.4e}, which is all that can be removed, got {got:.4e}")]
    Budget {
        /// What the smallest network costs.
        least: f64,
        /// What it may cost.
        got: f64,
    },
    /// A file cannot be read or written.
    #[error("{}", one_line(.0))]
    File(#[from] FileError),
    /// A file of measured layers that holds something else.
    #[error("{}: expected measured times of layers, got {got}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What it holds.
        got: String,
    },
}
