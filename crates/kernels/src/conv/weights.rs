//! The gradient of the weights: gathered rows of x, transposed, times dy.
//!
//! The sum over all pixels is cut into a few fixed parts, each summed in order and the parts added in order, so that
//! the result does not depend on the number of threads.
//!
//! Products of bf16 sum two rows: those of pairs of rows are zipped into lanes of 32 bits, for x as for dy.

use super::forward::panel_stride;
use super::im2col::{CopyLanes, MAX_ROWS, Position};
use super::tile::{outer, outer_tile};
use super::{Conv, Im2col};
use crate::isa::{Element, ElementKernel, ElementProduct, Isa, Kernel, Sealed, Simd};
use crate::raw::SharedMut;
use residual_threads::{Pool, split};
use std::ops::Range;

/// Lanes of rows, each one row or of bf16 two, gathered at a time.
const ROWS: usize = 128;
/// Most and fewest columns of the matrix that one task gathers.
const DEPTH: usize = 512;
const MIN_DEPTH: usize = 64;
/// Most output channels of a task.
const OUTPUTS: usize = 256;
/// Floats of the sum that one task accumulates: they stay in its L2 cache.
const SUM_LEN: usize = 128 << 10;
/// Number of tasks from which on more parts of the sum are not worth their addition.
const TASKS: usize = 16;
/// Fewer tasks leave threads idle: columns are then partitioned further.
const MIN_TASKS: usize = 8;
/// Rows that are gathered before they are zipped.
const ZIPPED: usize = 16;
/// Floats of a thread's panel, and of the rows that are zipped into it.
const PANEL_LEN: usize = ROWS * (DEPTH + 16) + ZIPPED * (DEPTH + 16);
/// Most parts of the sum.
const MAX_PARTS: usize = 8;
/// Fewest rows that make a part worth its addition.
const MIN_ROWS: usize = 512;
/// Floats that all parts together may take.
const MAX_PARTIAL: usize = 8 << 20;
/// Rows of a tile; panels are filled with zeros up to a multiple.
const TILE_ROWS: usize = 8;

const _: () = assert!(ROWS <= MAX_ROWS);

/// How the gradient is cut: parts of the sum over rows, runs of columns, runs of outputs.
fn cuts(conv: &Conv, images: usize) -> [usize; 3] {
    let im2col = &conv.im2col;
    let (rows, depth) = (images * im2col.rows_per_image(), im2col.depth() * conv.elements.group());
    let wide = im2col.outputs.div_ceil(OUTPUTS);
    let deep = depth.div_ceil((SUM_LEN / im2col.outputs.min(OUTPUTS)).min(DEPTH));
    let fitting = (MAX_PARTIAL / conv.shape.weight_len()).clamp(1, MAX_PARTS);
    let parts = (rows / MIN_ROWS).min(TASKS.div_ceil(im2col.groups * deep * wide)).clamp(1, fitting);
    let short = MIN_TASKS.div_ceil(parts * im2col.groups * wide);
    [parts, deep.max(short.min(depth.div_ceil(MIN_DEPTH))), wide]
}

pub(super) fn workspace_len(conv: &Conv, images: usize, threads: usize) -> usize {
    let [parts, ..] = cuts(conv, images);
    threads * PANEL_LEN + if parts > 1 { parts * conv.shape.weight_len() } else { 0 }
}

pub(super) fn backward_weights<E: Element>(
    conv: &Conv,
    pool: &Pool,
    images: usize,
    x: &[E],
    dy: &[E],
    dw: &mut [f32],
    workspace: &mut [f32],
) {
    assert!(workspace.len() >= workspace_len(conv, images, pool.threads()), "workspace of {}", workspace.len());
    let im2col = &conv.im2col;
    let (rows, depth) = (images * im2col.rows_per_image(), im2col.depth() * E::GROUP);
    let [parts, deep, wide] = cuts(conv, images);
    let (panels, partial) = workspace.split_at_mut(pool.threads() * PANEL_LEN);
    let panels = SharedMut::new(panels);
    let len = dw.len();
    {
        let sums = SharedMut::new(if parts > 1 { &mut partial[..parts * len] } else { &mut *dw });
        pool.run(parts * im2col.groups * deep * wide, |task, worker| {
            let (block, outputs) = (task / wide, split(im2col.outputs, wide, MAX_WIDTH, task % wide));
            let (rest, columns) = (block / deep, split(depth, deep, TILE_ROWS, block % deep));
            let (part, group) = (rest / im2col.groups, rest % im2col.groups);
            let channels = conv.shape.in_channels / im2col.groups;
            let sum = sums.offset(part * len + group * im2col.taps.len() * channels * im2col.outputs);
            let (rows, panel) = (split(rows, parts, 1, part), panels.at(worker * PANEL_LEN));
            if columns.is_empty() || outputs.is_empty() {
                return;
            }
            E::run(conv.isa, PartialSums { im2col, channels, group, columns, outputs, rows, x, dy, sum, panel });
        });
    }
    if parts > 1 {
        add_parts(conv.isa, pool, &partial[..parts * len], dw);
    }
}

