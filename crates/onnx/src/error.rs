//! What can keep a model from being an ONNX file.

use crate::file::MAX_BYTES;
use residual_graph::GraphError;
use residual_model::ModelError;

/// Why a model cannot be an ONNX file.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OnnxError {
    /// Its parts do not fit together.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It is larger than protobuf, which ONNX is written in, allows.
    #[error("onnx: expected at most {MAX_BYTES} bytes, the limit of protobuf, got {got}")]
    TooLarge {
        /// The bytes it would take.
        got: u64,
    },
}

impl From<GraphError> for OnnxError {
    fn from(error: GraphError) -> Self {
        Self::Model(error.into())
    }
}
