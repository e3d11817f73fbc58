//! The forward and the backward-data pass.
//!
//! The channels of a panel are copied from a band of rows, row by row just before the first tile that reads them: the
//! vectors of neighbouring pixels are then contiguous, whereas in the source they are often at distances that map to the
//! same cache sets.
#![allow(
    clippy::needless_range_loop,
    clippy::absurd_extreme_comparisons,
    reason = "registers are addressed by tap and column, as in `tile`; the first column is compared as the others are"
)]

use super::{Operand, Own, Panel, Panels, Read, Run, Splat, Window, columns, each_column, packed_len, tile_pixels};
use crate::conv::forward::Epilogue;
use crate::conv::im2col::{Im2col, Position};
use crate::conv::moments::{Moments, Statistics};
use crate::extents::is_batch;
use crate::isa::{Floats, Isa, Kernel, Simd};
use crate::raw::{SharedMut, is_non_temporal};
use crate::rows::join_moments;
use residual_threads::Pool;
use std::ops::Range;

/// Pixels of a band: few enough that its copy stays in cache, and enough that few rows are copied for two bands.
const BAND: usize = 896;

/// Rows of each band: the same for any number of threads, as the statistics are summed band by band.
fn band(im2col: &Im2col) -> usize {
    let [height, width] = im2col.grid;
    let bands = height.div_ceil(BAND.div_ceil(width));
    height.div_ceil(bands)
}

/// Floats of workspace for the statistics of the result for up to `images` images.
pub(in crate::conv) fn statistics_len(im2col: &Im2col, images: usize) -> usize {
    2 * im2col.target_channels * images * im2col.grid[0].div_ceil(band(im2col))
}

/// Floats of workspace that one thread needs: a panel's copy of a band.
pub(in crate::conv) fn workspace_len(isa: Isa, im2col: &Im2col) -> usize {
    let reach = im2col.rows.last().unwrap_or(&0) - im2col.rows.first().unwrap_or(&0);
    let rows = (band(im2col) - 1) * im2col.source_step[0] + reach as usize + 1;
    Panels::new(isa, im2col).vectors() * vector_len(isa.lanes(), rows.min(im2col.source[0]) * im2col.source[1])
}

/// Floats of a vector of channels of `pixels` pixels: an odd number of vectors, so that two do not share cache sets.
fn vector_len(lanes: usize, pixels: usize) -> usize {
    (pixels | 1) * lanes
}

/// y = x ∗ packed, then the epilogue.
pub(in crate::conv) fn multiply(
    isa: Isa,
    pool: &Pool,
    im2col: &Im2col,
    images: usize,
    x: &[f32],
    packed: &[f32],
    epilogue: Epilogue<'_>,
    mut statistics: Option<Statistics<'_>>,
    y: &mut [f32],
    workspace: &mut [f32],
) {
    let own = workspace_len(isa, im2col);
    assert!(workspace.len() >= pool.threads() * own, "workspace of {}", workspace.len());
    assert!(is_batch(x.len(), images, im2col.source, im2col.source_channels), "source of {}", x.len());
    assert!(is_batch(y.len(), images, im2col.target, im2col.target_channels), "target of {}", y.len());
    assert_eq!(packed.len(), packed_len(isa, im2col));
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == im2col.target_channels));
    assert!(epilogue.add.is_none_or(|add| add.len() == y.len()));
    if im2col.taps.is_empty() && epilogue.accumulate {
        return;
    }
    let panels = Panels::new(isa, im2col);
    let ([height, width], band) = (im2col.grid, band(im2col));
    let bands = height.div_ceil(band);
    let rows = |index: usize| index % bands * band..(index % bands * band + band).min(height);
    let (blocks, channels) = (images * bands, im2col.target_channels);
    let partial =
        statistics.as_mut().map(|statistics| SharedMut::new(&mut statistics.workspace[..2 * blocks * channels]));
    // Non-temporal stores only of whole cache lines at a time.
    let whole = isa.lanes() == 16 && (panels.operand != Operand::Splat || panels.outputs.is_multiple_of(16));
    let non_temporal = whole && !epilogue.accumulate && is_non_temporal(y, channels);
    let (y, workspace) = (SharedMut::new(y), SharedMut::new(workspace));
    let chunk_len = panels.chunk_len(blocks, pool.threads());
    let chunks = panels.chunks(chunk_len);
    pool.run(blocks * chunks, |task, worker| {
        let (index, chunk) = (task / chunks, task % chunks);
        isa.run(Block {
            im2col,
            panels: &panels,
            chunk: panels.chunk(chunk_len, chunk),
            image: index / bands,
            rows: rows(index),
            x,
            packed,
            epilogue,
            non_temporal,
            moments: partial.map(|partial| partial.offset(2 * index * channels)),
            y,
            copy: workspace.at(worker * own),
        });
    });
    if let Some(Statistics { mean, variance, workspace }) = statistics {
        join_moments(pool, &workspace[..2 * blocks * channels], |index| rows(index).len() * width, mean, variance);
    }
}

