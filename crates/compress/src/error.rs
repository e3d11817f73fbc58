//! Why a network cannot be compressed.

use residual_data::DataError;
use residual_engine::EngineError;
use residual_files::{FileError, one_line};
use residual_graph::GraphError;
use residual_infer::InferError;
use residual_model::ModelError;
use residual_train::{RecipeError, TrainError};
use residual_weights::WeightsError;
use std::path::{Path, PathBuf};

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
    /// The images' classes are not the network's, or a network cannot be timed.
    #[error("{}", one_line(.0))]
    Infer(#[from] InferError),
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
    /// A latency that the network has already.
    #[error("target-latency: expected less than it takes, got {goal} ms, and the network takes {now:.2} ms")]
    Latency {
        /// The latency that was aimed at, in milliseconds.
        goal: f64,
        /// The present one.
        now: f64,
    },
    /// The network cannot be trained.
    #[error("{}", one_line(.0))]
    Train(Box<TrainError>),
    /// A checkpoint cannot be read or written.
    #[error("{}", one_line(.0))]
    Weights(#[from] WeightsError),
    /// A file cannot be read or written.
    #[error("{}", one_line(.0))]
    File(#[from] FileError),
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process works in the folder.
    #[error("{}: another process compresses in this folder", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder with the work of other settings.
    #[error("{}: {what}: expected {expected}, as the work was begun, got {got}", path.display())]
    OtherWork {
        /// Its journal.
        path: PathBuf,
        /// The setting that differs.
        what: String,
        /// What the work was begun with.
        expected: String,
        /// What was given now.
        got: String,
    },
    /// A journal that holds something else.
    #[error("{}: expected the journal of a compression, got {got}", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// What it holds.
        got: String,
    },
}

impl From<TrainError> for CompressError {
    fn from(error: TrainError) -> Self {
        Self::Train(Box::new(error))
    }
}

impl From<RecipeError> for CompressError {
    fn from(error: RecipeError) -> Self {
        TrainError::from(error).into()
    }
}

impl CompressError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}
