//! Conversion between floats and bf16. Floats are dense pixels × channels; pixels of bf16 have an even number of channels
//! ([`Elements::pixel`]), the missing one being zero.

use crate::conv::Elements;
use crate::elementwise::for_pixels;
use crate::extents::is_product;
use crate::isa::{ElementKernel, ElementProduct, Isa, Sealed, Simd};
use half::bf16;
use residual_threads::Pool;

/// y = x, or y += x if `accumulate`, rounded to the nearest bf16, halves to the even one.
///
/// # Panics
/// If the slices do not have as many pixels of `channels`.
pub fn round_to_bf16(isa: Isa, pool: &Pool, x: &[f32], channels: usize, accumulate: bool, y: &mut [bf16]) {
    let pixel = check(x.len(), y.len(), channels);
    for_pixels(pool, pixel, y, |pixels, y| {
        let x = &x[pixels.start * channels..pixels.end * channels];
        bf16::run(isa, Round { x, channels, pixel, accumulate, y });
    });
}

/// y = x, or y += x if `accumulate`.
///
/// # Panics
/// As [`round_to_bf16`].
pub fn widen_bf16(isa: Isa, pool: &Pool, x: &[bf16], channels: usize, accumulate: bool, y: &mut [f32]) {
    let pixel = check(y.len(), x.len(), channels);
    for_pixels(pool, channels, y, |pixels, y| {
        let x = &x[pixels.start * pixel..pixels.end * pixel];
        bf16::run(isa, Widen { x, channels, pixel, accumulate, y });
    });
}

/// Compares the lengths of floats and of bf16. Returns the elements of a pixel of bf16.
fn check(floats: usize, halves: usize, channels: usize) -> usize {
    let pixel = Elements::Bf16.pixel(channels);
    let fits = floats.is_multiple_of(channels) && is_product(halves, &[floats / channels, pixel]);
    assert!(fits, "pixels of {channels} channels: {floats} floats, {halves} of bf16");
    pixel
}

struct Round<'a> {
    x: &'a [f32],
    channels: usize,
    pixel: usize,
    accumulate: bool,
    y: &'a mut [bf16],
}

impl ElementKernel<bf16> for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = bf16>>(self, product: P) {
        let Self { x, channels, pixel, accumulate, y } = self;
        // Without padding, all is one run.
        let (run, step) = if channels == pixel { (x.len(), y.len()) } else { (channels, pixel) };
        for (x, y) in x.chunks_exact(run.max(1)).zip(y.chunks_exact_mut(step.max(1))) {
            for i in (0..run).step_by(P::Simd::LANES) {
                // SAFETY: `run − i` elements are left in both.
                unsafe {
                    let (s, to) = (product.simd(), y.as_mut_ptr().add(i));
                    let mut value = s.load_up_to(x.as_ptr().add(i), run - i);
                    if accumulate {
                        value = s.add(value, product.load_up_to(to, run - i));
                    }
                    product.store_up_to(to, run - i, value);
                }
            }
            y[run..].fill(bf16::ZERO);
        }
    }
}

struct Widen<'a> {
    x: &'a [bf16],
    channels: usize,
    pixel: usize,
    accumulate: bool,
    y: &'a mut [f32],
}

impl ElementKernel<bf16> for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = bf16>>(self, product: P) {
        let Self { x, channels, pixel, accumulate, y } = self;
        let (run, step) = if channels == pixel { (y.len(), x.len()) } else { (channels, pixel) };
        for (y, x) in y.chunks_exact_mut(run.max(1)).zip(x.chunks_exact(step.max(1))) {
            for i in (0..run).step_by(P::Simd::LANES) {
                // SAFETY: `run − i` elements are left in both.
                unsafe {
                    let (s, to) = (product.simd(), y.as_mut_ptr().add(i));
                    let mut value = product.load_up_to(x.as_ptr().add(i), run - i);
                    if accumulate {
                        value = s.add(value, s.load_up_to(to, run - i));
                    }
                    s.store_up_to(to, run - i, value);
                }
            }
        }
    }
}
