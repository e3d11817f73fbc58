//! A companion of a training: code that adds to the gradients of every backward pass, such as the members of a supernet.

use crate::TrainError;
use residual_data::Batch;
use residual_engine::Engine;

/// What is trained beside a network.
pub struct Companion<'a> {
    name: String,
    add: Box<Add<'a>>,
}

type Add<'a> = dyn FnMut(&mut Engine, &Pass<'_>) -> Result<(), TrainError> + 'a;

impl<'a> Companion<'a> {
    /// The companion called `name`. `add` is called after every backward pass, before hooks and update, with the engine of the
    /// trained network: its weights and logits are those of the pass, and what is added to the gradients of [`Engine::flat_mut`] is
    /// part of the update.
    ///
    /// The training state keeps the name, and a run is only resumed with a companion of the same name; to the same bits if it is a
    /// function of its arguments alone.
    pub fn new(
        name: impl Into<String>,
        add: impl FnMut(&mut Engine, &Pass<'_>) -> Result<(), TrainError> + 'a,
    ) -> Self {
        Self { name: name.into(), add: Box::new(add) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds its gradients to those of a pass.
    pub(crate) fn add(&mut self, engine: &mut Engine, pass: &Pass<'_>) -> Result<(), TrainError> {
        (self.add)(engine, pass)
    }
}

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
