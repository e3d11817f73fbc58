//! The gradient of the weights, in the order of packed weights. The sum over all rows is cut into a few fixed parts, each
//! summed in order and the parts added in order, so that the result does not depend on the number of threads.
#![allow(clippy::absurd_extreme_comparisons, reason = "the first column is compared as the others are")]

use super::{
    CHUNK, Operand, Own, Panel, Panels, Pass, Read, Run, Splat, Window, columns, each_column, packed_len, tile_pixels,
};
use crate::conv::ConvShape;
use crate::conv::im2col::Im2col;
use crate::isa::{Isa, Kernel, Simd};
use crate::raw::SharedMut;
use residual_threads::{Pool, split};
use std::ops::Range;

/// Pixels of a band: what a panel reads for one is read again for every tap, from the second-level cache.
const BAND: usize = 448;
/// Most parts of the sum.
const MAX_PARTS: usize = 8;
/// Fewest pixels that make a part worth its addition.
const MIN_PIXELS: usize = 512;
/// Floats that all parts together may take.
const MAX_PARTIAL: usize = 8 << 20;

fn parts(isa: Isa, im2col: &Im2col, images: usize) -> usize {
    let fitting = (MAX_PARTIAL / packed_len(isa, im2col)).clamp(1, MAX_PARTS);
    (images * im2col.rows_per_image() / MIN_PIXELS).clamp(1, fitting)
}

pub(in crate::conv) fn workspace_len(isa: Isa, im2col: &Im2col, images: usize) -> usize {
    parts(isa, im2col, images) * packed_len(isa, im2col)
}

/// dw = the gradient of the weights given `x` and `dy`; `im2col` is the forward pass's.
pub(in crate::conv) fn backward_weights(
    isa: Isa,
    pool: &Pool,
    shape: &ConvShape,
    im2col: &Im2col,
    images: usize,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    workspace: &mut [f32],
) {
    let (panels, parts) = (Panels::new(isa, im2col), parts(isa, im2col, images));
    let len = packed_len(isa, im2col);
    assert!(workspace.len() >= parts * len, "workspace of {}", workspace.len());
    let sums = SharedMut::new(&mut workspace[..parts * len]);
    let chunk_len = panels.chunk_len(parts, pool.threads());
    let chunks = panels.chunks(chunk_len);
    pool.run(parts * chunks, |task, _| {
        let (part, chunk) = (task / chunks, panels.chunk(chunk_len, task % chunks));
        let place = part * len + chunk.start * panels.len()..part * len + chunk.end * panels.len();
        // SAFETY: every task has its own panels of its part.
        let sums = unsafe { sums.part(place) };
        let rows = split(images * im2col.grid[0], parts, 1, part);
        isa.run(PartialSums { im2col, panels: &panels, chunk, rows, x, dy, sums });
    });
    let (sums, dw) = (&workspace[..parts * len], SharedMut::new(dw));
    pool.run(panels.chunks(CHUNK), |task, _| {
        for index in panels.chunk(CHUNK, task) {
            panels.weights(shape, im2col, Pass::Forward, index, |place, weight, lanes| {
                let mut sum = [0.0; 16];
                for part in sums.chunks_exact(len) {
                    let vector = &part[index * panels.len() + place..][..panels.lanes];
                    sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
                }
                for (lane, sum) in lanes.iter().zip(sum) {
                    // SAFETY: every weight belongs to one panel, and every panel to one task.
                    unsafe { dw.at(weight + lane).write(sum) };
                }
            });
        }
    });
}

/// Some rows of all images and a chunk of panels.
struct PartialSums<'a> {
    im2col: &'a Im2col,
    panels: &'a Panels,
    chunk: Range<usize>,
    rows: Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for PartialSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        // The arms agree with `columns`. Depthwise sums of a narrow window go on for several tap rows at a time, others
        // for several channels of a group, as a sum waits for its last addition.
        match (self.panels.operand, columns(self.im2col)) {
            (Operand::Own, (7, 1)) => self.pixels::<S, Own, 7, 1, 1, 1>(s),
            (Operand::Own, (3, 1)) => self.pixels::<S, Own, 3, 1, 3, 1>(s),
            (Operand::Own, (3, 2)) => self.pixels::<S, Own, 3, 2, 3, 1>(s),
            (Operand::Own, (2, 1)) => self.pixels::<S, Own, 2, 1, 2, 1>(s),
            (Operand::Own, _) => self.pixels::<S, Own, 1, 1, 3, 1>(s),
            (Operand::Run, _) => self.columns::<S, Run<S>>(s),
            (Operand::Splat, _) => self.columns::<S, Splat>(s),
        }
    }
}

