//! Why a model cannot be found, read or evaluated.

use crate::{ClassifyError, FeatureFileError, Nearest, TemperatureError};
use residual_data::{DataError, UnknownClasses};
use residual_engine::EngineError;
use residual_files::{FileError, one_line};
use residual_graph::GraphError;
use residual_hub::{HubCause, HubError};
use residual_model::ModelError;
use residual_weights::WeightsError;
use residual_zoo::ZooError;
use std::path::PathBuf;

/// An error of finding, reading or evaluating a model. The message is one line and includes the causes.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The network is not in the registry, or cannot be built.
    #[error("{}", one_line(.0))]
    Zoo(#[from] ZooError),
    /// A TOML file that describes no network.
    #[error("{}: {}", path.display(), one_line(source))]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ZooError,
    },
    /// The data cannot be read.
    #[error("{}", one_line(.0))]
    Data(#[from] DataError),
    /// The network's shapes do not fit together.
    #[error("{}", one_line(.0))]
    Graph(#[from] GraphError),
    /// The model's parts do not fit together.
    #[error("{}", one_line(.0))]
    Model(#[from] ModelError),
    /// A model file cannot be read or written.
    #[error("{}", one_line(.0))]
    Weights(#[from] WeightsError),
    /// Weights by name cannot be found or downloaded.
    #[error("{}", one_line(.0))]
    Hub(#[from] HubError),
    /// The network cannot be run.
    #[error("{}", one_line(.0))]
    Engine(#[from] EngineError),
    /// A file cannot be read or written.
    #[error("{}", one_line(.0))]
    File(#[from] FileError),
    /// A file of measured algorithms that holds something else.
    #[error("{}: choices: expected measured algorithms, got {got}", path.display())]
    Tuning {
        /// The file.
        path: PathBuf,
        /// The given value.
        got: String,
    },
    /// A file of measured layers that holds something else.
    #[error("{}: expected measured times of layers, got {got}", path.display())]
    LayerTimes {
        /// The file.
        path: PathBuf,
        /// What it holds.
        got: String,
    },
    /// A path without weights.
    #[error("{}: expected {expected}, got {got}{}", path.display(), did_you_mean(suggestions))]
    NoWeights {
        /// The path, as it was given.
        path: PathBuf,
        /// What is accepted.
        expected: &'static str,
        /// What was found.
        got: &'static str,
        /// Suggestions.
        suggestions: Vec<String>,
    },
    /// Tensors that match no known network.
    #[error(
        "{}: expected the name of its network, as the file holds tensors only and no network of the registry has just these{}",
        path.display(),
        nearly(nearest.as_ref())
    )]
    NoNetwork {
        /// The file.
        path: PathBuf,
        /// The closest network.
        nearest: Option<Nearest>,
    },
    /// Tensors that match several networks.
    #[error("{}: expected the name of its network, as the file holds tensors only and these are the same in {}", path.display(), networks.join(", "))]
    SeveralNetworks {
        /// The file.
        path: PathBuf,
        /// The networks.
        networks: Vec<String>,
    },
    /// Tensors that do not match the given network, but others.
    #[error("{} (the tensors fit {}, not {model})", one_line(source), networks.join(", "))]
    OtherTensors {
        /// The tensors that do not fit.
        source: Box<WeightsError>,
        /// The network.
        model: String,
        /// The networks that they fit.
        networks: Vec<String>,
    },
    /// A checkpoint of a network other than the given one.
    #[error("{}: expected model \"{expected}\", as the checkpoint says, got \"{got}\"", path.display())]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// The checkpoint's network.
        expected: String,
        /// The name given.
        got: String,
    },
    /// A label without an output in the network.
    #[error("{place}: expected a label below num_classes ({classes}), got {label}")]
    Label {
        /// The image.
        place: String,
        /// Outputs of the network.
        classes: usize,
        /// The label.
        label: u32,
    },
    /// Data with classes that the model does not have.
    #[error(transparent)]
    Classes(#[from] UnknownClasses),
    /// Named classes, for a network with another number of unnamed outputs.
    #[error("classes: expected as many as the network has outputs ({outputs}), as these have no names, got {got}")]
    ClassCount {
        /// Outputs of the network.
        outputs: usize,
        /// Classes of the data.
        got: usize,
    },
    /// An invalid list of classes, or one that does not match the network.
    #[error("{place}: expected {expected}, got {got}")]
    ClassList {
        /// The source of the list.
        place: String,
        /// What was expected.
        expected: String,
        /// The given value.
        got: String,
    },
    /// An image cannot be classified.
    #[error("{}", one_line(.0))]
    Classify(#[from] ClassifyError),
    /// Features cannot be written.
    #[error("{}", one_line(.0))]
    Features(#[from] FeatureFileError),
    /// A file extension that predictions cannot be written to.
    #[error("{}: expected {expected}", path.display())]
    PredictionFormat {
        /// The file.
        path: PathBuf,
        /// The supported formats.
        expected: String,
    },
    /// No temperature calibrates the model.
    #[error(transparent)]
    Temperature(#[from] TemperatureError),
    /// A temperature for multi-label data.
    #[error("temperature: expected images of one class each, got multi-label data")]
    MultiLabelTemperature,
    /// Not enough memory.
    #[error("memory: expected {bytes} bytes for {what}, got less")]
    Memory {
        /// What it was for.
        what: String,
        /// Its size.
        bytes: usize,
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
            Self::NoNetwork { .. } | Self::SeveralNetworks { .. } | Self::OtherNetwork { .. } => true,
            Self::NoWeights { .. } | Self::Zoo(_) | Self::Description { .. } | Self::PredictionFormat { .. } => true,
            Self::Classify(ClassifyError::Layer(_)) | Self::Features(FeatureFileError::Format { .. }) => true,
            _ => false,
        }
    }

    pub(crate) fn classes(place: &str, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::ClassList { place: place.to_owned(), expected: expected.into(), got: got.into() }
    }
}

fn did_you_mean(suggestions: &[String]) -> String {
    match suggestions {
        [] => String::new(),
        _ => format!("; did you mean {}?", suggestions.join(", ")),
    }
}

fn nearly(nearest: Option<&Nearest>) -> String {
    match nearest {
        None => String::new(),
        Some(Nearest { name, differing: 1 }) => format!(" (one tensor differs from {name})"),
        Some(Nearest { name, differing }) => format!(" ({differing} tensors differ from {name}, the nearest)"),
    }
}
