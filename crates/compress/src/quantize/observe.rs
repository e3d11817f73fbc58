//! Runs a network on calibration images and shows the values of some of its nodes.

use crate::{CalibrationImages, CompressError};
use residual_engine::{Engine, Mode, Options};
use residual_graph::{NodeId, Shape};
use residual_model::Model;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Images in a batch: the values of all observed nodes of a batch are in memory.
const BATCH: usize = 8;

/// The value of a node for a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed<'a> {
    /// n × height × width × channels; of a flattened feature map too.
    pub(super) values: &'a [f32],
    /// The shape in memory.
    pub(super) shape: Shape,
}

/// Runs `model` and shows the value of each of `nodes` to `note`, with a state of its own. Returns the states; `None` if `stop` was set.
pub(super) fn observe<S: Send>(
    model: &Model,
    nodes: &[NodeId],
    images: &CalibrationImages,
    options: &Options,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(usize, usize),
    states: Vec<S>,
    note: &(dyn Fn(&mut S, Observed<'_>) + Sync),
) -> Result<Option<Vec<S>>, CompressError> {
    let names: Vec<&str> = nodes.iter().map(|id| model.graph.node(*id).name.as_str()).collect();
    let mut engine = Engine::new(model, Mode::Infer, BATCH, model.preprocessing.size, &names, options)?;
    // Each is locked by the one thread that has its node.
    let states: Vec<Mutex<S>> = states.into_iter().map(Mutex::new).collect();
    let mut done = 0;
    for batch in images.batches(BATCH) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        engine.forward(batch)?;
        let engine = &engine;
        options.pool.run(names.len(), |index, _| {
            let values = engine.node_value(names[index]).expect("the node is kept");
            let shape = engine.node_shape(names[index]).expect("the node is kept");
            note(&mut states[index].lock().unwrap_or_else(PoisonError::into_inner), Observed { values, shape });
        });
        done += BATCH;
        on_progress(done.min(images.len()), images.len());
    }
    Ok(Some(states.into_iter().map(|state| state.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()))
}
