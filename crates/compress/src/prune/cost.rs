//! What layers cost, as a function of their widths.

use crate::CompressError;
use residual_graph::{Graph, GraphError, NodeId, Shape};

/// The cost of each node of a network at any width; that of the network is their sum.
pub trait LayerCost {
    /// The cost of node `id` with so many channels of its first input and of its output.
    ///
    /// # Errors
    /// If it cannot be measured.
    fn cost(&mut self, id: NodeId, input: usize, output: usize) -> Result<f64, CompressError>;
}

/// Multiply-accumulates for one image.
#[derive(Clone, Debug)]
pub struct Macs<'a> {
    graph: &'a Graph,
    shapes: Vec<Shape>,
}

impl<'a> Macs<'a> {
    /// Those of `graph` for images of `size` (height, width).
    ///
    /// # Errors
    /// If the shapes do not fit together.
    pub fn new(graph: &'a Graph, [height, width]: [usize; 2]) -> Result<Self, GraphError> {
        Ok(Self { graph, shapes: graph.shapes(height, width)? })
    }
}

impl LayerCost for Macs<'_> {
    fn cost(&mut self, id: NodeId, input: usize, output: usize) -> Result<f64, CompressError> {
        let op = self.graph.node(id).op.with_channels(input, output);
        Ok(op.macs(Shape { channels: output, ..self.shapes[id.0] }) as f64)
    }
}
