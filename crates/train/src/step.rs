//! One training step: forward, objective, backward, hooks, update. The loop and the benchmark share it.

use crate::TrainError;
use crate::distill::Distillation;
use crate::ema::Ema;
use crate::gradients::{BeforeUpdate, LayerGradient};
use crate::hooks::{self, GradientHook};
use crate::memory::BesideEngine;
use crate::objective::{Objective, given_weights};
use crate::optimizer::{Device, Multipliers, Optimizer};
use crate::recipe::Recipe;
use crate::zeros::Zeros;
use residual_data::Targets;
use residual_engine::{Engine, Entry, Mode, Options};
use residual_kernels::optim::scale;
use residual_model::Model;
use residual_tensor::NamedTensors;

/// An engine with objective, hooks, optimiser and averaged weights.
pub struct TrainStep {
    engine: Engine,
    objective: Objective,
    distillation: Option<Distillation>,
    optimizer: Optimizer,
    hooks: Vec<Box<dyn GradientHook>>,
    ema: Option<Ema>,
    zeros: Option<Zeros>,
    device: Device,
    /// The gradient of the loss with respect to the network's output, for up to one batch.
    gradient: Vec<f32>,
}

impl TrainStep {
    /// The step of `recipe`, without layer-wise learning rates and class weights from a dataset, on `engine`, whose plan must be one for training.
    ///
    /// # Errors
    /// If the system has no memory for the optimiser's state.
    pub fn new(recipe: &Recipe, engine: Engine, options: &Options) -> Result<Self, TrainError> {
        let objective = Objective::new(recipe, given_weights(recipe));
        Self::with_multipliers(recipe, objective, engine, options, |_| Multipliers::ONE)
    }

    /// The peak memory of such a step in bytes: the engine's plan for batches of `batch` images of `size` (height, width),
    /// the optimiser's state, and accumulated gradients and averaged weights where `recipe` has them. Allocates none of it.
    ///
    /// # Errors
    /// If the plan cannot be compiled.
    ///
    /// # Panics
    /// If `batch` is zero.
    pub fn required_memory(
        recipe: &Recipe,
        model: &Model,
        batch: usize,
        size: [usize; 2],
        options: &Options,
    ) -> Result<usize, TrainError> {
        let plan = Engine::required_memory(model, Mode::Train, batch, size, &[], options)?;
        Ok(plan.total().saturating_add(BesideEngine::of(recipe, model, options).total()))
    }

    /// As [`new`](Self::new), with this objective, and learning rate and weight decay of each parameter relative to the recipe's.
    pub(crate) fn with_multipliers(
        recipe: &Recipe,
        objective: Objective,
        engine: Engine,
        options: &Options,
        multipliers: impl Fn(&Entry) -> Multipliers,
    ) -> Result<Self, TrainError> {
        let device = Device::of(options);
        let optimizer = Optimizer::new(recipe, &engine, device.clone(), multipliers)?;
        let hooks = hooks::hooks(recipe, &engine)?;
        let ema = Ema::new(recipe, &engine)?;
        let zeros = Zeros::new(recipe, &engine)?;
        let distillation = None;
        Ok(Self { engine, objective, distillation, optimizer, hooks, ema, zeros, device, gradient: Vec::new() })
    }

    /// The same with teachers.
    pub(crate) fn with_distillation(self, distillation: Option<Distillation>) -> Self {
        Self { distillation, ..self }
    }

    /// Takes the teachers out, for another step of the run.
    pub(crate) fn take_distillation(&mut self) -> Option<Distillation> {
        self.distillation.take()
    }

    /// Begins an epoch, from 0: the teachers' weight may change with it.
    pub(crate) fn begin_epoch(&mut self, epoch: u64) {
        if let Some(distillation) = &mut self.distillation {
            distillation.begin_epoch(epoch);
        }
    }

    /// A whole step on one batch of normalised images (NHWC): one backward pass and an update at learning rate `lr`.
    /// Returns the mean loss. If it is not finite, no parameter is changed.
    ///
    /// # Errors
    /// If the batch does not fit the plan.
    ///
    /// # Panics
    /// If there are not as many targets as images.
    pub fn step(&mut self, images: &[f32], targets: Targets<'_>, lr: f64) -> Result<f64, TrainError> {
        let loss = self.backward(images, targets, &[], 1)?;
        if loss.is_finite() {
            self.update(lr);
        }
        Ok(loss)
    }

    /// [`backward_pass`](Self::backward_pass) and [`after_backward`](Self::after_backward), unless the loss is not finite.
    ///
    /// # Errors
    /// As the former.
    ///
    /// # Panics
    /// As the former.
    pub(crate) fn backward(
        &mut self,
        images: &[f32],
        targets: Targets<'_>,
        indices: &[usize],
        batches: usize,
    ) -> Result<f64, TrainError> {
        let loss = self.backward_pass(images, targets, indices, batches)?;
        if loss.is_finite() {
            self.after_backward();
        }
        Ok(loss)
    }

