//! The micro-kernels: a tile of the product that stays in registers.
//!
//! Loops count with constants and index arrays of registers, which the compiler unrolls away.
#![allow(clippy::needless_range_loop, reason = "a register tile is addressed by row and vector")]

use crate::isa::{Isa, Product, Simd};
use std::ops::Range;

/// Vectors of output channels in a tile.
///
/// Four where the registers allow it and the channels fill them: each element of the panel is then read least often.
pub(super) fn tile_vectors(isa: Isa, outputs: usize) -> usize {
    let widest = if isa.registers() >= 32 { 4 } else { 2 };
    let waste = |vectors: usize| outputs.div_ceil(vectors * isa.lanes()) * vectors;
    let penalty = |vectors: usize| match vectors {
        4 => 100,
        2 => 103,
        _ => 110,
    };
    [4, 2, 1].into_iter().filter(|&v| v <= widest).min_by_key(|&v| waste(v) * penalty(v)).expect("never empty")
}

/// Rows of a tile that is `vectors` wide.
pub(super) fn tile_rows(isa: Isa, vectors: usize) -> usize {
    match (vectors, isa.registers() >= 32) {
        (1, _) | (2, true) => 12,
        _ => 6,
    }
}

/// Calls a method that is generic over the rows and vectors of a tile with those of [`tile_rows`].
macro_rules! with_tile {
    ($vectors:expr, $set:ty, $block:ident.$method:ident::<$($kind:ty),+>($s:expr)) => {
        match ($vectors, <$set as crate::isa::Simd>::REGISTERS >= 32) {
            (1, _) => $block.$method::<$($kind),+, 12, 1>($s),
            (2, true) => $block.$method::<$($kind),+, 12, 2>($s),
            (2, false) => $block.$method::<$($kind),+, 6, 2>($s),
            (4, true) => $block.$method::<$($kind),+, 6, 4>($s),
            other => unreachable!("no tile of {other:?}"),
        }
    };
}
pub(super) use with_tile;

/// Rows and vectors of a tile of the weights' gradient ([`outer`]), on vectors of `lanes`.
pub(super) fn outer_tile(lanes: usize, registers: usize, outputs: usize) -> [usize; 2] {
    match (outputs > lanes, registers >= 32) {
        (true, true) => [8, 2],
        (true, false) => [4, 2],
        (false, _) => [8, 1],
    }
}

/// acc[r][v] += Σ over k in `depth` of rows[r][k] · b[k][v], in lanes of 32 bits: floats, or groups of smaller numbers.
///
/// # Safety
/// `depth.end` lanes can be read at each of `rows`, and `depth.end · NV · LANES` at `b`.
#[inline(always)]
pub(super) unsafe fn multiply<P: Product, const MR: usize, const NV: usize>(
    product: P,
    depth: Range<usize>,
    rows: &[*const f32; MR],
    b: *const f32,
    acc: &mut [[<P::Simd as Simd>::Reg; NV]; MR],
) {
    let s = product.simd();
    let mut k = depth.start;
    macro_rules! step {
        ($k:expr) => {{
            let k = $k;
            // SAFETY: k < depth.end.
            unsafe {
                let mut columns = [s.zero(); NV];
                for v in 0..NV {
                    columns[v] = s.load(b.add((k * NV + v) * P::Simd::LANES));
                }
                for r in 0..MR {
                    let a = s.splat(*rows[r].add(k));
                    for v in 0..NV {
                        acc[r][v] = product.multiply_add(a, columns[v], acc[r][v]);
                    }
                }
            }
        }};
    }
    while k + 4 <= depth.end {
        step!(k);
        step!(k + 1);
        step!(k + 2);
        step!(k + 3);
        k += 4;
    }
    while k < depth.end {
        step!(k);
        k += 1;
    }
}

/// acc[r][v] += Σ over k of a[r][k] · b[k][v], with the rows of `a` in blocks of a vector: element k of row r is at
/// `k / LANES · next + r · LANES + k % LANES`. One pointer is enough for all rows, which matters for a small depth.
///
/// # Safety
/// `MR · LANES` floats can be read at each of `blocks` places `next` floats apart from `a` on, and
/// `blocks · LANES · NV · LANES` at `b`.
#[inline(always)]
pub(super) unsafe fn multiply_blocks<P: Product, const MR: usize, const NV: usize>(
    product: P,
    blocks: usize,
    a: *const f32,
    next: usize,
    b: *const f32,
    acc: &mut [[<P::Simd as Simd>::Reg; NV]; MR],
) {
    let (s, lanes) = (product.simd(), P::Simd::LANES);
    for block in 0..blocks {
        let (a, b) = (a.wrapping_add(block * next), b.wrapping_add(block * lanes * NV * lanes));
        let mut k = 0;
        while k < lanes {
            for step in 0..4 {
                // SAFETY: k + step < LANES, a multiple of four.
                unsafe {
                    let k = k + step;
                    let mut columns = [s.zero(); NV];
                    for v in 0..NV {
                        columns[v] = s.load(b.add((k * NV + v) * lanes));
                    }
                    for r in 0..MR {
                        let a = s.splat(*a.add(r * lanes + k));
                        for v in 0..NV {
                            acc[r][v] = product.multiply_add(a, columns[v], acc[r][v]);
                        }
                    }
                }
            }
            k += 4;
        }
    }
}

/// acc[r][v] += Σ over rows m of a[m][r] · d[m][v]: a tile of the weights' gradient, in lanes of 32 bits.
///
/// # Safety
/// For every m below `rows` and v below `NV`: `MR` floats can be read at `a + m·a_stride`, and at
/// `d + m·d_stride + v·d_next` a vector, or what is left of `n` floats, where `(NV − 1) · LANES < n`.
#[inline(always)]
pub(super) unsafe fn outer<P: Product, const MR: usize, const NV: usize>(
    product: P,
    rows: usize,
    (a, a_stride): (*const f32, usize),
    (d, d_stride, d_next): (*const f32, usize, usize),
    n: usize,
    acc: &mut [[<P::Simd as Simd>::Reg; NV]; MR],
) {
    let (s, lanes) = (product.simd(), P::Simd::LANES);
    let full = n >= NV * lanes;
    for m in 0..rows {
        // SAFETY: m < rows; a vector that is not whole is read only as far as n.
        unsafe {
            let (a, d) = (a.add(m * a_stride), d.add(m * d_stride));
            let mut columns = [s.zero(); NV];
            for v in 0..NV {
                let at = d.add(v * d_next);
                columns[v] = if full { s.load(at) } else { s.load_up_to(at, n - v * lanes) };
            }
            for r in 0..MR {
                let a = s.splat(*a.add(r));
                for v in 0..NV {
                    acc[r][v] = product.multiply_add(a, columns[v], acc[r][v]);
                }
            }
        }
    }
}