struct PartialSums<'a, E> {
    im2col: &'a Im2col,
    /// Input channels of a group.
    channels: usize,
    group: usize,
    /// Columns of the matrix, in elements.
    columns: Range<usize>,
    outputs: Range<usize>,
    rows: Range<usize>,
    x: &'a [E],
    dy: &'a [E],
    /// The gradient of the group: `[tap][input channel][output channel]`.
    sum: SharedMut<'a>,
    panel: *mut f32,
}

impl<E: Element> ElementKernel<E> for PartialSums<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(mut self, product: P) {
        match outer_tile(P::Simd::LANES, P::Simd::REGISTERS, self.im2col.outputs) {
            [8, 2] => self.blocks::<P, 8, 2>(product),
            [4, 2] => self.blocks::<P, 4, 2>(product),
            [8, 1] => self.blocks::<P, 8, 1>(product),
            other => unreachable!("no tile of {other:?}"),
        }
    }
}

impl<E: Element> PartialSums<'_, E> {
    #[inline(always)]
    fn blocks<P: ElementProduct<Element = E>, const MR: usize, const NV: usize>(&mut self, product: P) {
        let (im2col, lanes) = (self.im2col, P::Simd::LANES);
        // Rows a multiple of half a page apart fall into few sets of the L1 cache: those are copied.
        let direct = E::GROUP == 1
            && im2col.is_direct()
            && self.columns.len().is_multiple_of(MR)
            && !im2col.source_channels.is_multiple_of(512);
        let depth = self.columns.len();
        let mut columns = Columns([0.0; ROWS * MAX_WIDTH]);
        let mut row = self.rows.start;
        while row < self.rows.end {
            let rows = row..self.rows.end.min(row + E::GROUP * ROWS);
            let count = rows.len().div_ceil(E::GROUP);
            let (a, a_stride) = if direct {
                let offset = row * im2col.source_channels + self.group * im2col.channels + self.columns.start;
                (self.x.as_ptr().cast::<f32>().wrapping_add(offset), im2col.source_channels)
            } else {
                let stride = panel_stride(depth);
                // SAFETY: the panel has ROWS rows of this stride, which belong to this thread.
                unsafe {
                    match E::GROUP {
                        1 => self.gather(product.simd(), rows.clone(), self.panel, stride),
                        _ => self.gather_zipped(product, rows.clone(), stride),
                    }
                    // Columns up to a whole tile are multiplied too; their products are not stored.
                    for row in 0..count {
                        for column in depth..depth.next_multiple_of(TILE_ROWS).min(stride) {
                            *self.panel.add(row * stride + column) = 0.0;
                        }
                    }
                }
                (self.panel.cast_const(), stride)
            };
            let d = self.dy.as_ptr().wrapping_add(row * im2col.target_channels + self.group * im2col.outputs);
            let first = row == self.rows.start;
            for output in self.outputs.clone().step_by(NV * lanes) {
                let left = self.outputs.end - output;
                let from = d.wrapping_add(output);
                let mut d = (from.cast::<f32>(), im2col.target_channels);
                // Rows a multiple of a page apart map to the same cache sets: they evict each other unless copied.
                let conflicts = im2col.target_channels.is_multiple_of(256) && depth >= MIN_SHARED;
                if E::GROUP > 1 || conflicts || left < NV * lanes {
                    // SAFETY: dy has `left` channels from here in each of the rows.
                    unsafe { columns.fill::<P, NV>(product, rows.len(), (from, im2col.target_channels), left) };
                    d = (columns.0.as_ptr(), NV * lanes);
                }
                // The next columns of dy are in other pages: they are prefetched while this product is computed.
                let (next, ahead) = if left > NV * lanes {
                    (output + NV * lanes, rows.clone())
                } else {
                    (self.outputs.start, rows.end..self.rows.end.min(rows.end + E::GROUP * ROWS))
                };
                let share = ahead.len().div_ceil(depth.div_ceil(MR));
                for column in (0..depth).step_by(MR) {
                    let a = (a.wrapping_add(column), a_stride);
                    let from = (ahead.start + column / MR * share).min(ahead.end);
                    let ahead = (next, from..(from + share).min(ahead.end));
                    // SAFETY: the panel's stride is a multiple of 16 and so of MR: a tile's columns exist, and are
                    // real or zero (a direct matrix has a multiple of MR columns). So do the vectors of d.
                    unsafe { self.tile::<P, MR, NV>(product, count, a, d, (column, output, left), first, ahead) };
                }
            }
            row = rows.end;
        }
    }

    /// Gathers the columns of some rows in lanes, `stride` apart from `to` on.
    ///
    /// # Safety
    /// There is room for them.
    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, s: S, rows: Range<usize>, to: *mut f32, stride: usize) {
        let mut table = [Position::default(); ROWS];
        let positions = &mut table[..rows.len()];
        self.im2col.positions(rows.start, positions);
        let columns = self.columns.start / E::GROUP..self.columns.end / E::GROUP;
        let (x, group) = (self.x.as_ptr().cast(), self.group);
        // SAFETY: `x` was checked to be a tensor of the source with all images; the caller's promise.
        unsafe { self.im2col.fill(s, CopyLanes::FLOATS, x, group, positions, columns, to, stride) };
    }

    /// Gathers the columns of some rows, and zips those of each pair into a row of the panel.
    ///
    /// # Safety
    /// The panel has half as many rows of this stride, and after ROWS of them room for ZIPPED rows that are not zipped.
    #[inline(always)]
    unsafe fn gather_zipped<P: ElementProduct<Element = E>>(&self, product: P, rows: Range<usize>, stride: usize) {
        let depth = self.columns.len();
        let scratch = self.panel.wrapping_add(ROWS * (DEPTH + 16));
        let narrow = panel_stride(depth.div_ceil(E::GROUP));
        let is_direct = self.im2col.is_direct();
        for first in rows.clone().step_by(ZIPPED) {
            let part = first..(first + ZIPPED).min(rows.end);
            let (from, next) = if is_direct {
                let pixel = self.im2col.source_channels * E::GROUP;
                (self.x.as_ptr().wrapping_add(first * pixel + self.columns.start), pixel)
            } else {
                // SAFETY: the caller's promise.
                unsafe { self.gather(product.simd(), part.clone(), scratch, narrow) };
                (scratch.cast_const().cast::<E>(), narrow * E::GROUP)
            };
            for pair in (0..part.len()).step_by(2) {
                let to = self.panel.wrapping_add((first - rows.start + pair) / 2 * stride);
                // SAFETY: both rows have `depth` elements, or there is no second one, which counts as zeros.
                unsafe { zip(product, from.wrapping_add(pair * next), next, part.len() - pair, depth, to) };
            }
        }
    }

    /// Multiplies `rows` lanes of rows, and before every sixteen of them prefetches some of the vectors of dy from output `next`
    /// on in the rows `ahead`.
    ///
    /// # Safety
    /// MR lanes can be read at `a` in each of the rows, and NV vectors at `d`.
    #[inline(always)]
    unsafe fn tile<P: ElementProduct<Element = E>, const MR: usize, const NV: usize>(
        &mut self,
        product: P,
        rows: usize,
        a: (*const f32, usize),
        d: (*const f32, usize),
        (column, output, left): (usize, usize, usize),
        first: bool,
        (next, ahead): (usize, Range<usize>),
    ) {
        let (s, lanes) = (product.simd(), P::Simd::LANES);
        let mut acc = [[s.zero(); NV]; MR];
        let im2col = self.im2col;
        let next = self.dy.as_ptr().wrapping_add(self.group * im2col.outputs + next);
        let share = ahead.len().div_ceil(rows.div_ceil(16));
        for m in (0..rows).step_by(16) {
            for row in (ahead.start + m / 16 * share..ahead.end).take(share) {
                for element in (0..NV * lanes).step_by(lanes * E::GROUP) {
                    s.prefetch(next.wrapping_add(row * im2col.target_channels + element).cast());
                }
            }
            let a = (a.0.wrapping_add(m * a.1), a.1);
            let d = (d.0.wrapping_add(m * d.1), d.1, lanes);
            // SAFETY: the caller's promise.
            unsafe { outer(product, (rows - m).min(16), a, d, NV * lanes, &mut acc) };
        }
        let valid = (self.columns.len() - column).min(MR);
        for (r, sums) in acc.iter().enumerate().take(valid) {
            let Some(row) = self.row_of_sum(self.columns.start + column + r) else { continue };
            for (v, &value) in sums.iter().enumerate() {
                if v * lanes >= left {
                    break;
                }
                let n = left - v * lanes;
                let at = row * self.im2col.outputs + output + v * lanes;
                // SAFETY: this row of the sum has `n` channels from here on, which are this task's.
                unsafe {
                    let to = self.sum.at(at);
                    let value = if first { value } else { s.add(value, s.load_up_to(to, n)) };
                    s.store_up_to(to, n, value);
                }
            }
        }
    }

    /// The row of the gradient for a column of the matrix, whose pixels may have more elements than channels.
    #[inline(always)]
    fn row_of_sum(&self, column: usize) -> Option<usize> {
        let pixel = self.im2col.channels * E::GROUP;
        if pixel == self.channels {
            return Some(column);
        }
        let (tap, channel) = (column / pixel, column % pixel);
        (channel < self.channels).then_some(tap * self.channels + channel)
    }
}

