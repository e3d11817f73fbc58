//! Rewrites: the rates of dropout and of stochastic depth.

use crate::{Graph, Node, NodeId, Op};

impl Graph {
    /// The graph with dropout of rate `p` where it has dropout, or else before its [head](Self::head); with 0 without
    /// dropout. `None` if it has no head.
    pub fn with_dropout(&self, p: f32) -> Option<Self> {
        let is_dropout = |node: &Node| matches!(node.op, Op::Dropout { .. });
        if p == 0.0 {
            return Some(self.without(is_dropout));
        }
        let mut graph = self.clone();
        let mut has_dropout = false;
        for node in &mut graph.nodes {
            if let Op::Dropout { p: rate } = &mut node.op {
                (*rate, has_dropout) = (p, true);
            }
        }
        if has_dropout {
            return Some(graph);
        }
        let head = graph.head()?;
        let input = graph.node(head).inputs[0];
        Some(graph.insert(&[(head, input, "dropout".into(), Op::Dropout { p })]))
    }

    /// The graph with stochastic depth (Huang et al., arXiv:1603.09382): the branch of every sum is dropped at a rate that
    /// rises linearly from 0 at the first to `rate` at the last. The branch is the operand with more nodes before it, the
    /// other one is the shortcut. `None` if there are no sums.
    pub fn with_drop_path(&self, rate: f32) -> Option<Self> {
        let graph = self.without(|node| matches!(node.op, Op::DropPath { .. }));
        let mut lengths = vec![0; graph.nodes.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            lengths[index] = node.inputs.iter().map(|input| lengths[input.0] + 1).max().unwrap_or(0);
        }
        let sums = graph.nodes.iter().enumerate().filter(|(_, node)| matches!(node.op, Op::Add));
        let sums: Vec<(NodeId, &Node)> = sums.map(|(index, node)| (NodeId(index), node)).collect();
        let last = sums.len().checked_sub(1)?.max(1);
        let drop = |(index, &(id, node)): (usize, &(NodeId, &Node))| {
            let longest = node.inputs.iter().map(|input| lengths[input.0]).max()?;
            let branch = *node.inputs.iter().find(|input| lengths[input.0] == longest)?;
            let name = format!("{}.drop_path", node.name.strip_suffix(".add").unwrap_or(&node.name));
            let p = rate * index as f32 / last as f32;
            (p > 0.0).then_some((id, branch, name, Op::DropPath { p }))
        };
        let drops: Vec<_> = sums.iter().enumerate().filter_map(drop).collect();
        Some(graph.insert(&drops))
    }

    /// The graph without the nodes that `is_removed`, each of which has one input.
    fn without(&self, is_removed: impl Fn(&Node) -> bool) -> Self {
        let mut moved: Vec<NodeId> = Vec::with_capacity(self.nodes.len());
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<NodeId> = node.inputs.iter().map(|input| moved[input.0]).collect();
            if is_removed(node) {
                moved.push(inputs[0]);
                continue;
            }
            moved.push(NodeId(nodes.len()));
            nodes.push(Node { name: node.name.clone(), op: node.op.clone(), inputs });
        }
        Self { name: self.name.clone(), nodes, output: moved[self.output.0] }
    }

    /// The graph with a node between each `(reader, input, name, op)`: the reader gets the op's result in place of the input.
    /// Readers are in order.
    fn insert(&self, inserted: &[(NodeId, NodeId, String, Op)]) -> Self {
        let mut moved: Vec<NodeId> = Vec::with_capacity(self.nodes.len());
        let mut nodes: Vec<Node> = Vec::with_capacity(self.nodes.len() + inserted.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let mut inputs: Vec<NodeId> = node.inputs.iter().map(|input| moved[input.0]).collect();
            if let Some((_, input, name, op)) = inserted.iter().find(|(reader, ..)| reader.0 == index) {
                let place = node.inputs.iter().position(|each| each == input).expect("the reader has this input");
                nodes.push(Node { name: name.clone(), op: op.clone(), inputs: vec![inputs[place]] });
                inputs[place] = NodeId(nodes.len() - 1);
            }
            moved.push(NodeId(nodes.len()));
            nodes.push(Node { name: node.name.clone(), op: node.op.clone(), inputs });
        }
        Self { name: self.name.clone(), nodes, output: moved[self.output.0] }
    }
}
