//! Dense convolutions: the direct algorithm of floats in lanes of 32 bits, each a group of channels. The same im2col matrix,
//! panels, micro-kernels and partition.

use super::output::Output;
use super::{LANE, lane};
use crate::conv::ConvShape;
use crate::conv::blocks::{Partition, Workload};
use crate::conv::forward::{PANEL_LEN, panel_stride};
use crate::conv::im2col::{CopyLanes, Im2col, MAX_ROWS, Position, WidenBytes};
use crate::conv::pack::{pack, packed_len, panel_count};
use crate::conv::tile::{multiply, tile_rows, tile_vectors, with_tile};
use crate::isa::{ByteKernel, ByteProduct, Isa, Simd};
use crate::raw::SharedMut;
use residual_threads::Pool;
use std::ops::Range;

/// A plan of a dense convolution.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    /// Counted in lanes of four channels on the source's side, in bytes on the target's.
    im2col: Im2col,
}

impl Dense {
    pub(super) fn new(shape: &ConvShape) -> Self {
        Self { im2col: Im2col::forward(shape).in_lanes(LANE) }
    }

    /// The im2col matrix as its panels hold it: lanes of the product's groups.
    fn panel(&self, isa: Isa) -> Im2col {
        let lanes = self.im2col.channels * (LANE / isa.byte_group());
        Im2col { channels: lanes, ..self.im2col.clone() }
    }

    pub(super) fn packed_len(&self, isa: Isa) -> usize {
        packed_len(isa, &self.panel(isa))
    }

    /// Floats of workspace that one thread needs.
    pub(super) fn thread_len(&self, isa: Isa) -> usize {
        let tile = tile_rows(isa, tile_vectors(isa, self.im2col.outputs));
        PANEL_LEN.max(tile * panel_stride(self.panel(isa).depth()))
    }

    pub(super) fn pack(&self, isa: Isa, pool: &Pool, shape: &ConvShape, weights: &[i8], packed: &mut [f32]) {
        let (inputs, outputs, numbers) = (shape.in_channels, shape.out_channels, isa.byte_group());
        let panel = self.panel(isa);
        pack(isa, pool, &panel, packed, |_, first, width, to, panel_width| {
            for (row, to) in to.chunks_exact_mut(panel_width).enumerate() {
                let (tap, channel) = (row / panel.channels, row % panel.channels * numbers);
                let weight = |input: usize, output: usize| match input < inputs && output < width {
                    true => i32::from(weights[(tap * inputs + input) * outputs + first + output]),
                    false => 0,
                };
                for (output, to) in to.iter_mut().enumerate() {
                    *to = f32::from_bits(lane(numbers, |number| weight(channel + number, output)));
                }
            }
        });
    }

    pub(super) fn forward(
        &self,
        isa: Isa,
        pool: &Pool,
        images: usize,
        (x, zero): (&[u8], u8),
        packed: &[f32],
        output: Output<'_>,
        workspace: &mut [f32],
    ) {
        let im2col = &self.im2col;
        let rows = images * im2col.rows_per_image();
        let (panel, thread_len) = (self.panel(isa), self.thread_len(isa));
        let (vectors, depth) = (tile_vectors(isa, im2col.outputs), panel.depth());
        let grain = tile_rows(isa, vectors);
        let widened = LANE / isa.byte_group();
        let work = Workload {
            rows,
            grain,
            most: (thread_len / panel_stride(depth)).min(MAX_ROWS) / grain * grain,
            panels: panel_count(isa, &panel),
            groups: 1,
            threads: pool.threads(),
            row: if im2col.is_direct() && widened == 1 { 0 } else { 20 + depth / 8 },
            product: vectors * depth,
            panel_len: vectors * isa.lanes() * depth,
        };
        let Partition { block, blocks, splits } = work.partition();
        let workspace = SharedMut::new(workspace);
        pool.run(blocks * splits, |task, worker| {
            let index = task / splits;
            isa.run_bytes(Block {
                im2col,
                images,
                depth,
                vectors,
                rows: index * block..((index + 1) * block).min(rows),
                panels: residual_threads::split(work.panels, splits, 1, task % splits),
                x: x.as_ptr().cast(),
                zero,
                packed,
                output,
                panel: workspace.at(worker * thread_len),
            });
        });
    }
}

/// Lanes of the depth that are multiplied between prefetches.
const STEPS: usize = 32;
/// Lanes of a cache line.
const LINE: usize = 16;

