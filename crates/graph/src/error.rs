//! The one error of this crate: a node and what is wrong with it.

/// A graph that is no network, with the node at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node \"{node}\": {message}")]
pub struct GraphError {
    /// The name of the node, or of the graph when no single node is to blame.
    pub node: String,
    /// What was expected and what came.
    pub message: String,
}

impl GraphError {
    /// An error at `node`.
    pub fn new(node: impl Into<String>, message: impl Into<String>) -> Self {
        Self { node: node.into(), message: message.into() }
    }
}
