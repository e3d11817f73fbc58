//! The gradient of the weights: gathered rows of x, transposed, times dy.
//!
//! The sum over all pixels is cut into a few fixed parts, each summed in order and the parts added in order, so that
//! the result does not depend on the number of threads.

use super::forward::panel_stride;
use super::im2col::{CopyLanes, MAX_ROWS, Position};
use super::tile::{outer, outer_tile};
use super::{Conv, Im2col};
use crate::isa::{Isa, Kernel, Simd};
use crate::raw::SharedMut;
use residual_threads::{Pool, split};

/// Rows gathered at a time.
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
/// Floats of a thread's panel.
const PANEL_LEN: usize = ROWS * (DEPTH + 16);
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
    let (rows, depth) = (images * im2col.rows_per_image(), im2col.depth());
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

pub(super) fn backward_weights(
    conv: &Conv,
    pool: &Pool,
    images: usize,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    workspace: &mut [f32],
) {
    assert!(workspace.len() >= workspace_len(conv, images, pool.threads()), "workspace of {}", workspace.len());
    let im2col = &conv.im2col;
    let (rows, depth) = (images * im2col.rows_per_image(), im2col.depth());
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
            let sum = sums.offset(part * len + (group * depth + columns.start) * im2col.outputs);
            let (rows, panel) = (split(rows, parts, 1, part), panels.at(worker * PANEL_LEN));
            if columns.is_empty() || outputs.is_empty() {
                return;
            }
            conv.isa.run(PartialSums { im2col, group, columns, outputs, rows, x, dy, sum, panel });
        });
    }
    if parts > 1 {
        add_parts(conv.isa, pool, &partial[..parts * len], dw);
    }
}

struct PartialSums<'a> {
    im2col: &'a Im2col,
    group: usize,
    columns: std::ops::Range<usize>,
    outputs: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    /// The first of the columns' rows of the gradient, which have all outputs of the group.
    sum: SharedMut<'a>,
    panel: *mut f32,
}

impl Kernel for PartialSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        match outer_tile(S::LANES, S::REGISTERS, self.im2col.outputs) {
            [8, 2] => self.blocks::<S, 8, 2>(s),
            [4, 2] => self.blocks::<S, 4, 2>(s),
            [8, 1] => self.blocks::<S, 8, 1>(s),
            other => unreachable!("no tile of {other:?}"),
        }
    }
}

