//! The Taylor criterion: the product of every channel and its gradient.

use crate::{CompressError, TrainingImages};
use residual_engine::{Engine, Mode, Options};
use residual_graph::{NodeId, Op};
use residual_infer::{map_classes, probabilities};
use residual_model::Model;
use residual_tensor::{NamedTensors, Tensor};
use std::sync::atomic::{AtomicBool, Ordering};

/// Images in a batch, over which gradients are summed before their magnitude is taken.
const BATCH: usize = 32;

/// For every layer's output channels, |Σ y · dL/dy| over the pixels and images of a batch, in the mean of all batches. y is the layer's
/// result, or that of the batch norm that alone reads it. Both are affine in their parameters, so that the sum is that over the
/// channel's parameters p of p · dL/dp. Other nodes have no scores. `None` if `stop` was set.
pub(super) fn taylor(
    model: &Model,
    images: &TrainingImages,
    options: &Options,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(usize, usize),
) -> Result<Option<Vec<Vec<f64>>>, CompressError> {
    let graph = &model.graph;
    let outputs = graph.output_channels()?;
    let total = images.dataset.len();
    if images.dataset.is_multi_label() {
        return Err(CompressError::MultiLabel);
    }
    let classes = map_classes(&*images.dataset, &model.labels, outputs, None)?;
    let batch = BATCH.min(total.max(1));
    let mut engine = Engine::new(model, Mode::Eval, batch, model.preprocessing.size, &[], options)?;
    let consumers = graph.consumers();
    let scaled_by = |index: usize| match consumers[index][..] {
        [reader] if matches!(graph.node(reader).op, Op::BatchNorm2d { .. }) => reader,
        _ => NodeId(index),
    };
    let mut scores = vec![Vec::new(); graph.nodes.len()];
    let (mut batches, mut done) = (0, 0);
    for batch in images.loader(model, batch)? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let batch = batch?;
        done += batch.len();
        on_progress(done, total);
        if batch.is_empty() {
            continue;
        }
        engine.forward(batch.images())?;
        let mut seed = Vec::with_capacity(engine.output().len());
        for (logits, &label) in engine.output().chunks_exact(outputs).zip(batch.labels()) {
            let start = seed.len();
            seed.extend(probabilities(logits, model.activation, 1.0));
            seed[start + classes.to[label as usize] as usize] -= 1.0;
            seed[start..].iter_mut().for_each(|value| *value /= batch.len() as f32);
        }
        engine.backward_output(&seed)?;
        let gradients = engine.gradients();
        for (index, node) in graph.nodes.iter().enumerate() {
            if node.op.is_layer() {
                add_products(&mut scores[index], graph.node(scaled_by(index)), model, &gradients);
            }
        }
        batches += 1;
    }
    match batches {
        0 => Err(CompressError::NoImages),
        _ => {
            scores.iter_mut().flatten().for_each(|score| *score /= f64::from(batches));
            Ok(Some(scores))
        }
    }
}

/// Adds |Σ p · dL/dp| of each output channel of `node`.
fn add_products(scores: &mut Vec<f64>, node: &residual_graph::Node, model: &Model, gradients: &NamedTensors) {
    let floats = |tensors: &'_ NamedTensors, key: &str| tensors.get(key).and_then(Tensor::as_f32).map(<[f32]>::to_vec);
    let mut sums: Vec<f64> = Vec::new();
    for name in ["weight", "bias"] {
        let key = node.key(name);
        let (Some(values), Some(gradients)) = (floats(&model.tensors, &key), floats(gradients, &key)) else { continue };
        let channels = model.tensors[key.as_str()].shape()[0];
        sums.resize(channels, 0.0);
        let row = values.len() / channels;
        for (sum, (values, gradients)) in sums.iter_mut().zip(values.chunks(row).zip(gradients.chunks(row))) {
            *sum += values.iter().zip(gradients).map(|(&w, &g)| f64::from(w) * f64::from(g)).sum::<f64>();
        }
    }
    scores.resize(sums.len(), 0.0);
    scores.iter_mut().zip(&sums).for_each(|(score, sum)| *score += sum.abs());
}
