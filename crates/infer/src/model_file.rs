//! A model from weights: a file, whether it says of what network it is or not, or the name of weights that lie elsewhere.

use crate::InferError;
use crate::network::{is_description, network};
use residual_graph::Graph;
use residual_hub::{Hub, HubName, imagenet_labels};
use residual_model::{Model, replace_input};
use residual_preprocess::Preprocessing;
use residual_weights::{StateDict, Weights, open};
use residual_zoo::Config;
use std::path::Path;

/// Reads the weights that `path` means:
///
/// - a checkpoint of ours (a file or a run folder), which holds its own network and preprocessing;
/// - a bare state dict, which needs the name of its network, or a description of it (see [`network`](crate::network())), and
///   gets `preprocessing`. The number of outputs is read off its last layer, that of channels off its first, which is adapted
///   where the description has another (see [`replace_input`]);
/// - a name ([`HubName`]), whose file is taken from the cache of [`Hub::from_env`], or downloaded. Names that are known bring
///   network, preprocessing and ImageNet's classes along.
///
/// # Errors
/// If the file cannot be read or brought here, is damaged, is a state dict and `name` is `None` or unknown, is of another
/// network than `name`, or does not fit the network.
pub fn read_model(
    path: &Path,
    name: Option<&str>,
    preprocessing: impl FnOnce(&Graph) -> Preprocessing,
) -> Result<Model, InferError> {
    read_model_noting(path, name, preprocessing, &mut |_| ())
}

/// [`read_model`], with `note` called with what the user should know of how the tensors were found: averaged ones taken, a module
/// entered, some left out.
///
/// # Errors
/// As there.
pub fn read_model_noting(
    path: &Path,
    name: Option<&str>,
    preprocessing: impl FnOnce(&Graph) -> Preprocessing,
    note: &mut dyn FnMut(&str),
) -> Result<Model, InferError> {
    let model = read(path, name, preprocessing, note)?;
    if let Some(name) = name {
        check_name(path, name, &model)?;
    }
    Ok(model)
}

/// Whether a model is of the network that `name` means.
pub fn check_name(path: &Path, name: &str, model: &Model) -> Result<(), InferError> {
    let got = if is_description(name) { network(name)?.name } else { name.to_owned() };
    let expected = model.graph.name.clone();
    if got == expected { Ok(()) } else { Err(InferError::OtherNetwork { path: path.to_path_buf(), expected, got }) }
}

/// As [`read_model`], but `name` counts only where the weights do not say of what network they are.
pub fn read_model_or(
    path: &Path,
    name: Option<&str>,
    preprocessing: impl FnOnce(&Graph) -> Preprocessing,
) -> Result<Model, InferError> {
    read(path, name, preprocessing, &mut |_| ())
}

fn read(
    path: &Path,
    name: Option<&str>,
    preprocessing: impl FnOnce(&Graph) -> Preprocessing,
    note: &mut dyn FnMut(&str),
) -> Result<Model, InferError> {
    let hub_name = HubName::of_path(path).transpose()?;
    let pretrained = hub_name.as_ref().and_then(HubName::pretrained);
    let opened = match &hub_name {
        Some(hub_name) => open(&Hub::from_env()?.fetch(hub_name, &mut |_| ())?)?,
        None => open(path)?,
    };
    let state = match opened {
        Weights::Checkpoint(checkpoint) => return Ok(checkpoint.model),
        Weights::StateDict(state) => state,
    };
    let name = match (name, pretrained) {
        // A description may say more of the network than its name does.
        (Some(name), _) if is_description(name) => name,
        (_, Some(pretrained)) => pretrained.network,
        (name, None) => name.ok_or_else(|| InferError::NoNetwork { path: path.to_path_buf() })?,
    };
    let preprocessing = |graph: &Graph| match pretrained {
        Some(pretrained) => pretrained.preprocessing.clone(),
        None => preprocessing(graph),
    };
    let mut model = into_model(state, &network(name)?, preprocessing, note)?;
    if pretrained.is_some() {
        let labels = imagenet_labels();
        if model.graph.output_channels()? == labels.len() {
            model.labels = labels;
        }
    }
    Ok(model)
}

