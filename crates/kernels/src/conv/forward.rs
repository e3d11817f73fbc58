//! The product of a gathered matrix and packed weights: the forward and the backward-data pass.

use super::blocks::{Partition, Workload};
use super::im2col::{CopyLanes, Im2col, MAX_ROWS, Position};
use super::moments::{self, Moments, Statistics};
use super::pack::{packed_len, panel_count};
use super::tile::{multiply as multiply_tile, tile_rows, tile_vectors, with_tile};
use crate::extents::is_batch;
use crate::isa::{Element, ElementKernel, ElementProduct, Isa, Reg, Simd};
use crate::raw::{SharedMut, is_non_temporal};
use crate::rows::join_moments;
use residual_threads::Pool;

/// Columns of the matrix that one panel holds. The panel's share of the packed weights (64 channels wide at most)
/// then takes a quarter of a megabyte, which stays in L2 while a block of rows is multiplied by it.
const DEPTH: usize = 1024;

/// Floats of a thread's panel: 96 rows of the full depth.
pub(super) const PANEL_LEN: usize = 96 * (DEPTH + 16);

/// The operations on a product before it is stored: accumulate, add bias, add residual, ReLU, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a, E = f32> {
    /// Whether the product is added to the previous output.
    pub accumulate: bool,
    /// One number for each output channel.
    pub bias: Option<&'a [f32]>,
    /// A tensor of the output's shape.
    pub add: Option<&'a [E]>,
    /// Whether negative results become zero.
    pub relu: bool,
}

impl<E: Element> Epilogue<'_, E> {
    /// Finishes up to a vector of one pixel's channels. `channel` is the first of them, and `at` its index in the output;
    /// `accumulate` adds the previous output, and the rest is done only with `last`.
    ///
    /// # Safety
    /// `n` channels from `channel` on are at index `at`, and `y` is the address of the first.
    #[inline(always)]
    pub(super) unsafe fn apply<P: ElementProduct<Element = E>>(
        &self,
        product: P,
        mut value: Reg<P>,
        (channel, at, n): (usize, usize, usize),
        (accumulate, last): (bool, bool),
        y: *const E,
    ) -> Reg<P> {
        let s = product.simd();
        // SAFETY: the caller's promise; `bias` has a number for each channel and `add` the output's length.
        unsafe {
            if accumulate {
                value = s.add(value, product.load_up_to(y, n));
            }
            if last {
                if let Some(bias) = self.bias {
                    value = s.add(value, s.load_up_to(bias.as_ptr().add(channel), n));
                }
                if let Some(add) = self.add {
                    value = s.add(value, product.load_up_to(add.as_ptr().add(at), n));
                }
                if self.relu {
                    value = s.max(value, s.zero());
                }
            }
        }
        value
    }
}

/// y = im2col(x) · packed, then the epilogue.
pub(super) fn multiply<E: Element>(
    isa: Isa,
    pool: &Pool,
    im2col: &Im2col,
    images: usize,
    x: &[E],
    packed: &[f32],
    epilogue: Epilogue<'_, E>,
    statistics: Option<Statistics<'_>>,
    y: &mut [E],
    workspace: &mut [f32],
) {
    assert!(is_batch(x.len(), images, im2col.source, im2col.source_channels * E::GROUP), "source of {}", x.len());
    assert!(x.as_ptr().cast::<f32>().is_aligned(), "x at {:?}", x.as_ptr());
    assert!(is_batch(y.len(), images, im2col.target, im2col.target_channels), "target of {}", y.len());
    assert_eq!(packed.len(), packed_len(isa, im2col));
    let thread_len = workspace_len::<E>(isa, im2col);
    assert!(workspace.len() >= pool.threads() * thread_len, "workspace of {}", workspace.len());
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == im2col.target_channels));
    assert!(epilogue.add.is_none_or(|add| add.len() == y.len()));
    if im2col.depth() == 0 && epilogue.accumulate {
        return;
    }
    let rows = images * im2col.rows_per_image();
    let threads = if statistics.is_some() { moments::THREADS } else { pool.threads() };
    let work = work::<E>(isa, im2col, rows, threads);
    let (vectors, panels) = (tile_vectors(isa, im2col.outputs), work.panels);
    let Partition { block, blocks, splits } = work.partition();
    let (mut statistics, channels) = (statistics, im2col.target_channels);
    let partial =
        statistics.as_mut().map(|statistics| SharedMut::new(&mut statistics.workspace[..2 * blocks * channels]));
    let non_temporal = E::GROUP == 1 && !epilogue.accumulate && is_non_temporal(y, im2col.outputs);
    let (y, workspace) = (SharedMut::new(y), SharedMut::new(workspace));
    pool.run(blocks * im2col.groups * splits, |task, worker| {
        let (index, rest) = (task / (im2col.groups * splits), task % (im2col.groups * splits));
        let block = Block {
            im2col,
            vectors,
            group: rest / splits,
            rows: index * block..((index + 1) * block).min(rows),
            panels: residual_threads::split(panels, splits, 1, rest % splits),
            x,
            packed,
            epilogue,
            non_temporal,
            moments: partial.map(|partial| partial.offset(2 * index * channels)),
            y,
            panel: workspace.at(worker * thread_len),
        };
        E::run(isa, block);
    });
    if let Some(Statistics { mean, variance, workspace }) = statistics {
        let count = |index: usize| block.min(rows - index * block);
        join_moments(pool, &workspace[..2 * blocks * channels], count, mean, variance);
    }
}

