//! A network with gradients: the score of a class with respect to feature maps or the image.

use crate::{ExplainError, Target};
use residual_engine::{Engine, Frozen, GradientOptions, Mode, Options};
use residual_graph::{NodeId, Op, Shape};
use residual_infer::{layer_node, probabilities};
use residual_model::{Activation, Model};
use residual_tensor::NamedTensors;
use std::sync::Arc;

/// A compiled model whose layers and gradients can be read. Batch norms use their running statistics and dropout is inactive,
/// as in evaluation; no gradients of parameters are computed. Images are normalised, n × height × width × channels (NHWC).
#[derive(Debug)]
pub struct Network {
    engine: Engine,
    /// The requested layers, and the node of each.
    layers: Vec<Layer>,
    image: Shape,
    classes: usize,
    batch: usize,
    activation: Activation,
    temperature: f32,
}

/// A layer of a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name, as requested.
    pub name: String,
    /// The node that computes it.
    pub node: String,
    /// The shape of its value for one image.
    pub shape: Shape,
}

/// The values of one forward and backward pass over a batch of up to [`Network::batch`] images.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    network: &'a Network,
    /// The index of the first image.
    pub first: usize,
    /// The number of images.
    pub images: usize,
}

impl Network {
    /// The name that stands for the image among the layers of [`Network::new`].
    pub const IMAGE: &'static str = "";

    /// Compiles `model` for batches of up to `batch` images, and keeps the values and gradients of `layers`: names as in
    /// [`residual_infer::FeatureExtractor`], or [`Network::IMAGE`]. The backward pass ends at the first of them.
    ///
    /// # Errors
    /// If a layer is not known, or the network cannot be run.
    pub fn new(model: &Model, layers: &[&str], batch: usize, options: &Options) -> Result<Self, ExplainError> {
        let graph = &model.graph;
        let node = |&name: &&str| match name {
            Self::IMAGE => Ok(NodeId(0)),
            name => layer_node(graph, name),
        };
        let nodes = layers.iter().map(node).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<&str> = nodes.iter().map(|id| graph.node(*id).name.as_str()).collect();
        let parameters = graph.nodes.iter().map(|node| node.name.clone()).collect();
        let frozen = Arc::new(Frozen { parameters, ..Frozen::default() });
        let (size, batch) = (model.preprocessing.size, batch.max(1));
        let options =
            Options { gradients: GradientOptions { frozen, ..GradientOptions::default() }, ..options.clone() };
        let engine = Engine::new(model, Mode::Eval, batch, size, &names, &options)?;
        let layer = |(name, node): (&&str, &&str)| Layer {
            name: (*name).to_owned(),
            node: (*node).to_owned(),
            shape: engine.node_shape(node).expect("every layer is kept"),
        };
        let layers = layers.iter().zip(&names).map(layer).collect();
        let [height, width] = size;
        let image = Shape { height, width, channels: graph.input_size()[0] };
        let Model { activation, temperature, .. } = *model;
        Ok(Self { layers, image, classes: graph.output_channels()?, batch, engine, activation, temperature })
    }

    /// The layers whose values and gradients can be read.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The shape of an image.
    pub fn image(&self) -> Shape {
        self.image
    }

    /// The number of outputs.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The maximum number of images of a pass.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The model's probability of `class`, from the logits of an image.
    pub(crate) fn probability(&self, logits: &[f32], class: usize) -> f32 {
        probabilities(logits, self.activation, self.temperature)[class]
    }

    /// The place of the image among the layers.
    pub(crate) fn image_layer(&self) -> Result<usize, ExplainError> {
        let place = self.layers.iter().position(|layer| layer.name == Self::IMAGE);
        place.ok_or_else(|| ExplainError::setting("layers", "the image among them", "none"))
    }

    /// Replaces all weights and running statistics.
    ///
    /// # Errors
    /// If a tensor is missing or mis-shaped.
    pub fn load(&mut self, tensors: &NamedTensors) -> Result<(), ExplainError> {
        Ok(self.engine.load_state_dict(tensors)?)
    }

