//! Resolves weights to a model: a checkpoint, a bare state dict, or a name of pretrained weights.

use crate::missing::no_weights;
use crate::network::{is_description, network, says_channels};
use crate::recognise::{Candidates, candidates};
use crate::{ClassList, InferError};
use residual_data::Format;
use residual_graph::Graph;
use residual_hub::{Hub, HubName, Pretrained, imagenet_labels};
use residual_model::{Initialisation, Model, initialise, replace_input};
use residual_preprocess::Preprocessing;
use residual_tensor::NamedTensors;
use residual_weights::{Cause, StateDict, Weights, open, weights_file};
use residual_zoo::Config;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A request for a model.
///
/// `weights` is
/// - a `residual` checkpoint (a file or a run folder), which contains network and preprocessing;
/// - a bare state dict (safetensors, or torch's `.pth`), whose network is `model`, or is inferred from its tensors. The
///   numbers of outputs and channels are inferred from its last and first layer;
/// - a name ([`HubName`]), whose file is taken from the cache of [`Hub::from_env`] or downloaded. Known names come with
///   network, preprocessing and ImageNet's classes.
///
/// ```no_run
/// use residual_infer::ModelRequest;
/// # fn main() -> Result<(), residual_infer::InferError> {
/// let request = ModelRequest { model: Some("resnet50".into()), ..ModelRequest::new("resnet50.pth") };
/// let model = request.read()?.model;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ModelRequest {
    /// The file, run folder or name.
    pub weights: PathBuf,
    /// The network: a name of the registry, or the path of a description (see [`network`](crate::network())). Weights of
    /// another network are refused.
    pub model: Option<String>,
    /// The network of a bare state dict if `model` is `None` and the tensors match it.
    pub default_model: Option<String>,
    /// Number of input channels; the first convolution is adapted (see [`replace_input`]). `None`: the number in a
    /// description, otherwise that of the file.
    pub in_chans: Option<usize>,
    /// Class names, which replace those of the weights.
    pub labels: Option<ClassList>,
    /// Handling of a state dict without a head.
    pub head: Head,
}

/// Handling of a state dict without the last layer, such as that of a backbone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Head {
    /// It is an error.
    #[default]
    Required,
    /// The network is read without its last layer: its output is that layer's input.
    Optional,
    /// The last layer is randomly initialised with this seed, with the network's default number of outputs.
    Drawn(u64),
}

/// Opened weights that are not yet a model.
#[derive(Debug)]
pub struct OpenedModel {
    request: ModelRequest,
    pretrained: Option<Pretrained>,
    weights: Weights,
}

/// A model, its recipe and notes.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedModel {
    /// The model.
    pub model: Model,
    /// The recipe that it was trained with (TOML), which only a `residual` checkpoint has.
    pub recipe: Option<String>,
    /// Notes for the user about how it was read, one line each.
    pub notes: Vec<String>,
}

impl ModelRequest {
    /// A request for the model of some weights, with defaults for all options.
    pub fn new(weights: impl Into<PathBuf>) -> Self {
        Self { weights: weights.into(), ..Self::default() }
    }

    /// Finds the weights and reads their file. A name that is not in the cache is downloaded.
    ///
    /// # Errors
    /// If there are no such weights, or the file cannot be downloaded or read, or is damaged.
    pub fn open(self) -> Result<OpenedModel, InferError> {
        let name = HubName::of_path(&self.weights).transpose()?;
        let file = match &name {
            Some(name) => Hub::from_env()?.fetch(name, &mut |_| ())?,
            None => {
                let file = weights_file(&self.weights);
                if file.try_exists().is_ok_and(|exists| !exists) {
                    return Err(no_weights(&self.weights));
                }
                file
            }
        };
        let pretrained = name.as_ref().and_then(HubName::pretrained).cloned();
        Ok(OpenedModel { weights: open(&file)?, pretrained, request: self })
    }

    /// Finds the weights and reads them: [`open`](Self::open), then [`OpenedModel::read`] without an image format.
    ///
    /// # Errors
    /// As there.
    pub fn read(self) -> Result<ResolvedModel, InferError> {
        self.open()?.read(None)
    }
}

