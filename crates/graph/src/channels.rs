//! Which channels of a network can be removed, and which only together.
//!
//! The output channels of two nodes are coupled if one cannot go without the other: an op that treats every channel by itself
//! couples channel to channel, a sum couples those of its operands, a grouped convolution all channels of a group. Convolutions
//! and linear layers without groups couple nothing, as each output has a filter and each filter reads all inputs. The classes of
//! coupled channels (as in Fang et al., "DepGraph: Towards any structural pruning", arXiv:2301.12900) follow from the graph alone.

use crate::{Graph, GraphError, NodeId, Op, Shape};
use std::collections::HashMap;

/// An output channel of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    /// The node.
    pub node: NodeId,
    /// The number of the channel.
    pub index: usize,
}

/// Channels that can only be removed together, in the order of the graph: the output channels of some layers, and what becomes of
/// them up to the next layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Every channel of every node.
    pub channels: Vec<Channel>,
}

/// Units that are alike: each has as many channels of every node as any other. Examples are the channels inside a block, or
/// those of a whole stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelGroup {
    /// The first layer whose outputs they are.
    pub name: String,
    /// The units.
    pub units: Vec<Unit>,
    /// For every node that has channels of the units, how many of each unit.
    pub widths: Vec<(NodeId, usize)>,
}

impl ChannelGroup {
    /// Channels of one unit in the node that has most.
    pub fn unit_width(&self) -> usize {
        self.widths.iter().map(|&(_, width)| width).max().unwrap_or(0)
    }
}

/// A unit of [`Graph::channel_groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId {
    /// The number of its group.
    pub group: usize,
    /// Its number in the group.
    pub unit: usize,
}

/// A graph with fewer channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Narrowed {
    /// The graph: the same nodes, with the remaining channels.
    pub graph: Graph,
    /// For every node, the output channels that remain, in rising order.
    pub kept: Vec<Vec<usize>>,
}

impl Graph {
    /// The channels that can be removed, by units in groups, in the order of the layers. The channels of the image, of the
    /// result and of what a layer norm reads, whose mean and variance would change, cannot.
    ///
    /// # Errors
    /// If the network is quantised, or its shapes do not fit together.
    pub fn channel_groups(&self) -> Result<Vec<ChannelGroup>, GraphError> {
        if self.is_quantized() {
            return Err(GraphError::new(&self.name, "expected layers of floats, got quantized ones"));
        }
        let [_, height, width] = self.input_size();
        let shapes = self.shapes(height, width)?;
        let mut couplings = Couplings::new(&shapes);
        for (index, node) in self.nodes.iter().enumerate() {
            couplings.add(NodeId(index), &node.op, &node.inputs, &shapes);
        }
        couplings.fix(self.output, shapes[self.output.0].channels);
        Ok(self.grouped(couplings.classes()))
    }

    /// Units with the same number of channels of every node are a group. What is no layer's output, as padded zeros may be, is
    /// left as it is.
    fn grouped(&self, classes: Vec<Unit>) -> Vec<ChannelGroup> {
        let mut groups: Vec<ChannelGroup> = Vec::new();
        let mut by_widths: HashMap<Vec<(NodeId, usize)>, usize> = HashMap::new();
        for unit in classes {
            let is_layer = |channel: &&Channel| self.node(channel.node).op.is_layer();
            let Some(first) = unit.channels.iter().find(is_layer) else { continue };
            let runs = unit.channels.chunk_by(|a, b| a.node == b.node);
            let widths: Vec<(NodeId, usize)> = runs.map(|run| (run[0].node, run.len())).collect();
            let group = *by_widths.entry(widths.clone()).or_insert_with(|| {
                groups.push(ChannelGroup { name: self.node(first.node).name.clone(), units: Vec::new(), widths });
                groups.len() - 1
            });
            groups[group].units.push(unit);
        }
        groups
    }