impl PartialSums<'_> {
    #[inline(always)]
    fn blocks<S: Simd, const MR: usize, const NV: usize>(&mut self, s: S) {
        let im2col = self.im2col;
        // Rows a multiple of half a page apart fall into few sets of the L1 cache: those are copied.
        let direct =
            im2col.is_direct() && self.columns.len().is_multiple_of(MR) && !im2col.source_channels.is_multiple_of(512);
        let depth = self.columns.len();
        let mut table = [Position::default(); ROWS];
        let mut columns = Columns([0.0; ROWS * MAX_WIDTH]);
        let mut row = self.rows.start;
        while row < self.rows.end {
            let count = (self.rows.end - row).min(ROWS);
            let (a, a_stride) = if direct {
                let offset = row * im2col.source_channels + self.group * im2col.channels + self.columns.start;
                (self.x.as_ptr().wrapping_add(offset), im2col.source_channels)
            } else {
                let positions = &mut table[..count];
                im2col.positions(row, positions);
                let stride = panel_stride(depth);
                // SAFETY: `x` was checked to be a tensor of the source with all images; the panel has ROWS rows of
                // this stride and belongs to this thread.
                unsafe {
                    let columns = self.columns.clone();
                    im2col.fill(
                        s,
                        CopyLanes::FLOATS,
                        self.x.as_ptr(),
                        self.group,
                        positions,
                        columns,
                        self.panel,
                        stride,
                    );
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
            for output in self.outputs.clone().step_by(NV * S::LANES) {
                let left = self.outputs.end - output;
                let mut d = (d.wrapping_add(output), im2col.target_channels);
                // Rows a multiple of a page apart map to the same cache sets: they evict each other unless copied.
                let conflicts = im2col.target_channels.is_multiple_of(256) && depth >= MIN_SHARED;
                if conflicts || left < NV * S::LANES {
                    // SAFETY: dy has `left` channels from here in each of the rows.
                    unsafe { columns.fill::<S, NV>(s, count, d, left) };
                    d = (columns.0.as_ptr(), NV * S::LANES);
                }
                // The next columns of dy are in other pages: they are prefetched while this product is computed.
                let (next, ahead) = if left > NV * S::LANES {
                    (output + NV * S::LANES, row..row + count)
                } else {
                    (self.outputs.start, row + count..self.rows.end.min(row + count + ROWS))
                };
                let share = ahead.len().div_ceil(depth.div_ceil(MR));
                for column in (0..depth).step_by(MR) {
                    let a = (a.wrapping_add(column), a_stride);
                    let from = (ahead.start + column / MR * share).min(ahead.end);
                    let ahead = (next, from..(from + share).min(ahead.end));
                    // SAFETY: the panel's stride is a multiple of 16 and so of MR: a tile's columns exist, and are
                    // real or zero (a direct matrix has a multiple of MR columns). So do the vectors of d.
                    unsafe { self.tile::<S, MR, NV>(s, count, a, d, (column, output, left), first, ahead) };
                }
            }
            row += count;
        }
    }

    /// Multiplies `rows` rows, and before every sixteen of them prefetches some of the vectors of dy from output `next`
    /// on in the rows `ahead`.
    ///
    /// # Safety
    /// MR floats can be read at `a` in each of the rows, and NV vectors at `d`.
    #[inline(always)]
    unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(
        &mut self,
        s: S,
        rows: usize,
        a: (*const f32, usize),
        d: (*const f32, usize),
        (column, output, left): (usize, usize, usize),
        first: bool,
        (next, ahead): (usize, std::ops::Range<usize>),
    ) {
        let mut acc = [[s.zero(); NV]; MR];
        let im2col = self.im2col;
        let next = self.dy.as_ptr().wrapping_add(self.group * im2col.outputs + next);
        let share = ahead.len().div_ceil(rows.div_ceil(16));
        for m in (0..rows).step_by(16) {
            for row in (ahead.start + m / 16 * share..ahead.end).take(share) {
                for v in 0..NV {
                    s.prefetch(next.wrapping_add(row * im2col.target_channels + v * S::LANES));
                }
            }
            let a = (a.0.wrapping_add(m * a.1), a.1);
            let d = (d.0.wrapping_add(m * d.1), d.1, S::LANES);
            // SAFETY: the caller's promise.
            unsafe { outer(s, (rows - m).min(16), a, d, NV * S::LANES, &mut acc) };
        }
        let valid = (self.columns.len() - column).min(MR);
        for (r, sums) in acc.iter().enumerate().take(valid) {
            for (v, &value) in sums.iter().enumerate() {
                if v * S::LANES >= left {
                    break;
                }
                let n = left - v * S::LANES;
                let at = (column + r) * self.im2col.outputs + output + v * S::LANES;
                // SAFETY: row `column + r` of the sum has `n` channels from here on, which are this task's.
                unsafe {
                    let to = self.sum.at(at);
                    let value = if first { value } else { s.add(value, s.load_up_to(to, n)) };
                    s.store_up_to(to, n, value);
                }
            }
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
    /// Copies NV vectors of each row, or what is left of `n` floats and zeros.
    ///
    /// # Safety
    /// In each of `rows` rows, at most ROWS and `stride` floats apart, `n` floats can be read at `d`, at most NV vectors.
    #[inline(always)]
    unsafe fn fill<S: Simd, const NV: usize>(&mut self, s: S, rows: usize, (d, stride): (*const f32, usize), n: usize) {
        const { assert!(NV * S::LANES <= MAX_WIDTH) };
        assert!(rows <= ROWS);
        for row in 0..rows {
            for v in 0..NV {
                let at = v * S::LANES;
                // SAFETY: the caller's promise; the buffer has ROWS rows of NV vectors.
                unsafe {
                    let value = if at < n { s.load_up_to(d.add(row * stride + at), n - at) } else { s.zero() };
                    s.store(self.0.as_mut_ptr().add(row * NV * S::LANES + at), value);
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
