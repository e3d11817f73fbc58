//! Errors of names and descriptions of networks.

use residual_graph::GraphError;

/// A name that is not in the registry, or an invalid description.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ZooError {
    /// No such name.
    #[error("model: expected a name from `residual models list`, got \"{name}\"{}", hint(nearest))]
    Name {
        /// The given name.
        name: String,
        /// The most similar name, if one is similar at all.
        nearest: Option<String>,
    },
    /// The text is not TOML.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The fault.
        message: String,
    },
    /// A key that the family does not have.
    #[error("unknown key \"{key}\"{}", hint(nearest))]
    UnknownKey {
        /// The key.
        key: String,
        /// The most similar key, if one is similar at all.
        nearest: Option<String>,
    },
    /// A value of the wrong type or out of range, or incompatible with another one.
    #[error("{field}: expected {expected}, got {got}")]
    Field {
        /// The field at fault.
        field: String,
        /// The accepted values.
        expected: String,
        /// The given value.
        got: String,
    },
    /// The values are valid individually, but not together.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl ZooError {
    /// A value that `field` may not hold.
    pub(crate) fn field(field: &str, expected: impl Into<String>, got: impl ToString) -> Self {
        Self::Field { field: field.into(), expected: expected.into(), got: got.to_string() }
    }
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean \"{name}\"?)"))
}
