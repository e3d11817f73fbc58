//! The training objective: a loss of the network's outputs against the targets.

use crate::recipe::{ClassWeights, Recipe};
use residual_data::{Dataset, Targets};
use residual_kernels::loss::{self, Binary, Focal, binary_cross_entropy, cross_entropy, focal_loss};

/// Softmax cross-entropy or binary cross-entropy, with label smoothing, class weights and focal loss.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Objective {
    smoothing: f32,
    form: Form,
    /// A weight for each class.
    weights: Option<Vec<f32>>,
    /// The exponent of the focal loss.
    gamma: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Softmax,
    Sigmoid { threshold: Option<f32>, sum_classes: bool, alpha: Option<f64> },
}

impl Objective {
    /// The objective of `recipe`, with these class weights.
    pub(crate) fn new(recipe: &Recipe, weights: Option<Vec<f32>>) -> Self {
        let form = if recipe.bce_loss {
            Form::Sigmoid {
                threshold: recipe.bce_target_thresh.map(|threshold| threshold as f32),
                sum_classes: recipe.bce_sum,
                alpha: recipe.focal_alpha,
            }
        } else {
            Form::Softmax
        };
        Self { smoothing: recipe.smoothing as f32, form, weights, gamma: recipe.focal_gamma }
    }

    /// The mean loss of a batch of `logits` (images × `classes`); `gradient` becomes its gradient.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(crate) fn loss(&self, logits: &[f32], targets: Targets<'_>, classes: usize, gradient: &mut [f32]) -> f64 {
        let (targets, gradient) = (as_kernel(targets), Some(gradient));
        let (smoothing, gamma, weights) = (self.smoothing, self.gamma, self.weights.as_deref());
        match self.form {
            Form::Sigmoid { threshold, sum_classes, alpha } => {
                let rule = Binary { smoothing, threshold, sum_classes, weights, gamma, alpha };
                binary_cross_entropy(logits, targets, classes, &rule, gradient)
            }
            Form::Softmax if gamma == 0.0 && weights.is_none() => {
                cross_entropy(logits, targets, classes, smoothing, gradient)
            }
            Form::Softmax => focal_loss(logits, targets, classes, &Focal { smoothing, weights, gamma }, gradient),
        }
    }
}

fn as_kernel(targets: Targets<'_>) -> loss::Targets<'_> {
    match targets {
        Targets::Hard(labels) => loss::Targets::Hard(labels),
        Targets::Mixed { a, b, lambda } => loss::Targets::Mixed { a, b, lambda },
        Targets::Soft { values, .. } => loss::Targets::Soft(values),
    }
}

/// The weights of the `classes` of a recipe's objective, given its training images; `None` if all are 1.
pub(crate) fn class_weights(recipe: &Recipe, images: &dyn Dataset, classes: usize) -> Option<Vec<f32>> {
    match recipe.class_weights {
        ClassWeights::None => given_weights(recipe),
        ClassWeights::Balanced => Some(balanced(&counts(images, classes))),
        ClassWeights::Effective => Some(effective(&counts(images, classes), recipe.class_weight_beta)),
    }
}

/// The class weights that a recipe lists.
pub(crate) fn given_weights(recipe: &Recipe) -> Option<Vec<f32>> {
    recipe.class_weight_values.as_ref().map(|values| values.iter().map(|&value| value as f32).collect())
}

/// The images of each class, or the sum of their probabilities; at least 1, as in timm.
fn counts(images: &dyn Dataset, classes: usize) -> Vec<f64> {
    let mut counts = vec![0.0; classes];
    for index in 0..images.len() {
        match images.soft_label(index) {
            None => counts[images.label(index) as usize] += 1.0,
            Some(shares) => counts.iter_mut().zip(shares).for_each(|(count, &share)| *count += f64::from(share)),
        }
    }
    counts.into_iter().map(|count| count.max(1.0)).collect()
}

/// n / (classes · n of the class), as scikit-learn's `compute_class_weight("balanced")`.
fn balanced(counts: &[f64]) -> Vec<f32> {
    let share = counts.iter().sum::<f64>() / counts.len() as f64;
    counts.iter().map(|count| (share / count) as f32).collect()
}

/// 1 over the effective number of images, (1 − βⁿ) / (1 − β), scaled to a mean of 1 (Cui et al. 2019).
fn effective(counts: &[f64], beta: f64) -> Vec<f32> {
    let inverse: Vec<f64> = counts.iter().map(|&count| (1.0 - beta) / (1.0 - beta.powf(count))).collect();
    let mean = inverse.iter().sum::<f64>() / counts.len() as f64;
    inverse.iter().map(|inverse| (inverse / mean) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_weights_are_used_and_equal_counts_weigh_the_same() {
        let recipe = Recipe { class_weight_values: Some(vec![1.0, 0.25]), ..Recipe::default() };
        assert_eq!(given_weights(&recipe), Some(vec![1.0, 0.25]));
        assert_eq!(given_weights(&Recipe::default()), None);
        for weights in [balanced(&[7.0; 4]), effective(&[7.0; 4], 0.999)] {
            assert!(weights.iter().all(|weight| (weight - 1.0).abs() < 1e-6), "{weights:?}");
        }
    }

    /// `sklearn.utils.class_weight.compute_class_weight("balanced", classes=[0, 1, 2], y=[0] * 60 + [1] * 30 + [2] * 10)`, and
    /// `timm.loss.class_weights.compute_class_weights([60, 30, 10], 100, "effective_num", beta=0.99)`.
    #[test]
    fn weights_of_rare_classes_are_those_of_scikit_learn_and_timm() {
        let counts = [60.0, 30.0, 10.0];
        for (got, expected) in [
            (balanced(&counts), [5.0 / 9.0, 10.0 / 9.0, 10.0 / 3.0]),
            (effective(&counts, 0.99), [0.401_302, 0.698_145_2, 1.900_552_9]),
        ] {
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-6, "{got} against {expected}");
            }
        }
    }
}
