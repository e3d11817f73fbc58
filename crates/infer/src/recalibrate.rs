//! Batch-norm recalibration: running statistics of the weights as they are, for evaluation (Wu & Johnson,
//! arXiv:2105.07576, "precise batch norm").
//!
//! During training, running statistics average over the weights of the last steps. While the learning rate is high, they lag
//! behind the weights, and evaluations with them may be arbitrarily bad.

use residual_data::Batch;
use residual_engine::{Engine, EngineError};
use residual_graph::{Graph, Op};
use residual_tensor::{NamedTensors, Stream, Tensor};

/// Separates these dropout masks from those of training.
const SALT: u64 = u64::from_be_bytes(*b"bn-stats");

/// The state dict `model` with the running statistics of its own weights over `batches`: the same weighted
/// average of batch statistics as in training, without the part that is older. Batch norms that do not update their
/// statistics keep them. `engine` is one for training, whose own values are kept.
///
/// # Errors
/// The first error of `batches`, or if the batches or the model do not fit the engine.
pub fn recalibrate_batch_norms<E: From<EngineError>>(
    engine: &mut Engine,
    graph: &Graph,
    mut model: NamedTensors,
    batches: impl Iterator<Item = Result<Batch, E>>,
    seed: u64,
) -> Result<NamedTensors, E> {
    let own = engine.state_dict();
    engine.load_state_dict(&model)?;
    let mut passes = 0;
    for batch in batches {
        let batch = batch?;
        if !batch.is_empty() {
            engine.set_seed(Stream::new(seed, &[SALT, passes]).next_u64());
            engine.forward(batch.images())?;
            passes += 1;
        }
    }
    let updated = engine.state_dict();
    engine.load_state_dict(&own)?;
    for node in &graph.nodes {
        let Op::BatchNorm2d { momentum, .. } = node.op else { continue };
        // The weight of the old statistics after so many passes.
        let kept = (1.0 - f64::from(momentum)).powi(passes as i32);
        for statistic in ["running_mean", "running_var"] {
            let key = node.key(statistic);
            let (old, new) = (floats(&model[&key]), floats(&updated[&key]));
            if old != new && kept < 1.0 {
                let without =
                    |(old, new): (&f32, &f32)| ((f64::from(*new) - kept * f64::from(*old)) / (1.0 - kept)) as f32;
                let values: Vec<f32> = old.iter().zip(new).map(without).collect();
                // Where the old part dominated, rounding may leave a variance just below zero.
                let values =
                    values.into_iter().map(|value| if statistic == "running_var" { value.max(0.0) } else { value });
                let tensor = Tensor::f32(&[old.len()], values.collect());
                model.insert(key, tensor);
            }
        }
    }
    Ok(model)
}

fn floats(tensor: &Tensor) -> &[f32] {
    tensor.as_f32().expect("running statistics are floats")
}
