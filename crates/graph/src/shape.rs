//! Shape inference.

use crate::{Graph, GraphError, Node, Op};
use serde::{Deserialize, Serialize};

/// The extent of one image's feature map. A vector has height and width 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Shape {
    /// Height × width × channels.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.height, self.width, self.channels)
    }
}

/// Maximum number of elements per image of a feature map, and of all feature maps of a network together.
const MAX_ELEMENTS: usize = 1 << 32;
const MAX_TOTAL: usize = 1 << 40;

impl Graph {
    /// The shape of every node's value for an input of `height` × `width` pixels.
    ///
    /// # Errors
    /// The first node whose inputs do not fit it.
    pub fn shapes(&self, height: usize, width: usize) -> Result<Vec<Shape>, GraphError> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        let mut total = 0;
        for node in &self.nodes {
            let shape = infer_node(node, &shapes, [height, width])?;
            total += shape.len();
            if total > MAX_TOTAL {
                let message =
                    format!("output: expected at most {MAX_TOTAL} elements of all nodes together, got {total}");
                return Err(GraphError::new(&node.name, message));
            }
            shapes.push(shape);
        }
        Ok(shapes)
    }
}

/// The shape of `node`'s value, given those of all nodes before it and the image's height and width.
pub(crate) fn infer_node(node: &Node, shapes: &[Shape], size: [usize; 2]) -> Result<Shape, GraphError> {
    let inputs: Vec<Shape> = node.inputs.iter().map(|input| shapes[input.0]).collect();
    let shape = infer(&node.op, &inputs, size).map_err(|text| GraphError::new(&node.name, text))?;
    let elements = shape.height.checked_mul(shape.width).and_then(|area| area.checked_mul(shape.channels));
    if elements.is_none_or(|elements| elements > MAX_ELEMENTS) {
        let message = format!("output: expected at most {MAX_ELEMENTS} elements, got {shape}");
        return Err(GraphError::new(&node.name, message));
    }
    Ok(shape)
}

fn infer(op: &Op, inputs: &[Shape], [height, width]: [usize; 2]) -> Result<Shape, String> {
    let arity = match op {
        Op::Input { .. } => 0..=0,
        Op::Add | Op::Concat => 2..=usize::MAX,
        Op::Gate => 2..=2,
        Op::Conv2d(_) | Op::Linear { .. } | Op::BatchNorm2d { .. } | Op::LayerNorm { .. } => 1..=1,
        Op::LayerScale { .. } | Op::Relu | Op::Gelu | Op::Sigmoid | Op::Quantize | Op::QuantizeDynamic => 1..=1,
        Op::MaxPool2d(_) | Op::AvgPool2d { .. } | Op::GlobalAvgPool | Op::AdaptiveAvgPool2d { .. } => 1..=1,
        Op::Flatten | Op::Dropout { .. } | Op::DropPath { .. } | Op::PadShortcut { .. } => 1..=1,
    };
    if !arity.contains(&inputs.len()) {
        return Err(format!("expected {} input(s), got {}", arity.start(), inputs.len()));
    }
    let channels = |expected: usize| {
        let got = inputs[0].channels;
        if got == expected { Ok(()) } else { Err(format!("expected {expected} input channels, got {got}")) }
    };
    Ok(match *op {
        Op::Input { channels, .. } => Shape { height, width, channels },
        Op::Conv2d(conv) => {
            channels(conv.in_channels)?;
            let [height, width] = window(inputs[0], conv.kernel, conv.stride, conv.padding, conv.dilation, false)?;
            Shape { height, width, channels: conv.out_channels }
        }
        Op::BatchNorm2d { channels: expected, .. }
        | Op::LayerNorm { channels: expected, .. }
        | Op::LayerScale { channels: expected } => {
            channels(expected)?;
            inputs[0]
        }
        Op::Relu | Op::Gelu | Op::Sigmoid | Op::Dropout { .. } | Op::DropPath { .. } => inputs[0],
        Op::Quantize | Op::QuantizeDynamic => inputs[0],
        Op::Gate => {
            let gate = Shape { height: 1, width: 1, channels: inputs[0].channels };
            if inputs[1] != gate {
                return Err(format!("expected a second input of {gate}, got {}", inputs[1]));
            }
            inputs[0]
        }
        Op::Add => match inputs.iter().find(|&&shape| shape != inputs[0]) {
            Some(other) => return Err(format!("expected inputs of one shape, got {} and {other}", inputs[0])),
            None => inputs[0],
        },
        Op::Concat => {
            let same = |shape: &&Shape| (shape.height, shape.width) != (inputs[0].height, inputs[0].width);
            if let Some(other) = inputs.iter().find(same) {
                return Err(format!("expected inputs of one height and width, got {} and {other}", inputs[0]));
            }
            Shape { channels: inputs.iter().map(|shape| shape.channels).sum(), ..inputs[0] }
        }
        Op::MaxPool2d(pool) | Op::AvgPool2d { pool, .. } => {
            let [height, width] = window(inputs[0], pool.kernel, pool.stride, pool.padding, [1, 1], pool.ceil_mode)?;
            Shape { height, width, channels: inputs[0].channels }
        }
        Op::GlobalAvgPool => Shape { height: 1, width: 1, channels: inputs[0].channels },
        Op::AdaptiveAvgPool2d { output: [height, width] } => Shape { height, width, channels: inputs[0].channels },
        Op::Flatten => Shape { height: 1, width: 1, channels: inputs[0].len() },
        Op::Linear { in_features, out_features, .. } => {
            channels(in_features)?;
            Shape { channels: out_features, ..inputs[0] }
        }
        Op::PadShortcut { in_channels, out_channels, stride } => {
            channels(in_channels)?;
            Shape {
                height: inputs[0].height.div_ceil(stride),
                width: inputs[0].width.div_ceil(stride),
                channels: out_channels,
            }
        }
    })
}

fn window(
    input: Shape,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    ceil_mode: bool,
) -> Result<[usize; 2], String> {
    let extent = |axis: usize, size: usize| {
        let padded = size.checked_add(2 * padding[axis])?;
        let reach = dilation[axis].checked_mul(kernel[axis] - 1)?.checked_add(1)?;
        if !ceil_mode {
            return Some(padded.checked_sub(reach)? / stride[axis] + 1);
        }
        let windows = (padded + (stride[axis] - 1)).checked_sub(reach)? / stride[axis] + 1;
        // As in torch, the last window must begin inside the input or its left padding.
        let begins_outside = (windows - 1) * stride[axis] >= size + padding[axis];
        Some(windows - usize::from(begins_outside))
    };
    match (extent(0, input.height), extent(1, input.width)) {
        (Some(height), Some(width)) => Ok([height, width]),
        _ => Err(format!(
            "expected an input of at least the window ({}×{}, padding {}×{}), got {input}",
            dilation[0].saturating_mul(kernel[0] - 1) + 1,
            dilation[1].saturating_mul(kernel[1] - 1) + 1,
            padding[0],
            padding[1]
        )),
    }
}
