//! Feature extraction: embedding vectors and feature maps of any layer.

use crate::ClassifyError;
use residual_engine::{Engine, Mode, Options};
use residual_graph::{Graph, GraphError, NodeId, Shape};
use residual_model::{Activation, Model};
use residual_preprocess::{Image, Preprocessor};

/// A model that returns the values of its layers.
///
/// A layer is named `pooled` (the vector that the head reads), `C2` to `C5` (the last feature maps of stride 4 to
/// 32, which are the inputs of the next stage; networks for small images have `C0` and `C1`), or by its module path
/// (`layer1`, `layer1.0.conv2`), which means the last node of that module.
///
/// ```
/// use residual_infer::FeatureExtractor;
/// use {residual_model as model, residual_preprocess as preprocess, residual_zoo as zoo};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let graph = zoo::build("resnet20", 3)?;
/// # let tensors = model::initialise(&graph, model::Initialisation::Torch, 0);
/// # let preprocessing = preprocess::Preprocessing::unscaled([32, 32], &[0.5; 3], &[0.25; 3]);
/// # let model = model::Model::new(graph, tensors, preprocessing, Vec::new())?;
/// let mut model = FeatureExtractor::new(model)?;
/// let images = [preprocess::Image::new(32, 32, 3, vec![128; 32 * 32 * 3])?];
/// let features = model.features(&images, &["layer1", "pooled"])?;
/// assert_eq!(features[0].values.len(), 32 * 32 * 16);
/// assert_eq!((features[1].shape.height, features[1].shape.channels), (1, 64));
/// # Ok(())
/// # }
/// ```
pub struct FeatureExtractor {
    model: Model,
    preprocessor: Preprocessor,
    batch: usize,
    options: Options,
    compiled: Option<Compiled>,
}

/// The values of a layer for some images.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerFeatures {
    /// The name of the layer, as requested.
    pub layer: String,
    /// Height, width and channels of an image's value. A vector has height and width 1.
    pub shape: Shape,
    /// n × height × width × channels (NHWC, channels last).
    pub values: Vec<f32>,
}

struct Compiled {
    layers: Vec<String>,
    nodes: Vec<String>,
    engine: Engine,
}

/// A layer that a network does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("layers: expected pooled, {}a module of the network ({}) or a node, got \"{got}\"", join(levels), parts.join(", "))]
pub struct UnknownLayer {
    /// The levels that it has.
    pub levels: Vec<String>,
    /// Its modules.
    pub parts: Vec<String>,
    /// The requested name.
    pub got: String,
}

fn join(levels: &[String]) -> String {
    levels.iter().map(|level| format!("{level}, ")).collect()
}

/// The node that computes the layer called `name` (see [`FeatureExtractor`]).
///
/// # Errors
/// If there is none, or the graph's shapes do not fit together.
pub fn layer_node(graph: &Graph, name: &str) -> Result<NodeId, ClassifyError> {
    let levels = graph.levels().map_err(engine_error)?;
    if name == "pooled" {
        return Ok(graph.head().map_or(graph.output, |head| graph.node(head).inputs[0]));
    }
    let level = levels.iter().find(|(level, _)| level == name).map(|(_, id)| *id);
    level.or_else(|| graph.module_output(name)).ok_or_else(|| {
        let parts = graph.parts().unwrap_or_default().into_iter().map(|part| part.path).collect();
        let levels = levels.into_iter().map(|(level, _)| level).collect();
        UnknownLayer { levels, parts, got: name.into() }.into()
    })
}

fn engine_error(error: GraphError) -> ClassifyError {
    ClassifyError::Engine(error.into())
}

impl FeatureExtractor {
    /// For images in batches of up to 16, on all cores.
    ///
    /// # Errors
    /// If the model's preprocessing cannot be carried out.
    pub fn new(model: Model) -> Result<Self, ClassifyError> {
        Self::with_options(model, 16, &Options::default())
    }

