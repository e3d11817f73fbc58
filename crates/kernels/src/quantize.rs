//! Quantisation: floats as bytes, and bytes as floats.
//!
//! Floats are dense pixels × channels; pixels of bytes have a multiple of four channels ([`QuantizedConv::pixel`]).

use crate::conv::QuantizedConv;
use crate::elementwise::for_pixels;
use crate::extents::is_product;
use crate::isa::{Isa, Kernel, Simd};
use residual_threads::Pool;

/// What bytes stand for: (byte − zero) · scale. ONNX's `QuantizeLinear` and `DequantizeLinear`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// The distance of neighbouring bytes; above zero.
    pub scale: f32,
    /// The byte that stands for zero.
    pub zero: u8,
}

impl Quantization {
    /// The byte nearest to `x`: `x / scale`, rounded to a whole number, halves to the even one, plus the zero point, from 0 to
    /// 255. NaN becomes 0.
    pub fn quantize(self, x: f32) -> u8 {
        let whole = (x / self.scale).round_ties_even();
        (whole + f32::from(self.zero)) as u8
    }

    /// What a byte stands for.
    pub fn dequantize(self, byte: u8) -> f32 {
        (f32::from(byte) - f32::from(self.zero)) * self.scale
    }
}

impl Quantization {
    /// The 256 numbers from the least to the greatest of `values`, stretched to include zero, which one of them is. NaN counts as zero.
    pub fn of(values: &[f32]) -> Self {
        let range = |[least, greatest]: [f32; 2], &value: &f32| [least.min(value), greatest.max(value)];
        let [least, greatest] = values.iter().fold([0.0; 2], range);
        let scale = ((greatest - least) / 255.0).max(LEAST_SCALE);
        let zero = (-least / scale).round_ties_even().clamp(0.0, 255.0);
        Self { scale, zero: zero as u8 }
    }
}

/// The scale of values that are all zero, or nearly.
const LEAST_SCALE: f32 = 1e-12;

/// 1.5 · 2²³: its sum with a number between ±2²² is rounded to a whole number, halves to the even one.
const ROUND: f32 = 12_582_912.0;

/// y = [`Quantization::quantize`] of `x`, pixels × `channels`. The padding between the pixels of `y` becomes the zero point.
///
/// # Panics
/// If the slices do not have as many pixels.
pub fn quantize(isa: Isa, pool: &Pool, x: &[f32], channels: usize, to: Quantization, y: &mut [u8]) {
    let pixel = check(x.len(), y.len(), channels);
    for_pixels(pool, pixel, y, |pixels, y| {
        isa.run(Quantize { x: &x[pixels.start * channels..pixels.end * channels], channels, pixel, to, y });
    });
}

/// Compares the lengths of floats and bytes. Returns the bytes of a pixel.
fn check(floats: usize, bytes: usize, channels: usize) -> usize {
    let pixel = QuantizedConv::pixel(channels);
    let fits = floats.is_multiple_of(channels) && is_product(bytes, &[floats / channels, pixel]);
    assert!(fits, "pixels of {channels} channels: {floats} floats, {bytes} bytes");
    pixel
}

struct Quantize<'a> {
    x: &'a [f32],
    channels: usize,
    pixel: usize,
    to: Quantization,
    y: &'a mut [u8],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, channels, pixel, to: Quantization { scale, zero }, y } = self;
        let (round, offset) = (s.splat(ROUND), s.splat(f32::from(zero)));
        let (scale, least, most) = (s.splat(scale), s.splat(-f32::from(zero)), s.splat(255.0 - f32::from(zero)));
        let mut i = 0;
        while i < x.len() {
            let n = x.len() - i;
            // SAFETY: `n` floats are left in `x`, and in `y`, whose pixels are no smaller, as many bytes.
            unsafe {
                let value = s.div(s.load_up_to(x.as_ptr().add(i), n), scale);
                // Bounds are whole numbers, so that they may come before the rounding. NaN becomes the lower one.
                let value = s.max(least, value);
                let value = s.min(value, most);
                let whole = s.sub(s.add(value, round), round);
                s.store_bytes(y.as_mut_ptr().add(i), n, s.add(whole, offset));
            }
            i += S::LANES;
        }
        match channels {
            _ if channels == pixel => {}
            // Colour images: with a constant the copies are inline.
            3 => spread(y, 3, 4, zero),
            _ => spread(y, channels, pixel, zero),
        }
    }
}

/// Moves pixels of `channels` bytes, which lie one after another at the beginning of `y`, to their places, the last one first,
/// and sets the padding.
#[inline(always)]
fn spread(y: &mut [u8], channels: usize, pixel: usize, padding: u8) {
    for index in (0..y.len() / pixel).rev() {
        y.copy_within(index * channels..(index + 1) * channels, index * pixel);
        y[index * pixel + channels..(index + 1) * pixel].fill(padding);
    }
}

/// y = [`Quantization::dequantize`] of `x`, without its padding: pixels × `channels`.
///
/// # Panics
/// If the slices do not have as many pixels.
pub fn dequantize(isa: Isa, pool: &Pool, x: &[u8], channels: usize, from: Quantization, y: &mut [f32]) {
    let pixel = check(y.len(), x.len(), channels);
    for_pixels(pool, channels, y, |pixels, y| {
        isa.run(Dequantize { x: &x[pixels.start * pixel..pixels.end * pixel], channels, pixel, from, y });
    });
}

struct Dequantize<'a> {
    x: &'a [u8],
    channels: usize,
    pixel: usize,
    from: Quantization,
    y: &'a mut [f32],
}

impl Kernel for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, channels, pixel, from, y } = self;
        let (scale, zero) = (s.splat(from.scale), s.splat(f32::from(from.zero)));
        // Without padding, all is one run.
        let (run, step) = if channels == pixel { (y.len(), x.len()) } else { (channels, pixel) };
        for (y, x) in y.chunks_exact_mut(run).zip(x.chunks_exact(step)) {
            let mut i = 0;
            while i < run {
                // SAFETY: the run has `run − i` elements from here on in both slices.
                unsafe {
                    let byte = s.load_bytes(x.as_ptr().add(i), run - i);
                    s.store_up_to(y.as_mut_ptr().add(i), run - i, s.mul(s.sub(byte, zero), scale));
                }
                i += S::LANES;
            }
        }
    }
}
