//! The structure of a network by module paths and resolutions: head, parts, blocks, levels.

use crate::{Graph, GraphError, Node, NodeId, Op};
use std::collections::HashMap;

/// One of the top-level modules of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its module path: `layer1`, `features.0`.
    pub path: String,
    /// Whether it is a stage: a module of blocks, which are modules of layers.
    pub is_stage: bool,
}

impl Graph {
    /// The classification head: the last node with parameters, if it is a linear layer of a vector, or an equivalent
    /// convolution of a single pixel (timm's `head.fc`), and determines the number of outputs.
    pub fn head(&self) -> Option<NodeId> {
        let [_, height, width] = self.input_size();
        let shapes = self.shapes(height, width).ok()?;
        let head = self.nodes.iter().rposition(|node| node.op.has_parameters())?;
        let is_vector = [shapes[head].height, shapes[head].width] == [1, 1];
        let is_head = match self.nodes[head].op {
            Op::Linear { .. } => is_vector,
            Op::Conv2d(conv) => is_vector && conv.kernel == [1, 1] && conv.groups == 1,
            _ => false,
        };
        (is_head && shapes[head].channels == shapes[self.output.0].channels).then_some(NodeId(head))
    }

    /// The fully connected layers: linear layers of vectors, and the head. The linear layers of a ConvNeXt's blocks, which read
    /// pixel by pixel, are none.
    pub fn fully_connected(&self) -> Vec<NodeId> {
        let [_, height, width] = self.input_size();
        let Ok(shapes) = self.shapes(height, width) else { return Vec::new() };
        let head = self.head();
        let is_one = |&id: &NodeId| {
            let is_vector = [shapes[id.0].height, shapes[id.0].width] == [1, 1];
            Some(id) == head || (is_vector && matches!(self.node(id).op, Op::Linear { .. }))
        };
        (0..self.nodes.len()).map(NodeId).filter(is_one).collect()
    }

    /// The modules with parameters, in execution order. They are the outermost ones, except that a module with layers at
    /// three or more resolutions (`features`, `stages`) is replaced by its submodules.
    ///
    /// # Errors
    /// If the graph's shapes do not fit together.
    pub fn parts(&self) -> Result<Vec<Part>, GraphError> {
        let [_, height, width] = self.input_size();
        let shapes = self.shapes(height, width)?;
        let layers = || self.nodes.iter().zip(&shapes).filter(|(node, _)| node.op.has_parameters());
        // The paths of all modules around a layer, from the outermost to its own.
        fn paths(name: &str) -> impl Iterator<Item = &str> {
            name.match_indices('.').map(|(end, _)| end).chain([name.len()]).map(|end| &name[..end])
        }
        // The resolutions of a module's layers, as many as matter.
        let mut resolutions: HashMap<&str, Vec<[usize; 2]>> = HashMap::new();
        for (node, shape) in layers() {
            let resolution = [shape.height, shape.width];
            for path in paths(&node.name).filter(|_| resolution != [1, 1]) {
                let known = resolutions.entry(path).or_default();
                if known.len() <= 2 && !known.contains(&resolution) {
                    known.push(resolution);
                }
            }
        }
        let is_wide = |path: &str| resolutions.get(path).is_some_and(|resolutions| resolutions.len() > 2);
        let mut parts: Vec<Part> = Vec::new();
        let mut known: HashMap<&str, usize> = HashMap::new();
        for (node, _) in layers() {
            let path = paths(&node.name).find(|path| *path == node.name || !is_wide(path));
            let path = path.expect("the last path is the whole name");
            let has_blocks = node.name[path.len()..].matches('.').count() > 1;
            let index = *known.entry(path).or_insert(parts.len());
            if index == parts.len() {
                parts.push(Part { path: path.into(), is_stage: false });
            }
            parts[index].is_stage |= has_blocks;
        }
        Ok(parts)
    }

    /// The last node of the module at `path`, or the node of that name: the output of the module.
    pub fn module_output(&self, path: &str) -> Option<NodeId> {
        self.find(path).or_else(|| self.nodes.iter().rposition(|node| is_inside(&node.name, path)).map(NodeId))
    }

    /// The subgraph that computes the nodes at `ids`; the last of them is the output.
    ///
    /// # Panics
    /// If there are none, or one is not of this graph.
    pub fn until(&self, ids: &[NodeId]) -> Self {
        let output = *ids.iter().max().expect("at least one node");
        let mut needed = vec![false; self.nodes.len()];
        needed[0] = true;
        ids.iter().for_each(|id| needed[id.0] = true);
        for index in (0..self.nodes.len()).rev().filter(|index| *index <= output.0) {
            if needed[index] {
                self.nodes[index].inputs.iter().for_each(|input| needed[input.0] = true);
            }
        }
        let mut moved = vec![NodeId(0); self.nodes.len()];
        let mut nodes = Vec::new();
        for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| needed[*index]) {
            moved[index] = NodeId(nodes.len());
            let inputs = node.inputs.iter().map(|input| moved[input.0]).collect();
            nodes.push(Node { name: node.name.clone(), op: node.op.clone(), inputs });
        }
        Self { name: self.name.clone(), nodes, output: moved[output.0] }
    }

    /// The feature maps of increasing stride that detectors use: for every power-of-two stride, the last node of that
    /// stride that all paths pass through, which is the input of the next stage. C2 has stride 4, C5 32.
    ///
    /// # Errors
    /// If the graph's shapes do not fit together.
    pub fn levels(&self) -> Result<Vec<(String, NodeId)>, GraphError> {
        let [_, height, width] = self.input_size();
        let analysis = self.analyse(height, width)?;
        let mut levels: Vec<(String, NodeId)> = Vec::new();
        let mut last_read = vec![0; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| last_read[input.0] = index);
        }
        let mut furthest = 0;
        for (index, node) in analysis.nodes.iter().enumerate() {
            let leads_alone = furthest <= index;
            furthest = furthest.max(last_read[index]);
            let Some(field) = node.receptive_field.filter(|_| leads_alone && index > 0) else { continue };
            if !field.stride.is_power_of_two() {
                continue;
            }
            let name = format!("C{}", field.stride.trailing_zeros());
            match levels.iter_mut().find(|(known, _)| *known == name) {
                Some((_, last)) => *last = NodeId(index),
                None => levels.push((name, NodeId(index))),
            }
        }
        Ok(levels)
    }
}

/// Whether the node called `name` is of the module at `path`.
pub fn is_inside(name: &str, path: &str) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