fn work<E: Element>(isa: Isa, im2col: &Im2col, rows: usize, threads: usize) -> Workload {
    let vectors = tile_vectors(isa, im2col.outputs);
    Workload {
        rows,
        grain: tile_rows(isa, vectors),
        most: most_rows::<E>(isa, im2col, tile_rows(isa, vectors)),
        panels: panel_count(isa, im2col),
        groups: im2col.groups,
        threads,
        row: if im2col.is_direct() { 0 } else { 20 + im2col.depth() / 8 },
        product: vectors * im2col.depth(),
        panel_len: vectors * isa.lanes() * im2col.depth(),
    }
}

/// Floats of workspace for the statistics of the product for up to `images` images.
pub(super) fn statistics_len<E: Element>(isa: Isa, im2col: &Im2col, images: usize) -> usize {
    2 * im2col.target_channels
        * work::<E>(isa, im2col, images * im2col.rows_per_image(), moments::THREADS).most_blocks()
}

/// Columns of the matrix that one panel holds: all where elements are smaller than floats, as a sum that goes on in the next panel
/// would be rounded between.
fn panel_depth<E: Element>(im2col: &Im2col) -> usize {
    if E::GROUP == 1 { im2col.depth().min(DEPTH) } else { im2col.depth() }
}

/// The rows that a panel holds, in whole tiles.
fn most_rows<E: Element>(isa: Isa, im2col: &Im2col, tile: usize) -> usize {
    (workspace_len::<E>(isa, im2col) / panel_stride(panel_depth::<E>(im2col))).min(MAX_ROWS) / tile * tile
}

/// Floats of workspace that one thread needs: a panel of at least one tile.
pub(super) fn workspace_len<E: Element>(isa: Isa, im2col: &Im2col) -> usize {
    let tile = tile_rows(isa, tile_vectors(isa, im2col.outputs));
    PANEL_LEN.max(tile * panel_stride(panel_depth::<E>(im2col)))
}

/// Floats between rows of a panel: whole vectors, and never a multiple of 512 bytes, which would put the rows of a
/// tile into few sets of the L1 cache.
pub(super) fn panel_stride(depth: usize) -> usize {
    let stride = depth.max(1).next_multiple_of(16);
    if stride.is_multiple_of(128) { stride + 16 } else { stride }
}

struct Block<'a, E> {
    im2col: &'a Im2col,
    vectors: usize,
    group: usize,
    rows: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
    x: &'a [E],
    packed: &'a [f32],
    epilogue: Epilogue<'a, E>,
    /// Whether the output is stored with non-temporal stores.
    non_temporal: bool,
    /// The destination of this block's moments, if they are computed.
    moments: Option<SharedMut<'a>>,
    y: SharedMut<'a, E>,
    panel: *mut f32,
}

impl<E: Element> ElementKernel<E> for Block<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        with_tile!(self.vectors, P::Simd, self.tiles::<P>(product))
    }
}

