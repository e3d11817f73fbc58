//! The score that is explained.

use crate::ExplainError;

/// A scalar function of a network's logits, whose dependence on the image is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The logit of a class.
    Class(usize),
    /// The logit of a class minus that of another: what speaks for the one rather than the other.
    Contrast {
        /// The class.
        class: usize,
        /// The other class.
        against: usize,
    },
}

impl Target {
    /// The class that is explained.
    pub fn class(self) -> usize {
        match self {
            Self::Class(class) | Self::Contrast { class, .. } => class,
        }
    }

    /// The score of an image with these logits.
    ///
    /// # Panics
    /// If a class is not among them.
    pub fn score(self, logits: &[f32]) -> f32 {
        match self {
            Self::Class(class) => logits[class],
            Self::Contrast { class, against } => logits[class] - logits[against],
        }
    }

    /// The gradient of the score with respect to the logits, added to `gradient`.
    pub(crate) fn add_gradient(self, gradient: &mut [f32]) {
        gradient[self.class()] += 1.0;
        if let Self::Contrast { against, .. } = self {
            gradient[against] -= 1.0;
        }
    }

    /// Fails if a class is not below `classes`.
    pub(crate) fn check(self, classes: usize) -> Result<(), ExplainError> {
        let most = match self {
            Self::Class(class) => class,
            Self::Contrast { class, against } => class.max(against),
        };
        if most < classes { Ok(()) } else { Err(ExplainError::Class { classes, got: most }) }
    }
}
