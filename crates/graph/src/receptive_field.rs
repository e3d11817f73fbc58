//! Receptive fields, exactly: the input pixels that a value depends on, as an interval along each axis.

use crate::{Op, Shape};
use std::ops::Range;

/// The receptive field of a node along one axis, by the recurrences of Araujo et al., "Computing receptive fields of
/// convolutional neural networks" (2019): the value at index i depends on the input pixels from i · `stride` − `padding`
/// on, `size` of them. Where paths meet it is the union over all of them. Not clipped to the image; saturating at `i64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceptiveField {
    /// Extent in input pixels.
    pub size: usize,
    /// Effective stride: the distance in input pixels between neighbouring values.
    pub stride: usize,
    /// Effective padding: how far the field of the first value begins before the image, in input pixels.
    pub padding: usize,
}

impl ReceptiveField {
    /// The input pixels that the value at `index` depends on; negative ones and those past the image are padding.
    pub fn pixels(&self, index: usize) -> Range<i64> {
        let signed = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let start = signed(index.saturating_mul(self.stride)).saturating_sub(signed(self.padding));
        start..start.saturating_add(signed(self.size))
    }

    /// The larger of the fields along both axes.
    pub(crate) fn larger(fields: [Seen; 2]) -> Self {
        let [height, width] = fields.map(Self::of);
        if height.size >= width.size { height } else { width }
    }

    fn of(Seen { first, last, stride }: Seen) -> Self {
        let extent = |value: i64| usize::try_from(value).unwrap_or(0);
        let size = last.saturating_sub(first).saturating_add(1);
        Self { size: extent(size), stride: extent(stride), padding: extent(first.saturating_neg()) }
    }
}

/// The input pixels seen by the value at index i along one axis: from i · `stride` + `first` to i · `stride` + `last`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    first: i64,
    last: i64,
    stride: i64,
}

/// What a value of `op` sees, along height and width; `None` stands for the whole image.
pub(crate) fn seen(op: &Op, inputs: &[(Option<[Seen; 2]>, Shape)]) -> Option<[Seen; 2]> {
    match *op {
        Op::Input { .. } => Some([Seen { first: 0, last: 0, stride: 1 }; 2]),
        Op::Conv2d(_) | Op::MaxPool2d(_) | Op::AvgPool2d { .. } | Op::PadShortcut { .. } => {
            let window = op.window()?;
            let fields = inputs[0].0?;
            Some(std::array::from_fn(|axis| {
                let reach = (window.kernel[axis] - 1).saturating_mul(window.dilation[axis]);
                fields[axis].slide(window.padding[axis], reach, window.stride[axis])
            }))
        }
        Op::AdaptiveAvgPool2d { output } => {
            let (fields, Shape { height, width, .. }) = inputs[0];
            let fields = fields?;
            Some(std::array::from_fn(|axis| {
                let (window, stride) = adaptive_window([height, width][axis], output[axis]);
                fields[axis].slide(0, window - 1, stride)
            }))
        }
        Op::GlobalAvgPool | Op::Flatten => None,
        Op::BatchNorm2d { .. }
        | Op::LayerNorm { .. }
        | Op::LayerScale { .. }
        | Op::Linear { .. }
        | Op::Relu
        | Op::Gelu
        | Op::Sigmoid
        | Op::Quantize
        | Op::QuantizeDynamic
        | Op::Dropout { .. }
        | Op::DropPath { .. } => inputs[0].0,
        // A gate computed from the whole image only scales values; it does not enlarge the receptive field.
        Op::Gate => inputs[0].0,
        Op::Add | Op::Concat => inputs.iter().map(|(field, _)| *field).reduce(union).flatten(),
    }
}

impl Seen {
    /// Through windows that begin `padding` values early and reach over `reach` values after their first.
    fn slide(self, padding: usize, reach: usize, stride: usize) -> Self {
        let signed = |values: usize| i64::try_from(values).unwrap_or(i64::MAX);
        let pixels = |values: i64| values.saturating_mul(self.stride);
        let start = -signed(padding);
        Self {
            first: self.first.saturating_add(pixels(start)),
            last: self.last.saturating_add(pixels(start.saturating_add(signed(reach)))),
            stride: pixels(signed(stride)),
        }
    }
}

fn union(a: Option<[Seen; 2]>, b: Option<[Seen; 2]>) -> Option<[Seen; 2]> {
    let (a, b) = (a?, b?);
    Some(std::array::from_fn(|axis| Seen {
        first: a[axis].first.min(b[axis].first),
        last: a[axis].last.max(b[axis].last),
        stride: a[axis].stride.max(b[axis].stride),
    }))
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
