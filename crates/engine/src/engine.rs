//! The engine's interface: forward pass, backward pass, and parameters as views.

use crate::arena::{Arena, BufferId};
use crate::parameters::{Entry, Filters, Flat, Parameters};
use crate::plan::{DepthFirst, Folded, Plan, PlanStep, PlanSummary, Scheduled, compile_model};
use crate::run::{Copied, Executor, NormState, PlannedConv, PlannedLayerNorm, PlannedNorm, Weight};
use crate::{EngineError, Memory, Mode, Options, Tuning};
use residual_graph::{Graph, NodeId, Op, Shape};
use residual_kernels::conv::Conv;
use residual_model::Model;
use residual_tensor::{AlignedBuffer, NamedTensors};
use std::time::{Duration, Instant};

/// A model compiled for one mode, batch size and image size. Images and feature maps are NHWC.
#[derive(Debug)]
pub struct Engine {
    executor: Executor,
    summary: PlanSummary,
    forward: Vec<Scheduled>,
    backward: Vec<Scheduled>,
    /// The early layers that run depth first, for one part of the batch at a time.
    depth_first: Option<DepthFirst>,
    /// The measured time of each instruction, forward and then backward, if steps are timed.
    times: Option<Vec<Duration>>,
    input: BufferId,
    /// The network's output first, then the other requested nodes.
    kept: Vec<Kept>,
    batch: usize,
    image_len: usize,
    /// Number of images of the last batch.
    images: usize,
    /// Whether the last forward pass has not had its backward pass.
    fresh: bool,
    /// Whether parameters may have changed since batch norms last read their running statistics.
    stale: bool,
    /// The first batch norm over a single pixel, which cannot be trained on one image.
    single_pixel_norm: Option<String>,
}

/// A node whose value stays readable, and can be given a gradient.
#[derive(Debug)]
struct Kept {
    name: String,
    shape: Shape,
    value: BufferId,
    seed: Option<BufferId>,
}

