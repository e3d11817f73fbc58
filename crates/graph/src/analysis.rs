//! Analysis of a network, node by node: parameters, multiply-accumulates, activations, receptive field, depth.

use crate::receptive_field::{Seen, seen};
use crate::{Graph, GraphError, Op, ReceptiveField, Shape, Window};

/// The analysis of one node, for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeAnalysis {
    /// The node's name.
    pub name: String,
    /// The name of its op.
    pub op: &'static str,
    /// The shape of its value.
    pub output: Shape,
    /// Kernel, stride, padding, dilation and groups of a convolution or pooling.
    pub window: Option<Window>,
    /// Trainable values.
    pub parameters: usize,
    /// Multiply-accumulates of convolutions and linear layers.
    pub macs: u64,
    /// Receptive field, the larger of height and width. `None` after a global mean or a flatten, which see the whole image.
    pub receptive_field: Option<ReceptiveField>,
    /// Convolutions and linear layers on the longest path from the image to this node, itself included.
    pub depth: usize,
}

impl NodeAnalysis {
    /// Bytes of the node's value as 32-bit floats, if it were stored.
    pub fn activation_bytes(&self) -> u64 {
        4 * self.output.len() as u64
    }
}

/// The analysis of a graph at one input size, for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Every node, in the graph's order.
    pub nodes: Vec<NodeAnalysis>,
    /// Trainable values in total.
    pub parameters: usize,
    /// Multiply-accumulates in total.
    pub macs: u64,
    /// The receptive field in pixels of the last feature map, before any global mean.
    pub receptive_field: usize,
    /// Convolutions and linear layers on the longest path from the image to the result: the number in the names of
    /// ResNets, VGGs and DenseNets. Layers that compute a gate, which only scales, are not counted.
    pub depth: usize,
}

impl Analysis {
    /// The last feature map before any global mean, and its receptive field.
    pub fn last_feature_map(&self) -> Option<(&NodeAnalysis, ReceptiveField)> {
        self.nodes.iter().rev().find_map(|node| Some((node, node.receptive_field?)))
    }

    /// Bytes of all values as 32-bit floats, if each were stored.
    pub fn activation_bytes(&self) -> u64 {
        self.nodes.iter().map(NodeAnalysis::activation_bytes).sum()
    }
}

impl Graph {
    /// Analyses the graph for images of `height` × `width` pixels.
    ///
    /// # Errors
    /// If the shapes do not fit together.
    pub fn analyse(&self, height: usize, width: usize) -> Result<Analysis, GraphError> {
        let shapes = self.shapes(height, width)?;
        let mut fields: Vec<Option<[Seen; 2]>> = Vec::with_capacity(self.nodes.len());
        let mut nodes: Vec<NodeAnalysis> = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let inputs: Vec<_> = node.inputs.iter().map(|input| (fields[input.0], shapes[input.0])).collect();
            fields.push(seen(&node.op, &inputs));
            let through = if node.op == Op::Gate { &node.inputs[..1] } else { &node.inputs };
            let above = through.iter().map(|input| nodes[input.0].depth).max().unwrap_or(0);
            nodes.push(NodeAnalysis {
                name: node.name.clone(),
                op: node.op.name(),
                output: shapes[index],
                window: node.op.window(),
                parameters: trainable(&node.op),
                macs: node.op.macs(shapes[index]),
                receptive_field: fields[index].map(ReceptiveField::larger),
                depth: above + usize::from(matches!(node.op, Op::Conv2d(_) | Op::Linear { .. })),
            });
        }
        Ok(Analysis {
            parameters: nodes.iter().map(|node| node.parameters).sum(),
            macs: nodes.iter().fold(0, |sum, node| sum.saturating_add(node.macs)),
            receptive_field: nodes.iter().rev().find_map(|node| node.receptive_field).map_or(0, |field| field.size),
            depth: nodes[self.output.0].depth,
            nodes,
        })
    }
}

fn trainable(op: &Op) -> usize {
    let parameters = op.parameters();
    parameters.iter().filter(|spec| spec.role.is_parameter()).map(|spec| spec.shape.iter().product::<usize>()).sum()
}

impl Op {
    /// Multiply-accumulates of a convolution or linear layer whose value has the shape `output`; 0 of other ops.
    pub fn macs(&self, output: Shape) -> u64 {
        match *self {
            Op::Conv2d(conv) => {
                let taps = conv.kernel[0] * conv.kernel[1] * (conv.in_channels / conv.groups);
                (output.len() as u64).saturating_mul(taps as u64)
            }
            Op::Linear { in_features, .. } => in_features as u64 * output.len() as u64,
            Op::Input { .. } | Op::BatchNorm2d { .. } | Op::LayerNorm { .. } | Op::LayerScale { .. } => 0,
            Op::Relu | Op::Gelu | Op::Sigmoid | Op::Gate | Op::Add | Op::Concat | Op::Flatten => 0,
            Op::Quantize | Op::QuantizeDynamic => 0,
            Op::MaxPool2d(_) | Op::AvgPool2d { .. } | Op::GlobalAvgPool | Op::AdaptiveAvgPool2d { .. } => 0,
            Op::Dropout { .. } | Op::DropPath { .. } | Op::PadShortcut { .. } => 0,
        }
    }
}
