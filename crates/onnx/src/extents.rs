//! Which values have a height and width that do not follow the image's.

use crate::OnnxError;
use residual_graph::{Graph, Node, Op, Pool2d};

/// Height and width of every node's value for an image of `size`; with `any_size`, `None` where they follow the image's.
///
/// # Errors
/// If the graph does not take images of `size`, or with `any_size` a node that works for one size only.
pub(crate) fn extents(
    graph: &Graph,
    [height, width]: [usize; 2],
    any_size: bool,
) -> Result<Vec<Option<[usize; 2]>>, OnnxError> {
    let shapes = graph.shapes(height, width)?;
    let mut extents: Vec<Option<[usize; 2]>> = Vec::with_capacity(shapes.len());
    for (node, shape) in graph.nodes.iter().zip(&shapes) {
        let reads_any = node.inputs.iter().any(|input| extents[input.0].is_none());
        let follows_image = match node.op {
            Op::Input { .. } => any_size,
            Op::GlobalAvgPool => false,
            Op::AdaptiveAvgPool2d { .. } | Op::Flatten => {
                if reads_any {
                    check_fixed(node)?;
                }
                false
            }
            Op::MaxPool2d(pool) | Op::AvgPool2d { pool, .. } => {
                if reads_any && pool.ceil_mode {
                    check_ceil_mode(node, pool)?;
                }
                reads_any
            }
            Op::Conv2d(_) | Op::Linear { .. } | Op::BatchNorm2d { .. } | Op::LayerNorm { .. } => reads_any,
            Op::LayerScale { .. } | Op::Relu | Op::Gelu | Op::Sigmoid | Op::Gate | Op::Add | Op::Concat => reads_any,
            Op::Quantize | Op::QuantizeDynamic => reads_any,
            Op::Dropout { .. } | Op::DropPath { .. } | Op::PadShortcut { .. } => reads_any,
        };
        extents.push((!follows_image).then_some([shape.height, shape.width]));
    }
    Ok(extents)
}

/// Checks that a node gives one size for maps of any size, with an operator that ONNX has.
fn check_fixed(node: &Node) -> Result<(), OnnxError> {
    match node.op {
        Op::AdaptiveAvgPool2d { output: [1, 1] } => Ok(()),
        Op::AdaptiveAvgPool2d { output: [height, width] } => {
            Err(fixed(node, format!("adaptive pooling to {height}×{width}, whose windows depend on the image's size")))
        }
        _ => Err(fixed(node, "a map as a vector, whose length depends on the image's size".into())),
    }
}

/// Checks that a pooling with a partial last window has that window under torch's and ONNX's rule alike, which differ about
/// windows that begin after the image and about what a padded mean is divided by.
fn check_ceil_mode(node: &Node, pool: Pool2d) -> Result<(), OnnxError> {
    let begins_inside =
        |axis: usize| pool.stride[axis] == 1 || pool.padding[axis] + pool.stride[axis] <= pool.kernel[axis];
    let counts_padding = matches!(node.op, Op::AvgPool2d { count_include_pad: true, .. }) && pool.padding != [0, 0];
    match begins_inside(0) && begins_inside(1) && !counts_padding {
        true => Ok(()),
        false => Err(fixed(node, "a pooling in ceil_mode, whose last windows depend on the image's size".into())),
    }
}

fn fixed(node: &Node, got: String) -> OnnxError {
    OnnxError::FixedSize { node: node.name.clone(), got }
}
