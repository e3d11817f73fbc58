//! Gradient flow: how large the gradients of each parameter tensor are, and how far an update moves it.

use residual_engine::Entry;
use serde::Serialize;

/// The gradient of one parameter tensor for one batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradientStatistics {
    /// The state-dict key.
    pub name: String,
    /// The shape in torch.
    pub shape: Vec<usize>,
    /// The mean of |gradient| over the tensor's elements.
    pub mean: f64,
    /// The maximum of |gradient|; NaN if an element is not a number.
    pub max: f64,
    /// The Euclidean norm of the gradient.
    pub norm: f64,
    /// The Euclidean norm of the tensor itself.
    pub weight_norm: f64,
}

impl GradientStatistics {
    /// Statistics of all `entries` of flat `values` and `gradients` (see [`residual_engine::Flat`]).
    ///
    /// # Panics
    /// If a buffer is shorter than the entries.
    pub fn of(entries: &[Entry], values: &[f32], gradients: &[f32]) -> Vec<Self> {
        let statistics = |entry: &Entry| {
            let gradient = &gradients[entry.range.clone()];
            let sum: f64 = gradient.iter().map(|&value| f64::from(value.abs())).sum();
            Self {
                name: entry.name.clone(),
                shape: entry.shape.clone(),
                mean: sum / gradient.len().max(1) as f64,
                max: max_abs(gradient).into(),
                norm: norm(gradient),
                weight_norm: norm(&values[entry.range.clone()]),
            }
        };
        entries.iter().map(statistics).collect()
    }

    /// The norm of an update divided by that of the tensor: how far a step moves it. About 1e-3 is usual in training.
    /// `None` for a tensor of zeros.
    pub fn update_ratio(&self, update_norm: f64) -> Option<f64> {
        (self.weight_norm > 0.0).then(|| update_norm / self.weight_norm)
    }

    /// Whether the tensor is the weight of a convolution or linear layer, which gradient-flow plots show.
    pub fn is_filter(&self) -> bool {
        self.shape.len() > 1
    }
}

/// The largest magnitude; NaN if there is one, which `f32::max` would ignore.
fn max_abs(values: &[f32]) -> f32 {
    values
        .iter()
        .map(|value| value.abs())
        .fold(0.0, |max, value| if max.is_nan() || value <= max { max } else { value })
}

/// The Euclidean norm, summed in double precision.
fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use residual_engine::{Engine, Mode, Options};
    use residual_model::{Initialisation, Model, initialise};
    use residual_preprocess::Preprocessing;

    /// The flat buffers have another layout than torch's tensors; the statistics are of the tensors.
    #[test]
    fn statistics_are_those_of_torchs_tensors() {
        let graph = residual_zoo::build("resnet20", 3).unwrap();
        let tensors = initialise(&graph, Initialisation::Torch, 1);
        let preprocessing = Preprocessing::unscaled([16, 16], &[0.0; 3], &[1.0; 3]);
        let model = Model::new(graph, tensors, preprocessing, Vec::new()).unwrap();
        let mut engine = Engine::new(&model, Mode::Train, 2, [16, 16], &[], &Options::threads(1)).unwrap();
        let images: Vec<f32> = (0..2 * 16 * 16 * 3).map(|index| (index as f32 * 0.37).sin()).collect();
        engine.forward(&images).unwrap();
        engine.backward_output(&[1.0, -1.0, 0.5, 0.2, 0.3, -0.5]).unwrap();
        let gradients = engine.gradients();
        let flat = engine.flat_mut();
        let all = GradientStatistics::of(flat.entries, flat.values, flat.gradients);
        assert_eq!(all.len(), gradients.len());
        for statistics in &all {
            let gradient = gradients[statistics.name.as_str()].as_f32().unwrap();
            let close = |got: f64, expected: f64| (got - expected).abs() <= 1e-9 * expected.abs();
            let mean = gradient.iter().map(|value| f64::from(value.abs())).sum::<f64>() / gradient.len() as f64;
            let max = gradient.iter().map(|value| value.abs()).reduce(f32::max).unwrap();
            assert!(close(statistics.mean, mean) && statistics.max == f64::from(max), "{}", statistics.name);
            let weight = model.tensors[statistics.name.as_str()].as_f32().unwrap();
            assert!(close(statistics.weight_norm, norm(weight)), "{}", statistics.name);
            assert_eq!(statistics.shape, model.tensors[statistics.name.as_str()].shape());
        }
        let conv = all.iter().find(|statistics| statistics.name == "conv1.weight").unwrap();
        assert!(conv.is_filter() && conv.norm > 0.0);
        assert_eq!(conv.update_ratio(conv.weight_norm * 0.25), Some(0.25));
    }

    #[test]
    fn a_gradient_that_is_not_a_number_shows() {
        assert!(max_abs(&[1.0, f32::NAN, 2.0]).is_nan());
        assert_eq!(max_abs(&[1.0, -3.0, 2.0]), 3.0);
        assert_eq!(max_abs(&[]), 0.0);
    }
}
