//! The splits of a source, by name and by fraction.

use std::sync::Arc;

use crate::Dataset;

/// A split of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// For training.
    Train,
    /// For validation during training.
    Val,
    /// For testing after training.
    Test,
}

impl Split {
    /// `train`, `val` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }

    /// The split of a usual name, in any case: `train`, `training`; `val`, `valid`, `validation`, `dev`; `test`, `testing`.
    ///
    /// ```
    /// use residual_data::Split;
    /// assert_eq!(Split::from_name("Validation"), Some(Split::Val));
    /// assert_eq!(Split::from_name("trains"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" | "dev" => Some(Self::Val),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The fraction of the training images that a run holds out, per class: see
/// [`stratified_split`](crate::stratified_split).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeldOut {
    /// In (0, 1).
    pub share: f32,
    /// The random seed; with the images' order it determines which ones.
    pub seed: u64,
}

/// Which images of a source a dataset holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// A split of the source's own.
    Split(Split),
    /// The images that a run holds out of its training images.
    HeldOut(HeldOut),
    /// All images of a source that has no splits.
    Everything,
}

impl Part {
    /// `train`, `val`, `test`, `held-out` or `all`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Split(split) => split.name(),
            Self::HeldOut(_) => "held-out",
            Self::Everything => "all",
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Split(split) => split.fmt(formatter),
            Self::HeldOut(HeldOut { share, seed }) => write!(formatter, "held out: {share} of each class, seed {seed}"),
            Self::Everything => formatter.write_str("all images, as the data have no splits"),
        }
    }
}

/// Images of a source, with their selection, which [`Dataset::describe_set`] describes in one line.
#[derive(Clone)]
pub struct Selection {
    /// The images.
    pub dataset: Arc<dyn Dataset>,
    /// Which of the source's images they are.
    pub part: Part,
}
