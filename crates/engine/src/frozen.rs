//! The frozen part of a network.

use std::collections::BTreeSet;

/// The nodes of a model that a plan with gradients does not train, by name. For a node with no trainable parameters before
/// it, no gradient is computed and no activation is kept for the backward pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Nodes whose parameters have no gradients: they are not in [`crate::Flat`]. Batch norms among them still
    /// use batch statistics and update the running ones, as in torch.
    pub parameters: BTreeSet<String>,
    /// Batch norms that use their running statistics in training too, without updating them.
    pub statistics: BTreeSet<String>,
}
