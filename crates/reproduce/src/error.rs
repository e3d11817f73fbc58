//! Errors of reproductions.

use residual_data::DataError;
use residual_engine::EngineError;
use residual_explain::ExplainError;
use residual_graph::GraphError;
use residual_infer::InferError;
use residual_model::ModelError;
use residual_report::ReportError;
use residual_train::{RecipeError, TrainError};
use residual_weights::WeightsError;
use residual_zoo::ZooError;
use std::path::PathBuf;

/// Why a claim could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum ReproduceError {
    /// No claim has this name.
    #[error("claim: expected a name from `residual reproduce list`, got \"{name}\"{}", hint(nearest))]
    Unknown {
        /// The name.
        name: String,
        /// The most similar claim.
        nearest: Option<String>,
    },
    /// The claim has no such form.
    #[error("{claim}: expected the form {expected}, got {got}")]
    Form {
        /// The claim.
        claim: &'static str,
        /// The forms that it has.
        expected: String,
        /// The form that was wanted.
        got: &'static str,
    },
    /// The stop flag was set; a training can be resumed by the same command.
    #[error("interrupted{}", training.as_ref().map_or(String::new(), |run| format!(" in {}, after a checkpoint", run.display())))]
    Interrupted {
        /// The run that was being trained.
        training: Option<PathBuf>,
    },
    /// Two trainings of the claim are not what it compares.
    #[error("{}: expected {expected}, got {got}", run.display())]
    Run {
        /// The run's folder.
        run: PathBuf,
        /// What the claim needs.
        expected: String,
        /// What it has.
        got: String,
    },
    /// A training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A network cannot be run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A network's shapes do not fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A model's parts do not fit together.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A network does not exist.
    #[error(transparent)]
    Zoo(#[from] ZooError),
    /// Images cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// An evaluation failed.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// Activations cannot be measured.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// A picture cannot be drawn.
    #[error(transparent)]
    Report(#[from] ReportError),
}

impl ReproduceError {
    /// Whether an argument is wrong, as opposed to a failed measurement.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Unknown { .. } | Self::Form { .. } => true,
            Self::Train(error) => error.is_usage(),
            _ => false,
        }
    }
}

impl From<RecipeError> for ReproduceError {
    fn from(error: RecipeError) -> Self {
        Self::Train(error.into())
    }
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |name| format!(" (did you mean \"{name}\"?)"))
}
