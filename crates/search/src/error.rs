//! Why a search cannot go on.

use residual_engine::EngineError;
use residual_files::{FileError, one_line};
use residual_graph::GraphError;
use residual_infer::InferError;
use residual_model::ModelError;
use residual_train::TrainError;
use residual_weights::WeightsError;
use residual_zoo::ZooError;
use std::path::{Path, PathBuf};

/// An error of a search. The message is one line and includes the causes.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A file cannot be read or written.
    #[error("{}", one_line(.0))]
    File(#[from] FileError),
    /// A file or folder of the search cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Layers cannot be timed.
    #[error("{}", one_line(.0))]
    Infer(#[from] InferError),
    /// A table of accuracies, or a journal, is invalid.
    #[error("{}: {what}: expected {expected}, got {got}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The place in it.
        what: String,
        /// What belongs there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// No such space.
    #[error("space: expected {}, or a file .toml, got \"{name}\"{}", crate::NetworkSpace::names().collect::<Vec<_>>().join(", "), hint(nearest))]
    SpaceName {
        /// The given name.
        name: String,
        /// The most similar name, if one is similar at all.
        nearest: Option<String>,
    },
    /// The description of a space is invalid.
    #[error("{space}: {what}")]
    Space {
        /// The space's name or file.
        space: String,
        /// What is wrong.
        what: String,
    },
    /// A text describes no settings.
    #[error("space: {what}")]
    SettingSpace {
        /// What is wrong.
        what: String,
    },
    /// No network of a space is valid.
    #[error("{space}: expected a space with valid networks, got none among 1000 drawn ones")]
    Empty {
        /// The space's name or file.
        space: String,
    },
    /// Every member of the space that is within the limits was tried.
    #[error("space: expected a network within the limits that was not tried, got {tried} tried ones and no other")]
    Exhausted {
        /// The number of trials.
        tried: usize,
    },
    /// No member of the space is within the limits.
    #[error("space: expected a member within the limits, got none, neither the smallest nor a random one")]
    Limits,
    /// A setting of the search has no meaning with others.
    #[error("{field}: expected {expected}, got {got}")]
    Field {
        /// The setting.
        field: &'static str,
        /// The accepted values.
        expected: String,
        /// The given value.
        got: String,
    },
    /// No trial has a result.
    #[error("search: expected at least one trial with a result, got none{}", first_failure(.failure))]
    NoResult {
        /// Why the first trial failed, if one did.
        failure: Option<String>,
    },
    /// All of the first trials failed.
    #[error("search: expected a result among the first {failed} trials, got none; the first one failed: {reason}")]
    AllFailed {
        /// The number of trials that failed.
        failed: usize,
        /// Why the first one did.
        reason: String,
    },
    /// A network is invalid.
    #[error("{}", one_line(.0))]
    Zoo(#[from] ZooError),
    /// The network's shapes do not fit together.
    #[error("{}", one_line(.0))]
    Graph(#[from] GraphError),
    /// A network cannot be initialised.
    #[error("{}", one_line(.0))]
    Model(#[from] ModelError),
    /// A network cannot be run.
    #[error("{}", one_line(.0))]
    Engine(#[from] EngineError),
    /// A checkpoint cannot be read or written.
    #[error("{}", one_line(.0))]
    Weights(#[from] WeightsError),
    /// The recipe's data cannot be read.
    #[error("{}", one_line(.0))]
    Recipe(Box<TrainError>),
    /// A supernet cannot be trained.
    #[error("supernet {supernet}: {}", one_line(.source))]
    Supernet {
        /// Its number.
        supernet: usize,
        /// Why.
        source: Box<TrainError>,
    },
    /// A trial cannot be trained, for a reason that is not its own.
    #[error("trial {trial}: {}", one_line(.source))]
    Trial {
        /// The trial's number.
        trial: usize,
        /// Why.
        source: Box<TrainError>,
    },
}

impl SearchError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn trial(trial: usize) -> impl FnOnce(TrainError) -> Self {
        move |source| Self::Trial { trial, source: Box::new(source) }
    }

    /// Whether the caller asked for something that does not exist, rather than something that failed.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::SpaceName { .. } | Self::SettingSpace { .. } | Self::Field { .. } | Self::Zoo(_) => true,
            Self::Recipe(source) | Self::Supernet { source, .. } | Self::Trial { source, .. } => source.is_usage(),
            _ => false,
        }
    }
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean \"{name}\"?)"))
}

fn first_failure(failure: &Option<String>) -> String {
    failure.as_ref().map_or_else(String::new, |failure| format!("; the first one failed: {failure}"))
}