impl Engine {
    /// Compiles `model` for batches of up to `batch` images of `size` (height, width). `outputs` names nodes whose values
    /// stay readable after each forward pass; they are not fused away.
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
        let (folded, plan) = compile_model(model, mode, batch, size, outputs, options)?;
        plan.memory().check()?;
        Self::load(&folded, plan, batch, options)
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
        Ok(plan.memory())
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
        plan.memory().check()?;
        plan.convs.iter().try_for_each(|conv| tuning.measure(*conv.shape(), batch, mode, options))
    }

    /// Allocates the memory of a plan and loads the weights.
    fn load(folded: &Folded<'_>, plan: Plan, batch: usize, options: &Options) -> Result<Self, EngineError> {
        let Folded { graph, tensors, scales } = folded;
        let graph: &Graph = graph;
        let on_use = plan.packed.on_use;
        let summary = PlanSummary::of(graph, &plan, batch);
        let memory = summary.memory();
        let take = |len| AlignedBuffer::try_zeros(len).ok_or_else(|| memory.refused());
        let (packed_buffer, workspace) = (take(plan.packed.len)?, take(plan.workspace_len)?);
        let statistics = take(plan.statistics_len)?;
        let Plan { mode, schedule, depth_first, layers, convs, places, packed, shapes, channels, .. } = plan;
        let arena = Arena::new(places).ok_or_else(|| memory.refused())?;
        let parameters = Parameters::new(graph, &channels, tensors, scales, on_use, &options.frozen, &options.pool)?;
        let mut packed_places = packed.places.into_iter();
        let planned_conv = |(conv, &id): (Conv, &NodeId)| {
            let node = graph.node(id);
            let has_bias = node.op.parameters().len() > 1;
            PlannedConv {
                weight: match on_use {
                    true => Weight::Shared(Filters::new(node, channels[node.inputs[0].0], tensors, scales)),
                    false => Weight::Bucket(parameters.range(&node.key("weight"))),
                },
                bias: has_bias.then(|| parameters.range(&node.key("bias"))),
                packed: packed_places.next(),
                conv,
            }
        };
        let convs = convs.into_iter().zip(&layers.convs).map(planned_conv).collect();
        let norms = layers.norms.iter().map(|&node| planned_norm(graph, node, &parameters, options)).collect();
        let layer_norm = |&id: &NodeId| {
            let node = graph.node(id);
            let Op::LayerNorm { eps, .. } = node.op else { unreachable!("the schedule lists layer norms") };
            let [weight, bias] = ["weight", "bias"].map(|name| Copied::new(parameters.range(&node.key(name))));
            PlannedLayerNorm { eps, trained: !options.frozen.parameters.contains(&node.name), weight, bias }
        };
        let layer_norms = layers.layer_norms.iter().map(layer_norm).collect();
        let scale = |&id: &NodeId| Copied::new(parameters.range(&graph.node(id).key("layer_scale")));
        let scales = layers.scales.iter().map(scale).collect();
        let is_single_pixel = |node: &&NodeId| {
            let takes_statistics = !options.frozen.statistics.contains(&graph.node(**node).name);
            takes_statistics && shapes[node.0].height * shapes[node.0].width == 1
        };
        let single_pixel_norm = layers.norms.iter().find(is_single_pixel).map(|&node| graph.node(node).name.clone());
        let keep = |&(node, value, seed): &(NodeId, BufferId, Option<BufferId>)| Kept {
            name: graph.node(node).name.clone(),
            shape: shapes[node.0],
            value,
            seed,
        };
        let mut executor = Executor {
            mode,
            options: options.clone(),
            arena,
            convs,
            norms,
            layer_norms,
            scales,
            packed: packed_buffer,
            workspace,
            statistics,
            parameters: Some(parameters),
            seed: 0,
        };
        executor.prepare();
        if mode == Mode::Infer {
            executor.parameters = None;
        }
        debug_assert_eq!(memory.parameters, executor.parameter_bytes());
        Ok(Self {
            executor,
            summary,
            kept: schedule.kept.iter().map(keep).collect(),
            forward: schedule.forward,
            depth_first,
            backward: schedule.backward,
            times: None,
            input: schedule.input,
            batch,
            image_len: shapes[0].len(),
            images: 0,
            fresh: false,
            stale: false,
            single_pixel_norm,
        })
    }

    /// Runs the network on `images` (n × height × width × channels, n up to the plan's batch).
    ///
    /// # Errors
    /// [`EngineError::Batch`] if `images` is not a batch of this plan, [`EngineError::SingleValue`] if a batch norm would
    /// be trained on a single value.
    pub fn forward(&mut self, images: &[f32]) -> Result<(), EngineError> {
        let count = images.len() / self.image_len;
        if count == 0 || count > self.batch || count * self.image_len != images.len() {
            return Err(EngineError::Batch { batch: self.batch, image: self.image_len, got: images.len() });
        }
        if let (Mode::Train, 1, Some(name)) = (self.executor.mode, count, &self.single_pixel_norm) {
            return Err(EngineError::SingleValue { name: name.clone() });
        }
        if std::mem::take(&mut self.stale) {
            self.executor.prepare();
        }
        self.images = count;
        let forward = self.forward.len();
        self.executor.arena.get_mut(self.input, count).copy_from_slice(images);
        let times = self.times.as_mut().map(|times| &mut times[..forward]);
        run_forward(&mut self.executor, &self.forward, self.depth_first, count, times);
        self.fresh = true;
        Ok(())
    }

    /// The network's output for the last batch: n × outputs.
    pub fn output(&self) -> &[f32] {
        self.executor.arena.get(self.kept[0].value, self.images)
    }

    /// The name of the output node, by which [`Engine::backward`] accepts its gradient.
    pub fn output_name(&self) -> &str {
        &self.kept[0].name
    }

    /// The value of a kept node for the last batch (n × height × width × channels; a flattened feature map keeps that
    /// order), or `None` if the node was not kept.
    pub fn node_value(&self, name: &str) -> Option<&[f32]> {
        let kept = self.kept.iter().find(|kept| kept.name == name)?;
        Some(self.executor.arena.get(kept.value, self.images))
    }

    /// Height, width and channels of a kept node's value.
    pub fn node_shape(&self, name: &str) -> Option<Shape> {
        self.kept.iter().find(|kept| kept.name == name).map(|kept| kept.shape)
    }

    /// The gradient of a kept node's value, from the last backward pass: its own seed plus the gradients from the
    /// nodes that read it. `None` if the node was not kept or the plan has no gradients.
    pub fn node_gradient(&self, name: &str) -> Option<&[f32]> {
        let kept = self.kept.iter().find(|kept| kept.name == name)?;
        Some(self.executor.arena.get(kept.seed?, self.images))
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
            self.check_seed(self.kept.iter().find(|kept| kept.name == *name).ok_or_else(fail)?, seed)?;
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
        self.check_seed(&self.kept[0], gradient)?;
        self.run_backward(|index, _| (index == 0).then_some(gradient));
        Ok(())
    }

    fn check_backward(&self) -> Result<(), EngineError> {
        match self.executor.mode {
            mode @ Mode::Infer => Err(EngineError::Mode { what: "backward", mode }),
            _ if !self.fresh => Err(EngineError::NoForward),
            _ => Ok(()),
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
        let arena = &mut self.executor.arena;
        let buffer = |kept: &Kept| kept.seed.expect("every kept node of a plan with gradients has a seed");
        for kept in &self.kept {
            arena.get_mut(buffer(kept), self.images).fill(0.0);
        }
        for (index, kept) in self.kept.iter().enumerate() {
            if let Some(seed) = seed(index, kept) {
                let gradient = arena.get_mut(buffer(kept), self.images);
                gradient.iter_mut().zip(seed).for_each(|(sum, seed)| *sum += seed);
            }
        }
        let mut times = self.times.as_mut().map(|times| &mut times[self.forward.len()..]);
        if let Some(times) = &mut times {
            times.fill(Duration::ZERO);
        }
        run_all(&mut self.executor, &self.backward, self.images, times);
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
        let parameters = self.executor.parameters.as_mut().expect("a plan for inference has no parameters to change");
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
        let what = "reading a state dict";
        self.parameters().ok_or(EngineError::Mode { what, mode: self.executor.mode })?.weights_of(state_dict)
    }

    /// Loads all parameters and running statistics from a state dict.
    ///
    /// # Errors
    /// If a tensor is missing, unexpected or mis-shaped, or the plan is for inference.
    pub fn load_state_dict(&mut self, tensors: &NamedTensors) -> Result<(), EngineError> {
        let mode = self.executor.mode;
        let what = "loading a state dict";
        let parameters = self.executor.parameters.as_mut().ok_or(EngineError::Mode { what, mode })?;
        self.stale = true;
        parameters.load(tensors)
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
        let what = "reading a bucket";
        self.parameters().ok_or(EngineError::Mode { what, mode: self.executor.mode })?.read_torch(tensors)
    }

    /// Sets the random seed of dropout and stochastic depth for the following passes. In training, call it with a new value
    /// before every forward pass: the same seed drops the same elements. The seed must not change between a forward pass
    /// and its backward pass.
    pub fn set_seed(&mut self, seed: u64) {
        self.executor.seed = seed;
    }

    /// The steps of the plan in order: the forward pass, then the backward pass.
    pub fn steps(&self) -> impl Iterator<Item = PlanStep<'_>> {
        let steps = self.summary.steps().enumerate();
        steps.map(|(index, step)| PlanStep { time: self.times.as_ref().map(|times| times[index]), ..step })
    }

    /// Starts timing every step of the plan; [`Engine::steps`] then returns the times of the last pass.
    pub fn time_steps(&mut self) {
        self.times = Some(vec![Duration::ZERO; self.forward.len() + self.backward.len()]);
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
        self.executor.parameters.as_ref()
    }
}