impl PartialSums<'_> {
    #[inline(always)]
    fn columns<S: Simd, F: Read<S>>(&mut self, s: S) {
        match columns(self.im2col) {
            (7, 1) => self.pixels::<S, F, 7, 1, 1, 2>(s),
            (3, 1) => self.pixels::<S, F, 3, 1, 1, 4>(s),
            (3, 2) => self.pixels::<S, F, 3, 2, 1, 4>(s),
            (2, 1) => self.pixels::<S, F, 2, 1, 1, 4>(s),
            _ => self.pixels::<S, F, 1, 1, 1, 4>(s),
        }
    }

    #[inline(always)]
    fn pixels<S: Simd, F: Read<S>, const K: usize, const STEP: usize, const TAPS: usize, const DEPTH: usize>(
        &mut self,
        s: S,
    ) {
        match tile_pixels(self.im2col) {
            8 => self.bands::<S, F, 8, K, STEP, TAPS, DEPTH>(s),
            _ => self.bands::<S, F, 7, K, STEP, TAPS, DEPTH>(s),
        }
    }

    #[inline(always)]
    fn bands<
        S: Simd,
        F: Read<S>,
        const R: usize,
        const K: usize,
        const STEP: usize,
        const TAPS: usize,
        const DEPTH: usize,
    >(
        &mut self,
        s: S,
    ) {
        let (im2col, panels) = (self.im2col, self.panels);
        let band = BAND.div_ceil(im2col.grid[1]);
        self.sums.fill(0.0);
        for start in self.rows.clone().step_by(band) {
            let rows = start..(start + band).min(self.rows.end);
            for index in self.chunk.clone() {
                for run in 0..im2col.columns.len() / K {
                    for tap in (0..im2col.rows.len()).step_by(TAPS) {
                        for k in (0..panels.depth).step_by(DEPTH) {
                            self.band::<S, F, R, K, STEP, TAPS, DEPTH>(s, rows.clone(), index, (run, tap, k));
                        }
                    }
                }
            }
        }
    }

    /// Adds the products of some rows, of a panel and of the taps and channels from `run`, `tap` and `k` on.
    #[inline(always)]
    fn band<
        S: Simd,
        F: Read<S>,
        const R: usize,
        const K: usize,
        const STEP: usize,
        const TAPS: usize,
        const DEPTH: usize,
    >(
        &mut self,
        s: S,
        rows: Range<usize>,
        index: usize,
        (run, tap, k): (usize, usize, usize),
    ) {
        let (im2col, panels) = (self.im2col, self.panels);
        let Panel { source, target, left } = panels.panel(index);
        let [height, width] = im2col.source;
        let mut acc = [[[s.zero(); K]; DEPTH]; TAPS];
        // Past the last channel of a group the last one is read again, and its sums are not stored.
        let factors: [F; DEPTH] = std::array::from_fn(|d| F::new(s, panels.depth, (k + d).min(panels.depth - 1)));
        for number in rows {
            let (image, row) = (number / im2col.grid[0], number % im2col.grid[0]);
            for start in (0..im2col.grid[1]).step_by(R) {
                let valid = (im2col.grid[1] - start).min(R);
                let Window { first, step, inside } = Window::new::<K, STEP>(im2col, run, start, valid);
                let next = step * im2col.source_channels;
                let mut dy = [s.zero(); R];
                for (r, dy) in dy.iter_mut().enumerate().take(valid) {
                    let pixel = number * im2col.grid[1] + start + r;
                    let from = self.dy.as_ptr().wrapping_add(pixel * im2col.target_channels + target);
                    // SAFETY: `left` channels of a pixel of dy, which was checked to have all images.
                    *dy = unsafe { s.load_up_to(from, left) };
                }
                for (t, acc) in acc.iter_mut().enumerate().take(im2col.rows.len() - tap) {
                    let y = (row * im2col.source_step[0]) as isize + im2col.rows[tap + t];
                    if y < 0 || y >= height as isize {
                        continue;
                    }
                    let pixel = ((image * height + y as usize) * width) as isize + first;
                    let pixel = pixel * im2col.source_channels as isize + source as isize;
                    let pixel = self.x.as_ptr().wrapping_offset(pixel);
                    each_column!(COLUMN => {
                        if COLUMN < (R - 1) * STEP + K && COLUMN >= inside.0 && COLUMN < inside.1 {
                            for (factor, acc) in factors.iter().zip(acc.iter_mut()) {
                                // SAFETY: row and column lie inside the source, which `x` was checked to be.
                                let value = unsafe { factor.read(s, pixel.wrapping_add(COLUMN * next), left) };
                                for t in 0..K {
                                    if COLUMN >= t && (COLUMN - t).is_multiple_of(STEP) && (COLUMN - t) / STEP < R {
                                        acc[t] = s.mul_add(value, dy[(COLUMN - t) / STEP], acc[t]);
                                    }
                                }
                            }
                        }
                    });
                }
            }
        }
        let columns = im2col.columns.len();
        for (t, acc) in acc.iter().enumerate().take(im2col.rows.len() - tap) {
            for (d, acc) in acc.iter().enumerate().take(panels.depth - k) {
                for (c, &value) in acc.iter().enumerate() {
                    let place = (((tap + t) * panels.depth + k + d) * columns + run * K + c) * S::LANES;
                    let place = (index - self.chunk.start) * panels.len() + place;
                    // SAFETY: a vector of this task's sums.
                    unsafe {
                        let to = self.sums.as_mut_ptr().add(place);
                        s.store(to, s.add(value, s.load(to)));
                    }
                }
            }
        }
    }
}