impl OpenedModel {
    /// The recipe of a `residual` checkpoint, as TOML.
    pub fn recipe(&self) -> Option<&str> {
        match &self.weights {
            Weights::Checkpoint(checkpoint) => checkpoint.recipe.as_deref(),
            Weights::StateDict(_) => None,
        }
    }

    /// Whether the weights say how images are preprocessed: a checkpoint or a known name do, other state dicts do not.
    pub fn has_preprocessing(&self) -> bool {
        matches!(self.weights, Weights::Checkpoint(_)) || self.pretrained.is_some()
    }

    /// The model. If the weights contain no preprocessing, it is the default for `images` and the network (see
    /// [`default_preprocessing`]).
    ///
    /// # Errors
    /// If the file holds a state dict of no known network or of several (and the request names none), is of another network
    /// than the one requested, or does not fit it; or labels or channels do not.
    pub fn read(self, images: Option<&Format>) -> Result<ResolvedModel, InferError> {
        let Self { request, pretrained, weights } = self;
        let path = &request.weights;
        let mut notes = Vec::new();
        let (mut model, recipe, mut in_chans) = match weights {
            Weights::Checkpoint(checkpoint) => (checkpoint.model, checkpoint.recipe, None),
            Weights::StateDict(state) => {
                let usual = |graph: &Graph| match &pretrained {
                    Some(pretrained) => pretrained.preprocessing.clone(),
                    None => default_preprocessing(graph, images),
                };
                let (model, in_chans) = from_state(&request, pretrained.as_ref(), &state, usual, &mut notes)?;
                (model, None, in_chans)
            }
        };
        if let Some(name) = &request.model {
            check_name(path, name, &model)?;
        }
        in_chans = request.in_chans.or(in_chans);
        if let Some(in_chans) = in_chans {
            let stored = model.graph.input_size()[0];
            if stored != in_chans {
                notes.push(format!("first convolution adapted to {in_chans} channels, from {stored}"));
                model = replace_input(&model, in_chans)?;
            }
        }
        let outputs = model.graph.output_channels()?;
        if let Some(list) = &request.labels {
            model.labels = list.names(outputs)?;
        } else if pretrained.is_some() && model.labels.is_empty() {
            let labels = imagenet_labels();
            if outputs == labels.len() {
                model.labels = labels;
            }
        }
        Ok(ResolvedModel { model, recipe, notes })
    }
}

/// Checks that a model has the network `name`.
///
/// # Errors
/// [`InferError::OtherNetwork`] if it is not, or if `name` is a description that cannot be read.
pub fn check_name(path: &Path, name: &str, model: &Model) -> Result<(), InferError> {
    let got = if is_description(name) { network(name)?.name } else { name.to_owned() };
    let expected = model.graph.name.clone();
    if got == expected { Ok(()) } else { Err(InferError::OtherNetwork { path: path.to_path_buf(), expected, got }) }
}

/// The model of a state dict, with its number of channels, adapted to that of its description, if any.
fn from_state(
    request: &ModelRequest,
    pretrained: Option<&Pretrained>,
    state: &StateDict,
    preprocessing: impl FnOnce(&Graph) -> Preprocessing,
    notes: &mut Vec<String>,
) -> Result<(Model, Option<usize>), InferError> {
    let name = match (&request.model, pretrained) {
        // A description may specify more of the network than its name.
        (Some(name), _) if is_description(name) => name.clone(),
        (_, Some(pretrained)) => pretrained.network.to_owned(),
        (Some(name), None) => name.clone(),
        (None, None) => recognised(request, state, notes)?,
    };
    let config = network(&name)?;
    let described = if is_description(&name) && says_channels(&name)? { Some(config.in_chans) } else { None };
    let stored = Stored::of(state, &config, request.head)?;
    let read = stored.read(state.clone(), preprocessing, request.head);
    let (model, found) = match read {
        Err(InferError::Weights(source)) if matches!(source.cause, Cause::Model(_)) => {
            let networks = candidates(state, request.head)?.fitting;
            return Err(match networks.is_empty() {
                true => InferError::Weights(source),
                false => InferError::OtherTensors { source: Box::new(source), model: name, networks },
            });
        }
        read => read?,
    };
    notes.extend(found);
    if stored.is_headless && config.num_classes > 0 {
        notes.push(match request.head {
            Head::Drawn(_) => "the weights have no last layer: it is randomly initialised".to_owned(),
            _ => "the weights have no last layer: the network is read without it".to_owned(),
        });
    }
    Ok((drop_head(model, &config)?, described))
}

