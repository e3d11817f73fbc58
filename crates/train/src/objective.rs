//! The training objective: a loss of the network's outputs against the targets.

use crate::recipe::Recipe;
use residual_data::Targets;
use residual_kernels::loss::{self, cross_entropy};

/// Softmax cross-entropy with label smoothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Objective {
    smoothing: f32,
}

impl Objective {
    /// The objective of `recipe`.
    pub(crate) fn new(recipe: &Recipe) -> Self {
        Self { smoothing: recipe.smoothing as f32 }
    }

    /// The mean loss of a batch of `logits` (images × `classes`); `gradient` becomes its gradient.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(crate) fn loss(&self, logits: &[f32], targets: Targets<'_>, classes: usize, gradient: &mut [f32]) -> f64 {
        cross_entropy(logits, as_kernel(targets), classes, self.smoothing, Some(gradient))
    }
}

fn as_kernel(targets: Targets<'_>) -> loss::Targets<'_> {
    match targets {
        Targets::Hard(labels) => loss::Targets::Hard(labels),
        Targets::Mixed { a, b, lambda } => loss::Targets::Mixed { a, b, lambda },
        Targets::Soft { values, .. } => loss::Targets::Soft(values),
    }
}
