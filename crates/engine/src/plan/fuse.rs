//! Fuses nodes into steps: a convolution, linear layer, batch norm, layer scale or gate with the following add and ReLU, an
//! add with its ReLU, a quantised layer with the rounding of its result, wherever nothing else reads the value between.

use crate::Mode;
use residual_graph::{Graph, NodeId, Op};

/// The operation of a step before its add and ReLU.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Head {
    /// A node: anything except inputs, flattens, and inactive dropout or stochastic depth.
    Node(NodeId),
    /// The sum of all values, including the first.
    Sum(Vec<NodeId>),
}

/// Nodes that are fused into one step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) head: Head,
    /// A value added to the head's result.
    pub(crate) add: Option<NodeId>,
    pub(crate) relu: bool,
    /// All values that are read.
    pub(crate) inputs: Vec<NodeId>,
    /// The last node: the step's value is its value.
    pub(crate) output: NodeId,
}

impl Step {
    /// The node that names the step: its main operation.
    pub(crate) fn name(&self) -> NodeId {
        match self.head {
            Head::Node(node) => node,
            Head::Sum(_) => self.output,
        }
    }
}

/// The steps of a graph in execution order, and for each node the node whose value it shares: a flatten, or inactive
/// dropout or stochastic depth, shares the value of its input.
#[derive(Debug)]
pub(crate) struct Fused {
    pub(crate) steps: Vec<Step>,
    pub(crate) source: Vec<NodeId>,
}

/// Fuses `graph`, but keeps the value of every node in `kept` readable.
pub(crate) fn fuse(graph: &Graph, mode: Mode, kept: &[NodeId]) -> Fused {
    let source = sources(graph, mode);
    let readers = readers(graph, &source);
    let kept: Vec<NodeId> = kept.iter().map(|id| source[id.0]).collect();
    // A quantised layer adds only bytes.
    let can_add = |head: NodeId, other: NodeId| {
        let op = &graph.node(head).op;
        let is_known = || graph.quantized_by(other).is_some_and(|id| graph.node(id).op == Op::Quantize);
        fuses_add(op) && (!op.is_quantized() || is_known())
    };
    let only_reader = |id: NodeId| match readers[id.0][..] {
        [reader] if !kept.contains(&id) => Some(reader),
        _ => None,
    };
    // Nodes inside a fused step, and for each add that ends one, the first node of the step.
    let mut absorbed = vec![false; graph.nodes.len()];
    let mut head_of_sum = vec![None; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        if node.op != Op::Add || node.inputs.len() != 2 {
            continue;
        }
        let inputs = [source[node.inputs[0].0], source[node.inputs[1].0]];
        for (this, other) in [(inputs[0], inputs[1]), (inputs[1], inputs[0])] {
            if can_add(this, other) && this != other && only_reader(this) == Some(NodeId(index)) {
                absorbed[this.0] = true;
                head_of_sum[index] = Some((this, other));
                break;
            }
        }
    }
    let mut steps = Vec::new();
    // Whether the next ReLU or quantisation belongs to the step that ends with this node.
    let mut ends_early = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let id = NodeId(index);
        if source[index] != id || absorbed[index] || matches!(node.op, Op::Input { .. }) {
            continue;
        }
        if matches!(node.op, Op::Relu | Op::Quantize) && ends_early[source[node.inputs[0].0].0] {
            continue;
        }
        let can_relu = fuses_add(&node.op) || node.op == Op::Add;
        let relu = only_reader(id).filter(|reader| can_relu && graph.node(*reader).op == Op::Relu);
        ends_early[index] = relu.is_some();
        let end = relu.unwrap_or(id);
        let main = head_of_sum[index].map_or(id, |(head, _)| head);
        let rounds = graph.node(main).op.is_quantized();
        let quantize = only_reader(end).filter(|reader| rounds && graph.node(*reader).op == Op::Quantize);
        ends_early[end.0] |= quantize.is_some();
        let (head, add) = match (head_of_sum[index], &node.op) {
            (Some((head, add)), _) => (Head::Node(head), Some(add)),
            (None, Op::Add) => (Head::Sum(node.inputs.iter().map(|input| source[input.0]).collect()), None),
            (None, _) => (Head::Node(id), None),
        };
        let inputs = match &head {
            Head::Node(node) => {
                let inputs = graph.node(*node).inputs.iter().map(|input| source[input.0]);
                inputs.chain(add).collect()
            }
            Head::Sum(inputs) => inputs.clone(),
        };
        steps.push(Step { head, add, relu: relu.is_some(), inputs, output: quantize.unwrap_or(end) });
    }
    Fused { steps, source }
}

