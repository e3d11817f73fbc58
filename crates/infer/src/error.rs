//! Why a model cannot be found, read or evaluated.

use residual_data::DataError;
use residual_engine::EngineError;
use residual_files::FileError;
use residual_graph::GraphError;
use residual_hub::{HubCause, HubError};
use residual_model::ModelError;
use residual_weights::WeightsError;
use residual_zoo::ZooError;
use std::path::PathBuf;

/// An error of resolving, reading or evaluating a model.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The network is not in the registry, or cannot be built.
    #[error(transparent)]
    Zoo(#[from] ZooError),
    /// A TOML file that describes no network.
    #[error("{}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ZooError,
    },
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The network's shapes do not fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The model's parts do not fit together.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model file cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Weights by name cannot be found or downloaded.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The network cannot be run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of measured algorithms that holds something else.
    #[error("{}: choices: expected measured algorithms, got {got}", path.display())]
    Tuning {
        /// The file.
        path: PathBuf,
        /// What it holds.
        got: String,
    },
    /// Tensors, but not of what network.
    #[error("{}: expected --model with the name of its network, as the file holds tensors only, got none", path.display())]
    NoNetwork {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint of another network than the one that was named.
    #[error("{}: expected model \"{expected}\", as the checkpoint says, got \"{got}\"", path.display())]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// The checkpoint's network.
        expected: String,
        /// The name given.
        got: String,
    },
    /// A label that the network has no output for.
    #[error("{place}: expected a label below num_classes ({classes}), got {label}")]
    Label {
        /// The image.
        place: String,
        /// Outputs of the network.
        classes: usize,
        /// The label.
        label: u32,
    },
    /// Every image of a set was skipped.
    #[error("{what}: expected at least one readable image, got none")]
    NoImages {
        /// Which set.
        what: String,
    },
}

impl InferError {
    /// Whether the caller asked for something that does not exist, rather than something that failed.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Hub(error) => matches!(error.cause, HubCause::Name { .. }),
            Self::NoNetwork { .. } | Self::OtherNetwork { .. } | Self::Zoo(_) | Self::Description { .. } => true,
            _ => false,
        }
    }
}
