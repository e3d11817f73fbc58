//! Errors for the user: one line with the chain of causes, and an exit code.

use residual::compress::CompressError;
use residual::data::DataError;
use residual::explain::ExplainError;
use residual::files::one_line;
use residual::hub::{HubCause, HubError};
use residual::reproduce::ReproduceError;
use residual::search::SearchError;
use residual::train::{RecipeError, TrainError};
use residual::zoo::ZooError;
use residual::{ClassifyError, FeatureFileError, InferError};
use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    usage: bool,
    /// An image that cannot be read, which some commands can skip.
    bad_image: bool,
}

impl Failure {
    /// A failure with a message of one line.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), usage: false, bad_image: false }
    }

    /// Wrong usage: arguments that are invalid or do not go together.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { usage: true, ..Self::new(message) }
    }

    /// An error at `place`, such as a file.
    pub(crate) fn at(place: impl fmt::Display, error: &dyn Error) -> Self {
        Self::new(format!("{place}: {}", one_line(error)))
    }

    /// The failure of a command that has `--skip-bad-images`, with that flag as a hint if an image is at fault.
    pub(crate) fn or_skip(mut self) -> Self {
        if self.bad_image {
            self.message += " (--skip-bad-images skips such images)";
        }
        self
    }

    /// 2 for wrong usage, 1 for everything else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.usage { 2 } else { 1 })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = one_line(&error);
        if let Some(TrainError::Diverged { .. }) = of_training(&error).downcast_ref() {
            message += " (try a lower --lr, a longer warm-up with --warmup-epochs, or --clip-grad 1)";
        }
        if let Some(hint) = hint(&error) {
            message += &format!(" ({hint})");
        }
        Self { message, usage: is_usage(&error), bad_image: is_bad_image(&error) }
    }
}

/// The error itself, or that of a training in the course of a compression.
fn of_training<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    match error.downcast_ref() {
        Some(CompressError::Train(error)) => &**error,
        _ => error,
    }
}

/// The flags that solve an error of finding a model or of matching its classes.
fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let error = of_training(error);
    if let Some(TrainError::TeacherWeights { source }) = error.downcast_ref() {
        let has_no_name = matches!(**source, InferError::NoNetwork { .. } | InferError::SeveralNetworks { .. });
        return has_no_name.then_some("residual export --model NAME --format safetensors writes a file that names it");
    }
    let infer = match error.downcast_ref::<TrainError>() {
        Some(TrainError::Infer(error)) => Some(error),
        _ => error.downcast_ref::<InferError>(),
    };
    match infer? {
        InferError::NoNetwork { .. } | InferError::SeveralNetworks { .. } => Some("--model names it"),
        InferError::Classes(_) => Some("--class-map says which classes of the model they are"),
        InferError::ClassCount { .. } => {
            Some("--labels names the outputs, --class-map says which of them the classes are")
        }
        _ => None,
    }
}

/// Whether an image is at fault, not the system.
fn is_bad_image(error: &(dyn Error + 'static)) -> bool {
    let error = of_training(error);
    let data = match (error.downcast_ref::<TrainError>(), error.downcast_ref::<InferError>()) {
        (Some(TrainError::Data(error) | TrainError::Infer(InferError::Data(error))), _) => Some(error),
        (_, Some(InferError::Data(error))) => Some(error),
        _ if let Some(CompressError::Data(error)) = error.downcast_ref() => Some(error),
        _ => error.downcast_ref::<DataError>(),
    };
    data.is_some_and(DataError::is_bad_image)
}

fn is_usage(error: &(dyn Error + 'static)) -> bool {
    let error = of_training(error);
    if let Some(error) = error.downcast_ref::<TrainError>() {
        return error.is_usage();
    }
    if let Some(error) = error.downcast_ref::<InferError>() {
        return error.is_usage();
    }
    if let Some(error) = error.downcast_ref::<RecipeError>() {
        return error.is_usage();
    }
    if let Some(error) = error.downcast_ref::<ExplainError>() {
        return error.is_usage();
    }
    if let Some(error) = error.downcast_ref::<ReproduceError>() {
        return error.is_usage();
    }
    if let Some(error) = error.downcast_ref::<SearchError>() {
        return error.is_usage();
    }
    let is_layer = matches!(error.downcast_ref(), Some(ClassifyError::Layer(_)))
        || matches!(
            error.downcast_ref(),
            Some(CompressError::UnknownLayer { .. } | CompressError::Latency { .. } | CompressError::OtherWork { .. })
        );
    let is_format = matches!(error.downcast_ref(), Some(FeatureFileError::Format { .. }));
    let is_name = |error: &HubError| matches!(error.cause, HubCause::Name { .. });
    let is_hub_name = error.downcast_ref::<HubError>().is_some_and(is_name);
    error.is::<ZooError>() || is_layer || is_format || is_hub_name
}
