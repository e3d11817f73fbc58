//! Convolution of bytes by its definition.

use super::conv::products;
use crate::conv::{ConvShape, QuantizedConv, Requantize};

/// y = x ∗ w, requantised, before the rounding to bytes and its bound: floats without padding between pixels. `x` and the residual
/// have pixels of whole groups of channels ([`QuantizedConv::pixel`]); `zero` stands outside the image.
pub fn conv_quantized(
    shape: &ConvShape,
    images: usize,
    (x, zero): (&[u8], u8),
    w: &[i8],
    requantize: Requantize<'_>,
) -> Vec<f32> {
    let (inputs, outputs) = (shape.in_channels, shape.out_channels);
    let mut sums = vec![0i64; images * shape.output_len()];
    // The sums over taps inside the image, and of the weights of those taps.
    let mut inside = vec![0i64; sums.len()];
    products(shape, images, |xi, wi, yi| {
        let value = x[xi / inputs * QuantizedConv::pixel(inputs) + xi % inputs];
        sums[yi] += i64::from(value) * i64::from(w[wi]);
        inside[yi] += i64::from(w[wi]);
    });
    let mut all = vec![0i64; outputs];
    let (group_outputs, group_len) = (outputs / shape.groups, w.len() / shape.groups);
    for (index, &w) in w.iter().enumerate() {
        all[index / group_len * group_outputs + index % group_outputs] += i64::from(w);
    }
    let result = |(index, sum): (usize, &i64)| {
        let channel = index % outputs;
        let outside = i64::from(zero) * (all[channel] - inside[index]);
        let sum = sum + outside + i64::from(requantize.start[channel]);
        let mut value = sum as i32 as f32 * requantize.scale[channel] + requantize.bias[channel];
        if let Some((add, factor)) = requantize.add {
            value += f32::from(add[index / outputs * QuantizedConv::pixel(outputs) + channel]) * factor;
        }
        value.max(requantize.least)
    };
    sums.iter().enumerate().map(result).collect()
}
