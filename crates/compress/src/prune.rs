//! Pruning: what a network loses, so that it costs what it may.
//!
//! Structured: a [`Criterion`] gives every filter a score ([`Saliency`]); [`select`] removes what has the lowest scores for what it
//! costs ([`LayerCost`]: multiply-accumulates, or the latency measured on this machine), in units of channels that the graph couples
//! ([`Graph::channel_groups`](residual_graph::Graph::channel_groups)) and in whole residual branches. Unstructured: single weights
//! become zero ([`prune_weights`]).

mod approach;
mod cost;
mod latency;
mod pruner;
mod saliency;
mod select;
mod sparsity;
mod target;
mod taylor;

pub use approach::{Approach, approach};
pub use cost::{LayerCost, Macs};
pub use latency::LatencyCost;
pub use pruner::{LatencySearch, PruneEvent, Pruned, Pruner};
pub use saliency::{Criterion, Saliency};
pub use select::{Allocation, SelectOptions, Selection, select};
pub use sparsity::{Pattern, Sparsity, prune_weights};
pub use target::{Goal, LatencyTarget, MacsTarget, SpeedupTarget};

use crate::CompressError;
use residual_model::{Model, prune_channels, remove_blocks};

impl Selection {
    /// `model` without what was selected of its graph. Names, preprocessing, labels and activation stay.
    ///
    /// # Errors
    /// If it was selected of another graph.
    pub fn apply(&self, model: &Model) -> Result<Model, CompressError> {
        // Narrowing keeps all nodes, so that the blocks are where they were.
        let narrow = prune_channels(model, &self.units)?;
        Ok(if self.blocks.is_empty() { narrow } else { remove_blocks(&narrow, &self.blocks)? })
    }
}
