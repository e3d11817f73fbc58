//! The JSON form of a graph, as stored in a checkpoint.

use crate::{Graph, GraphError};
use serde::{Deserialize, Serialize};

/// The version of the JSON form that this crate writes, and the only one it reads.
const FORMAT: u32 = 1;

/// Longer texts are rejected before parsing: the largest graph of the zoo takes under 2 MB.
const MAX_BYTES: usize = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<G> {
    format: u32,
    graph: G,
}

impl Graph {
    /// The graph as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&Envelope { format: FORMAT, graph: self })
            .expect("a graph holds only strings and numbers, which JSON can express")
    }

    /// Reads [`Graph::to_json`]'s output and validates it.
    ///
    /// # Errors
    /// If the text is not such JSON, has another format version, or is not a valid network.
    pub fn from_json(text: &str) -> Result<Self, GraphError> {
        let fail = |message: String| GraphError::new("graph", message);
        if text.len() > MAX_BYTES {
            return Err(fail(format!("expected at most {MAX_BYTES} bytes of JSON, got {}", text.len())));
        }
        let envelope: Envelope<Graph> = serde_json::from_str(text).map_err(|error| fail(format!("JSON: {error}")))?;
        if envelope.format != FORMAT {
            return Err(fail(format!("expected format {FORMAT}, got {}", envelope.format)));
        }
        if envelope.graph.nodes.is_empty() {
            return Err(fail("expected at least one node, got none".into()));
        }
        envelope.graph.validate()?;
        Ok(envelope.graph)
    }
}
