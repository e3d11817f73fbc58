//! The residual branches that a network works without: blocks whose shortcut is the identity.

use crate::{Graph, Node, NodeId, Op};

/// A block y = x + f(x) of which x can remain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResidualBlock {
    /// The module of its sum.
    pub name: String,
    /// The sum.
    pub sum: NodeId,
    /// The node that holds x.
    pub identity: NodeId,
    /// The nodes of f, which nothing else reads, in order.
    pub branch: Vec<NodeId>,
}

impl Graph {
    /// The blocks whose branch can be removed, in order: sums of a node and a branch with layers that reads no other node, and that
    /// nothing else reads.
    pub fn residual_blocks(&self) -> Vec<ResidualBlock> {
        let consumers = self.consumers();
        let sums = self.nodes.iter().enumerate().filter(|(_, node)| node.op == Op::Add);
        let block = |(index, node): (usize, &Node)| {
            let &[a, b] = &node.inputs[..] else { return None };
            let sum = NodeId(index);
            let name = node.name.strip_suffix(".add").unwrap_or(&node.name).to_owned();
            [(a, b), (b, a)].into_iter().find_map(|(end, identity)| {
                let branch = self.branch(sum, end, identity, &consumers)?;
                Some(ResidualBlock { name: name.clone(), sum, identity, branch })
            })
        };
        sums.filter_map(block).collect()
    }

    /// The nodes between `identity` and `sum` by way of `end`, if they are a branch.
    fn branch(&self, sum: NodeId, end: NodeId, identity: NodeId, consumers: &[Vec<NodeId>]) -> Option<Vec<NodeId>> {
        let mut is_inside = vec![false; sum.0];
        let mut open = vec![end];
        while let Some(id) = open.pop() {
            if id == identity || std::mem::replace(is_inside.get_mut(id.0)?, true) {
                continue;
            }
            if id < identity {
                return None;
            }
            open.extend(&self.node(id).inputs);
        }
        let branch: Vec<NodeId> = (0..sum.0).filter(|&index| is_inside[index]).map(NodeId).collect();
        let is_read_inside = |id: &NodeId| {
            *id != self.output
                && consumers[id.0].iter().all(|reader| *reader == sum || is_inside.get(reader.0) == Some(&true))
        };
        let has_layers = branch.iter().any(|id| self.node(*id).op.is_layer());
        (has_layers && branch.iter().all(is_read_inside)).then_some(branch)
    }

    /// The graph without the branches of some of its [`Graph::residual_blocks`]: what read a sum reads the identity. A ReLU of what is
    /// a ReLU's result, which it would not change, goes as well.
    #[must_use]
    pub fn without_branches(&self, removed: &[ResidualBlock]) -> Self {
        let mut moved: Vec<Option<NodeId>> = Vec::with_capacity(self.nodes.len());
        let mut nodes: Vec<Node> = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let id = NodeId(index);
            if removed.iter().any(|block| block.branch.contains(&id)) {
                moved.push(None);
                continue;
            }
            let read = |input: &NodeId| moved[input.0].expect("only a branch and its sum read the branch");
            if let Some(block) = removed.iter().find(|block| block.sum == id) {
                moved.push(Some(read(&block.identity)));
                continue;
            }
            let inputs: Vec<NodeId> = node.inputs.iter().map(read).collect();
            let repeats = |input: NodeId| {
                nodes[input.0].op == Op::Relu && removed.iter().any(|block| node.inputs[0] == block.sum)
            };
            if node.op == Op::Relu && repeats(inputs[0]) {
                moved.push(Some(inputs[0]));
                continue;
            }
            moved.push(Some(NodeId(nodes.len())));
            nodes.push(Node { name: node.name.clone(), op: node.op.clone(), inputs });
        }
        let output = moved[self.output.0].expect("no branch holds the result");
        Self { name: self.name.clone(), nodes, output }
    }
}
