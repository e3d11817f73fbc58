//! The targets of a batch, for the loss.

/// The targets of a batch of `n` images, in their order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Targets<'a> {
    /// Hard targets: one class per image.
    Hard(&'a [u32]),
    /// Two classes per image, from MixUp and CutMix: the loss is `lambda` times that of `a` plus
    /// `1 − lambda` times that of `b`.
    Mixed {
        /// The image's own class.
        a: &'a [u32],
        /// The class of the image that was mixed in.
        b: &'a [u32],
        /// The weight of `a`, in [0, 1].
        lambda: f32,
    },
    /// Soft targets: a probability for each class, n × classes.
    Soft {
        /// Non-negative values; those of an image sum to 1.
        values: &'a [f32],
        /// Number of classes.
        classes: usize,
    },
}

impl Targets<'_> {
    /// The number of images.
    pub fn len(&self) -> usize {
        match self {
            Self::Hard(labels) | Self::Mixed { a: labels, .. } => labels.len(),
            Self::Soft { values, classes } => values.len() / classes,
        }
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Collects the targets of a batch, image by image. Reused after clearing, it does not allocate.
#[derive(Debug, Default)]
pub(crate) struct TargetBuffer {
    labels: Vec<u32>,
    /// The labels of the images that were mixed in, and the weight of the batch's own.
    partners: Vec<u32>,
    lambda: Option<f32>,
    soft: Vec<f32>,
}

impl TargetBuffer {
    pub(crate) fn clear(&mut self) {
        self.labels.clear();
        self.partners.clear();
        self.soft.clear();
        self.lambda = None;
    }

    /// Adds an image's class, and its probabilities where the dataset has them.
    pub(crate) fn push(&mut self, label: u32, soft: Option<&[f32]>) {
        self.labels.push(label);
        self.soft.extend_from_slice(soft.unwrap_or_default());
    }

    /// The label of each image, without mixing.
    pub(crate) fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Mixes in the targets of each image's predecessor (the first one's is the last), with weight `1 − lambda`.
    pub(crate) fn mix(&mut self, lambda: f32) {
        let [.., last] = self.labels[..] else { return };
        if self.soft.is_empty() {
            self.partners.push(last);
            self.partners.extend_from_slice(&self.labels[..self.labels.len() - 1]);
            self.lambda = Some(lambda);
        } else {
            let classes = self.soft.len() / self.labels.len();
            super::mix::blend(&mut self.soft, classes, lambda);
        }
    }

    pub(crate) fn targets(&self) -> Targets<'_> {
        match self.lambda {
            _ if !self.soft.is_empty() => {
                Targets::Soft { values: &self.soft, classes: self.soft.len() / self.labels.len() }
            }
            Some(lambda) => Targets::Mixed { a: &self.labels, b: &self.partners, lambda },
            None => Targets::Hard(&self.labels),
        }
    }
}
