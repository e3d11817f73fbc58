//! Optimisers: a file for each or for close kin, over parameter groups and named state tensors, which checkpoints contain.
//!
//! To add one: a file with an [`Update`], a variant of the recipe's `opt`, and its arms below.

mod adam;
mod lamb;
mod lion;
mod muon;
mod rmsprop;
mod sgd;

use crate::TrainError;
use crate::recipe::{Opt, Recipe};
use residual_engine::{Engine, Entry, Flat, Options};
use residual_graph::Graph;
use residual_kernels::Isa;
use residual_tensor::{AlignedBuffer, NamedTensors, Tensor};
use residual_threads::Pool;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// The name of a parameter's number of updates in a checkpoint.
const STEP: &str = "step";

/// The rule of one optimiser.
trait Update: Send {
    /// What the elements of each of its state buffers start at.
    fn initial(&self) -> &'static [f32];

    /// The names of a parameter's state tensors, as in torch: one for each buffer, or for the first ones if it needs no more.
    fn names(&self, entry: &Entry) -> &'static [&'static str];

    /// The first phase of an update, which reads the gradients of all groups.
    fn prepare(&mut self, _device: &Device, _gradients: &[f32]) {}

    /// Updates one group of parameters, of which `entries_in` has the tensors. The gradients may be overwritten.
    /// `state` holds the state buffers, which have the layout of the bucket.
    fn update(&mut self, device: &Device, group: &GroupStep, flat: &mut Flat<'_>, state: &mut [AlignedBuffer]);
}

/// The rule of a recipe's optimiser for these parameters.
///
/// # Errors
/// If the system has no memory for its workspace.
fn update(recipe: &Recipe, entries: &[Entry], device: &Device) -> Result<Box<dyn Update>, TrainError> {
    Ok(match recipe.opt {
        Opt::Sgd | Opt::Momentum => Box::new(sgd::Sgd::new(recipe)),
        Opt::Adam | Opt::AdamW | Opt::NAdam => Box::new(adam::Adam::new(recipe)),
        Opt::Lamb => Box::new(lamb::Lamb::new(recipe)),
        Opt::RmsProp | Opt::RmsPropTf => Box::new(rmsprop::RmsProp::new(recipe)),
        Opt::Lion => Box::new(lion::Lion::new(recipe)),
        Opt::Muon => Box::new(muon::Muon::new(recipe, entries, device)?),
    })
}

/// The parameters in a group's range.
fn entries_in<'a>(entries: &'a [Entry], range: &Range<usize>) -> impl Iterator<Item = &'a Entry> {
    let range = range.clone();
    entries.iter().filter(move |entry| range.contains(&entry.range.start))
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

/// One group's update: its range of the bucket, and its hyperparameters.
#[derive(Clone, Debug, PartialEq)]
struct GroupStep {
    range: Range<usize>,
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
    /// The buffers of [`Update::initial`], with the layout of the bucket.
    state: Vec<AlignedBuffer>,
}

impl Optimizer {
    /// The optimiser of `recipe` for the parameters that `engine` trains, before the first update.
    ///
    /// # Errors
    /// If the system has no memory for its state.
    pub(crate) fn new(
        recipe: &Recipe,
        engine: &Engine,
        device: Device,
        multipliers: impl Fn(&Entry) -> Multipliers,
    ) -> Result<Self, TrainError> {
        let update = update(recipe, engine.entries(), &device)?;
        let len = engine.parameter_len();
        let buffer = |&initial: &f32| {
            let memory = || TrainError::Memory { what: "state of the optimiser".into(), bytes: 4 * len as u64 };
            let mut buffer = AlignedBuffer::try_zeros(len).ok_or_else(memory)?;
            if initial != 0.0 {
                buffer.fill(initial);
            }
            Ok::<_, TrainError>(buffer)
        };
        let state = update.initial().iter().map(buffer).collect::<Result<_, _>>()?;
        let groups = groups(engine.entries(), len, |entry| (multipliers(entry), 0));
        Ok(Self { update, device, groups, weight_decay: recipe.weight_decay, state })
    }

    /// Bytes of state per parameter.
    pub(crate) fn bytes_per_parameter(opt: Opt) -> usize {
        4 * match opt {
            Opt::Sgd | Opt::Momentum | Opt::Lion => 1,
            Opt::Adam | Opt::AdamW | Opt::NAdam | Opt::Lamb | Opt::RmsProp | Opt::RmsPropTf | Opt::Muon => 2,
        }
    }

    /// Bytes of workspace for the parameters of `graph`.
    pub(crate) fn workspace_bytes(opt: Opt, graph: &Graph, options: &Options) -> usize {
        if opt == Opt::Muon { muon::workspace_bytes(graph, options) } else { 0 }
    }

    /// Updates all parameters by their gradients.
    pub(crate) fn step(&mut self, mut flat: Flat<'_>, lr: f64) {
        self.update.prepare(&self.device, flat.gradients);
        for group in &mut self.groups {
            group.steps += 1;
            let step = GroupStep {
                range: group.range.clone(),
                lr: lr * group.multipliers.lr,
                weight_decay: self.weight_decay * group.multipliers.weight_decay,
                step: group.steps,
            };
            self.update.update(&self.device, &step, &mut flat, &mut self.state);
        }
    }

    /// Every state tensor under `<state>.<parameter>` in torch's layout, and `step.<parameter>`: its number of updates.
    pub(crate) fn to_torch(&self, engine: &Engine) -> NamedTensors {
        let mut tensors = NamedTensors::new();
        for (index, buffer) in self.state.iter().enumerate() {
            for (entry, (key, tensor)) in engine.entries().iter().zip(engine.to_torch(buffer)) {
                if let Some(name) = self.update.names(entry).get(index) {
                    tensors.insert(format!("{name}.{key}"), tensor);
                }
            }
        }
        for entry in engine.entries() {
            let group = self.groups.iter().find(|group| group.range.contains(&entry.range.start));
            let steps = group.map_or(0, |group| group.steps);
            tensors.insert(format!("{STEP}.{}", entry.name), Tensor::i64(&[], vec![steps as i64]));
        }
        tensors
    }

