//! Quantisation by its definition.

use crate::conv::QuantizedConv;
use crate::quantize::Quantization;

/// round(x / scale) + zero as a byte, halves to the even number; the zero point between pixels.
pub fn quantize(x: &[f32], channels: usize, to: Quantization) -> Vec<u8> {
    let byte = |x: &f32| {
        let number = (x / to.scale).round_ties_even() + f32::from(to.zero);
        if number >= 255.0 { 255 } else { (0..255u8).rev().find(|&byte| f32::from(byte) <= number).unwrap_or(0) }
    };
    let padding = vec![to.zero; QuantizedConv::pixel(channels) - channels];
    x.chunks_exact(channels).flat_map(|pixel| pixel.iter().map(byte).chain(padding.clone())).collect()
}

/// (byte − zero) · scale, without what is between pixels.
pub fn dequantize(x: &[u8], channels: usize, from: Quantization) -> Vec<f32> {
    let real = |byte: &u8| (i32::from(*byte) - i32::from(from.zero)) as f32 * from.scale;
    x.chunks_exact(QuantizedConv::pixel(channels)).flat_map(|pixel| pixel[..channels].iter().map(real)).collect()
}
