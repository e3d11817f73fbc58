//! The engine's interface: forward pass, backward pass, and parameters as views.

use crate::compiled::CompiledModel;
use crate::parameters::{Entry, Flat, Parameters};
use crate::plan::{DepthFirst, Kept, Plan, PlanStep, PlanSummary, Scheduled, compile_model};
use crate::run::{Run, Session};
use crate::weights::Weights;
use crate::{Elements, EngineError, Memory, Mode, Options, Tuning};
use residual_graph::Shape;
use residual_model::Model;
use residual_tensor::{AlignedBuffer, NamedTensors};
use residual_threads::Pool;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A model compiled for one mode, batch size and image size. Images and feature maps are NHWC.
#[derive(Debug)]
pub struct Engine {
    plan: Arc<Plan>,
    weights: Weights,
    session: Session,
    summary: PlanSummary,
    /// The measured time of each instruction, forward and then backward, if steps are timed.
    times: Option<Vec<Duration>>,
    /// Number of images of the last batch.
    images: usize,
    /// Whether the last forward pass has not had its backward pass.
    fresh: bool,
    /// Whether parameters may have changed since batch norms last read their running statistics.
    stale: bool,
}

impl Engine {
    /// Compiles `model` for batches of up to `batch` images of `size` (height, width). `outputs` names nodes whose values
    /// stay readable after each forward pass; they are not fused away. For inference this is a [`CompiledModel`] with a session.
    ///
    /// # Errors
    /// If the model's tensors or shapes do not fit, or an output is not a node of it; [`EngineError::Memory`] if the
    /// plan needs more memory than the machine has, before any of it is written.
    ///
    /// # Panics
    /// If `batch` is zero.
    pub fn new(
        model: &Model,
        mode: Mode,
        batch: usize,
        size: [usize; 2],
        outputs: &[&str],
        options: &Options,
    ) -> Result<Self, EngineError> {
        if mode == Mode::Infer {
            return CompiledModel::new(model, batch, size, outputs, options)?.session(&options.pool);
        }
        let (folded, plan) = compile_model(model, mode, batch, size, outputs, options)?;
        plan.memory(options.pool.threads()).check()?;
        let layout = Arc::clone(&plan.parameters);
        let parameters = Parameters::new(layout, &folded.tensors, &folded.scales, &options.pool)?;
        Self::of(Arc::new(plan), Weights::Buckets(Box::new(parameters)), &options.pool)
    }

    /// A session of a plan.
    pub(crate) fn of(plan: Arc<Plan>, weights: Weights, pool: &Arc<Pool>) -> Result<Self, EngineError> {
        let summary = PlanSummary::of(&plan, pool.threads());
        let session = Session::new(&plan, Arc::clone(pool))?;
        Ok(Self { plan, weights, session, summary, times: None, images: 0, fresh: false, stale: true })
    }

    /// The memory that [`Engine::new`] would allocate with these arguments: that of the [`PlanSummary`]. Allocates none of
    /// it.
    ///
    /// # Errors
    /// As [`PlanSummary::new`].
    ///
    /// # Panics
    /// As [`Engine::new`].
    pub fn required_memory(
        model: &Model,
        mode: Mode,
        batch: usize,
        size: [usize; 2],
        outputs: &[&str],
        options: &Options,
    ) -> Result<Memory, EngineError> {
        let (_, plan) = compile_model(model, mode, batch, size, outputs, options)?;
        Ok(plan.memory(options.pool.threads()))
    }

    /// Measures the fastest algorithms on this machine for the convolutions of a plan that `tuning` does not contain yet.
    /// Takes some tenths of a second for each.
    ///
    /// # Errors
    /// As [`Engine::new`].
    ///
    /// # Panics
    /// As [`Engine::new`].
    pub fn tune(
        model: &Model,
        mode: Mode,
        batch: usize,
        size: [usize; 2],
        options: &Options,
        tuning: &mut Tuning,
    ) -> Result<(), EngineError> {
        let (_, plan) = compile_model(model, mode, batch, size, &[], options)?;
        plan.memory(options.pool.threads()).check()?;
        // Algorithms are measured on floats.
        let convs = plan.layers.convs.iter().filter(|planned| planned.conv.elements() == Elements::F32);
        convs.into_iter().try_for_each(|planned| tuning.measure(*planned.conv.shape(), batch, mode, options))
    }

