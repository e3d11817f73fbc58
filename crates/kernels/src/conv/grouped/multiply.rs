//! The forward and the backward-data pass.

use super::{BAND, Own, Panel, Panels, Read, Run, Splat, Window, columns, each_column, packed_len, tile_pixels};
use crate::conv::forward::Epilogue;
use crate::conv::gather::{Gather, Position};
use crate::conv::moments::{Moments, Statistics};
use crate::isa::{Isa, Kernel, Simd};
use crate::norm::join_moments;
use crate::raw::SharedMut;
use residual_threads::Pool;
use std::ops::Range;

/// Rows of each band: the same for any number of threads, as the statistics are summed band by band.
fn band(gather: &Gather) -> usize {
    let [height, width] = gather.grid;
    let bands = height.div_ceil(BAND.div_ceil(width));
    height.div_ceil(bands)
}

/// Floats of workspace for the statistics of the result for up to `images` images.
pub(in crate::conv) fn statistics_len(gather: &Gather, images: usize) -> usize {
    2 * gather.target_channels * images * gather.grid[0].div_ceil(band(gather))
}

/// y = x ∗ packed, then the epilogue.
pub(in crate::conv) fn multiply(
    isa: Isa,
    pool: &Pool,
    gather: &Gather,
    images: usize,
    x: &[f32],
    packed: &[f32],
    epilogue: Epilogue<'_>,
    mut statistics: Option<Statistics<'_>>,
    y: &mut [f32],
) {
    assert_eq!(x.len(), images * gather.source[0] * gather.source[1] * gather.source_channels);
    assert_eq!(y.len(), images * gather.target[0] * gather.target[1] * gather.target_channels);
    assert_eq!(packed.len(), packed_len(isa, gather));
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == gather.target_channels));
    assert!(epilogue.add.is_none_or(|add| add.len() == y.len()));
    if gather.taps.is_empty() && epilogue.accumulate {
        return;
    }
    let panels = Panels::new(isa, gather);
    let ([height, width], band) = (gather.grid, band(gather));
    let bands = height.div_ceil(band);
    let rows = |index: usize| index % bands * band..(index % bands * band + band).min(height);
    let (blocks, channels) = (images * bands, gather.target_channels);
    let partial =
        statistics.as_mut().map(|statistics| SharedMut::new(&mut statistics.workspace[..2 * blocks * channels]));
    let y = SharedMut::new(y);
    pool.run(blocks * panels.chunks(), |task, _| {
        let (index, chunk) = (task / panels.chunks(), task % panels.chunks());
        isa.run(Block {
            gather,
            panels: &panels,
            chunk: panels.chunk(chunk),
            image: index / bands,
            rows: rows(index),
            x,
            packed,
            epilogue,
            moments: partial.map(|partial| partial.offset(2 * index * channels)),
            y,
        });
    });
    if let Some(Statistics { mean, variance, workspace }) = statistics {
        join_moments(pool, &workspace[..2 * blocks * channels], |index| rows(index).len() * width, mean, variance);
    }
}

