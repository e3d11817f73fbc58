//! The boxes of a diagram: a layer with the norms and activations that follow it.

use super::fold::Folded;
use residual_graph::{Analysis, Graph, Op};

/// A box.
pub(super) struct Layer {
    /// Its nodes, each the only reader of the one before.
    pub(super) nodes: Vec<usize>,
    /// The boxes it reads, by index, the main one first.
    pub(super) inputs: Vec<usize>,
    /// Its first op: `3×3 conv, 64, /2`.
    pub(super) text: String,
    /// The ops after it: `BN, ReLU`.
    pub(super) suffix: String,
    /// What hovering shows.
    pub(super) title: String,
}

/// The boxes of the drawn nodes, in the graph's order.
pub(super) fn boxes(graph: &Graph, folded: &Folded, analysis: &Analysis) -> Vec<Layer> {
    let mut readers = vec![0; graph.nodes.len()];
    for node in (0..graph.nodes.len()).filter(|&node| folded.drawn[node] == node) {
        folded.inputs(graph, node).into_iter().for_each(|input| readers[input] += 1);
    }
    // Nodes of equal blocks belong to their first one; those of different blocks do not share a box.
    let mut block = vec![None; graph.nodes.len()];
    for (index, repeat) in folded.repeats.iter().enumerate() {
        block[repeat.nodes.clone()].fill(Some(index));
    }
    let mut layers: Vec<Layer> = Vec::new();
    let mut place = vec![0; graph.nodes.len()];
    for node in (0..graph.nodes.len()).filter(|&node| folded.drawn[node] == node) {
        let inputs = folded.inputs(graph, node);
        if let (Some(suffix), [input]) = (suffix(&graph.nodes[node].op), &inputs[..]) {
            let layer = &mut layers[place[*input]];
            if readers[*input] == 1 && layer.nodes.last() == Some(input) && block[*input] == block[node] && *input > 0 {
                layer.nodes.push(node);
                layer.suffix += if layer.suffix.is_empty() { "" } else { ", " };
                layer.suffix += suffix;
                place[node] = place[*input];
                continue;
            }
        }
        place[node] = layers.len();
        let inputs = inputs.into_iter().map(|input| place[input]).collect();
        let text = text(graph, analysis, node);
        layers.push(Layer { nodes: vec![node], inputs, text, suffix: String::new(), title: String::new() });
    }
    for layer in &mut layers {
        layer.title = title(analysis, &layer.nodes);
    }
    layers
}

/// The short name of an op that joins the box of the layer before it.
fn suffix(op: &Op) -> Option<&'static str> {
    Some(match op {
        Op::BatchNorm2d { .. } => "BN",
        Op::LayerNorm { .. } => "LN",
        Op::LayerScale { .. } => "scale",
        Op::Relu => "ReLU",
        Op::Gelu => "GELU",
        Op::Sigmoid => "sigmoid",
        Op::Dropout { .. } => "dropout",
        Op::DropPath { .. } => "drop path",
        Op::Flatten => "flatten",
        _ => return None,
    })
}

fn text(graph: &Graph, analysis: &Analysis, node: usize) -> String {
    let op = &graph.nodes[node].op;
    let shape = analysis.nodes[node].output;
    let pair = |[height, width]: [usize; 2]| format!("{height}×{width}");
    let stride = op.window().map(|window| window.stride).filter(|stride| *stride != [1, 1]);
    let stride = match stride {
        Some([height, width]) if height == width => format!(", /{height}"),
        Some(stride) => format!(", /{}", pair(stride)),
        None => String::new(),
    };
    match op {
        Op::Input { .. } => format!("image, {shape}"),
        Op::Conv2d(conv) => {
            let groups = match conv.groups {
                1 => String::new(),
                groups if groups == conv.in_channels => ", depthwise".to_owned(),
                groups => format!(", {groups} groups"),
            };
            format!("{} conv, {}{groups}{stride}", pair(conv.kernel), conv.out_channels)
        }
        Op::MaxPool2d(pool) => format!("{} max pool{stride}", pair(pool.kernel)),
        Op::AvgPool2d { pool, .. } => format!("{} average pool{stride}", pair(pool.kernel)),
        Op::AdaptiveAvgPool2d { output } => format!("average pool to {}", pair(*output)),
        Op::GlobalAvgPool => "global avg pool".to_owned(),
        Op::Linear { out_features, .. } => format!("linear, {out_features}"),
        Op::Add => "add".to_owned(),
        Op::Concat => format!("concatenate, {}", shape.channels),
        Op::Gate => "gate".to_owned(),
        Op::PadShortcut { .. } => format!("pad with zeros{stride}"),
        other => suffix(other).unwrap_or(other.name()).to_owned(),
    }
}

fn title(analysis: &Analysis, nodes: &[usize]) -> String {
    let rows = || nodes.iter().map(|&node| &analysis.nodes[node]);
    let names: Vec<&str> = rows().map(|node| node.name.as_str()).collect();
    let last = rows().next_back().expect("a box has a node");
    let (parameters, macs) =
        (rows().map(|node| node.parameters).sum::<usize>(), rows().map(|node| node.macs).sum::<u64>());
    let mut title = format!("{}: {}", names.join(", "), last.output);
    if parameters > 0 {
        title += &format!(", {parameters} parameters");
    }
    if macs > 0 {
        title += &format!(", {macs} multiply-accumulates");
    }
    if let Some(field) = last.receptive_field {
        title += &format!(", receptive field {}", field.size);
    }
    title
}
