//! A model from a file, whether the file says of what network it is or not.

use crate::TrainError;
use crate::network::{is_description, network};
use residual_graph::Graph;
use residual_model::Model;
use residual_preprocess::Preprocessing;
use residual_weights::{Weights, open};
use residual_zoo::Config;
use std::path::Path;

/// Reads the weights at `path`: a checkpoint of ours (a file or a run folder), which holds its own network and
/// preprocessing, or a bare state dict, which needs the name of its network, or a description of it (see [`network`]), and gets `preprocessing`. The
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
    if let Some(name) = name {
        check_name(path, name, &model)?;
    }
    Ok(model)
}

/// Whether a model is of the network that `name` means.
pub(crate) fn check_name(path: &Path, name: &str, model: &Model) -> Result<(), TrainError> {
    let got = if is_description(name) { network(name)?.name } else { name.to_owned() };
    let expected = model.graph.name.clone();
    if got == expected { Ok(()) } else { Err(TrainError::OtherNetwork { path: path.to_path_buf(), expected, got }) }
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
    let config = network(name)?;
    let published = config.graph()?;
    let outputs = state.outputs(&published)?.unwrap_or(config.num_classes);
    let graph = match outputs == config.num_classes || config.num_classes == 0 {
        true => published,
        false => Config { num_classes: outputs, ..config }.graph()?,
    };
    let preprocessing = preprocessing(&graph);
    Ok(state.into_model(&graph, preprocessing, Vec::new())?)
}
