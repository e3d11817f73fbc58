//! Gradient hooks: operations on gradients between the backward pass and the update.
//!
//! To add a hook: a file with a [`GradientHook`], and a line in [`hooks`], at its place in the order.

mod accumulate;
mod clip;

use crate::TrainError;
use crate::optimizer::Device;
use crate::recipe::Recipe;
use residual_engine::{Engine, Flat};

/// Changes or reads the gradients of an update, which has one backward pass or, with gradient accumulation, several.
///
/// The gradients are those of all trainable parameters; the padding between tensors is zero.
pub(crate) trait GradientHook: Send {
    /// After each backward pass, whose gradients these are.
    fn after_backward(&mut self, _device: &Device, _gradients: &mut [f32]) {}

    /// After the last backward pass. The next hook and the optimiser read the resulting gradients.
    fn before_update(&mut self, _device: &Device, _flat: &mut Flat<'_>) {}
}

/// The hooks of a recipe, in the order in which they run.
///
/// # Errors
/// If the system has no memory for their state.
pub(crate) fn hooks(recipe: &Recipe, engine: &Engine) -> Result<Vec<Box<dyn GradientHook>>, TrainError> {
    let mut hooks: Vec<Box<dyn GradientHook>> = Vec::new();
    if recipe.grad_accum_steps > 1 {
        hooks.push(Box::new(accumulate::Accumulate::new(engine.parameter_len())?));
    }
    if let Some(limit) = recipe.clip_grad {
        hooks.push(Box::new(clip::Clip::new(recipe.clip_mode, limit)));
    }
    Ok(hooks)
}
