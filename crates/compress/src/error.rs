//! Why a network cannot be compressed.

use residual_data::DataError;
use residual_engine::EngineError;
use residual_files::one_line;
use residual_graph::GraphError;
use residual_model::ModelError;

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
}
