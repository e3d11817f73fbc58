//! Compiles a model to a plan and runs it, in three modes: training, evaluation and inference.
//!
//! A plan is compiled once for a graph and a batch shape, in passes (`plan/compile.rs`): batch norms are folded, nodes
//! fused into steps, algorithms chosen, steps scheduled as a flat list of instructions, forward and backward, and every
//! value gets an offset in one arena by its lifetime. Nothing is allocated per step, except lists of packing tasks if
//! weights are packed on use ([`InferenceOptions::pack_on_use`]). No part of this crate depends on a model family.
//!
//! ```
//! use residual_engine::{Engine, Mode, Options};
//! use residual_model::{Initialisation, Model, initialise};
//! use residual_preprocess::Preprocessing;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let graph = residual_zoo::build("resnet20", 10)?;
//! let tensors = initialise(&graph, Initialisation::Torch, 0);
//! let preprocessing = Preprocessing::unscaled([32, 32], &[0.5; 3], &[0.25; 3]);
//! let model = Model::new(graph, tensors, preprocessing, Vec::new())?;
//!
//! let mut engine = Engine::new(&model, Mode::Infer, 1, [32, 32], &["layer1.0.relu2"], &Options::default())?;
//! engine.forward(&vec![0.0; 32 * 32 * 3])?;
//! assert_eq!(engine.output().len(), 10);
//! assert_eq!(engine.node_value("layer1.0.relu2").unwrap().len(), 32 * 32 * 16);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod arena;
mod compiled;
mod engine;
mod error;
mod frozen;
mod layout;
mod memory;
mod parameters;
mod plan;
mod run;
mod tune;
mod weights;

pub use compiled::CompiledModel;
pub use engine::Engine;
pub use error::EngineError;
pub use frozen::Frozen;
pub use memory::Memory;
pub use parameters::{Entry, Flat};
pub use plan::{Kind, Pass, PlanStep, PlanSummary};
pub use tune::{Tuned, Tuning};

use residual_kernels::Isa;
pub use residual_kernels::conv::Elements;
use residual_threads::Pool;
use std::sync::Arc;

/// The mode of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch norms use batch statistics and update the running ones; dropout is active; gradients can be computed.
    Train,
    /// Batch norms use their running statistics, dropout is inactive; gradients can be computed.
    Eval,
    /// As in evaluation, without gradients: batch norms are folded, and memory is reused as soon as a value is dead.
    Infer,
}

/// Hardware and options of a plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// The instruction set.
    pub isa: Isa,
    /// The thread pool. Engines may share one: a kernel then waits until the kernels of other engines have finished, and
    /// engines that are called from several threads alternate layer by layer. Engines that should run concurrently need
    /// separate pools, each with a part of the cores.
    pub pool: Arc<Pool>,
    /// Whether all convolutions are computed directly: Winograd's algorithms are faster, but their weights take up to
    /// four times the memory.
    pub low_memory: bool,
    /// What only inference has.
    pub inference: InferenceOptions,
    /// What only plans with gradients have: for training and evaluation.
    pub gradients: GradientOptions,
    /// Measured algorithms ([`Engine::tune`]), which replace the default choice.
    pub tuning: Option<Arc<Tuning>>,
}

/// Options of inference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InferenceOptions {
    /// The type of the values and packed weights of convolutions. With bf16, dense convolutions with an even number of outputs, max
    /// pooling and what is between them compute and keep bf16, with sums in floats; all else, and what is returned, stays floats.
    pub elements: Elements,
    /// Lazy weight packing: packs the weights of a convolution when it runs, as training always does, and does not keep them. Lower
    /// latency of the first batch, lower throughput. Such a plan shares the model's tensors, and small batches use other algorithms,
    /// whose results differ by rounding.
    pub pack_on_use: bool,
}

/// Options of plans with gradients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GradientOptions {
    /// Activation recomputation (gradient checkpointing): the backward pass recomputes most activations instead of reading
    /// stored ones. Less memory, slower steps, bit-identical results.
    pub checkpointing: bool,
    /// The layers that are not trained.
    pub frozen: Arc<Frozen>,
    /// The type of the values and of their gradients. With bf16, dense convolutions with even numbers of channels, batch norms, pooling
    /// and what is between them compute and keep bf16, halves of the memory that floats take; sums, statistics, parameters and their
    /// gradients, all else, and what is returned, stay floats.
    pub elements: Elements,
}

impl Options {
    /// An instruction set and threads; all other options have their defaults.
    pub fn new(isa: Isa, pool: Arc<Pool>) -> Self {
        Self {
            isa,
            pool,
            low_memory: false,
            inference: InferenceOptions::default(),
            gradients: GradientOptions::default(),
            tuning: None,
        }
    }

    /// A new pool of `threads` threads, including the caller's, and the widest instruction set.
    ///
    /// # Panics
    /// As [`Pool::new`].
    pub fn threads(threads: usize) -> Self {
        Self::new(Isa::detect(), Arc::new(Pool::new(threads)))
    }

    /// Whether a plan for `mode` packs all weights before it runs.
    pub(crate) fn packs_ahead(&self, mode: Mode) -> bool {
        mode == Mode::Infer && !self.inference.pack_on_use
    }
}

impl Default for Options {
    /// The widest instruction set and all cores of this machine.
    fn default() -> Self {
        Self::threads(std::thread::available_parallelism().map_or(1, usize::from))
    }
}
