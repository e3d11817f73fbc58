//! Compiles a model to a plan and runs it: training, frozen and inference modes.
//!
//! A plan is made once for a graph and a batch shape (`plan`): nodes are fused into steps, steps become a flat list
//! of instructions, forward and backward, and every value gets a place in one arena by when it is alive. Nothing is
//! allocated per step. No part of this crate knows a model family.
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
//! assert_eq!(engine.tap("layer1.0.relu2").unwrap().len(), 32 * 32 * 16);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod arena;
mod engine;
mod error;
mod parameters;
mod plan;
mod run;

pub use engine::{Engine, Pass, PlanStep};
pub use error::EngineError;
pub use parameters::{Entry, Flat};

use residual_kernels::Isa;
use residual_threads::Pool;
use std::sync::Arc;

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch norms use the batch's statistics and update the running ones; dropout drops; gradients can be asked for.
    Train,
    /// Batch norms use their running statistics, dropout does nothing; gradients can be asked for.
    Frozen,
    /// As frozen, without gradients: batch norms are folded, and memory is used again as soon as a value is dead.
    Infer,
}

/// What a plan runs on.
#[derive(Clone, Debug)]
pub struct Options {
    /// The instruction set.
    pub isa: Isa,
    /// The threads.
    pub pool: Arc<Pool>,
}

impl Default for Options {
    /// The widest instruction set and all cores of this machine.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { isa: Isa::detect(), pool: Arc::new(Pool::new(threads)) }
    }
}