/// The network of the registry that matches these tensors.
fn recognised(request: &ModelRequest, tensors: &StateDict, notes: &mut Vec<String>) -> Result<String, InferError> {
    if let Some(name) = &request.default_model {
        // An explicit description takes precedence.
        if is_description(name) {
            return Ok(name.clone());
        }
        let stored = Stored::of(tensors, &network(name)?, request.head)?;
        if stored.problems(tensors)? == 0 {
            return Ok(name.clone());
        }
    }
    let path = request.weights.clone();
    let Candidates { fitting, nearest, without_shortcuts } = candidates(tensors, request.head)?;
    match &fitting[..] {
        [] => Err(InferError::NoNetwork { path, nearest }),
        [name] => {
            let twins = match without_shortcuts.is_empty() {
                true => String::new(),
                false => format!(" ({} without shortcuts has the same)", without_shortcuts.join(", ")),
            };
            notes.push(format!("read as {name}, from its tensors{twins}"));
            Ok(name.clone())
        }
        _ => Err(InferError::SeveralNetworks { path, networks: fitting }),
    }
}

/// A network with the numbers of outputs and channels of a state dict.
pub(crate) struct Stored {
    config: Config,
    /// Whether the file lacks the last layer.
    is_headless: bool,
}

impl Stored {
    /// `config` with the outputs and channels of `tensors`.
    pub(crate) fn of(tensors: &StateDict, config: &Config, head: Head) -> Result<Self, InferError> {
        // A network without a head gives no information about a head in the file.
        let with_head = Config { num_classes: config.num_classes.max(1), ..config.clone() };
        let graph = with_head.graph()?;
        let outputs = tensors.outputs(&graph);
        let num_classes = match (outputs, head) {
            (Some(outputs), _) => outputs,
            (None, Head::Optional) => 0,
            (None, _) => config.num_classes,
        };
        let in_chans = tensors.inputs(&graph).unwrap_or(config.in_chans);
        Ok(Self { config: Config { num_classes, in_chans, ..config.clone() }, is_headless: outputs.is_none() })
    }

    /// Number of mismatching tensors.
    pub(crate) fn problems(&self, tensors: &StateDict) -> Result<usize, InferError> {
        let graph = self.config.graph()?;
        let drawn = self.head_tensors(&graph, Head::Drawn(0))?;
        let problems = tensors.problems(&graph);
        Ok(problems.iter().filter(|problem| !(self.is_headless && drawn.contains_key(problem.key()))).count())
    }

    fn read(
        &self,
        tensors: StateDict,
        preprocessing: impl FnOnce(&Graph) -> Preprocessing,
        head: Head,
    ) -> Result<(Model, Vec<String>), InferError> {
        let graph = self.config.graph()?;
        let drawn = if self.is_headless { self.head_tensors(&graph, head)? } else { NamedTensors::new() };
        let preprocessing = preprocessing(&graph);
        Ok(tensors.into_model_with(&graph, &drawn, preprocessing, Vec::new())?)
    }

    /// Random values for the last layer, if it is to be initialised.
    fn head_tensors(&self, graph: &Graph, head: Head) -> Result<NamedTensors, InferError> {
        let Head::Drawn(seed) = head else { return Ok(NamedTensors::new()) };
        let backbone = keys(&Config { num_classes: 0, ..self.config.clone() }.graph()?);
        let mut drawn = initialise(graph, Initialisation::Torch, seed);
        drawn.retain(|key, _| !backbone.contains(key));
        Ok(drawn)
    }
}

