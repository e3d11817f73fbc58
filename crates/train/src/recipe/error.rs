//! Errors of recipes.

use super::Origin;
use super::condition::{Condition, either};
use super::resolve::Origins;
use super::setting::flag;
use residual_files::{FileCause, FileError, printable};
use toml::Value;

/// Characters of a value that an error shows.
const SHOWN: usize = 100;

/// An invalid recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// No preset and no file has this name.
    #[error(
        "recipe: expected a built-in recipe (residual recipes list) or a TOML file, got {}{}",
        show(name),
        hint(nearest)
    )]
    UnknownPreset {
        /// The given name.
        name: String,
        /// The most similar preset, if one is similar at all.
        nearest: Option<String>,
    },
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The text is not TOML.
    #[error("{origin}: line {line}: {message}")]
    Syntax {
        /// The file or preset.
        origin: Origin,
        /// The line, from 1.
        line: usize,
        /// What was expected and what was found.
        message: String,
    },
    /// A key that no recipe has.
    #[error("{origin}: unknown key {}{}", show(key), hint(nearest))]
    UnknownKey {
        /// The file or preset.
        origin: Origin,
        /// The key.
        key: String,
        /// The most similar key, if one is similar at all.
        nearest: Option<String>,
    },
    /// A value of the wrong type or out of range, or one that does not fit the network.
    #[error("{}: expected {expected}, got {got}", place(origin, setting))]
    Field {
        /// Who gave it, where that is known.
        origin: Option<Origin>,
        /// The setting at fault.
        setting: &'static str,
        /// The accepted values.
        expected: String,
        /// The given value.
        got: String,
    },
    /// Two settings, one of which is required, are both missing.
    #[error("{either} or {or} is required{purpose}")]
    Missing {
        /// One of them.
        either: &'static str,
        /// The other.
        or: &'static str,
        /// The reason, with a leading space; empty if every run needs it.
        purpose: &'static str,
    },
    /// A setting that was given, but has no effect with the other settings.
    #[error("{}", requires(origin, setting, condition, is))]
    Requires {
        /// Who gave it, where that is known.
        origin: Option<Origin>,
        /// The setting without effect.
        setting: &'static str,
        /// When it has one.
        condition: Condition,
        /// The value of the setting that it depends on.
        is: String,
    },
}

impl RecipeError {
    /// A setting with a value that is not allowed.
    pub(crate) fn field(setting: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Field { origin: None, setting, expected: expected.into(), got: got.into() }
    }

    /// The same error, with the flag or file that contains the invalid setting.
    #[must_use]
    pub(crate) fn located(mut self, origins: &Origins) -> Self {
        if let Self::Field { origin, setting, .. } | Self::Requires { origin, setting, .. } = &mut self
            && origin.is_none()
        {
            *origin = origins.get(setting).cloned();
        }
        self
    }

    /// Whether the user asked for something that does not exist or does not go together, as opposed to a file that is there
    /// and cannot be read.
    pub fn is_usage(&self) -> bool {
        let Self::File(error) = self else { return true };
        !matches!(&error.cause, FileCause::Read(cause) if cause.kind() != std::io::ErrorKind::NotFound)
    }
}

/// A setting as it was given: a flag, or a key with its file.
fn place(origin: &Option<Origin>, setting: &str) -> String {
    match origin {
        Some(Origin::Flags) => format!("--{}", flag(setting)),
        Some(origin @ Origin::File(_)) => format!("{origin}: {setting}"),
        _ => setting.into(),
    }
}

fn requires(origin: &Option<Origin>, setting: &str, condition: &Condition, is: &str) -> String {
    let is_flag = matches!(origin, Some(Origin::Flags));
    let name = |name: &str| if is_flag { format!("--{}", flag(name)) } else { name.to_owned() };
    let equals = if is_flag { " " } else { " = " };
    let quoted = |value: &str| if is_flag { value.to_owned() } else { format!("\"{value}\"") };
    let values = |values: &[&str]| either(&values.iter().map(|value| quoted(value)).collect::<Vec<_>>());
    let place = place(origin, setting);
    match condition {
        Condition::Is(decider, list) => {
            format!("{place} requires {}{equals}{} (is {})", name(decider), values(list), quoted(is))
        }
        Condition::IsNot(decider, _) => format!("{place} has no effect with {}{equals}{}", name(decider), quoted(is)),
        Condition::Absent(decider) => format!("{place} has no effect with {}", name(decider)),
        other => format!("{place} requires {}", other.describe(name)),
    }
}

/// A value as TOML writes it, printable and short.
pub(super) fn show_value(value: &Value) -> String {
    printable(&value.to_string(), SHOWN)
}

/// A text in quotes, printable and short.
fn show(text: &str) -> String {
    format!("\"{}\"", printable(text, SHOWN))
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean \"{name}\"?)"))
}
