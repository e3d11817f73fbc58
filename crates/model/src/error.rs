//! Errors of models.

use residual_graph::GraphError;
use residual_preprocess::PreprocessingError;

/// Parts of a model that do not fit together.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// Tensors that do not fit the graph. The message shows the first few of them.
    #[error("{}", list(problems))]
    Tensors {
        /// Every missing, unexpected, mis-shaped or mistyped tensor, in the graph's order, unexpected ones last.
        problems: Vec<TensorProblem>,
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
    /// A temperature that divides no logits.
    #[error("temperature: expected a positive number, got {got}")]
    Temperature {
        /// The number.
        got: f32,
    },
    /// A node that cannot be quantised.
    #[error("node \"{node}\": expected a convolution or linear layer of floats to quantize, got {got}")]
    NotQuantized {
        /// Its name.
        node: String,
        /// What it is.
        got: String,
    },
    /// A network with quantised layers where one of floats is needed.
    #[error(
        "network: expected layers of floats, got quantized ones; start from the model that they were quantized from"
    )]
    Quantized,
    /// A node other than a convolution reads the image.
    #[error("input: expected convolutions without groups as the only readers of the image, got {got}")]
    NoInput {
        /// The node that reads it.
        got: String,
    },
    /// The network does not end in a linear layer.
    #[error("head: expected a linear layer of a vector as the last op with parameters, got {got}")]
    NoHead {
        /// The last node with parameters.
        got: String,
    },
    /// The graph is no network.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The preprocessing cannot be carried out.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
}

/// One tensor that does not fit the graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorProblem {
    /// Missing.
    #[error("tensor \"{key}\": expected {expected:?}, got none")]
    Missing {
        /// The state-dict key.
        key: String,
        /// The shape the graph gives it.
        expected: Vec<usize>,
    },
    /// Unexpected.
    #[error("tensor \"{key}\": expected none, got {got:?}")]
    Unexpected {
        /// The state-dict key.
        key: String,
        /// Its shape.
        got: Vec<usize>,
    },
    /// Mis-shaped.
    #[error("tensor \"{key}\": expected {expected:?}, got {got:?}")]
    Shape {
        /// The state-dict key.
        key: String,
        /// The shape the graph gives it.
        expected: Vec<usize>,
        /// Its shape.
        got: Vec<usize>,
    },
    /// Of another element type.
    #[error("tensor \"{key}\": expected elements of type {expected}, got {got}")]
    Type {
        /// The state-dict key.
        key: String,
        /// The element type the graph gives it.
        expected: &'static str,
        /// Its element type.
        got: String,
    },
    /// A scale that is not positive.
    #[error("tensor \"{key}\": expected positive scales, got {got}")]
    Scale {
        /// The state-dict key.
        key: String,
        /// The first such scale.
        got: String,
    },
}

impl TensorProblem {
    /// The state-dict key.
    pub fn key(&self) -> &str {
        let (Self::Missing { key, .. }
        | Self::Unexpected { key, .. }
        | Self::Shape { key, .. }
        | Self::Type { key, .. }
        | Self::Scale { key, .. }) = self;
        key
    }
}

/// Problems shown in a message; the rest are counted.
const SHOWN: usize = 3;

/// The first problems and the first of each kind, in order, and the common prefix of all unexpected names: if a file's
/// tensors have a prefix, it explains the other problems.
fn list(problems: &[TensorProblem]) -> String {
    let kind = std::mem::discriminant::<TensorProblem>;
    let mut firsts: Vec<usize> = Vec::new();
    for (index, problem) in problems.iter().enumerate() {
        if firsts.iter().all(|&first| kind(&problems[first]) != kind(problem)) {
            firsts.push(index);
        }
    }
    let others = SHOWN.saturating_sub(firsts.len());
    let mut shown: Vec<usize> = (0..problems.len()).filter(|index| !firsts.contains(index)).take(others).collect();
    shown.extend(firsts);
    shown.sort_unstable();
    let mut text = shown.iter().map(|&index| problems[index].to_string()).collect::<Vec<_>>().join("; ");
    if problems.len() > shown.len() {
        text += &format!("; and {} more", problems.len() - shown.len());
    }
    if let Some(prefix) = prefix_of_unexpected(problems) {
        text += &format!(" (all names that are not expected begin with \"{prefix}\")");
    }
    text
}

/// The components that the names of all unexpected tensors have in common, if there are several.
fn prefix_of_unexpected(problems: &[TensorProblem]) -> Option<String> {
    let names: Vec<&str> = problems
        .iter()
        .filter_map(|problem| match problem {
            TensorProblem::Unexpected { key, .. } => Some(key.as_str()),
            _ => None,
        })
        .collect();
    let (first, others) = names.split_first()?;
    let ends = first.match_indices('.').map(|(place, _)| place + 1);
    let prefix = ends.map(|end| &first[..end]).take_while(|prefix| others.iter().all(|name| name.starts_with(prefix)));
    prefix.last().filter(|_| !others.is_empty()).map(str::to_owned)
}
