//! A companion of a training: code that adds to the gradients of every backward pass, such as the members of a supernet.

use crate::TrainError;
use residual_data::Batch;
use residual_engine::Engine;

/// Called after every backward pass, before hooks and update, with the engine of the trained network: its weights and logits are
/// those of the pass, and what is added to the gradients of [`Engine::flat_mut`] is part of the update.
///
/// A run is resumed to the same bits if the companion is a function of its arguments alone.
pub type Companion<'a> = Box<dyn FnMut(&mut Engine, &Pass<'_>) -> Result<(), TrainError> + 'a>;

/// A forward and backward pass of a training.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The images, normalised, and their targets.
    pub batch: &'a Batch,
    /// Height and width of the images.
    pub size: [usize; 2],
    /// The step, from 0.
    pub step: u64,
    /// The place of the batch among those of the step, from 0.
    pub index: usize,
    /// The number of batches of the step, by which gradients are divided.
    pub batches: usize,
}
