//! The one error of this crate: a node and what is wrong with it.

/// Maximum number of characters shown of an invalid name.
const SHOWN: usize = 40;

/// A graph that is no network, with the node at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node \"{node}\": {message}")]
pub struct GraphError {
    /// The name of the node, or of the graph if no single node is invalid.
    pub node: String,
    /// What was expected and what was found.
    pub message: String,
}

impl GraphError {
    /// An error at `node`.
    pub fn new(node: impl Into<String>, message: impl Into<String>) -> Self {
        Self { node: node.into(), message: message.into() }
    }

    /// An error at a node with an unprintable name, which is escaped and truncated.
    pub(crate) fn at_bad_name(name: &str, message: impl Into<String>) -> Self {
        let mut shown: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        if name.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        Self::new(shown, message)
    }
}
