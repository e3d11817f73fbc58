//! The engine's face: forward, backward, and parameters as views.

use crate::arena::{Arena, BufferId};
use crate::parameters::{Filters, Flat, Parameters};
use crate::plan::{DepthFirst, Folded, Instruction, Plan, Scheduled, fold};
use crate::run::{Copied, Machine, NormState, PlannedConv, PlannedLayerNorm, PlannedNorm, Weight};
use crate::{EngineError, Mode, Options, Tuning};
use residual_graph::{Graph, NodeId, Op, Shape};
use residual_kernels::conv::{Conv, Description, Direction};
use residual_model::Model;
use residual_tensor::{AlignedBuffer, NamedTensors};
use std::ops::Range;
use std::time::{Duration, Instant};

/// A model compiled for one mode, batch size and image size. Images and feature maps are NHWC.
#[derive(Debug)]
pub struct Engine {
    machine: Machine,
    memory: Memory,
    forward: Vec<Scheduled>,
    backward: Vec<Scheduled>,
    /// The beginning of the forward pass that is run for a part of the batch at a time.
    depth_first: Option<DepthFirst>,
    /// The name of each node of the graph that runs: batch norms may have been folded away.
    names: Vec<String>,
    /// Where asked for, the time that each instruction took, forward and then backward.
    times: Option<Vec<Duration>>,
    input: BufferId,
    /// The output first, then the taps.
    kept: Vec<Kept>,
    batch: usize,
    image_len: usize,
    /// Images of the last batch.
    images: usize,
    /// Whether the last forward pass has not been gone back through.
    fresh: bool,
    /// Whether parameters may have changed since batch norms took their running statistics.
    stale: bool,
    /// The first batch norm over one pixel, which cannot be trained on one image.
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

/// What a plan holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The arena of values and their gradients.
    pub values: usize,
    /// Weights as the kernels read them; with weights packed on use, those of one convolution, and on their way there.
    pub packed: usize,
    /// What kernels work in.
    pub workspace: usize,
    /// Parameters, their gradients and running statistics; with weights packed on use, the model's, which the plan shares.
    pub parameters: usize,
}

impl Memory {
    /// All together.
    pub fn total(&self) -> usize {
        self.values + self.packed + self.workspace + self.parameters
    }
}

/// A direction through the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// From images to outputs.
    Forward,
    /// From gradients of outputs to gradients of parameters.
    Backward,
}

/// The kind of op that a step belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A convolution or linear layer.
    Convolution,
    /// A batch norm or layer norm.
    Norm,
    /// Anything else.
    Other,
}

/// One step of a plan: a kernel, or a few that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanStep<'a> {
    /// The node it is for.
    pub node: &'a str,
    /// The pass it is run in.
    pub pass: Pass,
    /// Whether it computes a value (for the first time or, on the way back, again), the gradient of one, or gradients of
    /// parameters.
    pub direction: Direction,
    /// The kind of op.
    pub kind: Kind,
    /// What is done there, for people.
    pub work: &'static str,
    /// How a convolution's pass is computed for a whole batch.
    pub kernel: Option<Description>,
    /// Bytes of the result for a whole batch.
    pub result: usize,
    /// Bytes that are read or written for a whole batch: values and packed weights, each once.
    pub touched: usize,
    /// How long it took in the last pass, after [`Engine::time_steps`].
    pub time: Option<Duration>,
}

impl Engine {
    /// Compiles `model` for batches of up to `batch` images of `size` (height, width). `taps` names nodes whose values
    /// stay readable after each forward pass; fusing leaves them alone.
    ///
    /// # Errors
    /// If the model's tensors or shapes do not fit, or a tap is no node of it.
    ///
    /// # Panics
    /// If `batch` is zero.
    pub fn new(
        model: &Model,
        mode: Mode,
        batch: usize,
        size: [usize; 2],
        taps: &[&str],
        options: &Options,
    ) -> Result<Self, EngineError> {
        assert!(batch > 0, "a plan needs room for at least one image");
        let folded = fold(model, mode, taps);
        let plan = Plan::compile(&folded.graph, mode, batch, size, taps, options)?;
        Self::load(&folded, plan, batch, options)
    }

