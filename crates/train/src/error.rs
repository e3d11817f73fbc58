//! What can end a run.

use crate::RecipeError;
use residual_data::DataError;
use residual_engine::EngineError;
use residual_graph::GraphError;
use residual_model::ModelError;
use residual_weights::WeightsError;
use residual_weights::hub::HubError;
use residual_zoo::ZooError;
use std::path::{Path, PathBuf};

/// An error of preparing, running or resuming a training run, or of an evaluation.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe cannot be followed.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
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
    /// Weights that lie elsewhere cannot be brought here.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The network cannot be run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file of the run cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder is not a run's.
    #[error("{}: expected a run folder, got one without config.toml", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A state file that does not hold what it should.
    #[error("{}: {what}: expected {expected}, got {got}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// The part at fault.
        what: String,
        /// What it should hold.
        expected: String,
        /// What it holds.
        got: String,
    },
    /// A resume that would be another run.
    #[error(
        "{}: {what}: expected {expected}, as the run began, got {got} (a resumed run keeps its model, data and recipe)",
        path.display()
    )]
    OtherRun {
        /// The run's folder.
        path: PathBuf,
        /// What differs.
        what: String,
        /// What the run began with.
        expected: String,
        /// What it was to go on with.
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
    /// The loss, or a weight, is no longer a number.
    #[error("step {step}: expected a finite loss and finite weights, got {got}; {}", last_good(good))]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// The loss, or which tensor is at fault.
        got: String,
        /// The last checkpoint, if one was written.
        good: Option<(PathBuf, u64)>,
    },
    /// Every image of a set was left out.
    #[error("{what}: expected at least one readable image, got none")]
    NoImages {
        /// Which set.
        what: String,
    },
}

fn last_good(good: &Option<(PathBuf, u64)>) -> String {
    match good {
        Some((path, step)) => format!("the last good checkpoint is {} (step {step})", path.display()),
        None => "no checkpoint was written before".into(),
    }
}

impl TrainError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}
