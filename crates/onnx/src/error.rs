//! Errors of ONNX export.

use crate::file::MAX_BYTES;
use residual_graph::GraphError;
use residual_model::ModelError;

/// Why a model cannot be exported to ONNX.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OnnxError {
    /// Its parts do not fit together.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It exceeds the size limit of protobuf, ONNX's encoding.
    #[error("onnx: expected at most {MAX_BYTES} bytes, the limit of protobuf, got {got}")]
    TooLarge {
        /// Its size in bytes.
        got: u64,
    },
    /// The network takes images of one size, and images of any size were requested.
    #[error("onnx: node \"{node}\": expected a network for images of any size, got {got}")]
    FixedSize {
        /// The node that works for one size only.
        node: String,
        /// What it is.
        got: String,
    },
}

impl From<GraphError> for OnnxError {
    fn from(error: GraphError) -> Self {
        Self::Model(error.into())
    }
}