/// The model of a state dict and a network that differs from its own in outputs and channels at most.
fn into_model(
    state: StateDict,
    config: &Config,
    preprocessing: impl FnOnce(&Graph) -> Preprocessing,
    note: &mut dyn FnMut(&str),
) -> Result<Model, InferError> {
    let graph = config.graph()?;
    let in_chans = state.inputs(&graph).unwrap_or(config.in_chans);
    // A network without a head tells nothing of the head that the file may have.
    let with_head = if config.num_classes == 0 { Config { num_classes: 1, ..config.clone() }.graph()? } else { graph };
    let outputs = state.outputs(&with_head).unwrap_or(config.num_classes);
    let stored = Config { num_classes: outputs, in_chans, ..config.clone() }.graph()?;
    let preprocessing = preprocessing(&stored);
    let (mut model, notes) = state.into_model(&stored, preprocessing, Vec::new())?;
    notes.iter().for_each(|text| note(text));
    if config.num_classes == 0 && outputs > 0 {
        let Model { mut tensors, preprocessing, labels, .. } = model;
        let graph = Config { num_classes: 0, in_chans, ..config.clone() }.graph()?;
        let kept: std::collections::HashSet<String> = graph.parameters().map(|(key, _)| key).collect();
        tensors.retain(|key, _| kept.contains(key));
        model = Model::new(graph, tensors, preprocessing, labels)?;
    }
    Ok(if in_chans == config.in_chans { model } else { replace_input(&model, config.in_chans)? })
}

/// The preprocessing that is usual for `graph` where nothing better is known: torchvision's for photographs, images as
/// they are for networks of small ones, and ImageNet's statistics.
pub fn default_preprocessing(graph: &Graph) -> Preprocessing {
    let [channels, height, width] = graph.input_size();
    let spread = |values: [f32; 3]| (0..channels).map(|channel| values[channel % 3]).collect::<Vec<_>>();
    let (mean, std) = (spread(Preprocessing::IMAGENET_MEAN), spread(Preprocessing::IMAGENET_STD));
    let unscaled = Preprocessing::unscaled([height, width], &mean, &std);
    if height.min(width) < 64 { unscaled } else { Preprocessing { crop_pct: 0.875, ..unscaled } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use residual_model::{Initialisation, initialise};
    use residual_tensor::NamedTensors;
    use residual_weights::save_tensors;

    const TINY: &str = "family = \"cifar_resnet\"\nname = \"tiny\"\ndepths = [1, 1, 1]\nwidths = [2, 3, 4]\n";

    /// A state dict of a network for 3 channels and 7 classes, and a description of it that says `more`.
    fn read_as(more: &str) -> (NamedTensors, Model) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let graph = Config { num_classes: 7, ..residual_zoo::from_toml(TINY).unwrap() }.graph().unwrap();
        let tensors = initialise(&graph, Initialisation::Torch, 1);
        save_tensors(&path("a.safetensors"), &tensors, &Default::default()).unwrap();
        std::fs::write(path("a.toml"), format!("{TINY}{more}")).unwrap();
        let usual = |graph: &Graph| {
            let [channels, height, width] = graph.input_size();
            Preprocessing::unscaled([height, width], &vec![0.5; channels], &vec![0.25; channels])
        };
        let model = read_model(&path("a.safetensors"), Some(path("a.toml").to_str().unwrap()), usual).unwrap();
        (tensors, model)
    }

    #[test]
    fn the_number_of_outputs_is_the_files() {
        assert_eq!(read_as("").1.graph.output_channels(), Ok(7));
        assert_eq!(read_as("num_classes = 5\n").1.graph.output_channels(), Ok(7));
    }

    #[test]
    fn a_network_without_a_head_leaves_the_files_head_unread() {
        let (tensors, model) = read_as("num_classes = 0\n");
        assert_eq!(model.graph.output_channels(), Ok(4));
        let expected = tensors.iter().filter(|(key, _)| !key.starts_with("fc."));
        assert!(model.tensors.iter().eq(expected));
    }

    #[test]
    fn a_description_with_other_channels_adapts_the_first_convolution() {
        let (tensors, model) = read_as("in_chans = 1\n");
        assert_eq!((model.graph.input_size()[0], model.preprocessing.channels()), (1, 1));
        let [three, one] = [&tensors, &model.tensors].map(|tensors| tensors["conv1.weight"].as_f32().unwrap());
        let sums: Vec<f32> = (0..2 * 9)
            .map(|index| (0..3).map(|channel| three[index / 9 * 27 + channel * 9 + index % 9]).sum())
            .collect();
        assert_eq!(one, sums);
        let (_, headless) = read_as("in_chans = 5\nnum_classes = 0\n");
        assert_eq!((headless.graph.input_size()[0], headless.graph.output_channels()), (5, Ok(4)));
    }
}