/// Whether the op's kernel can add a value to its result.
fn fuses_add(op: &Op) -> bool {
    use Op::{BatchNorm2d, Conv2d, Gate, LayerScale, Linear};
    matches!(op, Conv2d(_) | Linear { .. } | BatchNorm2d { .. } | LayerScale { .. } | Gate)
}

/// For each node, the node whose value it shares.
fn sources(graph: &Graph, mode: Mode) -> Vec<NodeId> {
    let mut source: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        source.push(match node.op {
            Op::Flatten => source[node.inputs[0].0],
            Op::Dropout { p } | Op::DropPath { p } if mode != Mode::Train || p == 0.0 => source[node.inputs[0].0],
            _ => NodeId(index),
        });
    }
    source
}

/// For each node with its own value, the nodes that read it.
fn readers(graph: &Graph, source: &[NodeId]) -> Vec<Vec<NodeId>> {
    let mut readers = vec![Vec::new(); graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        if source[index] == NodeId(index) {
            for input in &node.inputs {
                readers[source[input.0].0].push(NodeId(index));
            }
        }
    }
    readers
}

#[cfg(test)]
mod tests {
    use super::*;
    use residual_graph::{Builder, Conv2d};

    /// conv, bn, relu, conv, bn, + input of the block, relu.
    fn block() -> Graph {
        let mut net = Builder::new("block", [4, 8, 8]);
        let conv = Conv2d::new(4, 4, 3).padding(1);
        let stem = net.conv("stem", net.input(), conv).unwrap();
        let x = net.conv("conv1", stem, conv).unwrap();
        let x = net.batch_norm("bn1", x).unwrap();
        let x = net.relu("relu1", x).unwrap();
        let x = net.conv("conv2", x, conv).unwrap();
        let x = net.batch_norm("bn2", x).unwrap();
        let x = net.add("add", x, stem).unwrap();
        let x = net.relu("relu2", x).unwrap();
        net.finish(x).unwrap()
    }

    fn describe(kept: &[&str]) -> Vec<String> {
        let graph = block();
        let kept: Vec<NodeId> = kept.iter().map(|name| graph.find(name).unwrap()).collect();
        let name = |id: &NodeId| graph.node(*id).name.clone();
        let line = |step: &Step| {
            let head = match &step.head {
                Head::Node(id) => name(id),
                Head::Sum(ids) => ids.iter().map(name).collect::<Vec<_>>().join("+"),
            };
            let add = step.add.as_ref().map_or(String::new(), |id| format!(" + {}", name(id)));
            format!("{head}{add}{} -> {}", if step.relu { " relu" } else { "" }, name(&step.output))
        };
        fuse(&graph, Mode::Train, &kept).steps.iter().map(line).collect()
    }

    #[test]
    fn batch_norms_are_fused_with_their_add_and_relu() {
        let expected =
            ["stem -> stem", "conv1 -> conv1", "bn1 relu -> relu1", "conv2 -> conv2", "bn2 + stem relu -> relu2"];
        assert_eq!(describe(&[]), expected);
    }

    #[test]
    fn what_is_kept_is_not_fused_away() {
        let steps = describe(&["bn1", "bn2", "add"]);
        assert_eq!(steps[2..4], ["bn1 -> bn1", "relu1 -> relu1"]);
        assert_eq!(steps[5..], ["bn2 -> bn2", "bn2+stem -> add", "relu2 -> relu2"]);
    }
}
