//! The self-describing checkpoint: graph, weights, preprocessing and labels in one safetensors file.

use crate::names::{Resolved, compare, resolve, tensors_of_graph};
use crate::tensors_file::parse_safetensors;
use crate::torch::{is_torch, parse_torch};
use crate::view::{StoredTensor, TensorView};
use crate::{Cause, FormatError, WeightsError};
use crate::{four_bits, sparse};
use indexmap::IndexMap;
use residual_files::{Bytes, MAX_BYTES, Metadata, read_bytes, recognise, save_tensors};
use residual_graph::{Graph, NodeId};
use residual_model::{Activation, Model, TensorProblem};
use residual_preprocess::Preprocessing;
use residual_tensor::NamedTensors;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

const GRAPH: &str = "residual.graph";
const PREPROCESSING: &str = "residual.preprocessing";
const LABELS: &str = "residual.labels";
const TEMPERATURE: &str = "residual.temperature";
const ACTIVATION: &str = "residual.activation";
const RECIPE: &str = "residual.recipe";
const SPARSE: &str = "residual.sparse";
const FOUR_BITS: &str = "residual.four_bits";

/// A model and the recipe of its training.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The model.
    pub model: Model,
    /// The recipe it was trained with, as TOML.
    pub recipe: Option<String>,
}

/// The contents of a weights file.
#[derive(Clone, Debug)]
pub enum Weights {
    /// A `residual` checkpoint, with everything needed to run it.
    Checkpoint(Box<Checkpoint>),
    /// Tensors without a network.
    StateDict(StateDict),
}

/// The tensors of a file without a graph. The file is parsed once.
#[derive(Clone, Debug)]
pub struct StateDict {
    path: PathBuf,
    bytes: Bytes,
    tensors: Vec<(String, StoredTensor)>,
}

/// Writes `model` and `recipe` (TOML) to `path`, atomically.
///
/// The file is safetensors with torch's keys, so that Python can read it too:
/// `net.load_state_dict(safetensors.torch.load_file(path))`. Graph, preprocessing, labels, recipe, an activation other than
/// softmax and a temperature other than 1 are in its metadata. Equal models give equal bytes.
///
/// A quantised weight `conv1.weight` whose integers are all −8 to 7 is stored in 4 bits as `conv1.weight_4bit`, two in an unsigned byte, the
/// first in the less significant half. The metadata `residual.four_bits` are an object of the shapes of all such weights.
///
/// # Errors
/// If the model's public fields were changed so that they no longer fit together, or the file cannot be written; a
/// previous file is unchanged.
pub fn save(path: &Path, model: &Model, recipe: Option<&str>) -> Result<(), WeightsError> {
    let mut metadata = metadata(path, model, recipe)?;
    let (tensors, shapes) = four_bits::compact(&model.tensors);
    if !shapes.is_empty() {
        metadata.insert(FOUR_BITS.into(), to_json(path, FOUR_BITS, &shapes)?);
    }
    Ok(save_tensors(path, &tensors, &metadata)?)
}

/// As [`save`], without the zeros of weights that have enough of them: only [`load`] and its like read the file, torch does not.
///
/// Such a weight `conv1.weight` is stored as `conv1.weight_values`, the elements that are not zero, and `conv1.weight_bits`, a bit for
/// each element, set where it is not zero, the first in the least significant place of a byte. The metadata `residual.sparse` are an
/// object of the shapes of all such weights.
///
/// # Errors
/// As [`save`].
pub fn save_sparse(path: &Path, model: &Model, recipe: Option<&str>) -> Result<(), WeightsError> {
    let mut metadata = metadata(path, model, recipe)?;
    let (tensors, shapes) = sparse::compact(&model.graph, &model.tensors);
    if !shapes.is_empty() {
        metadata.insert(SPARSE.into(), to_json(path, SPARSE, &shapes)?);
    }
    Ok(save_tensors(path, &tensors, &metadata)?)
}

/// The metadata of a checkpoint of `model`, whose parts must fit together.
fn metadata(path: &Path, model: &Model, recipe: Option<&str>) -> Result<Metadata, WeightsError> {
    residual_model::check_tensors(&model.graph, &model.tensors).map_err(|error| WeightsError::new(path, error))?;
    let mut metadata = Metadata::from([
        ("format".into(), "pt".into()),
        (GRAPH.into(), model.graph.to_json()),
        (PREPROCESSING.into(), to_json(path, PREPROCESSING, &model.preprocessing)?),
        (LABELS.into(), to_json(path, LABELS, &model.labels)?),
    ]);
    if model.activation != Activation::Softmax {
        metadata.insert(ACTIVATION.into(), to_json(path, ACTIVATION, &model.activation)?);
    }
    if model.temperature != 1.0 {
        metadata.insert(TEMPERATURE.into(), to_json(path, TEMPERATURE, &model.temperature)?);
    }
    if let Some(recipe) = recipe {
        metadata.insert(RECIPE.into(), recipe.into());
    }
    Ok(metadata)
}

