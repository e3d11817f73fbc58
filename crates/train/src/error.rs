//! Errors that end a run.

use crate::{Difference, Recipe, RecipeError, Resume, Setting};
use residual_data::{DataError, UnknownClasses};
use residual_engine::EngineError;
use residual_files::FileError;
use residual_graph::GraphError;
use residual_infer::InferError;
use residual_model::ModelError;
use residual_weights::WeightsError;
use std::path::{Path, PathBuf};

/// An error of preparing, running or resuming a training run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe is invalid.
    #[error(transparent)]
    Recipe(Box<RecipeError>),
    /// The model that training starts from cannot be read, or an evaluation failed.
    #[error(transparent)]
    Infer(#[from] InferError),
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
    /// A file of the run cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
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
    /// The folder is not a run folder.
    #[error("{}: expected a run folder, got one without config.toml", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// An invalid state file.
    #[error("{}: {what}: expected {expected}, got {got}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// The invalid part.
        what: String,
        /// The expected content.
        expected: String,
        /// The actual content.
        got: String,
    },
    /// The weights of a teacher cannot be read.
    #[error("teacher")]
    TeacherWeights {
        /// Why.
        source: Box<InferError>,
    },
    /// A teacher lacks classes of the student.
    #[error("teacher {name}")]
    TeacherClasses {
        /// Its weights.
        name: String,
        /// Which ones.
        source: UnknownClasses,
    },
    /// A teacher does not fit the student.
    #[error("teacher {name}: {what}: expected {expected}, got {got}")]
    Teacher {
        /// Its weights.
        name: String,
        /// Where it does not fit.
        what: &'static str,
        /// What the student needs.
        expected: String,
        /// What the teacher has.
        got: String,
    },
    /// A resume with settings or data of another run.
    #[error(
        "{}: {what}: expected {expected}, as the run began, got {got} (a resumed run keeps its model, data and recipe)",
        path.display()
    )]
    OtherRun {
        /// The run's folder.
        path: PathBuf,
        /// The setting that differs.
        what: String,
        /// Its value when the run was started.
        expected: String,
        /// Its value at the resume.
        got: String,
    },
    /// A resume with another number of steps than the learning rates so far were computed for.
    #[error(
        "{}: {}: expected {}, got {}: the learning rates of sched \"{sched}\" depend on the length of the run; start a new one \
         from its weights",
        path.display(), difference.setting, difference.expected, difference.got
    )]
    Length {
        /// The run's folder.
        path: PathBuf,
        /// The setting that differs.
        difference: Box<Difference>,
        /// The schedule.
        sched: &'static str,
    },
    /// Another process trains in the folder.
    #[error("{}: another process trains in this run folder", run.display())]
    Locked {
        /// The run's folder.
        run: PathBuf,
    },
    /// A run that cannot be resumed because its training state is missing.
    #[error(
        "{}: expected the training state, got none; weights alone cannot be resumed, but a new run can start from {}",
        state.display(),
        weights.display()
    )]
    NoState {
        /// The expected path of the state.
        state: PathBuf,
        /// The existing weights.
        weights: PathBuf,
    },
    /// The training state is not that of this network and optimiser.
    #[error("{}", path.display())]
    OtherState {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<Self>,
    },
    /// The optimiser's state is incomplete, or that of another optimiser.
    #[error("optimizer state: expected {expected}, got {got}")]
    OptimizerState {
        /// The missing tensor, or the names of the optimiser's state tensors.
        expected: String,
        /// The tensor in its place, if there is one.
        got: String,
    },
    /// A mask of weights that stay zero is not one of this network.
    #[error("mask of \"{key}\": expected {expected}, got {got}")]
    Mask {
        /// The weight.
        key: String,
        /// The length of its mask.
        expected: String,
        /// The length that was found.
        got: String,
    },
    /// The system has no memory for part of a training step.
    #[error("memory: expected {bytes} bytes for {what}, got none")]
    Memory {
        /// Its purpose.
        what: String,
        /// Its size.
        bytes: u64,
    },
    /// The loss or a weight is NaN or infinite.
    #[error(
        "step {step}: expected a finite loss and finite weights, got {got}; a lower lr, a longer warm-up or clip_grad may help; {}",
        last_good(good)
    )]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// The loss, or the tensor that is not finite.
        got: String,
        /// The last checkpoint, if one was written.
        good: Option<(PathBuf, u64)>,
    },
    /// Every image of a set was skipped.
    #[error("{what}: expected at least one readable image, got none")]
    NoImages {
        /// Which set.
        what: String,
    },
}

impl From<RecipeError> for TrainError {
    fn from(error: RecipeError) -> Self {
        Self::Recipe(Box::new(error))
    }
}

fn last_good(good: &Option<(PathBuf, u64)>) -> String {
    match good {
        Some((path, step)) => format!("the last good checkpoint is {} (step {step})", path.display()),
        None => "no checkpoint was written before".into(),
    }
}

impl TrainError {
    /// Whether the caller asked for something that does not exist, rather than something that failed.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Recipe(error) => error.is_usage(),
            Self::Infer(error) => error.is_usage(),
            Self::TeacherWeights { source } => source.is_usage(),
            _ => false,
        }
    }

    /// The error for a run in `folder` that began with the recipe `began`, and differs from it.
    pub(crate) fn other_run(folder: &Path, began: &Recipe, difference: Difference) -> Self {
        let path = folder.to_path_buf();
        match Setting::find(difference.setting).map(|setting| setting.resume) {
            Some(Resume::Length) => Self::Length { path, difference: Box::new(difference), sched: began.sched.name() },
            _ => {
                let Difference { setting, expected, got } = difference;
                Self::OtherRun { path, what: setting.to_owned(), expected, got }
            }
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}