    /// Forward pass, objective and backward pass of one of the `batches` that are accumulated for an update; returns the
    /// batch's mean loss. The logits stay readable. If the loss is not finite, the backward pass is skipped. `indices` are the
    /// images' in the dataset, which only teachers need.
    ///
    /// # Errors
    /// If the batch does not fit the plan.
    ///
    /// # Panics
    /// If there are not as many targets as images.
    pub(crate) fn backward_pass(
        &mut self,
        images: &[f32],
        targets: Targets<'_>,
        indices: &[usize],
        batches: usize,
    ) -> Result<f64, TrainError> {
        self.engine.forward(images)?;
        let logits = self.engine.output();
        self.gradient.resize(logits.len(), 0.0);
        let classes = logits.len() / targets.len();
        let mut loss = self.objective.loss(logits, targets, classes, &mut self.gradient);
        if let Some(distillation) = &mut self.distillation {
            distillation.observe(images, indices)?;
            loss = distillation.loss(&self.device, logits, targets, loss, &mut self.gradient);
            loss += distillation.hint_loss(&self.engine)?;
        }
        if !loss.is_finite() {
            return Ok(loss);
        }
        if batches > 1 {
            scale(self.device.isa, &self.device.pool, &mut self.gradient, 1.0 / batches as f32);
        }
        match &mut self.distillation {
            Some(distillation) if distillation.has_hints() => {
                distillation.backward(&self.device, batches)?;
                let output = self.engine.output_name().to_owned();
                let seeds: Vec<_> = distillation.seeds().chain([(&*output, &*self.gradient)]).collect();
                self.engine.backward(&seeds)?;
            }
            _ => self.engine.backward_output(&self.gradient)?,
        }
        Ok(loss)
    }

    /// The hooks' work on the gradients of a backward pass.
    pub(crate) fn after_backward(&mut self) {
        let flat = self.engine.flat_mut();
        if let Some(zeros) = &self.zeros {
            zeros.apply(flat.gradients);
        }
        self.hooks.iter_mut().for_each(|hook| hook.after_backward(&self.device, flat.gradients));
    }

    /// Updates all parameters by the gradients of the backward passes since the last update, at learning rate `lr`.
    pub(crate) fn update(&mut self, lr: f64) {
        let mut flat = self.engine.flat_mut();
        self.hooks.iter_mut().for_each(|hook| hook.before_update(&self.device, &mut flat));
        self.optimizer.step(flat, lr);
        self.after_update(lr);
    }

    /// What follows an update of the network: weights that stay zero, and the updates of what is trained beside it and of the averaged
    /// weights.
    fn after_update(&mut self, lr: f64) {
        if let Some(zeros) = &self.zeros {
            zeros.apply(self.engine.flat_mut().values);
        }
        if let Some(distillation) = &mut self.distillation {
            distillation.update(&self.device, lr);
        }
        if let Some(ema) = &mut self.ema {
            ema.update(&self.device, &self.engine);
        }
    }

    /// As [`update`](Self::update), and the gradient flow of this update.
    ///
    /// # Errors
    /// If the system has no memory for a copy of the weights; then nothing is updated.
    pub(crate) fn update_recorded(&mut self, lr: f64) -> Result<Vec<LayerGradient>, TrainError> {
        let mut flat = self.engine.flat_mut();
        self.hooks.iter_mut().for_each(|hook| hook.before_update(&self.device, &mut flat));
        let before = BeforeUpdate::new(&flat)?;
        self.optimizer.step(flat, lr);
        self.after_update(lr);
        Ok(before.finish(&self.engine.flat_mut()))
    }

    /// The network's outputs for the last batch: images × classes.
    pub(crate) fn logits(&self) -> &[f32] {
        self.engine.output()
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine, for timing or other passes.
    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// The optimiser's state under its keys in a checkpoint.
    pub(crate) fn optimizer_state(&self) -> NamedTensors {
        self.optimizer.to_torch(&self.engine)
    }

    /// What is trained beside the network, with the state of its optimiser.
    pub(crate) fn distillation_state(&self) -> NamedTensors {
        self.distillation.as_ref().map(Distillation::state).unwrap_or_default()
    }

    /// Loads what [`distillation_state`](Self::distillation_state) returned.
    ///
    /// # Errors
    /// If it is of another distillation.
    pub(crate) fn load_distillation(&mut self, state: &NamedTensors) -> Result<(), TrainError> {
        self.distillation.iter_mut().try_for_each(|distillation| distillation.load(state))
    }

    /// The masks of the weights that stay zero.
    pub(crate) fn zeros(&self) -> NamedTensors {
        self.zeros.as_ref().map(|zeros| zeros.masks().clone()).unwrap_or_default()
    }

    /// Keeps the weights zero that [`zeros`](Self::zeros) says, instead of those that are zero now.
    ///
    /// # Errors
    /// If they are of another network.
    pub(crate) fn load_zeros(&mut self, masks: &NamedTensors) -> Result<(), TrainError> {
        self.zeros.iter_mut().try_for_each(|zeros| zeros.load(&self.engine, masks))
    }

    /// The averaged model as a state dict, if the weights are averaged.
    pub(crate) fn averaged(&self) -> Option<NamedTensors> {
        self.ema.as_ref().map(|ema| ema.state_dict(&self.engine))
    }

    /// Loads parameters, running statistics and the optimiser's state from a checkpoint after `steps` updates, and the
    /// averaged model if it has one. For parameters that were frozen when it was written, the optimiser's state starts at
    /// zero.
    ///
    /// # Errors
    /// If they belong to another network or optimiser.
    pub(crate) fn load(
        &mut self,
        model: &NamedTensors,
        optimizer: &NamedTensors,
        averaged: Option<&NamedTensors>,
        steps: u64,
    ) -> Result<(), TrainError> {
        self.engine.load_state_dict(model)?;
        self.optimizer.load(&self.engine, optimizer)?;
        match &mut self.ema {
            // Without one, the error names the first tensor that is missing.
            Some(ema) => ema.load(&self.engine, averaged.unwrap_or(&NamedTensors::new()), steps),
            None => Ok(()),
        }
    }
}