/// A band of an image and a chunk of panels.
struct Block<'a> {
    im2col: &'a Im2col,
    panels: &'a Panels,
    chunk: Range<usize>,
    image: usize,
    rows: Range<usize>,
    x: &'a [f32],
    packed: &'a [f32],
    epilogue: Epilogue<'a>,
    /// Whether the output is stored with non-temporal stores.
    non_temporal: bool,
    /// The destination of this block's moments, if they are computed.
    moments: Option<SharedMut<'a>>,
    y: SharedMut<'a>,
    /// This thread's buffer for the copied rows.
    copy: *mut f32,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.panels.operand {
            Operand::Own => self.columns::<S, Own>(s),
            Operand::Run => self.columns::<S, Run<S>>(s),
            Operand::Splat => self.columns::<S, Splat>(s),
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn columns<S: Simd, F: Read<S>>(&self, s: S) {
        // The arms agree with `columns`.
        match columns(self.im2col) {
            (7, 1) => self.pixels::<S, F, 7, 1>(s),
            (3, 1) => self.pixels::<S, F, 3, 1>(s),
            (3, 2) => self.pixels::<S, F, 3, 2>(s),
            (2, 1) => self.pixels::<S, F, 2, 1>(s),
            _ => self.pixels::<S, F, 1, 1>(s),
        }
    }

    #[inline(always)]
    fn pixels<S: Simd, F: Read<S>, const K: usize, const STEP: usize>(&self, s: S) {
        match tile_pixels(self.im2col) {
            8 => self.tiles::<S, F, 8, K, STEP>(s),
            _ => self.tiles::<S, F, 7, K, STEP>(s),
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, F: Read<S>, const R: usize, const K: usize, const STEP: usize>(&self, s: S) {
        let im2col = self.im2col;
        let source = self.source_rows();
        for index in self.chunk.clone() {
            let panel = self.panels.panel(index);
            let next = (index + 1 < self.chunk.end).then(|| self.panels.panel(index + 1));
            // Panels of one group read the same channels.
            let is_copied = index > self.chunk.start && self.panels.panel(index - 1).source == panel.source;
            let mut copied = source.start;
            let mut moments = Moments::<S, 1>::new(s);
            for row in self.rows.clone() {
                let needed = copied..self.source_row(row, im2col.rows.last()).max(copied);
                if !is_copied {
                    self.copy(s, panel, &source, needed.clone());
                }
                copied = needed.end;
                for start in (0..im2col.grid[1]).step_by(R) {
                    let valid = (im2col.grid[1] - start).min(R);
                    let position =
                        |r: usize| Position { image: self.image as u32, i: row as u32, j: (start + r) as u32 };
                    let at = |r| im2col.target_pixel(position(r)) * im2col.target_channels + panel.target;
                    if let Some(next) = next {
                        if !self.non_temporal {
                            (0..valid).for_each(|r| {
                                s.prefetch_to_write(self.y.at(at(r)).wrapping_add(next.target - panel.target));
                            });
                        }
                        if next.source != panel.source {
                            self.prefetch(s, next, needed.clone(), start..start + valid);
                        }
                    }
                    let acc = self.tile::<S, F, R, K, STEP>(s, index, (row, start, valid), &source);
                    for (r, &value) in acc.iter().enumerate().take(valid) {
                        let at = at(r);
                        let place = (panel.target, at, panel.left);
                        // SAFETY: `left` channels of this pixel from here on, which only this task writes in this pass.
                        unsafe {
                            let how = (self.epilogue.accumulate, true);
                            let value = self.epilogue.apply(Floats(s), value, place, how, self.y.at(at));
                            if self.moments.is_some() {
                                moments.add(s, 0, value, row == self.rows.start && start + r == 0);
                            }
                            if self.non_temporal {
                                s.store_non_temporal(self.y.at(at), value);
                            } else {
                                s.store_up_to(self.y.at(at), panel.left, value);
                            }
                        }
                    }
                }
            }
            if let Some(to) = self.moments {
                let place = (panel.target, panel.left, im2col.target_channels);
                // SAFETY: only this task has this panel of this block.
                unsafe { moments.write(s, self.rows.len() * im2col.grid[1], place, to) };
            }
        }
        if self.non_temporal {
            s.store_fence();
        }
    }

    /// One past the source row that a tap reads for a row of the grid, clamped to the source.
    fn source_row(&self, row: usize, tap: Option<&isize>) -> usize {
        let row = tap.map_or(0, |tap| (row * self.im2col.source_step[0]) as isize + tap + 1);
        row.clamp(0, self.im2col.source[0] as isize) as usize
    }

    /// The rows of the source that this band reads.
    fn source_rows(&self) -> Range<usize> {
        let [first, last] = [self.im2col.rows.first(), self.im2col.rows.last()];
        let start = self.source_row(self.rows.start, first).saturating_sub(1);
        start..self.source_row(self.rows.end - 1, last).max(start)
    }

    /// The first channel that a panel reads of the first pixel of a row of the source.
    fn source_pixel(&self, panel: Panel, row: usize) -> *const f32 {
        let pixel = (self.image * self.im2col.source[0] + row) * self.im2col.source[1];
        self.x.as_ptr().wrapping_add(pixel * self.im2col.source_channels + panel.source)
    }

    /// Copies the channels of a panel from source rows `rows` of the band `band`.
    #[inline(always)]
    fn copy<S: Simd>(&self, s: S, panel: Panel, band: &Range<usize>, rows: Range<usize>) {
        let (width, channels) = (self.im2col.source[1], self.im2col.source_channels);
        let (from, inputs) = (self.source_pixel(panel, rows.start), self.panels.inputs(panel));
        let to = self.copy.wrapping_add((rows.start - band.start) * width * S::LANES);
        for vector in 0..self.panels.vectors() {
            let from = from.wrapping_add(vector * S::LANES);
            let to = to.wrapping_add(vector * vector_len(S::LANES, band.len() * width));
            let left = inputs - vector * S::LANES;
            // SAFETY: these rows lie inside the source, which `x` was checked to be, with `left` channels from here on;
            // `workspace_len` is enough for any band.
            unsafe {
                if left >= S::LANES {
                    for pixel in 0..rows.len() * width {
                        s.store(to.add(pixel * S::LANES), s.load(from.add(pixel * channels)));
                    }
                } else {
                    for pixel in 0..rows.len() * width {
                        s.store(to.add(pixel * S::LANES), s.load_up_to(from.add(pixel * channels), left));
                    }
                }
            }
        }
    }

    /// Prefetches the channels that a panel will copy from `rows` for the grid columns `grid`.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, panel: Panel, rows: Range<usize>, grid: Range<usize>) {
        let (im2col, step) = (self.im2col, self.im2col.source_step[1]);
        for row in rows {
            let from = self.source_pixel(panel, row);
            for column in grid.start * step..(grid.end * step).min(im2col.source[1]) {
                for vector in 0..self.panels.vectors() {
                    s.prefetch(from.wrapping_add(column * im2col.source_channels + vector * S::LANES));
                }
            }
        }
    }

    /// The products of a panel and pixels `start .. start + valid` of a row; those past `valid` are undefined. The
    /// `band` of rows of the source has been copied.
    #[inline(always)]
    fn tile<S: Simd, F: Read<S>, const R: usize, const K: usize, const STEP: usize>(
        &self,
        s: S,
        index: usize,
        (row, start, valid): (usize, usize, usize),
        band: &Range<usize>,
    ) -> [S::Reg; R] {
        let (im2col, panels) = (self.im2col, self.panels);
        let [height, width] = im2col.source;
        let vector_len = vector_len(S::LANES, band.len() * width);
        let [rows, columns] = [im2col.rows.len(), im2col.columns.len()];
        let packed = self.packed.as_ptr().wrapping_add(index * panels.len());
        let mut acc = [s.zero(); R];
        for run in 0..columns / K {
            let Window { first, step, inside } = Window::new::<K, STEP>(im2col, run, start, valid);
            let next = step * S::LANES;
            for tap in 0..rows {
                let y = (row * im2col.source_step[0]) as isize + im2col.rows[tap];
                if y < 0 || y >= height as isize {
                    continue;
                }
                let pixel = (((y as usize - band.start) * width) as isize + first) * S::LANES as isize;
                for k in 0..panels.depth {
                    let factor = F::new(s, panels.depth, k % S::LANES);
                    let pixel = self.copy.wrapping_add(k / S::LANES * vector_len).wrapping_offset(pixel).cast_const();
                    let weights = packed.wrapping_add(((tap * panels.depth + k) * columns + run * K) * S::LANES);
                    let mut w = [s.zero(); K];
                    for (t, w) in w.iter_mut().enumerate() {
                        // SAFETY: `packed` was checked to hold whole panels.
                        *w = unsafe { s.load(weights.add(t * S::LANES)) };
                    }
                    each_column!(COLUMN => {
                        if COLUMN < (R - 1) * STEP + K && COLUMN >= inside.0 && COLUMN < inside.1 {
                            // SAFETY: row and column lie inside the source, and were copied.
                            let value = unsafe { factor.read(s, pixel.wrapping_add(COLUMN * next), S::LANES) };
                            for t in 0..K {
                                if COLUMN >= t && (COLUMN - t).is_multiple_of(STEP) && (COLUMN - t) / STEP < R {
                                    acc[(COLUMN - t) / STEP] = s.mul_add(value, w[t], acc[(COLUMN - t) / STEP]);
                                }
                            }
                        }
                    });
                }
            }
        }
        acc
    }
}
