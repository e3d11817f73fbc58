//! Errors of the engine.

use crate::memory::bytes;
use crate::{Memory, Mode};
use residual_graph::GraphError;
use residual_model::ModelError;

/// Why a plan could not be compiled or run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The graph's shapes do not fit together at this input size.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Tensors do not fit the graph.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A tensor that is missing or has another shape.
    #[error("tensor \"{name}\": expected {expected:?}, got {}", got.as_ref().map_or("none".into(), |got| format!("{got:?}")))]
    Tensor {
        /// Its key.
        name: String,
        /// The shape it should have.
        expected: Vec<usize>,
        /// The shape it has, if it is there at all.
        got: Option<Vec<usize>>,
    },
    /// More memory than available.
    #[error(
        "memory: expected {required}, got {}; a smaller batch size or image size takes less",
        limit.map_or("less".into(), |limit| format!("at most {}", bytes(limit)))
    )]
    Memory {
        /// Bytes that the plan needs.
        required: Memory,
        /// Bytes that this process can have at most, if that is less. `None` if the system refused an allocation.
        limit: Option<u64>,
    },
    /// An output or seed that is not a node whose value this plan keeps.
    #[error("node \"{name}\": expected {expected}")]
    Node {
        /// The name given.
        name: String,
        /// The expected node.
        expected: &'static str,
    },
    /// A batch that is empty, not a whole number of images, or larger than the plan's.
    #[error("batch: expected 1 to {batch} images of {image} values, got {got} values")]
    Batch {
        /// Maximum number of images.
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
    #[error("node \"{name}\": expected more than one value per channel to train a batch norm on")]
    SingleValue {
        /// The batch norm.
        name: String,
    },
    /// An op that the engine cannot run at this place in the graph.
    #[error("node \"{node}\": expected an op that the engine can run, got {op}")]
    Unsupported {
        /// The node.
        node: String,
        /// Its op.
        op: String,
    },
    /// Something that a plan for this mode cannot do.
    #[error("{what}: expected a plan for {expected}, got one for {mode:?}")]
    Mode {
        /// The operation.
        what: &'static str,
        /// The modes that can do it.
        expected: &'static str,
        /// The plan's mode.
        mode: Mode,
    },
    /// A model of another network than the plan's.
    #[error("model: expected the network that the plan was compiled for ({expected}), got another ({got})")]
    OtherGraph {
        /// The name of the plan's network.
        expected: String,
        /// The name of the model's.
        got: String,
    },
}
