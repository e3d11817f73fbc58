//! The gradient of the weights in the transformed domain: for each point, transformed input times transformed dy summed
//! over tiles; only the 36 sums are transformed back.
#![allow(clippy::needless_range_loop, reason = "tiles are addressed by row and column")]

use super::transform::{F4, Transform, gradient_input, gradient_output};
use super::{BLOCK_LEN, Corner, TILE_GRAIN, transform_input};
use crate::conv::ConvShape;
use crate::conv::tile::outer;
use crate::isa::{Isa, Kernel, Simd};
use crate::raw::SharedMut;
use residual_threads::{Pool, split};

const POINTS: usize = F4::N * F4::N;
/// Most parts of the sum over tiles, each summed by one task.
const MAX_PARTS: usize = 8;

/// The plan of one convolution's gradient.
#[derive(Clone, Debug)]
pub(in crate::conv) struct WinogradWeights {
    shape: ConvShape,
    target: [usize; 2],
}

impl WinogradWeights {
    /// Fewest tiles that make a part worth its memory.
    pub(in crate::conv) const MIN_TILES: usize = 96;

    /// `shape` is one that [`super::fits`].
    pub(in crate::conv) fn new(shape: &ConvShape) -> Self {
        Self { shape: *shape, target: shape.output() }
    }

    fn grid(&self) -> [usize; 2] {
        self.target.map(|side| side.div_ceil(F4::M))
    }

    fn tiles(&self, images: usize) -> usize {
        images * self.grid()[0] * self.grid()[1]
    }

    fn parts(&self, images: usize) -> usize {
        (self.tiles(images) / Self::MIN_TILES).clamp(1, MAX_PARTS)
    }

    fn block_tiles(&self) -> usize {
        let fitting = BLOCK_LEN / (POINTS * (self.shape.in_channels + self.shape.out_channels));
        (fitting / TILE_GRAIN * TILE_GRAIN).clamp(TILE_GRAIN, super::MAX_TILES)
    }

    fn sums_len(&self) -> usize {
        POINTS * self.shape.in_channels * self.shape.out_channels
    }

    fn scratch_len(&self) -> usize {
        POINTS * self.block_tiles() * (self.shape.in_channels + self.shape.out_channels)
    }

    /// Floats of workspace.
    pub(in crate::conv) fn workspace_len(&self, images: usize, threads: usize) -> usize {
        threads * self.scratch_len() + self.parts(images) * self.sums_len()
    }

    /// dw = the gradient of the weights.
    pub(in crate::conv) fn run(
        &self,
        isa: Isa,
        pool: &Pool,
        images: usize,
        x: &[f32],
        dy: &[f32],
        dw: &mut [f32],
        workspace: &mut [f32],
    ) {
        assert!(workspace.len() >= self.workspace_len(images, pool.threads()), "workspace of {}", workspace.len());
        let (tiles, parts, len) = (self.tiles(images), self.parts(images), self.sums_len());
        let (scratch, sums) = workspace.split_at_mut(pool.threads() * self.scratch_len());
        let sums = &mut sums[..parts * len];
        {
            let (scratch, sums) = (SharedMut::new(scratch), SharedMut::new(sums));
            pool.run(parts, |part, worker| {
                // SAFETY: every task has its own part.
                let sums = unsafe { sums.part(part * len..(part + 1) * len) };
                let scratch = scratch.at(worker * self.scratch_len());
                isa.run(Part { plan: self, tiles: split(tiles, parts, 1, part), x, dy, sums, scratch });
            });
        }
        let dw = SharedMut::new(dw);
        pool.run(self.shape.in_channels, |channel, _| {
            isa.run(Finish { plan: self, channel, sums, dw });
        });
    }

    #[inline(always)]
    fn place(&self, index: usize) -> (usize, usize, usize) {
        let [height, width] = self.grid();
        let (image, rest) = (index / (height * width), index % (height * width));
        (image, rest / width * F4::M, rest % width * F4::M)
    }
}

/// The sums over some tiles.
struct Part<'a> {
    plan: &'a WinogradWeights,
    tiles: std::ops::Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    /// `[point][input channel][output channel]`.
    sums: &'a mut [f32],
    scratch: *mut f32,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        self.sums.fill(0.0);
        let tiles = self.tiles.clone();
        for start in tiles.clone().step_by(self.plan.block_tiles()) {
            let block = start..(start + self.plan.block_tiles()).min(tiles.end);
            let outputs = self.plan.shape.out_channels;
            match (outputs > S::LANES, S::REGISTERS >= 32) {
                (true, true) => self.block::<S, 8, 2>(s, block),
                (true, false) => self.block::<S, 4, 2>(s, block),
                (false, _) => self.block::<S, 8, 1>(s, block),
            }
        }
    }
}