    /// The memory that [`Engine::new`] would take with these arguments, once it is done.
    ///
    /// # Errors
    /// As [`Engine::new`].
    ///
    /// # Panics
    /// As [`Engine::new`].
    pub fn required_memory(
        model: &Model,
        mode: Mode,
        batch: usize,
        size: [usize; 2],
        taps: &[&str],
        options: &Options,
    ) -> Result<Memory, EngineError> {
        assert!(batch > 0, "a plan needs room for at least one image");
        let folded = fold(model, mode, taps);
        Ok(Plan::compile(&folded.graph, mode, batch, size, taps, options)?.memory())
    }

    /// Measures which algorithms are fastest here for the convolutions of a plan, as far as `tuning` does not know them yet.
    /// Takes some tenths of a second for each that is new.
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
        assert!(batch > 0, "a plan needs room for at least one image");
        let folded = fold(model, mode, &[]);
        for conv in Plan::compile(&folded.graph, mode, batch, size, &[], options)?.convs {
            tuning.measure(*conv.shape(), batch, mode, options);
        }
        Ok(())
    }

    /// Takes the memory that a plan needs and fills it with weights.
    fn load(folded: &Folded<'_>, plan: Plan, batch: usize, options: &Options) -> Result<Self, EngineError> {
        let Folded { graph, tensors, scales } = folded;
        let graph: &Graph = graph;
        let on_use = plan.packed.on_use;
        let parameters = Parameters::new(graph, tensors, scales, on_use, &options.frozen, &options.pool)?;
        let memory = plan.memory();
        let Plan {
            mode,
            schedule,
            depth_first,
            layers,
            convs,
            places,
            packed,
            workspace_len,
            statistics_len,
            shapes,
            ..
        } = plan;
        let mut packed_places = packed.places.into_iter();
        let planned_conv = |(conv, &id): (Conv, &NodeId)| {
            let node = graph.node(id);
            let has_bias = node.op.parameters().len() > 1;
            PlannedConv {
                weight: match on_use {
                    true => Weight::Shared(Filters::new(graph, id, tensors, scales)),
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
        let mut machine = Machine {
            mode,
            options: options.clone(),
            arena: Arena::new(places),
            convs,
            norms,
            layer_norms,
            scales,
            packed: AlignedBuffer::zeros(packed.len),
            workspace: AlignedBuffer::zeros(workspace_len),
            statistics: AlignedBuffer::zeros(statistics_len),
            parameters: Some(parameters),
            seed: 0,
        };
        machine.prepare();
        if mode == Mode::Infer {
            machine.parameters = None;
        }
        debug_assert_eq!(memory.parameters, machine.parameter_bytes());
        Ok(Self {
            machine,
            memory,
            kept: schedule.kept.iter().map(keep).collect(),
            forward: schedule.forward,
            depth_first,
            backward: schedule.backward,
            names: graph.nodes.iter().map(|node| node.name.clone()).collect(),
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
    /// If `images` is not a batch of this plan, or a batch norm would be trained on a single value.
    pub fn forward(&mut self, images: &[f32]) -> Result<(), EngineError> {
        let count = images.len() / self.image_len;
        if count == 0 || count > self.batch || count * self.image_len != images.len() {
            return Err(EngineError::Batch { batch: self.batch, image: self.image_len, got: images.len() });
        }
        if let (Mode::Train, 1, Some(name)) = (self.machine.mode, count, &self.single_pixel_norm) {
            return Err(EngineError::SingleValue { name: name.clone() });
        }
        if std::mem::take(&mut self.stale) {
            self.machine.prepare();
        }
        self.images = count;
        let forward = self.forward.len();
        self.machine.arena.get_mut(self.input, count).copy_from_slice(images);
        let times = self.times.as_mut().map(|times| &mut times[..forward]);
        run_forward(&mut self.machine, &self.forward, self.depth_first, count, times);
        self.fresh = true;
        Ok(())
    }

    /// The network's result for the last batch: n × outputs.
    pub fn output(&self) -> &[f32] {
        self.machine.arena.get(self.kept[0].value, self.images)
    }

    /// The name of the output node, as a seed for [`Engine::backward`].
    pub fn output_name(&self) -> &str {
        &self.kept[0].name
    }

    /// The value of a tapped node for the last batch (n × height × width × channels; a flattened feature map keeps that
    /// order), or `None` if the node was not tapped.
    pub fn tap(&self, name: &str) -> Option<&[f32]> {
        let kept = self.kept.iter().find(|kept| kept.name == name)?;
        Some(self.machine.arena.get(kept.value, self.images))
    }

    /// Height, width and channels of a tapped node's value.
    pub fn tap_shape(&self, name: &str) -> Option<Shape> {
        self.kept.iter().find(|kept| kept.name == name).map(|kept| kept.shape)
    }

    /// The gradient, left by the last backward pass, of a tapped node's value: its own seed plus what came from the
    /// nodes behind it. `None` if the node was not tapped or the plan has no gradients.
    pub fn tap_gradient(&self, name: &str) -> Option<&[f32]> {
        let kept = self.kept.iter().find(|kept| kept.name == name)?;
        Some(self.machine.arena.get(kept.seed?, self.images))
    }

    /// Goes backward from the gradients given at tapped nodes or the output (n × the node's shape each) through the last
    /// forward pass. Gradients of parameters and taps are overwritten. A forward pass can be gone back through once: its
    /// values give their memory to the gradients.
    ///
    /// # Errors
    /// If there was no forward pass since the last call, a seed names no kept node or has the wrong length, or the plan is for inference.
    pub fn backward(&mut self, seeds: &[(&str, &[f32])]) -> Result<(), EngineError> {
        if self.machine.mode == Mode::Infer {
            return Err(EngineError::Mode { what: "backward", mode: self.machine.mode });
        }
        if !self.fresh {
            return Err(EngineError::NoForward);
        }
        for (name, seed) in seeds {
            let expected = "the output or a tap of this plan";
            let fail = || EngineError::Node { name: (*name).into(), expected };
            let kept = self.kept.iter().find(|kept| kept.name == *name).ok_or_else(fail)?;
            let expected = kept.shape.len() * self.images;
            if seed.len() != expected {
                return Err(EngineError::Seed { name: (*name).into(), expected, got: seed.len() });
            }
        }
        self.fresh = false;
        for kept in &self.kept {
            let buffer = kept.seed.expect("every kept node of a plan with gradients has a seed");
            let buffer = self.machine.arena.get_mut(buffer, self.images);
            match seeds.iter().find(|(name, _)| *name == kept.name) {
                Some((_, seed)) => buffer.copy_from_slice(seed),
                None => buffer.fill(0.0),
            }
        }
        let mut times = self.times.as_mut().map(|times| &mut times[self.forward.len()..]);
        if let Some(times) = &mut times {
            times.fill(Duration::ZERO);
        }
        run_all(&mut self.machine, &self.backward, self.images, times);
        Ok(())
    }

    /// All parameters that are trained and their gradients, for an optimiser to change.
    ///
    /// # Panics
    /// In inference mode, which keeps only packed weights.
    pub fn flat_mut(&mut self) -> Flat<'_> {
        self.stale = true;
        let parameters = self.machine.parameters.as_mut().expect("a plan for inference has no parameters to change");
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

    /// Takes all parameters and running statistics from a state dict.
    ///
    /// # Errors
    /// If a tensor is missing, unexpected or mis-shaped, or the plan is for inference.
    pub fn load_state_dict(&mut self, tensors: &NamedTensors) -> Result<(), EngineError> {
        let mode = self.machine.mode;
        let what = "loading a state dict";
        let parameters = self.machine.parameters.as_mut().ok_or(EngineError::Mode { what, mode })?;
        self.stale = true;
        parameters.load(tensors)
    }

    /// Any buffer shaped like the bucket of parameters, such as a momentum, as torch tensors. Empty in inference mode.
    ///
    /// # Panics
    /// If the buffer is shorter than the bucket.
    pub fn to_torch(&self, bucket: &[f32]) -> NamedTensors {
        self.parameters().map_or_else(NamedTensors::new, |parameters| parameters.to_torch(bucket))
    }

    /// The inverse of [`Engine::to_torch`].
    ///
    /// # Errors
    /// If a tensor is missing or mis-shaped, or the plan is for inference.
    pub fn from_torch(&self, tensors: &NamedTensors) -> Result<AlignedBuffer, EngineError> {
        let what = "reading a bucket";
        self.parameters().ok_or(EngineError::Mode { what, mode: self.machine.mode })?.read_torch(tensors)
    }

    /// Sets what decides what dropout and stochastic depth drop in the next passes. A backward pass needs its forward pass's.
    pub fn set_seed(&mut self, seed: u64) {
        self.machine.seed = seed;
    }

    /// What the plan does, in order: the forward pass, then the backward pass.
    pub fn steps(&self) -> impl Iterator<Item = PlanStep<'_>> {
        let passes = [(Pass::Forward, &self.forward), (Pass::Backward, &self.backward)];
        let all = passes.into_iter().flat_map(|(pass, list)| list.iter().map(move |scheduled| (pass, scheduled)));
        all.enumerate().map(|(index, (pass, scheduled))| self.step(pass, scheduled, index))
    }

    fn step(&self, pass: Pass, scheduled: &Scheduled, index: usize) -> PlanStep<'_> {
        let Machine { arena, convs, norms, scales, .. } = &self.machine;
        let instruction = &scheduled.instruction;
        let conv = instruction.convolution().map(|(conv, direction)| (&convs[conv].conv, direction));
        let kernel = conv.map(|(conv, direction)| conv.describe(direction, self.batch));
        let value = |id: BufferId| arena.len_of(id) * self.batch;
        let result = match (instruction.result(), instruction, conv) {
            (Some(id), ..) => value(id),
            (None, Instruction::BatchNormSums { norm, .. }, _) => 2 * norms[*norm].channels,
            (None, Instruction::LayerScaleSums { scale, .. }, _) => scales[*scale].len(),
            (None, _, conv) => conv.map_or(0, |(conv, _)| conv.shape().weight_len()),
        };
        let mut buffers = instruction.buffers();
        buffers.sort_unstable();
        buffers.dedup();
        let values: usize = buffers.into_iter().map(value).sum();
        let weights = kernel.map_or(0, |kernel| kernel.packed_len);
        PlanStep {
            node: &self.names[scheduled.node.0],
            pass,
            direction: instruction.direction(pass),
            kind: instruction.kind(),
            work: instruction.work(),
            kernel,
            result: 4 * result,
            touched: 4 * (values + weights),
            time: self.times.as_ref().map(|times| times[index]),
        }
    }

    /// From now on, takes the time of every step of the plan, which [`Engine::steps`] then gives: that of the last pass.
    pub fn time_steps(&mut self) {
        self.times = Some(vec![Duration::ZERO; self.forward.len() + self.backward.len()]);
    }

    /// What this plan holds.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Bytes this plan holds, all together.
    pub fn bytes(&self) -> usize {
        self.memory.total()
    }

    fn parameters(&self) -> Option<&Parameters> {
        self.machine.parameters.as_ref()
    }
}

/// Runs a forward pass on a batch of `images`, its beginning part by part.
fn run_forward(
    machine: &mut Machine,
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
            machine.arena.begin_at(first);
            let times = times.as_mut().map(|times| &mut times[..instructions]);
            run_all(machine, &list[..instructions], part.min(images - first), times);
        }
        machine.arena.begin_at(0);
        done = instructions;
    }
    run_all(machine, &list[done..], images, times.map(|times| &mut times[done..]));
}

/// Runs instructions on `images` images, adding the time of each if asked to.
fn run_all(machine: &mut Machine, list: &[Scheduled], images: usize, times: Option<&mut [Duration]>) {
    match times {
        None => list.iter().for_each(|scheduled| machine.run(&scheduled.instruction, images)),
        Some(times) => {
            for (scheduled, time) in list.iter().zip(times) {
                let start = Instant::now();
                machine.run(&scheduled.instruction, images);
                *time += start.elapsed();
            }
        }
    }
}

fn planned_norm(graph: &Graph, node: NodeId, parameters: &Parameters, options: &Options) -> PlannedNorm {
    let node = graph.node(node);
    let Op::BatchNorm2d { channels, eps, momentum } = node.op else { unreachable!("the schedule lists batch norms") };
    let statistic = |name: &str| -> Range<usize> { parameters.statistic_range(&node.key(name)) };
    PlannedNorm {
        channels,
        eps,
        momentum,
        trained: !options.frozen.parameters.contains(&node.name),
        keeps_statistics: options.frozen.statistics.contains(&node.name),
        weight: parameters.range(&node.key("weight")),
        bias: parameters.range(&node.key("bias")),
        running_mean: statistic("running_mean"),
        running_var: statistic("running_var"),
        counter: parameters.counter(&node.key("num_batches_tracked")),
        state: NormState::new(channels),
    }
}
