//! A model from a file, whether the file says of what network it is or not.

use crate::TrainError;
use residual_graph::Graph;
use residual_model::Model;
use residual_preprocess::Preprocessing;
use residual_weights::{Weights, open};
use std::path::Path;

/// Reads the weights at `path`: a checkpoint of ours (a file or a run folder), which holds its own network and
/// preprocessing, or a bare state dict, which needs the registry's `name` of its network and gets `preprocessing`. The
/// number of outputs of a state dict is read off its last layer.
///
/// # Errors
/// If the file cannot be read, is damaged, is a state dict and `name` is `None` or unknown, or does not fit the network.
pub fn read_model(
    path: &Path,
    name: Option<&str>,
    preprocessing: impl FnOnce(&Graph) -> Preprocessing,
) -> Result<Model, TrainError> {
    let state = match open(path)? {
        Weights::Checkpoint(checkpoint) => return Ok(checkpoint.model),
        Weights::StateDict(state) => state,
    };
    let name = name.ok_or_else(|| TrainError::NoNetwork { path: path.to_path_buf() })?;
    let entry = residual_zoo::find(name)?;
    let published = entry.graph(entry.num_classes)?;
    let outputs = state.outputs(&published)?.unwrap_or(entry.num_classes);
    let graph = if outputs == entry.num_classes { published } else { entry.graph(outputs)? };
    let preprocessing = preprocessing(&graph);
    Ok(state.into_model(&graph, preprocessing, Vec::new())?)
}