    /// The graph without some units of its [`Graph::channel_groups`], which are `groups`.
    ///
    /// # Errors
    /// If a unit is none of them, or all units of a group are removed.
    pub fn without_units(&self, groups: &[ChannelGroup], removed: &[UnitId]) -> Result<Narrowed, GraphError> {
        let [_, height, width] = self.input_size();
        let shapes = self.shapes(height, width)?;
        let mut is_kept: Vec<Vec<bool>> = shapes.iter().map(|shape| vec![true; shape.channels]).collect();
        let mut left: Vec<usize> = groups.iter().map(|group| group.units.len()).collect();
        let mut sorted = removed.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        for id in sorted {
            let unit = groups.get(id.group).and_then(|group| group.units.get(id.unit)).ok_or_else(|| {
                let message = format!("expected a unit of its channels, got unit {} of group {}", id.unit, id.group);
                GraphError::new(&self.name, message)
            })?;
            unit.channels.iter().for_each(|channel| is_kept[channel.node.0][channel.index] = false);
            left[id.group] -= 1;
        }
        if let Some((group, _)) = groups.iter().zip(&left).find(|(_, left)| **left == 0) {
            let message = format!("expected one of {} units of channels to remain, got none", group.units.len());
            return Err(GraphError::new(&group.name, message));
        }
        let kept: Vec<Vec<usize>> = is_kept
            .iter()
            .map(|is_kept| is_kept.iter().enumerate().filter_map(|(index, kept)| kept.then_some(index)).collect())
            .collect();
        let mut graph = self.clone();
        for (node, kept_here) in graph.nodes.iter_mut().zip(&kept) {
            let input = node.inputs.first().map_or(0, |input| kept[input.0].len());
            node.op = node.op.with_channels(input, kept_here.len());
        }
        graph.validate()?;
        Ok(Narrowed { graph, kept })
    }
}

impl Op {
    /// Whether it is a convolution or linear layer: what has a filter for every output channel.
    pub fn is_layer(&self) -> bool {
        matches!(self, Op::Conv2d(_) | Op::Linear { .. })
    }

    /// The op with other numbers of channels of its first input and of its output. A grouped convolution has groups of the same
    /// size, and more or fewer of them.
    #[must_use]
    pub fn with_channels(&self, input: usize, output: usize) -> Self {
        let mut op = self.clone();
        match &mut op {
            Op::Conv2d(conv) => {
                if conv.groups > 1 {
                    conv.groups = conv.groups * output / conv.out_channels;
                }
                (conv.in_channels, conv.out_channels) = (input, output);
            }
            Op::Linear { in_features, out_features, .. } => (*in_features, *out_features) = (input, output),
            Op::PadShortcut { in_channels, out_channels, .. } => (*in_channels, *out_channels) = (input, output),
            Op::BatchNorm2d { channels, .. } | Op::LayerNorm { channels, .. } | Op::LayerScale { channels } => {
                *channels = output;
            }
            Op::Input { .. } | Op::Relu | Op::Gelu | Op::Sigmoid | Op::Gate | Op::Add | Op::Concat => {}
            Op::MaxPool2d(_) | Op::AvgPool2d { .. } | Op::GlobalAvgPool | Op::AdaptiveAvgPool2d { .. } => {}
            Op::Flatten | Op::Quantize | Op::QuantizeDynamic | Op::Dropout { .. } | Op::DropPath { .. } => {}
        }
        op
    }
}

/// The channels of all nodes, one after another, as a union-find forest.
struct Couplings {
    /// The first channel of every node, and the number of all.
    starts: Vec<usize>,
    parents: Vec<usize>,
    is_fixed: Vec<bool>,
}

impl Couplings {
    fn new(shapes: &[Shape]) -> Self {
        let mut starts = vec![0];
        starts.extend(shapes.iter().scan(0, |sum, shape| {
            *sum += shape.channels;
            Some(*sum)
        }));
        let count = starts[shapes.len()];
        Self { starts, parents: (0..count).collect(), is_fixed: vec![false; count] }
    }

