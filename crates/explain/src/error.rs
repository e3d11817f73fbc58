//! Why something cannot be explained.

use residual_engine::EngineError;
use residual_files::one_line;
use residual_graph::{GraphError, Shape};
use residual_infer::ClassifyError;

/// An error of an explanation. The message is one line and includes the causes.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The network has no such layer.
    #[error("{}", one_line(.0))]
    Classify(#[from] ClassifyError),
    /// The network cannot be run.
    #[error("{}", one_line(.0))]
    Engine(#[from] EngineError),
    /// The network's shapes do not fit together.
    #[error("{}", one_line(.0))]
    Graph(#[from] GraphError),
    /// A layer whose value is a vector.
    #[error("layer \"{layer}\": expected a feature map of more than one pixel, got {shape}")]
    Vector {
        /// The layer.
        layer: String,
        /// Its shape.
        shape: Shape,
    },
    /// A network without a feature map.
    #[error("network: expected a feature map of more than one pixel, got none")]
    NoFeatureMap,
    /// A network without a convolution.
    #[error("layer \"{layer}\": expected a convolution, got {op}")]
    NoConvolution {
        /// The layer.
        layer: String,
        /// Its op.
        op: &'static str,
    },
    /// A channel that a layer does not have.
    #[error("channel: expected a number below {channels}, as \"{layer}\" has {channels} channels, got {got}")]
    Channel {
        /// The layer.
        layer: String,
        /// The number of its channels.
        channels: usize,
        /// The given number.
        got: usize,
    },
    /// A class that the network does not have.
    #[error("class: expected a number below {classes}, got {got}")]
    Class {
        /// The number of outputs.
        classes: usize,
        /// The given number.
        got: usize,
    },
    /// Images that are no whole number, or not one for each target.
    #[error("images: expected {expected} values, got {got}")]
    Images {
        /// Values expected.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// Values that are not finite.
    #[error("image {index}: expected finite {what}, got {got}")]
    NotFinite {
        /// The index of the image, from 0.
        index: usize,
        /// What was computed.
        what: &'static str,
        /// The first value that is not finite.
        got: f32,
    },
    /// A setting out of range.
    #[error("{setting}: expected {expected}, got {got}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is accepted.
        expected: String,
        /// The given value.
        got: String,
    },
    /// Not enough memory.
    #[error("memory: expected {bytes} bytes for {what}, got less")]
    Memory {
        /// What it was for.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
}

impl ExplainError {
    pub(crate) fn setting(setting: &'static str, expected: impl Into<String>, got: impl ToString) -> Self {
        Self::Setting { setting, expected: expected.into(), got: got.to_string() }
    }

    /// Whether an argument is wrong, as opposed to a failed computation.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Classify(error) => matches!(error, ClassifyError::Layer(_)),
            Self::Vector { .. } | Self::NoConvolution { .. } | Self::Channel { .. } => true,
            Self::Class { .. } | Self::Setting { .. } => true,
            _ => false,
        }
    }
}
