//! Builds a graph node by node, checking shapes at every step.

use crate::shape::infer_node;
use crate::{Conv2d, Graph, GraphError, Node, NodeId, Op, Pool2d, Shape};

/// Appends nodes to a graph. Each method returns the new node, to be read by later ones.
#[derive(Debug)]
pub struct Builder {
    graph: Graph,
    shapes: Vec<Shape>,
}

impl Builder {
    /// A network called `name` for images of `[channels, height, width]`.
    pub fn new(name: &str, [channels, height, width]: [usize; 3]) -> Self {
        let op = Op::Input { channels, height, width };
        let input = Node { name: "input".into(), op, inputs: Vec::new() };
        let graph = Graph { name: name.into(), nodes: vec![input], output: NodeId(0) };
        Self { graph, shapes: vec![Shape { height, width, channels }] }
    }

    /// The image.
    pub fn input(&self) -> NodeId {
        NodeId(0)
    }

    /// Appends any op.
    ///
    /// # Errors
    /// If the op's own numbers are out of range or its inputs do not fit it.
    ///
    /// # Panics
    /// If `inputs` are not of this builder.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let name = name.into();
        op.validate().map_err(|message| GraphError::new(&name, message))?;
        let node = Node { name, op, inputs: inputs.to_vec() };
        let [_, height, width] = self.graph.input_size();
        self.shapes.push(infer_node(&node, &self.shapes, [height, width])?);
        self.graph.nodes.push(node);
        Ok(NodeId(self.graph.nodes.len() - 1))
    }

    /// A convolution.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn conv(&mut self, name: impl Into<String>, x: NodeId, conv: Conv2d) -> Result<NodeId, GraphError> {
        self.push(name, Op::Conv2d(conv), &[x])
    }

    /// Batch normalisation of all channels of `x`, with torch's defaults (eps 1e-5, momentum 0.1).
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn batch_norm(&mut self, name: impl Into<String>, x: NodeId) -> Result<NodeId, GraphError> {
        let channels = self.shape(x).channels;
        self.push(name, Op::BatchNorm2d { channels, eps: 1e-5, momentum: 0.1 }, &[x])
    }

    /// Layer normalisation of the channels of each pixel of `x`.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn layer_norm(&mut self, name: impl Into<String>, x: NodeId, eps: f32) -> Result<NodeId, GraphError> {
        let channels = self.shape(x).channels;
        self.push(name, Op::LayerNorm { channels, eps }, &[x])
    }

    /// ReLU.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn relu(&mut self, name: impl Into<String>, x: NodeId) -> Result<NodeId, GraphError> {
        self.push(name, Op::Relu, &[x])
    }

    /// The sum of two feature maps.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn add(&mut self, name: impl Into<String>, a: NodeId, b: NodeId) -> Result<NodeId, GraphError> {
        self.push(name, Op::Add, &[a, b])
    }

    /// Max pooling.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn max_pool(&mut self, name: impl Into<String>, x: NodeId, pool: Pool2d) -> Result<NodeId, GraphError> {
        self.push(name, Op::MaxPool2d(pool), &[x])
    }

    /// Mean over all pixels.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn global_avg_pool(&mut self, name: impl Into<String>, x: NodeId) -> Result<NodeId, GraphError> {
        self.push(name, Op::GlobalAvgPool, &[x])
    }

    /// A feature map as a vector.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn flatten(&mut self, name: impl Into<String>, x: NodeId) -> Result<NodeId, GraphError> {
        self.push(name, Op::Flatten, &[x])
    }

    /// A linear layer on the channels of each pixel of `x`.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn linear(
        &mut self,
        name: impl Into<String>,
        x: NodeId,
        out_features: usize,
        bias: bool,
    ) -> Result<NodeId, GraphError> {
        let in_features = self.shape(x).channels;
        self.push(name, Op::Linear { in_features, out_features, bias, quantized: false }, &[x])
    }

    /// The shape of `x` at the designed input size.
    ///
    /// # Panics
    /// If `x` is not of this builder.
    pub fn shape(&self, x: NodeId) -> Shape {
        self.shapes[x.0]
    }

    /// The finished, validated graph with `output` as its result.
    ///
    /// # Errors
    /// As [`Graph::validate`].
    pub fn finish(mut self, output: NodeId) -> Result<Graph, GraphError> {
        self.graph.output = output;
        self.graph.validate()?;
        Ok(self.graph)
    }
}