fn to_json(path: &Path, key: &'static str, value: &impl Serialize) -> Result<String, WeightsError> {
    serde_json::to_string(value).map_err(|source| WeightsError::new(path, FormatError::Metadata { key, source }))
}

/// Reads a `residual` checkpoint. `path` is a file or a run folder (see [`weights_file`]).
///
/// # Errors
/// If the file cannot be read, or is damaged, or is a state dict without a graph.
pub fn load(path: &Path) -> Result<Checkpoint, WeightsError> {
    match open(path)? {
        Weights::Checkpoint(checkpoint) => Ok(*checkpoint),
        Weights::StateDict(state) => Err(WeightsError::new(&state.path, Cause::NoGraph)),
    }
}

/// Reads the tensors of any weights file (safetensors or torch's, or a `residual` checkpoint) into a given
/// network.
///
/// # Errors
/// If the file cannot be read, or its tensors do not fit the graph (all that do not are listed), or the parts do not
/// fit together.
pub fn load_into(
    path: &Path,
    graph: &Graph,
    preprocessing: Preprocessing,
    labels: Vec<String>,
) -> Result<Model, WeightsError> {
    let path = weights_file(path);
    let bytes = read_bytes(&path, MAX_BYTES)?;
    let tensors = || {
        let (views, _) = parse_state_dict(&bytes)?;
        tensors_of_graph(views, graph, &NamedTensors::new(), Some(&bytes))
    };
    let (tensors, _) = tensors().map_err(|cause| WeightsError::new(&path, cause))?;
    Model::new(graph.clone(), tensors, preprocessing, labels).map_err(|error| WeightsError::new(&path, error))
}