    /// The plan and the weights of an inference engine, for other sessions; `None` of an engine with gradients.
    pub fn compiled(&self) -> Option<CompiledModel> {
        match &self.weights {
            Weights::Packed(weights) => Some(CompiledModel::of(Arc::clone(&self.plan), Arc::clone(weights))),
            Weights::Buckets(_) => None,
        }
    }

    /// Replaces the weights of an inference plan by those of another model of the same network, without compiling it again.
    /// Other sessions of the plan keep the old ones.
    ///
    /// # Errors
    /// [`EngineError::OtherGraph`] if the network is another one; [`EngineError::Mode`] if the plan has gradients; if the system
    /// has no memory.
    pub fn load_model(&mut self, model: &Model) -> Result<(), EngineError> {
        let Self { plan, weights, session, .. } = self;
        match weights {
            Weights::Packed(weights) => CompiledModel::load(plan, weights, model, &session.pool),
            Weights::Buckets(_) => {
                Err(EngineError::Mode { what: "loading a model", expected: "inference", mode: plan.mode })
            }
        }
    }

    /// Runs the network on `images` (n × height × width × channels, n up to the plan's batch).
    ///
    /// # Errors
    /// [`EngineError::Batch`] if `images` is not a batch of this plan, [`EngineError::SingleValue`] if a batch norm would
    /// be trained on a single value.
    pub fn forward(&mut self, images: &[f32]) -> Result<(), EngineError> {
        let Plan { batch, image_len, input, .. } = *self.plan;
        let count = images.len() / image_len;
        if count == 0 || count > batch || count * image_len != images.len() {
            return Err(EngineError::Batch { batch, image: image_len, got: images.len() });
        }
        if let (Mode::Train, 1, Some(name)) = (self.plan.mode, count, &self.plan.single_pixel_norm) {
            return Err(EngineError::SingleValue { name: name.clone() });
        }
        if let (true, Some(parameters)) = (std::mem::take(&mut self.stale), self.weights.buckets()) {
            self.session.take_running_statistics(&self.plan, parameters);
        }
        self.images = count;
        self.session.arena.get_mut(input, count).copy_from_slice(images);
        self.run_forward();
        self.fresh = true;
        Ok(())
    }

    /// The network's output for the last batch: n × outputs.
    pub fn output(&self) -> &[f32] {
        self.session.arena.get(self.plan.kept[0].value, self.images)
    }

    /// The name of the output node, by which [`Engine::backward`] accepts its gradient.
    pub fn output_name(&self) -> &str {
        &self.plan.kept[0].name
    }

    /// The value of a kept node for the last batch (n × height × width × channels; a flattened feature map keeps that
    /// order), or `None` if the node was not kept.
    pub fn node_value(&self, name: &str) -> Option<&[f32]> {
        Some(self.session.arena.get(self.kept(name)?.value, self.images))
    }

    /// Height, width and channels of a kept node's value.
    pub fn node_shape(&self, name: &str) -> Option<Shape> {
        self.kept(name).map(|kept| kept.shape)
    }

    fn kept(&self, name: &str) -> Option<&Kept> {
        self.plan.kept.iter().find(|kept| kept.name == name)
    }

    /// The gradient of a kept node's value, from the last backward pass: its own seed plus the gradients from the
    /// nodes that read it. `None` if the node was not kept or the plan has no gradients.
    pub fn node_gradient(&self, name: &str) -> Option<&[f32]> {
        Some(self.session.arena.get(self.kept(name)?.seed?, self.images))
    }

    /// The backward pass of the last forward pass, from the gradients of kept nodes or the output (n × the node's shape
    /// each). Gradients of parameters and kept nodes are overwritten. It can be run once per forward pass, because
    /// gradients reuse the memory of its values.
    ///
    /// # Errors
    /// [`EngineError::NoForward`] if there was no forward pass since the last call, [`EngineError::Node`] if a gradient is
    /// given for another node, [`EngineError::Seed`] if it has the wrong length, [`EngineError::Mode`] if the plan is for
    /// inference.
    pub fn backward(&mut self, seeds: &[(&str, &[f32])]) -> Result<(), EngineError> {
        self.check_backward()?;
        for (name, seed) in seeds {
            let expected = "an output of this plan";
            let fail = || EngineError::Node { name: (*name).into(), expected };
            self.check_seed(self.kept(name).ok_or_else(fail)?, seed)?;
        }
        self.run_backward(|_, kept| seeds.iter().find(|(name, _)| *name == kept.name).map(|&(_, seed)| seed));
        Ok(())
    }

