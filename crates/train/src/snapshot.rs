//! The model at one step of a run, copied once from the engine for evaluation, best weights and checkpoint.

use crate::TrainError;
use residual_model::Model;
use residual_tensor::{NamedTensors, Tensor};

/// The model after some step.
pub(crate) struct Snapshot {
    /// The trained model; with cached features, only the head.
    pub(crate) trained: Model,
    whole: Option<Model>,
}

impl Snapshot {
    /// `model` with the parameters and running statistics `tensors`; `whole` is the whole model, if this is only its head.
    ///
    /// # Errors
    /// If the model's parts no longer fit together.
    pub(crate) fn new(tensors: NamedTensors, model: &Model, whole: Option<&Model>) -> Result<Self, TrainError> {
        let whole = whole.map(|whole| {
            let mut all = whole.tensors.clone();
            all.extend(tensors.clone());
            whole.with_tensors(all)
        });
        Ok(Self { trained: model.with_tensors(tensors)?, whole: whole.transpose()? })
    }

    /// The whole model.
    pub(crate) fn model(&self) -> &Model {
        self.whole.as_ref().unwrap_or(&self.trained)
    }

    /// The key of a tensor with a value that is not finite.
    pub(crate) fn not_finite(&self) -> Option<&str> {
        let is_broken = |(_, tensor): &(&String, &Tensor)| {
            tensor.as_f32().is_some_and(|values| values.iter().any(|value| !value.is_finite()))
        };
        self.trained.tensors.iter().find(is_broken).map(|(key, _)| key.as_str())
    }
}

/// The trained model and, if its weights are averaged, the averaged one.
pub(crate) struct Snapshots {
    pub(crate) raw: Snapshot,
    pub(crate) averaged: Option<Snapshot>,
}

impl Snapshots {
    /// The model that is evaluated and saved: the averaged one, if there is one.
    pub(crate) fn result(&self) -> &Snapshot {
        self.averaged.as_ref().unwrap_or(&self.raw)
    }
}