    /// Loads the state that [`to_torch`](Self::to_torch) returned. The state of parameters that were frozen then, which have
    /// no tensors in it, is that before a first update.
    ///
    /// # Errors
    /// If a tensor is missing, has another shape, or is not part of this optimiser's state.
    pub(crate) fn load(&mut self, engine: &Engine, tensors: &NamedTensors) -> Result<(), TrainError> {
        let fail = |expected, got| Err(TrainError::OptimizerState { expected, got });
        let (mut known, mut steps) = (HashSet::new(), HashMap::new());
        for entry in engine.entries() {
            let parameter = &entry.name;
            let names = self.update.names(entry);
            let keys: Vec<String> = names.iter().chain([&STEP]).map(|name| format!("{name}.{parameter}")).collect();
            let missing = keys.iter().find(|key| !tensors.contains_key(*key));
            if let Some(missing) = missing
                && keys.iter().any(|key| tensors.contains_key(key))
            {
                return fail(format!("\"{missing}\""), "none".into());
            }
            if let Some(stored) = tensors.get(&format!("{STEP}.{parameter}")) {
                let Some(&[count @ 0..=i64::MAX]) = stored.as_i64() else {
                    return fail(format!("a number of updates in \"{STEP}.{parameter}\""), "another tensor".into());
                };
                steps.insert(parameter.as_str(), count as u64);
            }
            known.extend(keys);
        }
        if let Some(key) = tensors.keys().find(|key| !known.contains(*key)) {
            let names = engine.entries().iter().flat_map(|entry| self.update.names(entry)).copied();
            let names: Vec<&str> = names.collect::<BTreeSet<_>>().into_iter().collect();
            let expected = format!("{} and {STEP} of trained parameters", names.join(", "));
            return fail(expected, format!("\"{key}\""));
        }
        for (index, buffer) in self.state.iter_mut().enumerate() {
            let mut stored = engine.to_torch(buffer);
            for (entry, (key, tensor)) in engine.entries().iter().zip(&mut stored) {
                let name = self.update.names(entry).get(index);
                if let Some(stored) = name.and_then(|name| tensors.get(&format!("{name}.{key}"))) {
                    *tensor = stored.clone();
                }
            }
            *buffer = engine.from_torch(&stored)?;
        }
        let steps = |entry: &Entry| steps.get(entry.name.as_str()).copied().unwrap_or(0);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The value after a step with gradient 1 and one with gradient 0, from zero, at a learning rate of 0.1.
    fn after_two_steps(recipe: &Recipe) -> f32 {
        let device = Device { isa: Isa::detect(), pool: Arc::new(Pool::new(1)) };
        let mut rule = update(recipe, &[], &device).unwrap();
        let buffer = |&initial: &f32| {
            let mut buffer = AlignedBuffer::zeros(1);
            buffer.fill(initial);
            buffer
        };
        let mut state: Vec<AlignedBuffer> = rule.initial().iter().map(buffer).collect();
        assert_eq!(4 * state.len(), Optimizer::bytes_per_parameter(recipe.opt), "{:?}", recipe.opt);
        let mut value = [0.0];
        for (step, gradient) in [(1, 1.0), (2, 0.0)] {
            let group = GroupStep { range: 0..1, lr: 0.1, weight_decay: 0.0, step };
            let mut flat = Flat { values: &mut value, gradients: &mut [gradient], entries: &[] };
            rule.prepare(&device, flat.gradients);
            rule.update(&device, &group, &mut flat, &mut state);
        }
        value[0]
    }

    /// The golden runs have the default momentum, betas and epsilon; these values are computed by hand.
    #[test]
    fn momentum_betas_and_epsilon_are_those_of_the_recipe() {
        let recipe = Recipe {
            momentum: 0.5,
            opt_alpha: 0.75,
            opt_betas: Some([0.5, 0.8]),
            opt_eps: Some(0.1),
            ..Recipe::default()
        };
        // Adam's corrected moments: 1 and 1, then 0.25 / (1 − 0.5²) = 1/3 and 0.16 / (1 − 0.8²) = 4/9.
        let adam = -0.1 * (1.0 / 1.1 + (1.0 / 3.0) / (2.0 / 3.0 + 0.1));
        for (opt, nesterov, expected) in [
            (Opt::Sgd, false, -0.1 * (1.0 + 0.5)),
            (Opt::Sgd, true, -0.1 * (1.5 + 0.25)),
            (Opt::Momentum, true, -0.1 * (1.0 + 0.5)),
            (Opt::Adam, false, adam),
            (Opt::AdamW, false, adam),
            (Opt::Lamb, false, adam),
            // The average of squares is 1/4; the momentum buffer 1 / (1/2 + 0.1), then half of it.
            (Opt::RmsProp, false, -0.1 * (1.0 + 0.5) / 0.6),
            // The average of squares stays 1.
            (Opt::RmsPropTf, false, -0.1 * (1.0 + 0.5) / 1.1f32.sqrt()),
            // The average is 1/5, whose half is positive.
            (Opt::Lion, false, -0.2),
        ] {
            let got = after_two_steps(&Recipe { opt, nesterov: Some(nesterov), ..recipe.clone() });
            assert!((got - expected).abs() < 1e-6, "{opt:?}, nesterov {nesterov}: expected {expected}, got {got}");
        }
    }
}