    /// [`Engine::backward`] from the gradient of the network's output (n × outputs).
    ///
    /// # Errors
    /// As [`Engine::backward`].
    pub fn backward_output(&mut self, gradient: &[f32]) -> Result<(), EngineError> {
        self.check_backward()?;
        self.check_seed(&self.plan.kept[0], gradient)?;
        self.run_backward(|index, _| (index == 0).then_some(gradient));
        Ok(())
    }

    fn check_backward(&self) -> Result<(), EngineError> {
        self.with_gradients("backward")?;
        match self.fresh {
            true => Ok(()),
            false => Err(EngineError::NoForward),
        }
    }

    fn check_seed(&self, kept: &Kept, seed: &[f32]) -> Result<(), EngineError> {
        let expected = kept.shape.len() * self.images;
        match seed.len() == expected {
            true => Ok(()),
            false => Err(EngineError::Seed { name: kept.name.clone(), expected, got: seed.len() }),
        }
    }

    /// Runs the backward pass from the gradients that `seed` returns for kept nodes, by their index. Nodes that share a
    /// value, such as a flatten and its input, share its gradient: their seeds are added.
    fn run_backward<'a>(&mut self, seed: impl Fn(usize, &Kept) -> Option<&'a [f32]>) {
        self.fresh = false;
        let arena = &mut self.session.arena;
        let buffer = |kept: &Kept| kept.seed.expect("every kept node of a plan with gradients has a seed");
        for kept in &self.plan.kept {
            arena.get_mut::<f32>(buffer(kept), self.images).fill(0.0);
        }
        for (index, kept) in self.plan.kept.iter().enumerate() {
            if let Some(seed) = seed(index, kept) {
                let gradient: &mut [f32] = arena.get_mut(buffer(kept), self.images);
                gradient.iter_mut().zip(seed).for_each(|(sum, seed)| *sum += seed);
            }
        }
        let Self { plan, weights, session, times, images, .. } = self;
        let mut times = times.as_mut().map(|times| &mut times[plan.forward.len()..]);
        if let Some(times) = &mut times {
            times.fill(Duration::ZERO);
        }
        run_all(Run { plan, weights, session }, &plan.backward, *images, times);
    }

    /// Runs the forward pass, with the early layers depth first.
    fn run_forward(&mut self) {
        let Self { plan, weights, session, times, images, .. } = self;
        let (plan, images) = (&**plan, *images);
        let mut times = times.as_mut().map(|times| &mut times[..plan.forward.len()]);
        if let Some(times) = &mut times {
            times.fill(Duration::ZERO);
        }
        let mut done = 0;
        if let Some(DepthFirst { instructions, images: part }) = plan.depth_first {
            for first in (0..images).step_by(part) {
                session.arena.begin_at(first);
                let times = times.as_mut().map(|times| &mut times[..instructions]);
                let run = Run { plan, weights, session };
                run_all(run, &plan.forward[..instructions], part.min(images - first), times);
            }
            session.arena.begin_at(0);
            done = instructions;
        }
        run_all(Run { plan, weights, session }, &plan.forward[done..], images, times.map(|times| &mut times[done..]));
    }

    /// The trainable parameters, in state-dict order: the tensors of [`Engine::flat_mut`]. Empty in inference mode.
    pub fn entries(&self) -> &[Entry] {
        self.parameters().map_or(&[], Parameters::entries)
    }

    /// The length of the flat buffers of [`Engine::flat_mut`] and of each buffer of an optimiser's state. 0 in inference
    /// mode.
    pub fn parameter_len(&self) -> usize {
        self.parameters().map_or(0, |parameters| parameters.gradients.len())
    }

    /// All trainable parameters and their gradients, to be updated by an optimiser.
    ///
    /// # Panics
    /// In inference mode, which stores only packed weights.
    pub fn flat_mut(&mut self) -> Flat<'_> {
        self.stale = true;
        let parameters = self.weights.buckets_mut().expect("a plan for inference has no parameters to change");
        parameters.flat_mut()
    }

    /// The gradients of the last backward pass under their torch keys, in torch's layout. Empty in inference mode.
    pub fn gradients(&self) -> NamedTensors {
        self.parameters().map_or_else(NamedTensors::new, |parameters| parameters.to_torch(&parameters.gradients))
    }

    /// The state dict: torch's keys, layout and order, running statistics included. Empty in inference mode.
    pub fn state_dict(&self) -> NamedTensors {
        self.parameters().map_or_else(NamedTensors::new, Parameters::state_dict)
    }

    /// The trainable parameters and the running statistics, each in the engine's layout. Empty in inference mode.
    pub fn weights(&self) -> [&[f32]; 2] {
        self.parameters().map_or([&[], &[]], Parameters::weights)
    }

    /// A state dict with other trainable parameters and running statistics than the engine's, such as their averages: buffers
    /// with the layout of [`Engine::weights`]. Empty in inference mode.
    ///
    /// # Panics
    /// If a buffer is shorter than the engine's.
    pub fn state_dict_of(&self, weights: [&[f32]; 2]) -> NamedTensors {
        self.parameters().map_or_else(NamedTensors::new, |parameters| parameters.state_dict_of(weights))
    }

    /// The inverse of [`Engine::state_dict_of`].
    ///
    /// # Errors
    /// If a tensor is missing or mis-shaped, the system has no memory, or the plan is for inference.
    pub fn weights_of(&self, state_dict: &NamedTensors) -> Result<[AlignedBuffer; 2], EngineError> {
        self.with_gradients("reading a state dict")?.weights_of(state_dict)
    }

    /// Loads all parameters and running statistics from a state dict.
    ///
    /// # Errors
    /// If a tensor is missing, unexpected or mis-shaped, or the plan is for inference.
    pub fn load_state_dict(&mut self, tensors: &NamedTensors) -> Result<(), EngineError> {
        self.with_gradients("loading a state dict")?;
        self.stale = true;
        self.weights.buckets_mut().map_or(Ok(()), |parameters| parameters.load(tensors))
    }

    /// A buffer with the layout of the flat parameters, such as a momentum, as torch tensors. Empty in inference mode.
    ///
    /// # Panics
    /// If the buffer is shorter than the flat parameters.
    pub fn to_torch(&self, bucket: &[f32]) -> NamedTensors {
        self.parameters().map_or_else(NamedTensors::new, |parameters| parameters.to_torch(bucket))
    }

    /// The inverse of [`Engine::to_torch`].
    ///
    /// # Errors
    /// If a tensor is missing or mis-shaped, or the plan is for inference.
    pub fn from_torch(&self, tensors: &NamedTensors) -> Result<AlignedBuffer, EngineError> {
        self.with_gradients("reading a bucket")?.read_torch(tensors)
    }

    /// Sets the random seed of dropout and stochastic depth for the following passes. In training, call it with a new value
    /// before every forward pass: the same seed drops the same elements. The seed must not change between a forward pass
    /// and its backward pass.
    pub fn set_seed(&mut self, seed: u64) {
        self.session.seed = seed;
    }

    /// The steps of the plan in order: the forward pass, then the backward pass.
    pub fn steps(&self) -> impl Iterator<Item = PlanStep<'_>> {
        let steps = self.summary.steps().enumerate();
        steps.map(|(index, step)| PlanStep { time: self.times.as_ref().map(|times| times[index]), ..step })
    }

    /// Starts timing every step of the plan; [`Engine::steps`] then returns the times of the last pass.
    pub fn time_steps(&mut self) {
        self.times = Some(vec![Duration::ZERO; self.plan.forward.len() + self.plan.backward.len()]);
    }

    /// The memory of this plan.
    pub fn memory(&self) -> Memory {
        self.summary.memory()
    }

    /// Total memory of this plan in bytes.
    pub fn bytes(&self) -> usize {
        self.memory().total()
    }

    fn parameters(&self) -> Option<&Parameters> {
        self.weights.buckets()
    }

    /// The buckets of a plan with gradients, which an operation needs.
    fn with_gradients(&self, what: &'static str) -> Result<&Parameters, EngineError> {
        let expected = "training or evaluation";
        self.parameters().ok_or(EngineError::Mode { what, expected, mode: self.plan.mode })
    }
}

/// Runs instructions on `images` images, and adds up the time of each if steps are timed.
fn run_all(mut run: Run<'_>, list: &[Scheduled], images: usize, times: Option<&mut [Duration]>) {
    match times {
        None => list.iter().for_each(|scheduled| run.instruction(&scheduled.instruction, images)),
        Some(times) => {
            for (scheduled, time) in list.iter().zip(times) {
                let start = Instant::now();
                run.instruction(&scheduled.instruction, images);
                *time += start.elapsed();
            }
        }
    }
}
