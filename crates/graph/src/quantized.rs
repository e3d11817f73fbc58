//! Which values of a quantised network are numbers that bytes stand for.

use crate::{Graph, NodeId, Op};

impl Graph {
    /// The node whose numbers the value of `id` consists of, which only selects, moves or compares them, and adds zeros.
    pub fn origin(&self, mut id: NodeId) -> NodeId {
        while let Op::MaxPool2d(_) | Op::Flatten | Op::PadShortcut { .. } | Op::Dropout { .. } | Op::DropPath { .. } =
            self.node(id).op
        {
            id = self.node(id).inputs[0];
        }
        id
    }

    /// The [`Op::Quantize`] or [`Op::QuantizeDynamic`] that rounded the numbers of the value of `id`, outside training, where dropout scales them.
    pub fn quantized_by(&self, id: NodeId) -> Option<NodeId> {
        let origin = self.origin(id);
        self.node(origin).op.quantizes().then_some(origin)
    }

    /// Whether it has quantised layers or values.
    pub fn is_quantized(&self) -> bool {
        self.nodes.iter().any(|node| node.op.quantizes() || node.op.is_quantized())
    }
}