    /// Couples the output channels of a node with those of its inputs, and fixes what cannot be removed.
    fn add(&mut self, id: NodeId, op: &Op, inputs: &[NodeId], shapes: &[Shape]) {
        let channels = shapes[id.0].channels;
        match *op {
            Op::Input { .. } => self.fix(id, channels),
            Op::Conv2d(conv) if conv.groups > 1 => {
                let [from, to] = [conv.in_channels / conv.groups, conv.out_channels / conv.groups];
                for group in 0..conv.groups {
                    let outputs = (group * to..(group + 1) * to).map(|index| (id, index));
                    let inputs = (group * from..(group + 1) * from).map(|index| (inputs[0], index));
                    outputs.chain(inputs).for_each(|channel| self.couple((id, group * to), channel));
                }
            }
            Op::Conv2d(_) | Op::Linear { .. } => {}
            Op::LayerNorm { .. } => {
                self.fix(inputs[0], channels);
                self.fix(id, channels);
            }
            Op::Concat => {
                let mut index = 0;
                for &input in inputs {
                    for channel in 0..shapes[input.0].channels {
                        self.couple((id, index), (input, channel));
                        index += 1;
                    }
                }
            }
            Op::Flatten => {
                // torch's order: all pixels of a channel, then those of the next.
                let pixels = shapes[inputs[0].0].height * shapes[inputs[0].0].width;
                (0..channels).for_each(|index| self.couple((id, index), (inputs[0], index / pixels)));
            }
            Op::PadShortcut { in_channels, out_channels, .. } => {
                let before = (out_channels - in_channels) / 2;
                (0..in_channels).for_each(|index| self.couple((id, before + index), (inputs[0], index)));
                // As many before as after, whatever is removed.
                (0..before).for_each(|index| self.couple((id, index), (id, before + in_channels + index)));
            }
            Op::Add | Op::Gate | Op::BatchNorm2d { .. } | Op::LayerScale { .. } => {
                self.couple_all(id, inputs, channels)
            }
            Op::Relu | Op::Gelu | Op::Sigmoid => self.couple_all(id, inputs, channels),
            Op::Quantize | Op::QuantizeDynamic => self.couple_all(id, inputs, channels),
            Op::MaxPool2d(_) | Op::AvgPool2d { .. } | Op::GlobalAvgPool | Op::AdaptiveAvgPool2d { .. } => {
                self.couple_all(id, inputs, channels);
            }
            Op::Dropout { .. } | Op::DropPath { .. } => self.couple_all(id, inputs, channels),
        }
    }

    /// Channel to channel.
    fn couple_all(&mut self, id: NodeId, inputs: &[NodeId], channels: usize) {
        for &input in inputs {
            (0..channels).for_each(|index| self.couple((id, index), (input, index)));
        }
    }

    fn couple(&mut self, (a, a_index): (NodeId, usize), (b, b_index): (NodeId, usize)) {
        let [a, b] = [self.root(self.starts[a.0] + a_index), self.root(self.starts[b.0] + b_index)];
        let (first, second) = (a.min(b), a.max(b));
        self.parents[second] = first;
        self.is_fixed[first] |= self.is_fixed[second];
    }

    fn fix(&mut self, id: NodeId, channels: usize) {
        for index in 0..channels {
            let root = self.root(self.starts[id.0] + index);
            self.is_fixed[root] = true;
        }
    }

    /// The first channel of the class of `channel`.
    fn root(&mut self, mut channel: usize) -> usize {
        while self.parents[channel] != channel {
            let grandparent = self.parents[self.parents[channel]];
            self.parents[channel] = grandparent;
            channel = grandparent;
        }
        channel
    }

    /// The classes that are not fixed, by their first channel.
    fn classes(mut self) -> Vec<Unit> {
        let mut classes: Vec<Unit> = Vec::new();
        let mut by_root: HashMap<usize, usize> = HashMap::new();
        for node in 0..self.starts.len() - 1 {
            for channel in self.starts[node]..self.starts[node + 1] {
                let root = self.root(channel);
                if self.is_fixed[root] {
                    continue;
                }
                let class = *by_root.entry(root).or_insert_with(|| {
                    classes.push(Unit { channels: Vec::new() });
                    classes.len() - 1
                });
                let index = channel - self.starts[node];
                classes[class].channels.push(Channel { node: NodeId(node), index });
            }
        }
        classes
    }
}