struct Block<'a> {
    im2col: &'a Im2col,
    images: usize,
    /// Lanes of a row of the panel.
    depth: usize,
    vectors: usize,
    rows: Range<usize>,
    panels: Range<usize>,
    x: *const f32,
    zero: u8,
    packed: &'a [f32],
    output: Output<'a>,
    panel: *mut f32,
}

impl ByteKernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<P: ByteProduct>(self, product: P) {
        with_tile!(self.vectors, P::Simd, self.tiles::<P>(product))
    }
}

impl Block<'_> {
    #[inline(always)]
    fn tiles<P: ByteProduct, const MR: usize, const NV: usize>(&self, product: P) {
        let (s, im2col) = (product.simd(), self.im2col);
        let (depth, width) = (self.depth, NV * P::Simd::LANES);
        let count = self.rows.len();
        let (mut table, mut pixels) = ([Position::default(); MAX_ROWS], [0; MAX_ROWS]);
        let (positions, pixels) = (&mut table[..count], &mut pixels[..count]);
        // Padding that is zero adds nothing: tiles with pixels of one row or a few neighbouring ones skip tap rows outside the image.
        let skips = self.zero == 0 && im2col.rows.len() > 1;
        let is_direct = im2col.is_direct() && P::GROUP == LANE;
        if is_direct {
            pixels.iter_mut().zip(self.rows.clone()).for_each(|(pixel, row)| *pixel = row);
        } else {
            if skips {
                im2col.positions_row_by_row(self.images, self.rows.start, positions);
            } else {
                im2col.positions(self.rows.start, positions);
            }
            pixels.iter_mut().zip(&*positions).for_each(|(pixel, &position)| *pixel = im2col.target_pixel(position));
        }
        let (matrix, stride) = if is_direct {
            (self.x.wrapping_add(self.rows.start * im2col.source_channels), im2col.source_channels)
        } else {
            let (all, stride) = (0..im2col.depth(), panel_stride(depth));
            // SAFETY: `x` was checked to be a tensor of the source with all images, and aligned; the panel holds the rows of a
            // block at this stride and belongs to this thread.
            unsafe {
                if P::GROUP == LANE {
                    im2col.fill(s, CopyLanes::bytes(self.zero), self.x, 0, positions, all, self.panel, stride);
                } else {
                    im2col.fill(s, WidenBytes(self.zero), self.x, 0, positions, all, self.panel, stride);
                }
            }
            (self.panel.cast_const(), stride)
        };
        for panel in self.panels.clone() {
            let b = self.packed.as_ptr().wrapping_add(panel * depth * width);
            let (channel, left) = (panel * width, im2col.outputs - panel * width);
            let start = self.output.start::<P::Simd, NV>(s, channel, left);
            // The next panel's cache lines are prefetched while this one is multiplied, a few for every part of a tile.
            let next = if panel + 1 < self.panels.end { depth * width..2 * depth * width } else { 0..0 };
            let parts = count.div_ceil(MR) * depth.div_ceil(STEPS);
            let (lines, mut ahead) = ((depth * width / LINE).div_ceil(parts), next.step_by(LINE));
            for tile in (0..count).step_by(MR) {
                let valid = (count - tile).min(MR);
                // Rows past the end repeat the last one and are not stored.
                let mut rows = [matrix; MR];
                for (r, pointer) in rows.iter_mut().enumerate() {
                    *pointer = matrix.wrapping_add((tile + r.min(valid - 1)) * stride);
                }
                let pixels = &pixels[tile..tile + valid];
                self.output.prefetch(s, pixels, channel);
                let depth = if skips {
                    let inside = im2col.columns_inside(positions[tile].i, positions[tile + valid - 1].i);
                    inside.start * (LANE / P::GROUP)..inside.end * (LANE / P::GROUP)
                } else {
                    0..depth
                };
                let mut acc = [start; MR];
                for first in depth.clone().step_by(STEPS) {
                    let part = first..(first + STEPS).min(depth.end);
                    for line in ahead.by_ref().take(lines) {
                        s.prefetch_for_later(b.wrapping_add(line));
                    }
                    // SAFETY: each row has all lanes of the matrix, in the panel or in `x`; `packed` was checked to hold whole
                    // panels.
                    unsafe { multiply(product, part, &rows, b, &mut acc) };
                }
                self.output.finish(s, pixels, (channel, left), acc);
            }
        }
    }
}
