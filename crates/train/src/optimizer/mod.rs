//! Optimisers: one file each, over parameter groups and named state tensors, which checkpoints contain.
//!
//! To add one: a file with an [`Update`], a variant of the recipe's `opt`, and a line in [`update`].

mod adamw;
mod sgd;

use crate::TrainError;
use crate::recipe::{Opt, Recipe};
use residual_engine::{Engine, Entry, Flat, Options};
use residual_kernels::Isa;
use residual_tensor::{AlignedBuffer, NamedTensors, Tensor};
use residual_threads::Pool;
use std::ops::Range;
use std::sync::Arc;

/// The key prefix of a parameter's number of updates in a checkpoint.
const STEP: &str = "step.";

/// The rule of one optimiser.
trait Update: Send {
    /// The names of its state tensors per parameter, as in torch. All start at zero.
    fn state(&self) -> &'static [&'static str];

    /// Updates one group of parameters. `state` holds a slice for each name of [`state`](Self::state).
    fn update(&self, device: &Device, group: &Rates, values: &mut [f32], gradients: &[f32], state: &mut [&mut [f32]]);
}

/// The rule of a recipe's optimiser.
fn update(recipe: &Recipe) -> Box<dyn Update> {
    match recipe.opt {
        Opt::Sgd => Box::new(sgd::Sgd::new(recipe)),
        Opt::AdamW => Box::new(adamw::AdamW::new(recipe)),
    }
}

/// Instruction set and threads of the kernels.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) isa: Isa,
    pub(crate) pool: Arc<Pool>,
}

impl Device {
    pub(crate) fn of(options: &Options) -> Self {
        Self { isa: options.isa, pool: options.pool.clone() }
    }
}

/// The hyperparameters of one group's update.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    lr: f64,
    weight_decay: f64,
    /// The number of this update, from 1 (Adam's step count).
    step: u64,
}

/// Options of one parameter: learning rate and weight decay relative to the recipe's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Multipliers {
    pub(crate) lr: f64,
    pub(crate) weight_decay: f64,
}

impl Multipliers {
    pub(crate) const ONE: Self = Self { lr: 1.0, weight_decay: 1.0 };
}

/// A parameter group: adjacent parameters of the bucket with the same options.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    range: Range<usize>,
    multipliers: Multipliers,
    /// Number of its updates so far.
    steps: u64,
}

/// An optimiser with its state for the parameters of one engine.
pub(crate) struct Optimizer {
    update: Box<dyn Update>,
    device: Device,
    groups: Vec<Group>,
    weight_decay: f64,
    /// A buffer with the layout of the bucket for each name of [`Update::state`].
    state: Vec<AlignedBuffer>,
}

impl Optimizer {
    /// The optimiser of `recipe` for the parameters that `engine` trains, its state zero.
    ///
    /// # Errors
    /// If the system has no memory for its state.
    pub(crate) fn new(
        recipe: &Recipe,
        engine: &Engine,
        device: Device,
        multipliers: impl Fn(&Entry) -> Multipliers,
    ) -> Result<Self, TrainError> {
        let update = update(recipe);
        let len = engine.parameter_len();
        let buffer = |name: &&str| {
            let bytes = 4 * len as u64;
            AlignedBuffer::try_zeros(len).ok_or_else(|| TrainError::Memory { what: (*name).to_owned(), bytes })
        };
        let state = update.state().iter().map(buffer).collect::<Result<_, _>>()?;
        let groups = groups(engine.entries(), len, |entry| (multipliers(entry), 0));
        Ok(Self { update, device, groups, weight_decay: recipe.weight_decay, state })
    }

    /// Bytes of state per parameter.
    pub(crate) fn bytes_per_parameter(recipe: &Recipe) -> usize {
        4 * update(recipe).state().len()
    }