    /// Runs forward passes over any number of images, batch by batch.
    ///
    /// # Errors
    /// If the number of values is not a whole number of images, logits are not finite, or `each` fails.
    pub fn forward(
        &mut self,
        images: &[f32],
        mut each: impl FnMut(Pass<'_>) -> Result<(), ExplainError>,
    ) -> Result<(), ExplainError> {
        let len = self.image.len();
        if !images.len().is_multiple_of(len) {
            let expected = images.len().div_ceil(len) * len;
            return Err(ExplainError::Images { expected, got: images.len() });
        }
        let mut first = 0;
        for chunk in images.chunks(self.batch * len) {
            self.engine.forward(chunk)?;
            let pass = Pass { network: self, first, images: chunk.len() / len };
            pass.check_logits()?;
            each(pass)?;
            first += chunk.len() / len;
        }
        Ok(())
    }

    /// The logits of each image, images × classes.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn logits(&mut self, images: &[f32]) -> Result<Vec<f32>, ExplainError> {
        let mut logits = Vec::with_capacity(images.len() / self.image.len() * self.classes);
        self.forward(images, |pass| {
            logits.extend_from_slice(pass.logits());
            Ok(())
        })?;
        Ok(logits)
    }

    /// As [`forward`](Self::forward), followed by a backward pass from the target of each image. Values of layers stay
    /// readable beside their gradients.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); also if there is not a target for each image, or a class is not known.
    pub fn gradients(
        &mut self,
        images: &[f32],
        targets: &[Target],
        mut each: impl FnMut(Pass<'_>) -> Result<(), ExplainError>,
    ) -> Result<(), ExplainError> {
        let (len, classes) = (self.image.len(), self.classes);
        if images.len() != targets.len() * len {
            return Err(ExplainError::Images { expected: targets.len() * len, got: images.len() });
        }
        targets.iter().try_for_each(|target| target.check(classes))?;
        let mut first = 0;
        for (chunk, targets) in images.chunks(self.batch * len).zip(targets.chunks(self.batch)) {
            self.engine.forward(chunk)?;
            Pass { network: self, first, images: targets.len() }.check_logits()?;
            let mut seed = vec![0.0; targets.len() * classes];
            targets.iter().zip(seed.chunks_exact_mut(classes)).for_each(|(target, seed)| target.add_gradient(seed));
            self.engine.backward_output(&seed)?;
            each(Pass { network: self, first, images: targets.len() })?;
            first += targets.len();
        }
        Ok(())
    }
}

impl<'a> Pass<'a> {
    /// The logits, images × classes.
    pub fn logits(&self) -> &'a [f32] {
        self.network.engine.output()
    }

    /// The value of the layer at `index` for each image.
    pub fn values(&self, index: usize) -> impl Iterator<Item = &'a [f32]> {
        let Layer { node, shape, .. } = &self.network.layers[index];
        let values = self.network.engine.node_value(node).expect("every layer is kept");
        values.chunks_exact(shape.len()).take(self.images)
    }

    /// The gradient of each image's score with respect to the value of the layer at `index`.
    pub fn layer_gradients(&self, index: usize) -> impl Iterator<Item = &'a [f32]> {
        let Layer { node, shape, .. } = &self.network.layers[index];
        let gradients = self.network.engine.node_gradient(node).expect("a plan for evaluation has gradients");
        gradients.chunks_exact(shape.len()).take(self.images)
    }

    fn check_logits(&self) -> Result<(), ExplainError> {
        match self.logits().iter().position(|logit| !logit.is_finite()) {
            None => Ok(()),
            Some(at) => Err(ExplainError::NotFinite {
                index: self.first + at / self.network.classes.max(1),
                what: "logits",
                got: self.logits()[at],
            }),
        }
    }
}

/// The layer that class activation maps explain by default: the last one with more than one pixel, by the name of its node.
///
/// # Errors
/// If the network has none.
pub fn default_layer(model: &Model) -> Result<String, ExplainError> {
    let [height, width] = model.preprocessing.size;
    let shapes = model.graph.shapes(height, width)?;
    let is_map = |id: &usize| {
        let (node, shape) = (&model.graph.nodes[*id], shapes[*id]);
        shape.height * shape.width > 1 && !matches!(node.op, Op::Input { .. } | Op::Flatten)
    };
    let last = (0..=model.graph.output.0).rev().find(is_map).ok_or(ExplainError::NoFeatureMap)?;
    Ok(model.graph.nodes[last].name.clone())
}