impl Part<'_> {
    #[inline(always)]
    fn block<S: Simd, const MR: usize, const NV: usize>(&mut self, s: S, tiles: std::ops::Range<usize>) {
        let (inputs, outputs) = (self.plan.shape.in_channels, self.plan.shape.out_channels);
        let count = tiles.len();
        let gradients = self.scratch.wrapping_add(POINTS * count * inputs);
        for (index, tile) in tiles.enumerate() {
            // SAFETY: `x` and `dy` were checked to hold every image; the scratch holds both transforms of a block.
            unsafe {
                self.transform_tiles(
                    s,
                    tile,
                    self.scratch.wrapping_add(index * inputs),
                    gradients.wrapping_add(index * outputs),
                    count,
                );
            }
        }
        for point in 0..POINTS {
            let a = self.scratch.cast_const().wrapping_add(point * count * inputs);
            let d = gradients.cast_const().wrapping_add(point * count * outputs);
            for output in (0..outputs).step_by(NV * S::LANES) {
                for input in (0..inputs).step_by(MR) {
                    let (a, d) = ((a.wrapping_add(input), inputs), (d.wrapping_add(output), outputs));
                    let at = (point * inputs + input) * outputs + output;
                    // SAFETY: channels are whole vectors and input channels a multiple of MR; the sums have them all.
                    unsafe { self.tile::<S, MR, NV>(s, count, a, d, at, outputs - output) };
                }
            }
        }
    }

    /// # Safety
    /// As [`outer`]; MR rows of `left` channels stand from `at` on in the sums.
    #[inline(always)]
    unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(
        &mut self,
        s: S,
        rows: usize,
        a: (*const f32, usize),
        d: (*const f32, usize),
        at: usize,
        left: usize,
    ) {
        if NV > 1 && left < NV * S::LANES {
            // SAFETY: the caller's promise, with one vector.
            unsafe { self.tile::<S, MR, 1>(s, rows, a, d, at, left) };
            return;
        }
        let outputs = self.plan.shape.out_channels;
        let mut acc = [[s.zero(); NV]; MR];
        // SAFETY: the caller's promise.
        unsafe {
            for (r, row) in acc.iter_mut().enumerate() {
                for (v, value) in row.iter_mut().enumerate() {
                    *value = s.load(self.sums.as_ptr().add(at + r * outputs + v * S::LANES));
                }
            }
            outer(s, rows, a, d, left, &mut acc);
            for (r, row) in acc.iter().enumerate() {
                for (v, &value) in row.iter().enumerate() {
                    s.store(self.sums.as_mut_ptr().add(at + r * outputs + v * S::LANES), value);
                }
            }
        }
    }

    /// # Safety
    /// Both scratch areas hold `count` tiles of every point from these places on.
    #[inline(always)]
    unsafe fn transform_tiles<S: Simd>(&self, s: S, tile: usize, inputs: *mut f32, gradients: *mut f32, count: usize) {
        let shape = &self.plan.shape;
        let (image, top, left) = self.plan.place(tile);
        let corner = Corner {
            image: image * shape.input_len(),
            row: top as isize - shape.padding[0] as isize,
            column: left as isize - shape.padding[1] as isize,
            size: shape.input,
            channels: shape.in_channels,
        };
        // SAFETY: the caller's promise.
        unsafe { transform_input::<S, F4>(s, self.x.as_ptr(), corner, inputs, count * shape.in_channels) };
        let corner = Corner {
            image: image * shape.output_len(),
            row: top as isize,
            column: left as isize,
            size: self.plan.target,
            channels: shape.out_channels,
        };
        let mut pixels = [[None; 4]; 4];
        for (row, pixels) in pixels.iter_mut().enumerate() {
            for (column, pixel) in pixels.iter_mut().enumerate() {
                *pixel = corner.pixel(row, column);
            }
        }
        for channel in (0..shape.out_channels).step_by(S::LANES) {
            let mut half = [[s.zero(); 6]; 6];
            for column in 0..4 {
                let mut values = [s.zero(); 6];
                for row in 0..4 {
                    if let Some(pixel) = pixels[row][column] {
                        // SAFETY: the pixel lies in the image and has a whole vector from `channel` on.
                        values[row] = unsafe { s.load(self.dy.as_ptr().add(pixel + channel)) };
                    }
                }
                let rows = gradient_input(s, values);
                for row in 0..6 {
                    half[row][column] = rows[row];
                }
            }
            for (row, &values) in half.iter().enumerate() {
                for (column, &value) in gradient_input(s, values).iter().enumerate() {
                    let at = (row * 6 + column) * count * shape.out_channels + channel;
                    // SAFETY: the caller's promise.
                    unsafe { s.store(gradients.add(at), value) };
                }
            }
        }
    }
}

/// Adds the parts and transforms back, for one input channel.
struct Finish<'a> {
    plan: &'a WinogradWeights,
    channel: usize,
    sums: &'a [f32],
    dw: SharedMut<'a>,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (inputs, outputs) = (self.plan.shape.in_channels, self.plan.shape.out_channels);
        for output in (0..outputs).step_by(S::LANES) {
            let mut half = [[s.zero(); 6]; 3];
            for column in 0..6 {
                let mut points = [s.zero(); 6];
                for (row, value) in points.iter_mut().enumerate() {
                    let mut at = ((row * 6 + column) * inputs + self.channel) * outputs + output;
                    while at < self.sums.len() {
                        // SAFETY: a whole vector of one part's sums.
                        *value = s.add(*value, unsafe { s.load(self.sums.as_ptr().add(at)) });
                        at += self.plan.sums_len();
                    }
                }
                let rows = gradient_output(s, points);
                for row in 0..3 {
                    half[row][column] = rows[row];
                }
            }
            for (row, &values) in half.iter().enumerate() {
                for (column, &value) in gradient_output(s, values).iter().enumerate() {
                    let at = ((row * 3 + column) * inputs + self.channel) * outputs + output;
                    // SAFETY: a whole vector of this channel's gradients, which only this task writes.
                    unsafe { s.store(self.dw.at(at), value) };
                }
            }
        }
    }
}