fn keys(graph: &Graph) -> HashSet<String> {
    graph.parameters().map(|(key, _)| key).collect()
}

/// The model without the head that its file has but its description does not.
fn drop_head(model: Model, config: &Config) -> Result<Model, InferError> {
    if config.num_classes > 0 {
        return Ok(model);
    }
    let Model { graph, mut tensors, preprocessing, labels, .. } = model;
    let graph = Config { num_classes: 0, in_chans: graph.input_size()[0], ..config.clone() }.graph()?;
    let kept = keys(&graph);
    tensors.retain(|key, _| kept.contains(key));
    Ok(Model::new(graph, tensors, preprocessing, labels)?)
}

/// The preprocessing for `graph` if the weights contain none: [`Preprocessing::default_for`] its input, with the size, mean
/// and standard deviation of `images`, else ImageNet's.
pub fn default_preprocessing(graph: &Graph, images: Option<&Format>) -> Preprocessing {
    match images {
        Some(format) => format.default_preprocessing(graph.input_size()),
        None => {
            let (mean, std) = (Preprocessing::IMAGENET_MEAN, Preprocessing::IMAGENET_STD);
            Preprocessing::default_for(graph.input_size(), None, &mean, &std)
        }
    }
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
        let request = ModelRequest {
            model: Some(path("a.toml").to_str().unwrap().to_owned()),
            ..ModelRequest::new(path("a.safetensors"))
        };
        (tensors, request.read().unwrap().model)
    }

    #[test]
    fn the_number_of_outputs_is_the_files() {
        assert_eq!(read_as("").1.graph.output_channels(), Ok(7));
        assert_eq!(read_as("num_classes = 5\n").1.graph.output_channels(), Ok(7));
    }

    /// A state dict of resnet20_a with `in_chans` channels, in a file; without the head's tensors unless `with_head`.
    fn bare(folder: &Path, in_chans: usize, with_head: bool) -> (ModelRequest, NamedTensors) {
        let config = Config { in_chans, ..network("resnet20_a").unwrap() };
        let mut tensors = initialise(&config.graph().unwrap(), Initialisation::Torch, 3);
        tensors.retain(|key, _| with_head || !key.starts_with("fc."));
        let path = folder.join("bare.safetensors");
        save_tensors(&path, &tensors, &Default::default()).unwrap();
        (ModelRequest::new(path), tensors)
    }

    #[test]
    fn a_networks_tensors_show_which_it_is_and_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (request, tensors) = bare(folder.path(), 3, true);
        let ResolvedModel { model, notes, .. } = request.clone().read().unwrap();
        assert_eq!((&*model.graph.name, &model.tensors), ("resnet20_a", &tensors));
        assert_eq!(notes, ["read as resnet20_a, from its tensors (plain20 without shortcuts has the same)"]);
        let fits = ModelRequest { default_model: Some("plain20".into()), ..request.clone() };
        assert_eq!(fits.read().unwrap().model.graph.name, "plain20");
        let differs = ModelRequest { default_model: Some("resnet18".into()), ..request.clone() };
        assert_eq!(differs.read().unwrap().model.graph.name, "resnet20_a");
        let wrong = ModelRequest { model: Some("resnet20".into()), ..request };
        let message = wrong.read().unwrap_err().to_string();
        assert!(message.ends_with("(the tensors fit resnet20_a, not resnet20)"), "{message}");
    }

    #[test]
    fn tensors_of_several_networks_or_of_none_are_an_error_that_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let small = "family = \"resnet\"\nname = \"small\"\nblock = \"bottleneck\"\ndepths = [1, 1, 1, 1]\n";
        let path = folder.path().join("small.safetensors");
        let config = residual_zoo::from_toml(small).unwrap();
        save_tensors(&path, &initialise(&config.graph().unwrap(), Initialisation::Torch, 1), &Default::default())
            .unwrap();
        let message = ModelRequest::new(&path).read().unwrap_err().to_string();
        assert!(
            message.contains("no network of the registry has just these (") && message.contains("the nearest"),
            "{message}"
        );
        let several = InferError::SeveralNetworks { path, networks: vec!["resnet50".into(), "resnet50_v1".into()] };
        assert!(several.to_string().ends_with("these are the same in resnet50, resnet50_v1"), "{several}");
    }

    #[test]
    fn a_files_own_channels_are_kept_and_adapted_once_where_others_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        for stored in [1, 3, 4] {
            let (request, tensors) = bare(folder.path(), stored, true);
            let own = ModelRequest { in_chans: Some(stored), ..request.clone() };
            for request in [request.clone(), own] {
                let model = request.read().unwrap().model;
                assert_eq!((model.graph.input_size()[0], &model.tensors), (stored, &tensors));
            }
            let other = ModelRequest { in_chans: Some(2), ..request.clone() }.read().unwrap();
            let expected = replace_input(&request.read().unwrap().model, 2).unwrap();
            assert_eq!(other.model, expected);
            assert!(
                other.notes.last().unwrap().ends_with(&format!("to 2 channels, from {stored}")),
                "{:?}",
                other.notes
            );
        }
    }

    #[test]
    fn a_backbone_is_read_where_its_head_is_not_needed() {
        let folder = tempfile::tempdir().unwrap();
        let (request, tensors) = bare(folder.path(), 3, false);
        let request = ModelRequest { model: Some("resnet20_a".into()), ..request };
        let message = request.clone().read().unwrap_err().to_string();
        assert!(message.contains("tensor \"fc.weight\": expected [10, 64], got none"), "{message}");
        let optional = ModelRequest { head: Head::Optional, ..request.clone() }.read().unwrap();
        assert_eq!((&optional.model.tensors, optional.model.graph.output_channels()), (&tensors, Ok(64)));
        let drawn = ModelRequest { head: Head::Drawn(7), ..request.clone() }.read().unwrap();
        assert_eq!(drawn.model.graph.output_channels(), Ok(10));
        assert!(tensors.iter().all(|(key, tensor)| drawn.model.tensors[key.as_str()] == *tensor));
        let unnamed = ModelRequest { model: None, head: Head::Optional, ..request }.read().unwrap();
        assert_eq!((unnamed.model, unnamed.notes.len()), (optional.model, 2));
    }

    #[test]
    fn labels_name_the_classes_of_weights_that_have_no_names() {
        let folder = tempfile::tempdir().unwrap();
        let (request, _) = bare(folder.path(), 3, true);
        let with = |name: &str| ModelRequest { labels: Some(ClassList::open(name).unwrap()), ..request.clone() }.read();
        assert_eq!(with("cifar10").unwrap().model.labels[9], "truck");
        let message = with("cifar100").unwrap_err().to_string();
        assert_eq!(message, "cifar100: expected classes for the network's 10 outputs, got one for output 99");
    }

    #[test]
    fn a_default_preprocessing_is_the_same_whoever_asks() {
        let graph = |in_chans, name| Config { in_chans, ..network(name).unwrap() }.graph().unwrap();
        let grey = default_preprocessing(&graph(1, "resnet20"), None);
        assert_eq!((grey.mean, grey.std), (vec![0.449], vec![0.226]));
        let photographs = |size| Format {
            image_size: size,
            channels: 3,
            normalized: false,
            mean: Preprocessing::IMAGENET_MEAN.to_vec(),
            std: Preprocessing::IMAGENET_STD.to_vec(),
        };
        for (channels, name) in [(1, "resnet18"), (3, "resnet18"), (4, "resnet18"), (3, "resnet20")] {
            let graph = graph(channels, name);
            assert_eq!(default_preprocessing(&graph, Some(&photographs(None))), default_preprocessing(&graph, None));
        }
        assert_eq!(default_preprocessing(&graph(3, "resnet18"), None), Preprocessing::imagenet());
        assert_eq!(default_preprocessing(&graph(3, "resnet18"), Some(&photographs(Some([40, 50])))).size, [40, 50]);
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
