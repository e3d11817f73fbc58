//! Kernels of 8-bit images: the stages of a JPEG decoder behind its entropy coding, and resampling.
//!
//! Every instruction set gives the same bits, which are libjpeg-turbo's, Pillow's and torchvision's.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod normalization;
mod plain;

pub use normalization::Normalization;

use crate::isa::Isa;
use crate::reference;

/// Bits after the point in the weights of [`Taps`]: a sum of 255 times weights fits an `i32`.
pub const PRECISION: u32 = 32 - 8 - 2;

/// The chroma of grey.
pub(crate) const CHROMA: i32 = 128;

/// Runs the AVX2 version of a kernel where the set has AVX2 and FMA, else the other one.
macro_rules! dispatch {
    ($isa:expr, $kernel:ident($($argument:expr),*), $other:expr) => {
        match $isa.has_avx2() {
            // SAFETY: `Isa` was made by detection, so the machine has AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            true => unsafe { avx2::$kernel($($argument),*) },
            _ => $other,
        }
    };
}

/// Dequantises (`block · table`, row by row) and transforms blocks of cosine coefficients with libjpeg's accurate integer method, and
/// writes their 8×8 samples side by side to `output`, whose rows are `stride` apart. Values that no encoder writes wrap around.
///
/// # Panics
/// If `output` has no room for 8 rows.
pub fn inverse_cosine(isa: Isa, blocks: &[[i16; 64]], table: &[u16; 64], output: &mut [u8], stride: usize) {
    let width = 8 * blocks.len();
    assert!(width <= stride && (width == 0 || output.len() >= 7 * stride + width), "8 rows of {width} samples");
    dispatch!(
        isa,
        inverse_cosine(blocks, table, output, stride),
        reference::inverse_cosine(blocks, table, output, stride)
    );
}

/// Twice as many samples of a row: three quarters of the nearer one, one of the other (libjpeg's smooth upsampling); at the ends the
/// nearer one alone.
///
/// # Panics
/// If `output` is not twice as long as `row`.
pub fn widen(isa: Isa, row: &[u8], output: &mut [u8]) {
    assert_eq!(2 * row.len(), output.len(), "twice as many samples");
    dispatch!(isa, widen(row, output), plain::widen(row, output));
}

/// Twice as many samples, between two rows: nine sixteenths of the nearest, three of its neighbours, one of the farthest. `sums` has room
/// for a row.
///
/// # Panics
/// If `far` and `sums` are not as long as `near`, and `output` twice as long.
pub fn widen_between(isa: Isa, near: &[u8], far: &[u8], sums: &mut [u16], output: &mut [u8]) {
    assert_eq!([far.len(), sums.len()], [near.len(); 2], "rows of one length");
    assert_eq!(2 * near.len(), output.len(), "twice as many samples");
    dispatch!(isa, widen_between(near, far, sums, output), plain::widen_between(near, far, sums, output));
}

/// JPEG's luma and chroma to interleaved red, green and blue, as libjpeg converts them.
///
/// # Panics
/// If the rows do not have one length, and `rgb` three times that.
pub fn ycc_to_rgb(isa: Isa, y: &[u8], cb: &[u8], cr: &[u8], rgb: &mut [u8]) {
    assert_eq!([cb.len(), cr.len()], [y.len(); 2], "rows of one length");
    assert_eq!(3 * y.len(), rgb.len(), "three values for each pixel");
    dispatch!(isa, ycc_to_rgb(y, cb, cr, rgb), reference::ycc_to_rgb(y, cb, cr, rgb));
}

/// The source positions and weights of resampled ones, in fixed point with [`PRECISION`] bits after the point: position `i` is the sum of
/// `size` values from `starts[i]` on, by the weights from `i · size` on.
#[derive(Clone, Copy, Debug)]
pub struct Taps<'a> {
    /// The first source position of each.
    pub starts: &'a [u32],
    /// The number of weights of each.
    pub size: usize,
    /// `size` weights of each.
    pub weights: &'a [i32],
}

impl Taps<'_> {
    /// The source positions of `at`, and their weights.
    pub(crate) fn of(self, at: usize) -> impl Iterator<Item = (usize, i32)> {
        let start = self.starts[at] as usize;
        self.weights[at * self.size..][..self.size].iter().enumerate().map(move |(tap, &weight)| (start + tap, weight))
    }

    /// Panics if a tap lies outside `from` positions.
    fn check(self, from: usize) {
        assert_eq!(self.weights.len(), self.starts.len() * self.size, "`size` weights of each position");
        let inside = |&start: &u32| start as usize + self.size <= from;
        assert!(self.size > 0 && self.starts.iter().all(inside), "taps inside {from} positions");
    }
}

/// Resamples the rows of an image of interleaved `channels`, each of `width` pixels, and rounds to bytes.
///
/// # Panics
/// If taps lie outside a row, or `pixels` and `output` do not have as many rows.
pub fn resample_columns(isa: Isa, pixels: &[u8], channels: usize, width: usize, taps: Taps<'_>, output: &mut [u8]) {
    taps.check(width);
    let rows = pixels.len() / (width * channels);
    assert_eq!(pixels.len(), rows * width * channels, "whole rows");
    assert_eq!(output.len(), rows * taps.starts.len() * channels, "output against its size");
    match channels {
        1 => plain::resample_columns::<1>(pixels, width, taps, output),
        3 => dispatch!(
            isa,
            resample_columns_of_3(pixels, width, taps, output),
            plain::resample_columns::<3>(pixels, width, taps, output)
        ),
        4 => plain::resample_columns::<4>(pixels, width, taps, output),
        _ => reference::resample_columns(pixels, channels, width, taps, output),
    }
}

/// Resamples the columns of an image whose rows have `row_len` values, and rounds to bytes.
///
/// # Panics
/// If taps lie outside the image, or the slices do not have whole rows.
pub fn resample_rows(isa: Isa, pixels: &[u8], row_len: usize, taps: Taps<'_>, output: &mut [u8]) {
    let rows = pixels.len() / row_len;
    assert_eq!(pixels.len(), rows * row_len, "whole rows");
    taps.check(rows);
    assert_eq!(output.len(), taps.starts.len() * row_len, "output against its size");
    dispatch!(isa, resample_rows(pixels, row_len, taps, output), plain::resample_rows(pixels, row_len, taps, output));
}

/// Normalises pixels of interleaved channels: [`Normalization`].
///
/// # Panics
/// If `output` is not as long as `pixels`, or these are not whole pixels.
pub fn normalize(isa: Isa, normalization: &Normalization, pixels: &[u8], output: &mut [f32]) {
    assert_eq!(pixels.len(), output.len(), "as many values as pixels have");
    assert!(pixels.len().is_multiple_of(normalization.channels()), "whole pixels");
    match normalization.steps() {
        Some(steps) => {
            dispatch!(isa, normalize(steps, normalization, pixels, output), normalization.look_up(pixels, output));
        }
        None => normalization.look_up(pixels, output),
    }
}
