//! The steps of a plan and its memory, for reports, before anything is allocated.

use super::{Instruction, Plan, Scheduled, compile_model};
use crate::{EngineError, Memory, Mode, Options};
use residual_graph::NodeId;
use residual_kernels::conv::{Description, Direction};
use residual_model::Model;
use std::time::Duration;

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
    /// Whether it computes a value (for the first time or, in the backward pass, again), the gradient of one, or gradients
    /// of parameters.
    pub direction: Direction,
    /// The kind of op.
    pub kind: Kind,
    /// Readable description of the operation.
    pub work: &'static str,
    /// The algorithm of a convolution's pass for a whole batch.
    pub kernel: Option<Description>,
    /// Bytes of the result for a whole batch.
    pub result: usize,
    /// Memory traffic for a whole batch in bytes: values and packed weights, each counted once.
    pub touched: usize,
    /// Its time in the last pass, after [`crate::Engine::time_steps`].
    pub time: Option<Duration>,
}

/// The plan of [`crate::Engine::new`], without its memory.
#[derive(Clone, Debug)]
pub struct PlanSummary {
    memory: Memory,
    /// The name of each node of the compiled graph, without folded batch norms.
    names: Vec<String>,
    steps: Vec<Step>,
}

/// A [`PlanStep`] without its borrowed and measured fields.
#[derive(Clone, Debug)]
struct Step {
    node: NodeId,
    pass: Pass,
    direction: Direction,
    kind: Kind,
    work: &'static str,
    kernel: Option<Description>,
    result: usize,
    touched: usize,
}

impl PlanSummary {
    /// Compiles a plan, with the arguments of [`crate::Engine::new`], without allocating its memory.
    ///
    /// # Errors
    /// As [`crate::Engine::new`], except for lack of memory.
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
        let (_, plan) = compile_model(model, mode, batch, size, outputs, options)?;
        Ok(Self::of(&plan, options.pool.threads()))
    }

    /// The summary of a plan that is run with so many threads.
    pub(crate) fn of(plan: &Plan, threads: usize) -> Self {
        let passes = [(Pass::Forward, &plan.forward), (Pass::Backward, &plan.backward)];
        let all = passes.into_iter().flat_map(|(pass, list)| list.iter().map(move |scheduled| (pass, scheduled)));
        Self {
            memory: plan.memory(threads),
            names: plan.parameters.graph().nodes.iter().map(|node| node.name.clone()).collect(),
            steps: all.map(|(pass, scheduled)| step(plan, pass, scheduled)).collect(),
        }
    }

    /// The memory of the plan.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// The steps of the plan in order: the forward pass, then the backward pass.
    pub fn steps(&self) -> impl Iterator<Item = PlanStep<'_>> {
        self.steps.iter().map(|step| {
            let Step { node, pass, direction, kind, work, kernel, result, touched } = *step;
            PlanStep { node: &self.names[node.0], pass, direction, kind, work, kernel, result, touched, time: None }
        })
    }
}

fn step(plan: &Plan, pass: Pass, scheduled: &Scheduled) -> Step {
    let Scheduled { node, instruction, facts } = scheduled;
    let conv = facts.conv.map(|conv| &plan.layers.convs[conv.0].conv);
    let kernel = conv.map(|conv| conv.describe(facts.direction, plan.batch));
    let value = |id| plan.places.len_of(id) * plan.batch;
    let parameters = match (instruction, conv) {
        (Instruction::BatchNormSums { norm, .. }, _) => 2 * plan.layers.norms[norm.0].channels,
        (Instruction::LayerScaleSums { scale, .. }, _) => plan.layers.scales[scale.0].bucket.len(),
        (_, conv) => conv.map_or(0, |conv| conv.shape().weight_len()),
    };
    let floats = |len: usize| len * size_of::<f32>();
    let mut buffers = facts.buffers.clone();
    buffers.sort_unstable();
    buffers.dedup();
    let values: usize = buffers.into_iter().map(value).sum();
    let weights = kernel.map_or(0, |kernel| kernel.packed_len);
    Step {
        node: *node,
        pass,
        direction: facts.direction,
        kind: facts.kind,
        work: facts.label,
        kernel,
        result: facts.result.map_or(floats(parameters), value),
        touched: values + floats(weights),
    }
}