    /// For images in batches of up to `batch`.
    ///
    /// # Errors
    /// As [`FeatureExtractor::new`].
    pub fn with_options(model: Model, batch: usize, options: &Options) -> Result<Self, ClassifyError> {
        let preprocessor = Preprocessor::new(model.preprocessing.clone())?;
        Ok(Self { model, preprocessor, batch: batch.max(1), options: options.clone(), compiled: None })
    }

    /// The values of `layers` for decoded images of any size, one [`LayerFeatures`] for each layer.
    ///
    /// # Errors
    /// If a layer is not known, an image has channels that the network does not take, or the network cannot be run.
    pub fn features(&mut self, images: &[Image], layers: &[&str]) -> Result<Vec<LayerFeatures>, ClassifyError> {
        let len = self.preprocessor.output_len();
        let mut input = vec![0.0; images.len() * len];
        images.iter().zip(input.chunks_exact_mut(len)).try_for_each(|(image, to)| self.preprocessor.run(image, to))?;
        self.features_nhwc(&input, layers)
    }

    /// As [`features`](Self::features), for images that are normalised already: n × height × width × channels (NHWC,
    /// channels last; torch's tensors are NCHW) of the network's input size.
    ///
    /// # Errors
    /// If a layer is not known, or the number of values is not a whole number of images.
    pub fn features_nhwc(&mut self, normalised: &[f32], layers: &[&str]) -> Result<Vec<LayerFeatures>, ClassifyError> {
        let (len, batch) = (self.preprocessor.output_len(), self.batch);
        let Compiled { nodes, engine, .. } = self.compile(layers)?;
        let feature = |(layer, node): (&&str, &String)| LayerFeatures {
            layer: (*layer).to_owned(),
            shape: engine.node_shape(node).expect("every layer is kept"),
            values: Vec::new(),
        };
        let mut features: Vec<LayerFeatures> = layers.iter().zip(nodes.iter()).map(feature).collect();
        for images in normalised.chunks(batch * len) {
            engine.forward(images)?;
            for (feature, node) in features.iter_mut().zip(nodes.iter()) {
                feature.values.extend_from_slice(engine.node_value(node).expect("every layer is kept"));
            }
        }
        Ok(features)
    }

    /// The shape of each layer's value for one image.
    ///
    /// # Errors
    /// If a layer is not known, or the network cannot be run.
    pub fn shapes(&mut self, layers: &[&str]) -> Result<Vec<Shape>, ClassifyError> {
        let Compiled { nodes, engine, .. } = self.compile(layers)?;
        Ok(nodes.iter().map(|node| engine.node_shape(node).expect("every layer is kept")).collect())
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// A plan that computes only these layers and the nodes that they depend on.
    fn compile(&mut self, layers: &[&str]) -> Result<&mut Compiled, ClassifyError> {
        let compiled = match self.compiled.take() {
            Some(compiled) if compiled.layers == layers => compiled,
            _ => {
                let Model { graph, tensors, preprocessing, .. } = &self.model;
                let ids = layers.iter().map(|layer| layer_node(graph, layer)).collect::<Result<Vec<_>, _>>()?;
                let nodes: Vec<String> = ids.iter().map(|id| graph.node(*id).name.clone()).collect();
                let graph = if ids.is_empty() { graph.clone() } else { graph.until(&ids) };
                let tensors = graph.parameters().map(|(key, _)| (key.clone(), tensors[key.as_str()].clone())).collect();
                let part = Model {
                    graph,
                    tensors,
                    preprocessing: preprocessing.clone(),
                    labels: Vec::new(),
                    activation: Activation::Softmax,
                    temperature: 1.0,
                };
                let outputs: Vec<&str> = nodes.iter().map(String::as_str).collect();
                let engine = Engine::new(&part, Mode::Infer, self.batch, preprocessing.size, &outputs, &self.options)?;
                Compiled { layers: layers.iter().map(|layer| (*layer).to_owned()).collect(), nodes, engine }
            }
        };
        Ok(self.compiled.insert(compiled))
    }
}
