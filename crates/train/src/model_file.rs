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
/// If the file cannot be read, is damaged, is a state dict and `name` is `None` or unknown, is a checkpoint of another
/// network than `name`, or does not fit the network.
pub fn read_model(
    path: &Path,
    name: Option<&str>,
    preprocessing: impl FnOnce(&Graph) -> Preprocessing,
) -> Result<Model, TrainError> {
    let model = read_model_or(path, name, preprocessing)?;
    match name {
        Some(name) if name != model.graph.name => {
            let (path, expected) = (path.to_path_buf(), model.graph.name);
            Err(TrainError::OtherNetwork { path, expected, got: name.to_owned() })
        }
        _ => Ok(model),
    }
}

/// As [`read_model`], but `name` counts only where the file does not say of what network it is.
pub(crate) fn read_model_or(
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
