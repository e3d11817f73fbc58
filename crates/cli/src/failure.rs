//! An error on its way to the user: one line, the chain of causes said once, and an exit code.

use residual::hub::{HubCause, HubError};
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
}

impl Failure {
    /// Something that the command was asked for and that does not exist or does not go together.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), usage: true }
    }

    /// Something that went wrong at `place`.
    pub(crate) fn at(place: impl fmt::Display, error: &dyn Error) -> Self {
        Self { message: format!("{place}: {}", chain(error)), usage: false }
    }

    /// 2 for wrong usage, 1 for everything else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.usage { 2 } else { 1 })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whatever text a cause brings along, an error is one line.
        f.write_str(&self.message.split('\n').map(str::trim).collect::<Vec<_>>().join(" "))
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { message: chain(&error), usage: is_usage(&error) }
    }
}

/// The messages of an error and its causes, those left out that the message before says already.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

fn is_usage(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<TrainError>() {
        return error.is_usage();
    }
    if let Some(error) = error.downcast_ref::<InferError>() {
        return error.is_usage();
    }
    let is_layer = matches!(error.downcast_ref(), Some(ClassifyError::Layer(_)));
    let is_format = matches!(error.downcast_ref(), Some(FeatureFileError::Format { .. }));
    let is_name = |error: &HubError| matches!(error.cause, HubCause::Name { .. });
    let is_hub_name = error.downcast_ref::<HubError>().is_some_and(is_name);
    error.is::<RecipeError>() || error.is::<ZooError>() || is_layer || is_format || is_hub_name
}