    /// Updates all parameters by their gradients.
    pub(crate) fn step(&mut self, flat: Flat<'_>, lr: f64) {
        for group in &mut self.groups {
            group.steps += 1;
            let rates = Rates {
                lr: lr * group.multipliers.lr,
                weight_decay: self.weight_decay * group.multipliers.weight_decay,
                step: group.steps,
            };
            let range = group.range.clone();
            // At most two: the moments.
            let mut state = self.state.iter_mut().map(|buffer| &mut buffer[range.clone()]);
            let (values, gradients) = (&mut flat.values[range.clone()], &flat.gradients[range.clone()]);
            match (state.next(), state.next()) {
                (Some(first), Some(second)) => {
                    self.update.update(&self.device, &rates, values, gradients, &mut [first, second]);
                }
                (Some(first), None) => self.update.update(&self.device, &rates, values, gradients, &mut [first]),
                (None, _) => self.update.update(&self.device, &rates, values, gradients, &mut []),
            }
        }
    }

    /// Every state tensor under `<state>.<parameter>` in torch's layout, and `step.<parameter>`: its number of updates.
    pub(crate) fn to_torch(&self, engine: &Engine) -> NamedTensors {
        let mut tensors = NamedTensors::new();
        for (name, buffer) in self.update.state().iter().zip(&self.state) {
            tensors.extend(engine.to_torch(buffer).into_iter().map(|(key, tensor)| (format!("{name}.{key}"), tensor)));
        }
        for entry in engine.entries() {
            let group = self.groups.iter().find(|group| group.range.contains(&entry.range.start));
            let steps = group.map_or(0, |group| group.steps);
            tensors.insert(format!("{STEP}{}", entry.name), Tensor::i64(&[], vec![steps as i64]));
        }
        tensors
    }

    /// Loads the state that [`to_torch`](Self::to_torch) returned. The state of parameters that were frozen then starts at
    /// zero.
    ///
    /// # Errors
    /// If a tensor has another shape, or is not part of this optimiser's state.
    pub(crate) fn load(&mut self, engine: &Engine, tensors: &NamedTensors) -> Result<(), TrainError> {
        let names = self.update.state();
        let known = |key: &str| key.split_once('.').is_some_and(|(name, _)| names.contains(&name) || name == "step");
        if let Some(key) = tensors.keys().find(|key| !known(key)) {
            return Err(TrainError::OptimizerState { expected: names.join(", "), got: key.clone() });
        }
        for (name, buffer) in names.iter().zip(&mut self.state) {
            let mut of_name = engine.to_torch(buffer);
            for (key, tensor) in &mut of_name {
                if let Some(stored) = tensors.get(&format!("{name}.{key}")) {
                    *tensor = stored.clone();
                }
            }
            *buffer = engine.from_torch(&of_name)?;
        }
        let steps = |entry: &Entry| {
            let stored = tensors.get(&format!("{STEP}{}", entry.name)).and_then(Tensor::as_i64);
            stored.and_then(|values| values.first()).map_or(0, |&steps| steps.max(0) as u64)
        };
        let old = std::mem::take(&mut self.groups);
        let multipliers = |entry: &Entry| {
            let group = old.iter().find(|group| group.range.contains(&entry.range.start));
            group.expect("groups cover the bucket").multipliers
        };
        self.groups = groups(engine.entries(), engine.parameter_len(), |entry| (multipliers(entry), steps(entry)));
        Ok(())
    }
}

/// Merges adjacent parameters with the same options and number of updates. Groups cover the whole bucket, including the
/// padding between tensors.
fn groups(entries: &[Entry], len: usize, of: impl Fn(&Entry) -> (Multipliers, u64)) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let end = entries.get(index + 1).map_or(len, |next| next.range.start);
        let (multipliers, steps) = of(entry);
        match groups.last_mut() {
            Some(last) if last.multipliers == multipliers && last.steps == steps => last.range.end = end,
            _ => groups.push(Group { range: entry.range.start..end, multipliers, steps }),
        }
    }
    groups
}
