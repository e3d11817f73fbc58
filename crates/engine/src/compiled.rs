//! A model compiled for inference, which sessions share.

use crate::plan::{Folded, Plan, compile_model, fold};
use crate::weights::{PackedWeights, Weights};
use crate::{Engine, EngineError, Mode, Options};
use residual_model::Model;
use residual_threads::Pool;
use std::sync::Arc;

/// A model compiled for inference: its plan and packed weights. Clones share both, and so do its sessions, each of which has memory
/// of its own for values, and may have threads of its own.
///
/// ```
/// use residual_engine::{CompiledModel, Options};
/// use residual_threads::Pool;
/// use std::sync::Arc;
/// # use {residual_model as model, residual_preprocess as preprocess, residual_zoo as zoo};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let graph = zoo::build("resnet20", 10)?;
/// # let tensors = model::initialise(&graph, model::Initialisation::Torch, 0);
/// # let preprocessing = preprocess::Preprocessing::unscaled([32, 32], &[0.5; 3], &[0.25; 3]);
/// # let model = model::Model::new(graph, tensors, preprocessing, Vec::new())?;
/// let compiled = CompiledModel::new(&model, 1, [32, 32], &[], &Options::threads(1))?;
/// let image = vec![0.5; 32 * 32 * 3];
/// let logits = || {
///     let mut session = compiled.session(&Arc::new(Pool::new(1)))?;
///     session.forward(&image)?;
///     Ok::<_, residual_engine::EngineError>(session.output().to_vec())
/// };
/// let all: Vec<_> = std::thread::scope(|scope| {
///     let threads: Vec<_> = (0..4).map(|_| scope.spawn(logits)).collect();
///     threads.into_iter().map(|thread| thread.join().unwrap()).collect()
/// });
/// assert!(all.iter().all(|other| other.as_ref().unwrap() == all[0].as_ref().unwrap()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CompiledModel {
    plan: Arc<Plan>,
    weights: Arc<PackedWeights>,
}

impl CompiledModel {
    /// Compiles `model` for inference, with the arguments of [`Engine::new`], and packs its weights on the threads of `options`.
    ///
    /// # Errors
    /// As [`Engine::new`].
    ///
    /// # Panics
    /// If `batch` is zero.
    pub fn new(
        model: &Model,
        batch: usize,
        size: [usize; 2],
        outputs: &[&str],
        options: &Options,
    ) -> Result<Self, EngineError> {
        let (folded, plan) = compile_model(model, Mode::Infer, batch, size, outputs, options)?;
        plan.memory(options.pool.threads()).check()?;
        let weights = Arc::new(PackedWeights::new(&plan, &folded, &options.pool)?);
        Ok(Self { plan: Arc::new(plan), weights })
    }

    /// An engine that runs this model on the threads of `pool`, which shares its plan and weights and has its own memory for values.
    ///
    /// # Errors
    /// [`EngineError::Memory`] if the system has no memory for the values.
    pub fn session(&self, pool: &Arc<Pool>) -> Result<Engine, EngineError> {
        Engine::of(Arc::clone(&self.plan), Weights::Packed(Arc::clone(&self.weights)), pool)
    }

    /// Bytes of the packed weights, which all sessions share.
    pub fn weights_bytes(&self) -> usize {
        self.weights.bytes()
    }

    pub(crate) fn of(plan: Arc<Plan>, weights: Arc<PackedWeights>) -> Self {
        Self { plan, weights }
    }

    /// Replaces `weights` by those of `model`, in place unless other sessions use them.
    pub(crate) fn load(
        plan: &Plan,
        weights: &mut Arc<PackedWeights>,
        model: &Model,
        pool: &Arc<Pool>,
    ) -> Result<(), EngineError> {
        let outputs: Vec<&str> = plan.outputs.iter().map(String::as_str).collect();
        let folded: Folded<'_> = fold(model, plan.mode, &outputs);
        if *folded.graph != *plan.parameters.graph() {
            return Err(EngineError::OtherGraph {
                expected: plan.parameters.graph().name.clone(),
                got: model.graph.name.clone(),
            });
        }
        match Arc::get_mut(weights) {
            Some(weights) => weights.fill(plan, &folded, pool),
            None => {
                *weights = Arc::new(PackedWeights::new(plan, &folded, pool)?);
                Ok(())
            }
        }
    }
}
