//! What an engine refuses.

use crate::memory::bytes;
use crate::{Memory, Mode};
use residual_graph::GraphError;
use residual_model::ModelError;

/// Why a plan could not be made or run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The graph's shapes do not fit together at this input size.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Tensors do not fit the graph.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A tensor that is missing from a bucket or has another shape.
    #[error("tensor \"{name}\": expected {expected:?}, got {}", got.as_ref().map_or("none".into(), |got| format!("{got:?}")))]
    Tensor {
        /// Its key.
        name: String,
        /// The shape it should have.
        expected: Vec<usize>,
        /// The shape it has, if it is there at all.
        got: Option<Vec<usize>>,
    },
    /// More memory than there is.
    #[error(
        "memory: expected {required}, got {}; a smaller batch size or image size takes less",
        limit.map_or("less".into(), |limit| format!("at most {}", bytes(limit)))
    )]
    Memory {
        /// What the plan takes.
        required: Memory,
        /// Bytes that this process can have at most, if that is less. `None` if the system refused an allocation.
        limit: Option<u64>,
    },
    /// A tap or seed names no node whose value this plan keeps.
    #[error("node \"{name}\": expected {expected}")]
    Node {
        /// The name given.
        name: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// A batch that is no whole number of images, none, or more than the plan was made for.
    #[error("batch: expected 1 to {batch} images of {image} values, got {got} values")]
    Batch {
        /// Most images.
        batch: usize,
        /// Values of one image.
        image: usize,
        /// Values given.
        got: usize,
    },
    /// A seed of the wrong length.
    #[error("seed of node \"{name}\": expected {expected} values, got {got}")]
    Seed {
        /// The node.
        name: String,
        /// Values of its output for the last batch.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// A second backward pass through one forward pass.
    #[error("backward: expected a forward pass since the last one")]
    NoForward,
    /// Batch statistics of a single value.
    #[error("node \"{name}\": expected more than one value a channel to train a batch norm on")]
    SingleValue {
        /// The batch norm.
        name: String,
    },
    /// An op that the engine cannot run where it stands.
    #[error("node \"{node}\": expected an op that the engine can run, got {op}")]
    Unsupported {
        /// The node.
        node: String,
        /// What it computes.
        op: String,
    },
    /// Something that a plan for this mode cannot do.
    #[error("{what}: expected a plan for training or frozen statistics, got one for {mode:?}")]
    Mode {
        /// What was asked.
        what: &'static str,
        /// The plan's mode.
        mode: Mode,
    },
}