/// A band of an image and a chunk of panels.
struct Block<'a> {
    gather: &'a Gather,
    panels: &'a Panels,
    chunk: Range<usize>,
    image: usize,
    rows: Range<usize>,
    x: &'a [f32],
    packed: &'a [f32],
    epilogue: Epilogue<'a>,
    /// Where this block's moments go, if they are asked for.
    moments: Option<SharedMut<'a>>,
    y: SharedMut<'a>,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        use super::Operand;
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
        match columns(self.gather) {
            (7, 1) => self.pixels::<S, F, 7, 1>(s),
            (3, 1) => self.pixels::<S, F, 3, 1>(s),
            (3, 2) => self.pixels::<S, F, 3, 2>(s),
            (2, 1) => self.pixels::<S, F, 2, 1>(s),
            _ => self.pixels::<S, F, 1, 1>(s),
        }
    }

    #[inline(always)]
    fn pixels<S: Simd, F: Read<S>, const K: usize, const STEP: usize>(&self, s: S) {
        match tile_pixels(self.gather) {
            8 => self.tiles::<S, F, 8, K, STEP>(s),
            _ => self.tiles::<S, F, 7, K, STEP>(s),
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, F: Read<S>, const R: usize, const K: usize, const STEP: usize>(&self, s: S) {
        let gather = self.gather;
        for index in self.chunk.clone() {
            let panel = self.panels.panel(index);
            let mut moments = Moments::<S, 1>::new(s);
            for row in self.rows.clone() {
                for start in (0..gather.grid[1]).step_by(R) {
                    let valid = (gather.grid[1] - start).min(R);
                    let acc = self.tile::<S, F, R, K, STEP>(s, (index, panel), (row, start, valid));
                    for (r, &value) in acc.iter().enumerate().take(valid) {
                        let position = Position { image: self.image as u32, i: row as u32, j: (start + r) as u32 };
                        let at = gather.target_pixel(position) * gather.target_channels + panel.target;
                        let place = (panel.target, at, panel.left);
                        // SAFETY: `left` channels of this pixel from here on, which only this task writes in this pass.
                        unsafe {
                            let how = (self.epilogue.accumulate, true);
                            let value = self.epilogue.apply(s, value, place, how, self.y.at(at));
                            s.store_up_to(self.y.at(at), panel.left, value);
                            if self.moments.is_some() {
                                moments.add(s, 0, value, row == self.rows.start && start + r == 0);
                            }
                        }
                    }
                }
            }
            if let Some(to) = self.moments {
                let place = (panel.target, panel.left, gather.target_channels);
                // SAFETY: only this task has this panel of this block.
                unsafe { moments.write(s, self.rows.len() * gather.grid[1], place, to) };
            }
        }
    }

    /// The products of a panel and pixels `start .. start + valid` of a row; those past `valid` mean nothing.
    #[inline(always)]
    fn tile<S: Simd, F: Read<S>, const R: usize, const K: usize, const STEP: usize>(
        &self,
        s: S,
        (index, panel): (usize, Panel),
        (row, start, valid): (usize, usize, usize),
    ) -> [S::Reg; R] {
        let (gather, panels) = (self.gather, self.panels);
        let [height, width] = gather.source;
        let [rows, columns] = [gather.rows.len(), gather.columns.len()];
        let packed = self.packed.as_ptr().wrapping_add(index * panels.len());
        let mut acc = [s.zero(); R];
        for run in 0..columns / K {
            let Window { first, step, inside } = Window::new::<K, STEP>(gather, run, start, valid);
            let next = step * gather.source_channels;
            for tap in 0..rows {
                let y = (row * gather.source_step[0]) as isize + gather.rows[tap];
                if y < 0 || y >= height as isize {
                    continue;
                }
                let pixel = ((self.image * height + y as usize) * width) as isize + first;
                let pixel = pixel * gather.source_channels as isize + panel.source as isize;
                let pixel = self.x.as_ptr().wrapping_offset(pixel);
                for k in 0..panels.depth {
                    let factor = F::new(s, panels.depth, k);
                    let weights = packed.wrapping_add(((tap * panels.depth + k) * columns + run * K) * S::LANES);
                    let mut w = [s.zero(); K];
                    for (t, w) in w.iter_mut().enumerate() {
                        // SAFETY: `packed` was checked to hold whole panels.
                        *w = unsafe { s.load(weights.add(t * S::LANES)) };
                    }
                    each_column!(COLUMN => {
                        if COLUMN < (R - 1) * STEP + K && COLUMN >= inside.0 && COLUMN < inside.1 {
                            // SAFETY: row and column lie inside the source, which `x` was checked to be.
                            let value = unsafe { factor.read(s, pixel.wrapping_add(COLUMN * next), panel.left) };
                            for t in 0..K {
                                if COLUMN >= t && (COLUMN - t) % STEP == 0 && (COLUMN - t) / STEP < R {
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