impl<E: Element> Block<'_, E> {
    #[inline(always)]
    fn tiles<P: ElementProduct<Element = E>, const MR: usize, const NV: usize>(&self, product: P) {
        let (s, im2col) = (product.simd(), self.im2col);
        let (depth, width) = (im2col.depth(), NV * P::Simd::LANES);
        let (x, most) = (self.x.as_ptr().cast::<f32>(), panel_depth::<E>(im2col));
        let mut table = [Position::default(); MAX_ROWS];
        let positions = &mut table[..self.rows.len()];
        im2col.positions(self.rows.start, positions);
        let panels_per_group = im2col.outputs.div_ceil(width);
        let mut start = 0;
        loop {
            let end = (start + most).min(depth);
            let (matrix, stride) = if im2col.is_direct() {
                let offset = self.rows.start * im2col.source_channels + self.group * im2col.channels + start;
                (x.wrapping_add(offset), im2col.source_channels)
            } else {
                let stride = panel_stride(end - start);
                // SAFETY: `x` was checked to be a tensor of the source with all images; the panel holds the rows of
                // a block at this stride, which has `most_rows` at most, and belongs to this thread.
                unsafe { im2col.fill(s, CopyLanes::FLOATS, x, self.group, positions, start..end, self.panel, stride) };
                (self.panel.cast_const(), stride)
            };
            let (first, last) = (start == 0, end == depth);
            // A tile's rows are prefetched one after another while it is multiplied: many at once would delay the loads of
            // the product.
            let Epilogue { accumulate, add, .. } = self.epilogue;
            let (step, at_once) = match accumulate || add.is_some() {
                true => ((end - start).div_ceil(MR).next_multiple_of(4), MR.div_ceil((end - start).div_ceil(4).max(1))),
                false => (end - start, MR),
            };
            for panel in self.panels.clone() {
                let b = ((self.group * panels_per_group + panel) * depth + start) * width;
                let b = self.packed.as_ptr().wrapping_add(b);
                let mut moments = Moments::new(s);
                for tile in (0..positions.len()).step_by(MR) {
                    let valid = (positions.len() - tile).min(MR);
                    // Rows past the end repeat the last one and are not stored.
                    let row = |r: usize| matrix.wrapping_add((tile + r.min(valid - 1)) * stride);
                    let mut rows = [matrix; MR];
                    for (r, pointer) in rows.iter_mut().enumerate() {
                        *pointer = row(r);
                    }
                    let mut acc = [[s.zero(); NV]; MR];
                    let (positions, how) = (&positions[tile..tile + valid], (first, last, tile == 0));
                    let mut k = 0;
                    for position in positions.chunks(at_once) {
                        self.prefetch::<P::Simd, NV>(s, position, panel * width);
                        // SAFETY: each row has end − start floats, in the panel or in `x`; `packed` was checked to
                        // hold whole panels.
                        unsafe { multiply_tile(product, k..(k + step).min(end - start), &rows, b, &mut acc) };
                        k += step;
                    }
                    // SAFETY: as above.
                    unsafe { multiply_tile(product, k.min(end - start)..end - start, &rows, b, &mut acc) };
                    // A whole panel needs no check of each vector.
                    if im2col.outputs >= (panel + 1) * width {
                        self.finish::<P, MR, NV, true>(product, positions, panel * width, how, acc, &mut moments);
                    } else {
                        self.finish::<P, MR, NV, false>(product, positions, panel * width, how, acc, &mut moments);
                    }
                }
                if let Some(to) = self.moments.filter(|_| last) {
                    let (channel, left) = (self.group * im2col.outputs + panel * width, im2col.outputs - panel * width);
                    // SAFETY: only this task has these panels of this block.
                    unsafe { moments.write(s, positions.len(), (channel, left, im2col.target_channels), to) };
                }
            }
            start = end;
            if last {
                break;
            }
        }
        if self.non_temporal {
            s.store_fence();
        }
    }

    /// Prefetches the values that [`Block::finish`] will add to these pixels.
    #[inline(always)]
    fn prefetch<S: Simd, const NV: usize>(&self, s: S, positions: &[Position], column: usize) {
        let Epilogue { accumulate, add, .. } = self.epilogue;
        if !accumulate && add.is_none() {
            return;
        }
        let im2col = self.im2col;
        let channel = self.group * im2col.outputs + column;
        for &position in positions {
            let start = im2col.target_pixel(position) * im2col.target_channels + channel;
            for float in (0..NV * S::LANES).step_by(16 * E::GROUP) {
                if accumulate {
                    s.prefetch(self.y.at(0).wrapping_add(start + float).cast());
                }
                if let Some(add) = add {
                    s.prefetch(add.as_ptr().wrapping_add(start + float).cast());
                }
            }
        }
    }

    /// Applies the epilogue to a tile and stores it. `column` is its first output channel within the group; the flags say
    /// whether this is the first and the last part of the depth, and the first tile of the block. A `WHOLE` panel has
    /// all its channels.
    #[inline(always)]
    fn finish<P: ElementProduct<Element = E>, const MR: usize, const NV: usize, const WHOLE: bool>(
        &self,
        product: P,
        positions: &[Position],
        column: usize,
        (first, last, begins): (bool, bool, bool),
        acc: [[Reg<P>; NV]; MR],
        moments: &mut Moments<P::Simd, NV>,
    ) {
        let (s, im2col, lanes) = (product.simd(), self.im2col, P::Simd::LANES);
        let left = im2col.outputs - column;
        let channel = self.group * im2col.outputs + column;
        let accumulate = self.epilogue.accumulate || !first;
        for (r, &position) in positions.iter().enumerate() {
            let start = im2col.target_pixel(position) * im2col.target_channels + channel;
            for (v, &value) in acc[r].iter().enumerate() {
                if !WHOLE && v * lanes >= left {
                    break;
                }
                let (n, at) = (if WHOLE { lanes } else { left - v * lanes }, start + v * lanes);
                // SAFETY: `at..at + min(n, LANES)` are channels of one pixel of the target, which only this task
                // writes in this pass.
                unsafe {
                    let place = (channel + v * lanes, at, n);
                    let value = self.epilogue.apply(product, value, place, (accumulate, last), self.y.at(at));
                    if self.moments.is_some() && last {
                        moments.add(s, v, value, begins && r == 0);
                    }
                    if self.non_temporal && last && n >= lanes {
                        product.store_non_temporal(self.y.at(at), value);
                    } else {
                        product.store_up_to(self.y.at(at), n, value);
                    }
                }
            }
        }
    }
}
