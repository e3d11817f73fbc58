//! The engine's face: forward, backward, and parameters as views.

use crate::arena::{Arena, BufferId};
use crate::parameters::{Flat, Parameters, Scales};
use crate::plan::{Instruction, Schedule, Scheduled, fuse, schedule};
use crate::run::{Machine, NormState, PlannedConv, PlannedNorm};
use crate::{EngineError, Mode, Options};
use residual_graph::{Graph, NodeId, Op, Shape};
use residual_kernels::conv::{Conv, ConvShape};
use residual_kernels::norm;
use residual_model::{Model, fold_batch_norm_but_scales};
use residual_tensor::{AlignedBuffer, NamedTensors};
use std::ops::Range;
use std::time::{Duration, Instant};

/// A model compiled for one mode, batch size and image size. Images and feature maps are NHWC.
#[derive(Debug)]
pub struct Engine {
    machine: Machine,
    forward: Vec<Scheduled>,
    backward: Vec<Scheduled>,
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
    /// Whether parameters changed since they were packed.
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

/// A direction through the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// From images to outputs.
    Forward,
    /// From gradients of outputs to gradients of parameters.
    Backward,
}

/// One step of a plan: a kernel, or a few that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanStep<'a> {
    /// The node it is for.
    pub node: &'a str,
    /// The direction.
    pub pass: Pass,
    /// What is done there.
    pub work: &'static str,
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
        let folded;
        let unscaled = Scales::new();
        let (graph, tensors, scales) = match mode {
            Mode::Infer => {
                folded = fold_batch_norm_but_scales(model, taps);
                (&folded.graph, &folded.tensors, &folded.scales)
            }
            _ => (&model.graph, &model.tensors, &unscaled),
        };
        let mut kept = vec![graph.output];
        for &tap in taps {
            let expected = "a node of the graph";
            let node = graph.find(tap).ok_or_else(|| EngineError::Node { name: tap.into(), expected })?;
            if !kept.contains(&node) {
                kept.push(node);
            }
        }
        let parameters = Parameters::new(graph, tensors, scales, &options.pool)?;
        let fused = fuse(graph, mode, &kept);
        let plan = schedule(graph, &fused, mode, size, &kept)?;
        Ok(Self::build(graph, mode, batch, plan, parameters, options))
    }

    fn build(
        graph: &Graph,
        mode: Mode,
        batch: usize,
        plan: Schedule,
        parameters: Parameters,
        options: &Options,
    ) -> Self {
        let threads = options.pool.threads();
        let mut packed_len = 0;
        let mut reserve = |len: usize| {
            let start = packed_len;
            packed_len += len.next_multiple_of(16);
            start..start + len
        };
        let mut workspace_len = 0;
        let mut widest_packed = 0;
        let convs: Vec<PlannedConv> = plan
            .convs
            .iter()
            .map(|&node| {
                let conv = Conv::new(options.isa, conv_shape(graph, node, &plan.shapes), batch);
                let weights = if mode == Mode::Infer { 0 } else { conv.weights_workspace_len(batch, threads) };
                workspace_len = workspace_len.max(conv.workspace_len(threads)).max(weights);
                widest_packed = widest_packed.max(conv.packed_forward_len()).max(conv.packed_backward_len());
                let node = graph.node(node);
                let has_bias = node.op.parameters().len() > 1;
                let bias_len = if has_bias { conv.shape().out_channels } else { 0 };
                PlannedConv {
                    weight: parameters.range(&node.key("weight")),
                    bias: has_bias.then(|| parameters.range(&node.key("bias"))),
                    packed: (mode == Mode::Infer).then(|| [reserve(conv.packed_forward_len()), reserve(bias_len)]),
                    conv,
                }
            })
            .collect();
        if mode != Mode::Infer {
            packed_len = widest_packed;
        }
        let statistics_len = plan
            .forward
            .iter()
            .filter_map(|scheduled| match scheduled.instruction {
                Instruction::ConvWithStatistics { conv, .. } => Some(convs[conv].conv.statistics_workspace_len(batch)),
                _ => None,
            })
            .max()
            .unwrap_or(0);
        let norms: Vec<PlannedNorm> = plan.norms.iter().map(|&node| planned_norm(graph, node, &parameters)).collect();
        let widest = convs.iter().map(|conv| conv.conv.shape().out_channels);
        let widest = widest.chain(norms.iter().map(|norm| norm.channels)).max().unwrap_or(0);
        workspace_len = workspace_len.max(norm::workspace_len(widest));
        let single_pixel_norm = plan
            .norms
            .iter()
            .find(|node| plan.shapes[node.0].height * plan.shapes[node.0].width == 1)
            .map(|node| graph.node(*node).name.clone());
        let keep = |&(node, value, seed): &(NodeId, BufferId, Option<BufferId>)| Kept {
            name: graph.node(node).name.clone(),
            shape: plan.shapes[node.0],
            value,
            seed,
        };
        let mut machine = Machine {
            mode,
            options: options.clone(),
            arena: Arena::new(&plan.buffers, batch),
            convs,
            norms,
            packed: AlignedBuffer::zeros(packed_len),
            workspace: AlignedBuffer::zeros(workspace_len),
            statistics: AlignedBuffer::zeros(statistics_len),
            parameters: Some(parameters),
            seed: 0,
        };
        machine.prepare();
        if mode == Mode::Infer {
            machine.parameters = None;
        }
        Self {
            machine,
            kept: plan.kept.iter().map(keep).collect(),
            forward: plan.forward,
            backward: plan.backward,
            names: graph.nodes.iter().map(|node| node.name.clone()).collect(),
            times: None,
            input: plan.input,
            batch,
            image_len: plan.shapes[0].len(),
            images: 0,
            fresh: false,
            stale: false,
            single_pixel_norm,
        }
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
        run_all(&mut self.machine, &self.forward, count, self.times.as_mut().map(|times| &mut times[..forward]));
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
        let times = self.times.as_mut().map(|times| &mut times[self.forward.len()..]);
        run_all(&mut self.machine, &self.backward, self.images, times);
        Ok(())
    }

    /// All trainable parameters and their gradients, for an optimiser to change.
    ///
    /// # Panics
    /// In inference mode, which keeps only packed weights.
    pub fn flat_mut(&mut self) -> Flat<'_> {
        self.stale = true;
        let parameters = self.machine.parameters.as_mut().expect("a plan for inference has no parameters to change");
        Flat { values: &mut parameters.values, gradients: &parameters.gradients, entries: &parameters.entries }
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
        self.stale = true;
        self.machine.parameters.as_mut().ok_or(EngineError::Mode { what, mode })?.load(tensors)
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
    pub fn from_torch(&self, tensors: &NamedTensors) -> Result<Vec<f32>, EngineError> {
        let what = "reading a bucket";
        self.parameters().ok_or(EngineError::Mode { what, mode: self.machine.mode })?.read_torch(tensors)
    }

    /// Sets what decides the dropout masks of the next passes. A backward pass needs its forward pass's.
    pub fn set_seed(&mut self, seed: u64) {
        self.machine.seed = seed;
    }

    /// What the plan does, in order: the forward pass, then the backward pass.
    pub fn steps(&self) -> impl Iterator<Item = PlanStep<'_>> {
        let passes = [(Pass::Forward, &self.forward), (Pass::Backward, &self.backward)];
        let all = passes.into_iter().flat_map(|(pass, list)| list.iter().map(move |scheduled| (pass, scheduled)));
        all.enumerate().map(|(index, (pass, scheduled))| PlanStep {
            node: &self.names[scheduled.node.0],
            pass,
            work: scheduled.instruction.work(),
            time: self.times.as_ref().map(|times| times[index]),
        })
    }

    /// From now on, takes the time of every step of the plan, which [`Engine::steps`] then gives: that of the last pass.
    pub fn time_steps(&mut self) {
        self.times = Some(vec![Duration::ZERO; self.forward.len() + self.backward.len()]);
    }

    /// Bytes this plan holds: values, packed weights, parameters with their gradients, workspace.
    pub fn bytes(&self) -> usize {
        let machine = &self.machine;
        let parameters = machine.parameters.as_ref();
        let parameters = parameters.map_or(0, |p| p.values.len() + p.gradients.len() + p.statistics.len());
        4 * (machine.arena.len()
            + machine.packed.len()
            + machine.workspace.len()
            + machine.statistics.len()
            + parameters)
    }

    fn parameters(&self) -> Option<&Parameters> {
        self.machine.parameters.as_ref()
    }
}

