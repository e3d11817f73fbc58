//! Analysis of a network, node by node: parameters, multiply-accumulates, activations, receptive field.

use crate::{Graph, GraphError, Op, Shape};

/// The receptive field of a node along one axis, by the recurrences of Araujo et al.,
/// "Computing receptive fields of convolutional neural networks" (2019).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceptiveField {
    /// Extent in input pixels. The maximum over all paths, not clipped to the image, saturating
    /// at `usize::MAX`.
    pub size: usize,
    /// Distance in input pixels between neighbouring values.
    pub stride: usize,
}

/// The analysis of one node, for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeAnalysis {
    /// The node's name.
    pub name: String,
    /// The name of its op.
    pub op: &'static str,
    /// The shape of its value.
    pub output: Shape,
    /// Trainable values.
    pub parameters: usize,
    /// Multiply-accumulates of convolutions and linear layers.
    pub macs: u64,
    /// Receptive field, the larger of height and width. `None` after a global mean or a flatten, which see the whole image.
    pub receptive_field: Option<ReceptiveField>,
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
}

impl Graph {
    /// Analyses the graph for images of `height` × `width` pixels.
    ///
    /// # Errors
    /// If the shapes do not fit together.
    pub fn analyse(&self, height: usize, width: usize) -> Result<Analysis, GraphError> {
        let shapes = self.shapes(height, width)?;
        let mut fields: Vec<Option<[ReceptiveField; 2]>> = Vec::with_capacity(self.nodes.len());
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let inputs: Vec<_> = node.inputs.iter().map(|input| (fields[input.0], shapes[input.0])).collect();
            fields.push(receptive_field(&node.op, &inputs));
            nodes.push(NodeAnalysis {
                name: node.name.clone(),
                op: node.op.name(),
                output: shapes[index],
                parameters: trainable(&node.op),
                macs: macs(&node.op, shapes[index]),
                receptive_field: fields[index].map(|[h, w]| if h.size >= w.size { h } else { w }),
            });
        }
        Ok(Analysis {
            parameters: nodes.iter().map(|node| node.parameters).sum(),
            macs: nodes.iter().fold(0, |sum, node| sum.saturating_add(node.macs)),
            receptive_field: nodes.iter().rev().find_map(|node| node.receptive_field).map_or(0, |field| field.size),
            nodes,
        })
    }
}

fn trainable(op: &Op) -> usize {
    let parameters = op.parameters();
    parameters.iter().filter(|spec| spec.role.is_parameter()).map(|spec| spec.shape.iter().product::<usize>()).sum()
}

fn macs(op: &Op, output: Shape) -> u64 {
    match *op {
        Op::Conv2d(conv) => {
            let taps = conv.kernel[0] * conv.kernel[1] * (conv.in_channels / conv.groups);
            (output.len() as u64).saturating_mul(taps as u64)
        }
        Op::Linear { in_features, .. } => in_features as u64 * output.len() as u64,
        Op::Input { .. } | Op::BatchNorm2d { .. } | Op::LayerNorm { .. } | Op::LayerScale { .. } => 0,
        Op::Relu | Op::Gelu | Op::Sigmoid | Op::Gate | Op::Add | Op::Concat | Op::Flatten => 0,
        Op::MaxPool2d(_) | Op::AvgPool2d { .. } | Op::GlobalAvgPool | Op::AdaptiveAvgPool2d { .. } => 0,
        Op::Dropout { .. } | Op::DropPath { .. } | Op::PadShortcut { .. } => 0,
    }
}

/// `None` stands for "the whole image".
fn receptive_field(op: &Op, inputs: &[(Option<[ReceptiveField; 2]>, Shape)]) -> Option<[ReceptiveField; 2]> {
    let slide = |kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2]| {
        inputs[0].0.map(|field| {
            std::array::from_fn(|axis| {
                let ReceptiveField { size, stride: step } = field[axis];
                let reach = ((kernel[axis] - 1) * dilation[axis]).saturating_mul(step);
                ReceptiveField { size: size.saturating_add(reach), stride: step.saturating_mul(stride[axis]) }
            })
        })
    };
    match *op {
        Op::Input { .. } => Some([ReceptiveField { size: 1, stride: 1 }; 2]),
        Op::Conv2d(conv) => slide(conv.kernel, conv.stride, conv.dilation),
        Op::MaxPool2d(pool) | Op::AvgPool2d { pool, .. } => slide(pool.kernel, pool.stride, [1, 1]),
        Op::PadShortcut { stride, .. } => slide([1, 1], [stride; 2], [1, 1]),
        Op::AdaptiveAvgPool2d { output } => {
            let Shape { height, width, .. } = inputs[0].1;
            let [h, w] = [adaptive_window(height, output[0]), adaptive_window(width, output[1])];
            slide([h.0, w.0], [h.1, w.1], [1, 1])
        }
        Op::GlobalAvgPool | Op::Flatten => None,
        Op::BatchNorm2d { .. }
        | Op::LayerNorm { .. }
        | Op::LayerScale { .. }
        | Op::Linear { .. }
        | Op::Relu
        | Op::Gelu
        | Op::Sigmoid
        | Op::Dropout { .. }
        | Op::DropPath { .. } => inputs[0].0,
        // A gate computed from the whole image only scales values; it does not enlarge the receptive field.
        Op::Gate => inputs[0].0,
        Op::Add | Op::Concat => inputs.iter().map(|(field, _)| *field).reduce(widest).flatten(),
    }
}

/// The longest window of an adaptive pooling along one axis, and the distance between windows.
fn adaptive_window(input: usize, output: usize) -> (usize, usize) {
    // Window i begins at i·input/output, rounded down, whose fraction is at most 1 − gcd/output.
    let rest = input % output;
    let touched = match rest {
        0 => 0,
        _ if rest <= gcd(input, output) => 1,
        _ => 2,
    };
    (input / output + touched, (input / output).max(1))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn widest(a: Option<[ReceptiveField; 2]>, b: Option<[ReceptiveField; 2]>) -> Option<[ReceptiveField; 2]> {
    let (a, b) = (a?, b?);
    Some(std::array::from_fn(|axis| ReceptiveField {
        size: a[axis].size.max(b[axis].size),
        stride: a[axis].stride.max(b[axis].stride),
    }))
}

#[cfg(test)]
mod tests {
    use super::adaptive_window;

    #[test]
    fn the_longest_adaptive_window_is_that_of_torchs_definition() {
        for input in 1..40usize {
            for output in 1..60usize {
                let windows = (0..output).map(|i| ((i + 1) * input).div_ceil(output) - i * input / output);
                assert_eq!(adaptive_window(input, output).0, windows.max().unwrap(), "{input} to {output}");
            }
        }
    }
}
