//! What can be wrong with a model.

use residual_graph::GraphError;
use residual_preprocess::PreprocessingError;

/// Parts of a model that do not fit together.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// Tensors that do not fit the graph, one line each.
    #[error("{}", problems.join("; "))]
    Tensors {
        /// Every missing, unexpected, mis-shaped or mistyped tensor.
        problems: Vec<String>,
    },
    /// Preprocessing for another number of channels than the network's input has.
    #[error("preprocessing: expected a mean for each of {expected} input channels, got {got}")]
    Channels {
        /// Channels of the network's input.
        expected: usize,
        /// Channels of the preprocessing.
        got: usize,
    },
    /// Labels, but not one for each output.
    #[error("labels: expected one for each of {expected} outputs, got {got}")]
    Labels {
        /// Outputs of the network.
        expected: usize,
        /// Labels given.
        got: usize,
    },
    /// The graph is no network.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The preprocessing cannot be carried out.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
}
