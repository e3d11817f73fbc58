//! Gradient flow during training: how large the gradients of each layer are, and how far an update moves it.

use crate::TrainError;
use residual_engine::Flat;
use residual_infer::GradientStatistics;
use serde::{Deserialize, Serialize};

/// A line of `gradients.jsonl`: one recorded step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradientRow {
    /// The step, from 1.
    pub step: u64,
    /// Its epoch, from 1.
    pub epoch: u64,
    /// The trained convolutions and linear layers, in the order of the network.
    pub layers: Vec<LayerGradient>,
}

/// The gradient flow of one layer's weight. What is not finite is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerGradient {
    /// The state-dict key.
    pub name: String,
    /// The mean of |gradient| over the elements, as the optimiser reads it: after accumulation and clipping.
    pub mean: Option<f64>,
    /// The maximum of |gradient|.
    pub max: Option<f64>,
    /// The Euclidean norm of the update divided by that of the weight before it; `None` for a weight of zeros.
    pub update_ratio: Option<f64>,
}

/// The gradients of an update, and the weights before it.
pub(crate) struct BeforeUpdate {
    statistics: Vec<GradientStatistics>,
    values: Vec<f32>,
}

impl BeforeUpdate {
    /// # Errors
    /// If the system has no memory for a copy of the weights.
    pub(crate) fn new(flat: &Flat<'_>) -> Result<Self, TrainError> {
        let mut values = Vec::new();
        values.try_reserve_exact(flat.values.len()).map_err(|_| TrainError::Memory {
            what: "weights before an update".into(),
            bytes: 4 * flat.values.len() as u64,
        })?;
        values.extend_from_slice(flat.values);
        Ok(Self { statistics: GradientStatistics::of(flat.entries, flat.values, flat.gradients), values })
    }

    /// The gradient flow, after the update.
    pub(crate) fn finish(self, flat: &Flat<'_>) -> Vec<LayerGradient> {
        let finite = |value: f64| value.is_finite().then_some(value);
        let layers = self.statistics.iter().zip(flat.entries).filter(|(statistics, _)| statistics.is_filter());
        layers
            .map(|(statistics, entry)| {
                let (after, before) = (&flat.values[entry.range.clone()], &self.values[entry.range.clone()]);
                let square = |(after, before): (&f32, &f32)| (f64::from(*after) - f64::from(*before)).powi(2);
                let norm = after.iter().zip(before).map(square).sum::<f64>().sqrt();
                LayerGradient {
                    name: statistics.name.clone(),
                    mean: finite(statistics.mean),
                    max: finite(statistics.max),
                    update_ratio: statistics.update_ratio(norm).and_then(finite),
                }
            })
            .collect()
    }
}
