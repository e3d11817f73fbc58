//! The micro-kernels: the products of a tile over all taps.
#![allow(clippy::needless_range_loop, reason = "a register tile is addressed by row and vector, as in `tile`")]

use crate::conv::tile::multiply;
use crate::isa::{Product, Simd};

/// Where the operands of a pixel's taps lie in the copy, after the pixel's place: tap row by tap row, each one or more runs of
/// steps. All distances are in lanes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taps {
    pub(super) rows: usize,
    pub(super) next_row: usize,
    pub(super) runs: usize,
    pub(super) next_run: usize,
    pub(super) steps: usize,
    pub(super) step: usize,
}

/// How the operand of a step is read.
pub(super) trait Multiply {
    /// acc[r][v] += Σ over steps of the operand after rows[r] · b[step][v].
    ///
    /// # Safety
    /// The operands of all `taps` can be read after each of `rows`, and a whole panel at `b`.
    unsafe fn multiply<P: Product, const MR: usize, const NV: usize>(
        product: P,
        taps: &Taps,
        rows: &[*const f32; MR],
        b: *const f32,
        acc: &mut [[<P::Simd as Simd>::Reg; NV]; MR],
    );
}

/// A lane, for all lanes of the product.
pub(super) struct Splat;

impl Multiply for Splat {
    #[inline(always)]
    unsafe fn multiply<P: Product, const MR: usize, const NV: usize>(
        product: P,
        taps: &Taps,
        rows: &[*const f32; MR],
        b: *const f32,
        acc: &mut [[<P::Simd as Simd>::Reg; NV]; MR],
    ) {
        let mut b = b;
        for row in 0..taps.rows {
            for run in 0..taps.runs {
                // The lanes of a run are neighbours.
                let mut places = *rows;
                for place in &mut places {
                    *place = place.wrapping_add(row * taps.next_row + run * taps.next_run);
                }
                // SAFETY: the caller's promise.
                unsafe { multiply(product, 0..taps.steps, &places, b, acc) };
                b = b.wrapping_add(taps.steps * NV * P::Simd::LANES);
            }
        }
    }
}

/// A vector.
pub(super) struct Vectors;

impl Multiply for Vectors {
    #[inline(always)]
    unsafe fn multiply<P: Product, const MR: usize, const NV: usize>(
        product: P,
        taps: &Taps,
        rows: &[*const f32; MR],
        b: *const f32,
        acc: &mut [[<P::Simd as Simd>::Reg; NV]; MR],
    ) {
        let (s, mut b) = (product.simd(), b);
        for row in 0..taps.rows {
            for run in 0..taps.runs {
                let mut at = row * taps.next_row + run * taps.next_run;
                for _ in 0..taps.steps {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let mut columns = [s.zero(); NV];
                        for v in 0..NV {
                            columns[v] = s.load(b.add(v * P::Simd::LANES));
                        }
                        for r in 0..MR {
                            let a = s.load(rows[r].add(at));
                            for v in 0..NV {
                                acc[r][v] = product.multiply_add(a, columns[v], acc[r][v]);
                            }
                        }
                    }
                    at += taps.step;
                    b = b.wrapping_add(NV * P::Simd::LANES);
                }
            }
        }
    }
}