/// Reads a weights file, whose format is detected from its first bytes. `path` is a file or a run folder (see
/// [`weights_file`]).
///
/// # Errors
/// If the file cannot be read, is damaged, or is neither safetensors nor a torch checkpoint.
pub fn open(path: &Path) -> Result<Weights, WeightsError> {
    let path = weights_file(path);
    let bytes = read_bytes(&path, MAX_BYTES)?;
    let opened = || {
        let (views, metadata) = parse_state_dict(&bytes)?;
        if metadata.contains_key(GRAPH) {
            return Ok::<_, Cause>(Err(checkpoint(views, metadata, Some(&bytes))?));
        }
        let stored = |(name, view): (String, TensorView<'_>)| (name, StoredTensor::new(view, &bytes));
        Ok(Ok(views.into_iter().map(stored).collect()))
    };
    match opened().map_err(|cause| WeightsError::new(&path, cause))? {
        Ok(tensors) => Ok(Weights::StateDict(StateDict { path, bytes, tensors })),
        Err(checkpoint) => Ok(Weights::Checkpoint(Box::new(checkpoint))),
    }
}

/// The weights of a run folder (`weights/best.safetensors` in it, or `last.safetensors` if no images were held out), or
/// `path` itself if it is no folder.
pub fn weights_file(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let [best, last] = ["best", "last"].map(|name| path.join("weights").join(name).with_extension("safetensors"));
    if !best.exists() && last.exists() { last } else { best }
}

/// The checkpoint in `bytes`, or `None` if they are a state dict without a graph.
///
/// # Errors
/// If `bytes` are damaged, or neither safetensors nor a torch checkpoint.
pub fn parse_checkpoint(bytes: &[u8]) -> Result<Option<Checkpoint>, Cause> {
    let (views, metadata) = parse_state_dict(bytes)?;
    if metadata.contains_key(GRAPH) { checkpoint(views, metadata, None).map(Some) } else { Ok(None) }
}

fn checkpoint(
    views: Vec<(String, TensorView<'_>)>,
    mut metadata: Metadata,
    file: Option<&Bytes>,
) -> Result<Checkpoint, Cause> {
    let graph = metadata.get(GRAPH).ok_or(FormatError::MetadataMissing { key: GRAPH })?;
    let graph = Graph::from_json(graph).map_err(FormatError::from)?;
    let preprocessing: Preprocessing = json(&metadata, PREPROCESSING)?;
    preprocessing.validate().map_err(FormatError::from)?;
    let labels = json(&metadata, LABELS)?;
    let (tensors, _) = tensors_of_graph(views, &graph, &NamedTensors::new(), file)?;
    let mut model = Model::new(graph, tensors, preprocessing, labels)?;
    if metadata.contains_key(ACTIVATION) {
        model = model.with_activation(json(&metadata, ACTIVATION)?);
    }
    if metadata.contains_key(TEMPERATURE) {
        model = model.with_temperature(json(&metadata, TEMPERATURE)?)?;
    }
    Ok(Checkpoint { model, recipe: metadata.remove(RECIPE) })
}

fn json<T: DeserializeOwned>(metadata: &Metadata, key: &'static str) -> Result<T, FormatError> {
    let text = metadata.get(key).ok_or(FormatError::MetadataMissing { key })?;
    serde_json::from_str(text).map_err(|source| FormatError::Metadata { key, source })
}

/// The tensors of a safetensors file's or torch checkpoint's bytes, not yet converted, and the metadata, which only
/// safetensors has.
///
/// # Errors
/// If `bytes` are damaged, or neither.
pub fn parse_state_dict(bytes: &[u8]) -> Result<(Vec<(String, TensorView<'_>)>, Metadata), FormatError> {
    // A safetensors file begins with the length of its header (eight bytes), which begins with a brace.
    if bytes.get(4..9) == Some(b"\0\0\0\0{") {
        return parse_safetensors(bytes);
    }
    if is_torch(bytes) {
        return Ok((parse_torch(bytes)?, Metadata::new()));
    }
    let start = &bytes[..bytes.len().min(8)];
    let got = recognise(bytes).map_or_else(|| format!("bytes \"{}\"", start.escape_ascii()), str::to_owned);
    Err(FormatError::Unknown { got })
}

impl StateDict {
    /// The number of outputs of these tensors' network, if it equals `graph` up to the number of outputs: the first
    /// extent of the last weight.
    pub fn outputs(&self, graph: &Graph) -> Option<usize> {
        let tensors = self.resolved(graph).tensors;
        let last = graph.parameters().filter(|(key, _)| key.ends_with(".weight")).last();
        last.and_then(|(key, _)| shape_of(&tensors, &key)?.first().copied())
    }

    /// The number of input channels of these tensors' network, if it equals `graph` otherwise: the second extent of the
    /// first convolution's weight.
    pub fn inputs(&self, graph: &Graph) -> Option<usize> {
        let tensors = self.resolved(graph).tensors;
        let first = graph.nodes.iter().find(|node| node.inputs.contains(&NodeId(0)))?;
        shape_of(&tensors, &first.key("weight"))?.get(1).copied()
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The mismatches between these tensors and `graph`, by names and shapes: missing, mis-shaped and unexpected tensors.
    /// No tensor is converted.
    pub fn problems(&self, graph: &Graph) -> Vec<TensorProblem> {
        compare(self.resolved(graph), graph)
    }

    /// The model of these tensors and a given network, and notes for the user about how the tensors were found: averaged
    /// weights used, a submodule entered, tensors ignored.
    ///
    /// # Errors
    /// If the tensors do not fit the graph (all that do not are listed), hold values that are not finite, or the parts do
    /// not fit together.
    pub fn into_model(
        self,
        graph: &Graph,
        preprocessing: Preprocessing,
        labels: Vec<String>,
    ) -> Result<(Model, Vec<String>), WeightsError> {
        self.into_model_with(graph, &NamedTensors::new(), preprocessing, labels)
    }

    /// As [`into_model`](Self::into_model), with the tensors of `otherwise` where the file has none of their names.
    ///
    /// # Errors
    /// As there.
    pub fn into_model_with(
        self,
        graph: &Graph,
        otherwise: &NamedTensors,
        preprocessing: Preprocessing,
        labels: Vec<String>,
    ) -> Result<(Model, Vec<String>), WeightsError> {
        let views = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.view(&self.bytes))).collect();
        tensors_of_graph(views, graph, otherwise, Some(&self.bytes))
            .and_then(|(tensors, notes)| Ok((Model::new(graph.clone(), tensors, preprocessing, labels)?, notes)))
            .map_err(|cause| WeightsError::new(&self.path, cause))
    }

    fn resolved(&self, graph: &Graph) -> Resolved<&StoredTensor> {
        resolve(self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect(), graph)
    }
}

/// The shape of the tensor `key`, or of its values before pruning.
fn shape_of<'a>(tensors: &IndexMap<String, &'a StoredTensor>, key: &str) -> Option<&'a [usize]> {
    let tensor = tensors.get(key).or_else(|| tensors.get(&format!("{key}_orig")))?;
    Some(tensor.shape())
}
