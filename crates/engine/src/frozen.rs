//! What of a network is not trained.

use std::collections::BTreeSet;

/// What of a model a plan with gradients leaves as it is, by the names of nodes. Where nothing that is trained lies before a
/// node, no gradient is computed for it, and no value of it is kept for the backward pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Nodes whose parameters have no gradients: they are no part of [`crate::Flat`]. Batch norms among them follow the
    /// batch's statistics all the same, as in torch.
    pub parameters: BTreeSet<String>,
    /// Batch norms that use their running statistics, and keep them, in training too.
    pub statistics: BTreeSet<String>,
}
