//! Repeated blocks: consecutive equal blocks of a stage are drawn once.

use residual_graph::{Graph, NodeId, Op, Shape, Stage, Window};
use std::ops::Range;

/// Equal blocks, one after another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Repeat {
    /// The names of the first and last block.
    pub(super) names: [String; 2],
    /// The nodes of the first block.
    pub(super) nodes: Range<usize>,
    /// Number of blocks.
    pub(super) count: usize,
}

/// A graph with each run of equal blocks reduced to the first.
pub(super) struct Folded {
    /// For every node, the node that is drawn for it.
    pub(super) drawn: Vec<usize>,
    /// The blocks that are drawn, in order.
    pub(super) repeats: Vec<Repeat>,
}

/// What makes a node look the same: everything but the number of its input channels, which grows in dense blocks.
#[derive(PartialEq)]
struct Look<'a> {
    op: &'a str,
    window: Option<Window>,
    channels: Option<usize>,
    extents: [usize; 2],
    /// How far before the node its inputs are.
    inputs: Vec<usize>,
}

impl Folded {
    pub(super) fn new(graph: &Graph, shapes: &[Shape], stages: &[Stage]) -> Self {
        let mut drawn: Vec<usize> = (0..graph.nodes.len()).collect();
        let mut repeats: Vec<Repeat> = Vec::new();
        for stage in stages.iter().filter(|stage| stage.has_blocks) {
            let mut last: Option<Repeat> = None;
            for (name, nodes) in blocks(graph, stage) {
                match &mut last {
                    Some(repeat) if looks(graph, shapes, &repeat.nodes) == looks(graph, shapes, &nodes) => {
                        repeat.names[1] = name.to_owned();
                        repeat.count += 1;
                        for (offset, node) in nodes.enumerate() {
                            drawn[node] = repeat.nodes.start + offset;
                        }
                    }
                    _ => {
                        repeats.extend(last.take());
                        last = Some(Repeat { names: [name.to_owned(), name.to_owned()], nodes, count: 1 });
                    }
                }
            }
            repeats.extend(last);
        }
        Self { drawn, repeats }
    }

    /// The drawn inputs of a drawn node.
    pub(super) fn inputs(&self, graph: &Graph, node: usize) -> Vec<usize> {
        graph.nodes[node].inputs.iter().map(|input| self.drawn[input.0]).collect()
    }
}

/// The modules inside a stage's, with their nodes.
fn blocks<'a>(graph: &'a Graph, stage: &Stage) -> Vec<(&'a str, Range<usize>)> {
    let mut blocks: Vec<(&str, Range<usize>)> = Vec::new();
    for index in stage.nodes.clone() {
        let name = graph.nodes[index].name.as_str();
        let Some(rest) = name.strip_prefix(&stage.name).and_then(|rest| rest.strip_prefix('.')) else { continue };
        let end = name.len() - rest.len() + rest.find('.').unwrap_or(rest.len());
        match blocks.last_mut() {
            Some((last, nodes)) if *last == &name[..end] && nodes.end == index => nodes.end = index + 1,
            _ => blocks.push((&name[..end], index..index + 1)),
        }
    }
    blocks
}

fn looks<'a>(graph: &'a Graph, shapes: &[Shape], nodes: &Range<usize>) -> Vec<Look<'a>> {
    let look = |index: usize| {
        let node = &graph.nodes[index];
        let channels = match node.op {
            Op::Conv2d(conv) => Some(conv.out_channels),
            Op::Linear { out_features, .. } => Some(out_features),
            _ => None,
        };
        Look {
            op: node.op.name(),
            window: node.op.window(),
            channels,
            extents: [shapes[index].height, shapes[index].width],
            inputs: node.inputs.iter().map(|&NodeId(input)| index - input).collect(),
        }
    };
    nodes.clone().map(look).collect()
}