/// Runs a forward pass on a batch of `images`, with the early layers depth first.
fn run_forward(
    executor: &mut Executor,
    list: &[Scheduled],
    depth_first: Option<DepthFirst>,
    images: usize,
    mut times: Option<&mut [Duration]>,
) {
    if let Some(times) = &mut times {
        times.fill(Duration::ZERO);
    }
    let mut done = 0;
    if let Some(DepthFirst { instructions, images: part }) = depth_first {
        for first in (0..images).step_by(part) {
            executor.arena.begin_at(first);
            let times = times.as_mut().map(|times| &mut times[..instructions]);
            run_all(executor, &list[..instructions], part.min(images - first), times);
        }
        executor.arena.begin_at(0);
        done = instructions;
    }
    run_all(executor, &list[done..], images, times.map(|times| &mut times[done..]));
}

/// Runs instructions on `images` images, and adds up the time of each if steps are timed.
fn run_all(executor: &mut Executor, list: &[Scheduled], images: usize, times: Option<&mut [Duration]>) {
    match times {
        None => list.iter().for_each(|scheduled| executor.run(&scheduled.instruction, images)),
        Some(times) => {
            for (scheduled, time) in list.iter().zip(times) {
                let start = Instant::now();
                executor.run(&scheduled.instruction, images);
                *time += start.elapsed();
            }
        }
    }
}

fn planned_norm(graph: &Graph, node: NodeId, parameters: &Parameters, options: &Options) -> PlannedNorm {
    let node = graph.node(node);
    let Op::BatchNorm2d { channels, eps, momentum } = node.op else { unreachable!("the schedule lists batch norms") };
    let range = |name: &str| parameters.range(&node.key(name));
    PlannedNorm {
        channels,
        eps,
        momentum,
        trained: !options.frozen.parameters.contains(&node.name),
        keeps_statistics: options.frozen.statistics.contains(&node.name),
        weight: range("weight"),
        bias: range("bias"),
        running_mean: range("running_mean"),
        running_var: range("running_var"),
        counter: parameters.counter(&node.key("num_batches_tracked")),
        state: NormState::new(channels),
    }
}
