//! What an evaluation keeps of each image.

use super::{is_finite, rank_of_finite};

/// The result of one image. Classes are outputs of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageResult {
    /// Its index in the dataset.
    pub index: usize,
    /// Its class; of multi-label data the first of its classes.
    pub label: u32,
    /// The class with the highest logit, the first of equal ones; `None` if a logit is not finite.
    pub predicted: Option<u32>,
    /// Whether the prediction is right; of multi-label data, whether it is one of the image's classes.
    pub correct: bool,
    /// Whether its class is among the five highest logits.
    pub in_top5: bool,
    /// The probability of the predicted class, 0 to 1; 0 without a prediction.
    pub probability: f32,
    /// The probability of its own class, 0 to 1; 0 without a prediction.
    pub label_probability: f32,
    /// Cross-entropy; of multi-label data the mean binary cross-entropy of the classes. Not a number without a prediction.
    pub loss: f64,
    /// Σ (probability − target)² over the classes. Not a number without a prediction.
    pub brier: f64,
}

impl ImageResult {
    /// The result of image `index` with a single class; probabilities are the softmax of `logits` / `temperature`.
    ///
    /// # Panics
    /// If the label is not below the number of logits.
    pub fn single_label(index: usize, logits: &[f32], label: u32, temperature: f32) -> Self {
        let Some(top) = Ranked::of(logits) else { return Self::without_prediction(index, label) };
        let scale = 1.0 / f64::from(temperature);
        let shifted = |class: usize| (f64::from(logits[class]) - f64::from(logits[top.best])) * scale;
        let sum: f64 = (0..logits.len()).map(|class| shifted(class).exp()).sum();
        let probability = |class: usize| shifted(class).exp() / sum;
        let own = label as usize;
        let squares: f64 = (0..logits.len()).map(|class| probability(class).powi(2)).sum();
        Self {
            index,
            label,
            predicted: Some(top.best as u32),
            correct: top.best == own,
            in_top5: top.rank(own) < 5,
            probability: probability(top.best) as f32,
            label_probability: probability(own) as f32,
            loss: sum.ln() - shifted(own),
            brier: squares - 2.0 * probability(own) + 1.0,
        }
    }

    /// The result of image `index` with any number of classes, those whose `targets` are 1; probabilities are the sigmoids
    /// of `logits` / `temperature`.
    pub(crate) fn multi_label(index: usize, logits: &[f32], targets: &[f32], temperature: f32) -> Self {
        let first = targets.iter().position(|&target| target > 0.0);
        let label = first.unwrap_or(0) as u32;
        let Some(top) = Ranked::of(logits) else { return Self::without_prediction(index, label) };
        let scale = 1.0 / f64::from(temperature);
        let probability = |class: usize| 1.0 / (1.0 + (-f64::from(logits[class]) * scale).exp());
        // ln(1 + eˣ) − target · x, without overflow.
        let loss = |(&logit, &target): (&f32, &f32)| {
            let x = f64::from(logit) * scale;
            x.max(0.0) + (-x.abs()).exp().ln_1p() - f64::from(target) * x
        };
        let square = |(class, &target): (usize, &f32)| (probability(class) - f64::from(target)).powi(2);
        let ranks = targets.iter().enumerate().filter(|(_, target)| **target > 0.0).map(|(class, _)| top.rank(class));
        Self {
            index,
            label,
            predicted: Some(top.best as u32),
            correct: targets[top.best] > 0.0,
            in_top5: ranks.min().is_some_and(|rank| rank < 5),
            probability: probability(top.best) as f32,
            label_probability: first.map_or(0.0, |class| probability(class) as f32),
            loss: logits.iter().zip(targets).map(loss).sum::<f64>() / logits.len() as f64,
            brier: targets.iter().enumerate().map(square).sum(),
        }
    }

    fn without_prediction(index: usize, label: u32) -> Self {
        Self {
            index,
            label,
            predicted: None,
            correct: false,
            in_top5: false,
            probability: 0.0,
            label_probability: 0.0,
            loss: f64::NAN,
            brier: f64::NAN,
        }
    }
}

/// Finite logits and the highest of them.
struct Ranked<'a> {
    logits: &'a [f32],
    best: usize,
}

impl<'a> Ranked<'a> {
    fn of(logits: &'a [f32]) -> Option<Self> {
        let higher = |best: usize, class: usize| if logits[class] > logits[best] { class } else { best };
        is_finite(logits).then(|| Self { logits, best: (0..logits.len()).reduce(higher).unwrap_or(0) })
    }

    /// The rank of a class, from 0; ties are ordered by class index.
    fn rank(&self, class: usize) -> usize {
        rank_of_finite(self.logits, class)
    }
}