/// Zips `n` elements of two rows, `next` elements apart from `from` on, or of one if only one is `left` and zeros.
///
/// # Safety
/// `n` elements can be read at each, and as many lanes written at `to`.
#[inline(always)]
unsafe fn zip<P: ElementProduct>(
    product: P,
    from: *const P::Element,
    next: usize,
    left: usize,
    n: usize,
    to: *mut f32,
) {
    let s = product.simd();
    for i in (0..n).step_by(P::Simd::LANES) {
        // SAFETY: the caller's promise; n − i elements are left.
        unsafe {
            let first = from.add(i);
            let lanes = match left {
                1 => product.zip([product.load_up_to(first, n - i), s.zero()]),
                _ => product.load_zipped([first, first.add(next)], n - i),
            };
            s.store_up_to(to.add(i), n - i, lanes);
        }
    }
}

/// A contiguous copy of a few columns of dy for the gathered rows, which all tiles of the panel read: rows a multiple of a
/// quarter of a page apart would compete for the same sets of the L1 cache.
#[repr(align(64))]
struct Columns([f32; ROWS * MAX_WIDTH]);

/// Fewest columns of the panel that make a copy of dy worth its time.
const MIN_SHARED: usize = 128;
/// Floats of the widest tile.
const MAX_WIDTH: usize = 32;

