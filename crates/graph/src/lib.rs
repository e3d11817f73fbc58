//! Residual networks as data: ops, nodes, a builder, shape inference and analysis.
//!
//! A [`Graph`] is a plain, serialisable list of nodes in execution order, named by their torch module paths.
//! It holds no tensor data and does no I/O; model families build it and every other part of the program reads it.
//!
//! ```
//! use residual_graph::{Builder, Conv2d};
//!
//! # fn main() -> Result<(), residual_graph::GraphError> {
//! let mut net = Builder::new("tiny", [3, 32, 32]);
//! let x = net.conv("conv1", net.input(), Conv2d::new(3, 16, 3).padding(1))?;
//! let x = net.batch_norm("bn1", x)?;
//! let x = net.relu("relu", x)?;
//! let x = net.global_avg_pool("avgpool", x)?;
//! let x = net.flatten("flatten", x)?;
//! let x = net.linear("fc", x, 10, true)?;
//! let graph = net.finish(x)?;
//! assert_eq!(graph.parameter_count(), 3 * 16 * 9 + 2 * 16 + 16 * 10 + 10);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod analysis;
mod branches;
mod builder;
mod channels;
mod drop;
mod error;
mod json;
mod modules;
mod op;
mod quantized;
mod receptive_field;
mod shape;
mod stages;

pub use analysis::{Analysis, NodeAnalysis};
pub use branches::ResidualBlock;
pub use builder::Builder;
pub use channels::{Channel, ChannelGroup, Narrowed, Unit, UnitId};
pub use error::GraphError;
pub use modules::{Part, is_inside};
pub use op::{Conv2d, Op, ParameterSpec, Pool2d, Role, Window};
pub use receptive_field::ReceptiveField;
pub use shape::Shape;
pub use stages::Stage;

use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// The position of a node in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub usize);

/// One step of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The torch module path, unique in the graph: `layer1.0.conv1`.
    pub name: String,
    /// The op.
    pub op: Op,
    /// The nodes it reads, all of them earlier in the list.
    pub inputs: Vec<NodeId>,
}

impl Node {
    /// The state-dict key of one of the node's tensors: `conv1` and `weight` give `conv1.weight`.
    pub fn key(&self, tensor: &str) -> String {
        format!("{}.{tensor}", self.name)
    }
}

/// A network: nodes in execution order, the first of them the input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// The name of the network, usually its registry name.
    pub name: String,
    /// The nodes; every node comes after its inputs.
    pub nodes: Vec<Node>,
    /// The node whose value is the network's result.
    pub output: NodeId,
}

/// Maximum number of nodes: the deepest network of the zoo has some thousands.
const MAX_NODES: usize = 100_000;
/// Maximum length of the name of a node or network, in bytes.
const MAX_NAME: usize = 256;

impl Graph {
    /// The node at `id`.
    ///
    /// # Panics
    /// If `id` is not of this graph.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The node called `name`.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name).map(NodeId)
    }

    /// Channels, height and width of the image the network was designed for.
    ///
    /// # Panics
    /// If the first node is not an input, which [`Graph::validate`] rules out.
    pub fn input_size(&self) -> [usize; 3] {
        match self.nodes[0].op {
            Op::Input { channels, height, width } => [channels, height, width],
            _ => unreachable!("a validated graph starts with its input"),
        }
    }

    /// Channels of the result: the number of classes of a classifier.
    ///
    /// # Errors
    /// If the graph's shapes do not fit together.
    pub fn output_channels(&self) -> Result<usize, GraphError> {
        let [_, height, width] = self.input_size();
        Ok(self.shapes(height, width)?[self.output.0].channels)
    }

    /// For every node, the nodes that read it.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for input in &node.inputs {
                consumers[input.0].push(NodeId(index));
            }
        }
        consumers
    }

    /// Every tensor of the network's state dict, in torch's order: see [`Graph::state_order`].
    pub fn parameters(&self) -> impl Iterator<Item = (String, ParameterSpec)> {
        let nodes = self.state_order().into_iter().map(|id| self.node(id));
        nodes.flat_map(|node| node.op.parameters().into_iter().map(|spec| (node.key(spec.name), spec)))
    }

    /// The nodes with tensors in the order of torch's state dict: the graph's order, except that a module's own tensors
    /// come before those of its submodules (the `layer_scale` of `features.1.0` before `features.1.0.block.0`), regardless
    /// of the order of execution.
    pub fn state_order(&self) -> Vec<NodeId> {
        let holds_tensors = |index: &usize| !self.nodes[*index].op.parameters().is_empty();
        let holders: Vec<usize> = (0..self.nodes.len()).filter(holds_tensors).collect();
        let mut first_inside: HashMap<&str, usize> = HashMap::new();
        for &index in &holders {
            let name = self.nodes[index].name.as_str();
            for (end, _) in name.match_indices('.') {
                first_inside.entry(&name[..end]).or_insert(index);
            }
        }
        let place = |&index: &usize| {
            let name = self.nodes[index].name.as_str();
            (first_inside.get(name).map_or(index, |&inside| inside.min(index)), name.len(), index)
        };
        let mut order = holders;
        order.sort_by_key(place);
        order.into_iter().map(NodeId).collect()
    }

    /// The number of trainable values (buffers such as running statistics are not counted).
    pub fn parameter_count(&self) -> usize {
        self.parameters()
            .filter(|(_, spec)| spec.role.is_parameter())
            .map(|(_, spec)| spec.shape.iter().product::<usize>())
            .sum()
    }

    /// Checks that the list is a network: an input first and only there, nodes after their inputs, unique and non-empty
    /// names of up to 256 bytes without control characters, up to 100,000 nodes, sensible extents, and shapes that fit at
    /// the designed input size.
    ///
    /// # Errors
    /// The first invalid node, by name.
    pub fn validate(&self) -> Result<(), GraphError> {
        check_name(&self.name)?;
        if self.nodes.len() > MAX_NODES {
            let message = format!("expected at most {MAX_NODES} nodes, got {}", self.nodes.len());
            return Err(GraphError::new(&self.name, message));
        }
        let mut names = HashSet::new();
        for (index, node) in self.nodes.iter().enumerate() {
            check_name(&node.name)?;
            let fail = |message: String| Err(GraphError::new(&node.name, message));
            if node.name.is_empty() || !names.insert(node.name.as_str()) {
                return fail("expected a unique, non-empty name".into());
            }
            if matches!(node.op, Op::Input { .. }) != (index == 0) {
                return fail("expected one input, as the first node".into());
            }
            if let Some(bad) = node.inputs.iter().find(|input| input.0 >= index) {
                return fail(format!("expected inputs before node {index}, got {}", bad.0));
            }
            node.op.validate().or_else(fail)?;
        }
        if self.output.0 >= self.nodes.len() {
            return Err(GraphError::new(&self.name, format!("expected an output among {} nodes", self.nodes.len())));
        }
        let [_, height, width] = self.input_size();
        self.shapes(height, width).map(|_| ())
    }
}

fn check_name(name: &str) -> Result<(), GraphError> {
    if name.len() > MAX_NAME {
        let message = format!("expected a name of at most {MAX_NAME} bytes, got {}", name.len());
        return Err(GraphError::at_bad_name(name, message));
    }
    match name.chars().any(char::is_control) {
        true => Err(GraphError::at_bad_name(name, "expected a name without control characters")),
        false => Ok(()),
    }
}