/// Runs instructions on a batch of `images`, noting the time of each if asked to.
fn run_all(machine: &mut Machine, list: &[Scheduled], images: usize, times: Option<&mut [Duration]>) {
    match times {
        None => list.iter().for_each(|scheduled| machine.run(&scheduled.instruction, images)),
        Some(times) => {
            for (scheduled, time) in list.iter().zip(times) {
                let start = Instant::now();
                machine.run(&scheduled.instruction, images);
                *time = start.elapsed();
            }
        }
    }
}

/// The extents of a convolution; a linear layer is one that is as large as the feature map it reads.
fn conv_shape(graph: &Graph, node: NodeId, shapes: &[Shape]) -> ConvShape {
    let input = shapes[graph.node(node).inputs[0].0];
    let size = [input.height, input.width];
    match graph.node(node).op {
        Op::Conv2d(conv) => ConvShape {
            input: size,
            in_channels: conv.in_channels,
            out_channels: conv.out_channels,
            kernel: conv.kernel,
            stride: conv.stride,
            padding: conv.padding,
            dilation: conv.dilation,
            groups: conv.groups,
        },
        Op::Linear { out_features, .. } => ConvShape {
            input: size,
            in_channels: input.channels,
            out_channels: out_features,
            kernel: size,
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
        },
        _ => unreachable!("the schedule lists convolutions and linear layers"),
    }
}

fn planned_norm(graph: &Graph, node: NodeId, parameters: &Parameters) -> PlannedNorm {
    let node = graph.node(node);
    let Op::BatchNorm2d { channels, eps, momentum } = node.op else { unreachable!("the schedule lists batch norms") };
    let statistic = |name: &str| -> Range<usize> { parameters.statistic_range(&node.key(name)) };
    PlannedNorm {
        channels,
        eps,
        momentum,
        weight: parameters.range(&node.key("weight")),
        bias: parameters.range(&node.key("bias")),
        running_mean: statistic("running_mean"),
        running_var: statistic("running_var"),
        counter: parameters.counter(&node.key("num_batches_tracked")),
        state: NormState::new(channels),
    }
}