impl Columns {
    /// Copies NV vectors of each row, or what is left of `n` elements and zeros; rows of elements that are smaller than lanes are
    /// zipped.
    ///
    /// # Safety
    /// In each of `rows` rows, `stride` elements apart, `n` elements can be read at `d`, at most NV vectors.
    #[inline(always)]
    unsafe fn fill<P: ElementProduct, const NV: usize>(
        &mut self,
        product: P,
        rows: usize,
        (d, stride): (*const P::Element, usize),
        n: usize,
    ) {
        let (s, lanes, group) = (product.simd(), P::Simd::LANES, P::Element::GROUP);
        const { assert!(NV * P::Simd::LANES <= MAX_WIDTH) };
        assert!(rows.div_ceil(group) <= ROWS);
        for row in (0..rows).step_by(group) {
            for v in 0..NV {
                let at = v * lanes;
                // SAFETY: the caller's promise; the buffer has ROWS rows of NV vectors.
                unsafe {
                    let from = d.wrapping_add(row * stride + at);
                    let value = match group {
                        _ if at >= n => s.zero(),
                        1 => product.load_zipped([from; 2], n - at),
                        _ if row + 1 == rows => product.zip([product.load_up_to(from, n - at), s.zero()]),
                        _ => product.load_zipped([from, from.wrapping_add(stride)], n - at),
                    };
                    s.store(self.0.as_mut_ptr().add((row / group * NV + v) * lanes), value);
                }
            }
        }
    }
}

fn add_parts(isa: Isa, pool: &Pool, parts: &[f32], dw: &mut [f32]) {
    const GRAIN: usize = 4096;
    let len = dw.len();
    let dw = SharedMut::new(dw);
    pool.run(len.div_ceil(GRAIN), |task, _| {
        let range = task * GRAIN..((task + 1) * GRAIN).min(len);
        // SAFETY: every task has its own range.
        let sum = unsafe { dw.part(range.clone()) };
        isa.run(AddParts { parts, len, first: range.start, sum });
    });
}

struct AddParts<'a> {
    parts: &'a [f32],
    len: usize,
    first: usize,
    sum: &'a mut [f32],
}

impl Kernel for AddParts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut i = 0;
        while i < self.sum.len() {
            let n = self.sum.len() - i;
            let mut value = s.zero();
            let mut at = self.first + i;
            while at < self.parts.len() {
                // SAFETY: `at` lies in one part with n floats of this range ahead; i + n is the sum's length.
                value = s.add(value, unsafe { s.load_up_to(self.parts.as_ptr().add(at), n) });
                at += self.len;
            }
            // SAFETY: as above.
            unsafe { s.store_up_to(self.sum.as_mut_ptr().add(i), n, value) };
            i += S::LANES;
        }
    }
}
