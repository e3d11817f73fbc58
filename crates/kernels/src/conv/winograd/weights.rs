//! The gradient of the weights in the transformed domain: for each point, transformed input times transformed dy summed
//! over tiles; only the 36 sums are transformed back.
//!
//! Few channels: the sum is cut into parts, each with sums of its own, and a task transforms and multiplies the tiles of
//! its part block by block in its L2 cache. Many channels, whose sums do not fit there: all threads transform a chunk of
//! tiles together, and then each task multiplies one point of the whole chunk, so that sums are read and written rarely.
#![allow(clippy::needless_range_loop, reason = "tiles are addressed by row and column")]

use super::transform::{F4, Transform, gradient_input, gradient_output};
use super::{AHEAD, BLOCK_LEN, SKEW, TILE_GRAIN, TileCorner, TilePosition, TilePositions, transform_input};
use crate::conv::ConvShape;
use crate::conv::tile::{outer, outer_tile};
use crate::isa::{Floats, Isa, Kernel, Simd};
use crate::raw::SharedMut;
use residual_threads::{Pool, split};
use std::ops::Range;

const POINTS: usize = F4::N * F4::N;
/// Most parts of the sum over tiles, each summed by one task.
const MAX_PARTS: usize = 8;
/// Fewest tiles that make a part worth its memory.
const PART_TILES: usize = 96;
/// Floats of a part's sums, past which the points are partitioned instead of the tiles.
const PART_SUMS: usize = POINTS * 64 * 64;
/// Floats that a chunk's transformed tiles take.
const CHUNK_LEN: usize = 4 << 20;
/// Tiles that one task transforms.
const TASK_TILES: usize = 4;

/// The plan of one convolution's gradient.
#[derive(Clone, Debug)]
pub(in crate::conv) struct WinogradWeights {
    shape: ConvShape,
    target: [usize; 2],
}

impl WinogradWeights {
    /// Fewer tiles do not pay for the transform of the sums.
    pub(in crate::conv) const FEWEST_TILES: usize = 48;

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

    fn sums_len(&self) -> usize {
        POINTS * self.shape.in_channels * self.shape.out_channels
    }

    fn shares_points(&self) -> bool {
        self.sums_len() > PART_SUMS
    }

    fn parts(&self, images: usize) -> usize {
        if self.shares_points() { 1 } else { (self.tiles(images) / PART_TILES).clamp(1, MAX_PARTS) }
    }

    /// Tiles that are transformed before they are multiplied.
    fn block_tiles(&self, images: usize) -> usize {
        let tile = POINTS * (self.shape.in_channels + self.shape.out_channels);
        if self.shares_points() {
            (CHUNK_LEN / tile).clamp(1, self.tiles(images))
        } else {
            (BLOCK_LEN / tile / TILE_GRAIN * TILE_GRAIN).clamp(TILE_GRAIN, super::MAX_TILES)
        }
    }

    /// Floats of the transformed tiles of one block.
    fn scratch_len(&self, images: usize) -> usize {
        POINTS * (self.block_tiles(images) * (self.shape.in_channels + self.shape.out_channels) + 2 * SKEW)
    }

    /// Floats of workspace.
    pub(in crate::conv) fn workspace_len(&self, images: usize, threads: usize) -> usize {
        let blocks = if self.shares_points() { 1 } else { threads };
        blocks * self.scratch_len(images) + self.parts(images) * self.sums_len()
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
        let (parts, len) = (self.parts(images), self.sums_len());
        let (sums, scratch) = workspace.split_at_mut(parts * len);
        if self.shares_points() {
            self.sum_points(isa, pool, images, x, dy, sums, scratch);
        } else {
            let (tiles, block, share) = (self.tiles(images), self.block_tiles(images), self.scratch_len(images));
            let (sums, scratch) = (SharedMut::new(sums), SharedMut::new(scratch));
            pool.run(parts, |part, worker| {
                // SAFETY: every task has its own part.
                let sums = unsafe { sums.part(part * len..(part + 1) * len) };
                let scratch = scratch.offset(worker * share);
                isa.run(PartialSums { plan: self, tiles: split(tiles, parts, 1, part), block, x, dy, sums, scratch });
            });
        }
        let (sums, dw) = (&*sums, SharedMut::new(dw));
        pool.run(self.shape.in_channels, |channel, _| {
            isa.run(Finish { plan: self, channel, sums, dw });
        });
    }

    /// The sums of all points over all tiles, chunk by chunk.
    fn sum_points(
        &self,
        isa: Isa,
        pool: &Pool,
        images: usize,
        x: &[f32],
        dy: &[f32],
        sums: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (tiles, step) = (self.tiles(images), self.block_tiles(images));
        let len = self.shape.in_channels * self.shape.out_channels;
        let (sums, scratch) = (SharedMut::new(sums), SharedMut::new(scratch));
        for start in (0..tiles).step_by(step) {
            let chunk = start..(start + step).min(tiles);
            pool.run(chunk.len().div_ceil(TASK_TILES), |task, _| {
                let first = chunk.start + task * TASK_TILES;
                let block = Block { plan: self, tiles: chunk.clone(), x, dy, scratch };
                isa.run(TransformTiles { block, tiles: first..(first + TASK_TILES).min(chunk.end) });
            });
            pool.run(POINTS, |point, _| {
                let block = Block { plan: self, tiles: chunk.clone(), x, dy, scratch };
                // SAFETY: every task has its own point.
                let sums = unsafe { sums.part(point * len..(point + 1) * len) };
                isa.run(MultiplyPoint { block, point, sums, first: start == 0 });
            });
        }
    }

    /// The places of tiles from `first` on.
    #[inline(always)]
    fn places(&self, first: usize) -> TilePositions {
        TilePositions::new(self.target, F4::M, first)
    }
}

/// The sums over some tiles, block by block.
struct PartialSums<'a> {
    plan: &'a WinogradWeights,
    tiles: Range<usize>,
    /// Tiles of a block.
    block: usize,
    x: &'a [f32],
    dy: &'a [f32],
    /// `[point][input channel][output channel]`.
    sums: &'a mut [f32],
    scratch: SharedMut<'a>,
}

impl Kernel for PartialSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = self.plan.sums_len() / POINTS;
        for start in self.tiles.clone().step_by(self.block) {
            let tiles = start..(start + self.block).min(self.tiles.end);
            let block = Block { plan: self.plan, tiles: tiles.clone(), x: self.x, dy: self.dy, scratch: self.scratch };
            // SAFETY: the scratch belongs to this task and holds a block.
            unsafe { block.transform(s, tiles) };
            for (point, sums) in self.sums.chunks_exact_mut(len).enumerate() {
                // SAFETY: all tiles of the block were transformed.
                unsafe { block.multiply(s, point, sums, start == self.tiles.start) };
            }
        }
    }
}

/// One task's part of a chunk's transforms.
struct TransformTiles<'a> {
    block: Block<'a>,
    tiles: Range<usize>,
}

impl Kernel for TransformTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the tiles lie in the block, whose scratch holds it; every task has its own tiles.
        unsafe { self.block.transform(s, self.tiles) };
    }
}

/// One point of a chunk.
struct MultiplyPoint<'a> {
    block: Block<'a>,
    point: usize,
    sums: &'a mut [f32],
    first: bool,
}

impl Kernel for MultiplyPoint<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the job before this one transformed all tiles of the block.
        unsafe { self.block.multiply(s, self.point, self.sums, self.first) };
    }
}

/// Tiles that are multiplied together. Their transforms are stored as `[point][vector of channels][tile][lane]`, those
/// of the input before those of dy, so that a micro-kernel's operands are close together.
struct Block<'a> {
    plan: &'a WinogradWeights,
    tiles: Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    scratch: SharedMut<'a>,
}

impl Block<'_> {
    /// Floats between the points of the input, and between those of dy.
    #[inline(always)]
    fn strides(&self) -> (usize, usize) {
        let ConvShape { in_channels, out_channels, .. } = self.plan.shape;
        (self.tiles.len() * in_channels + SKEW, self.tiles.len() * out_channels + SKEW)
    }

    #[inline(always)]
    fn gradients(&self) -> *mut f32 {
        self.scratch.at(POINTS * self.strides().0)
    }

    /// sums += (transformed input)ᵀ · transformed dy of one point; sums = that for the `first` block.
    ///
    /// # Safety
    /// All tiles of this block were transformed into the scratch.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, s: S, point: usize, sums: &mut [f32], first: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            let [rows, vectors] = outer_tile(S::LANES, S::REGISTERS, self.plan.shape.out_channels);
            match [rows.min(S::LANES), vectors] {
                [8, 2] => self.tiles_of::<S, 8, 2>(s, point, sums, first),
                [4, 2] => self.tiles_of::<S, 4, 2>(s, point, sums, first),
                [8, 1] => self.tiles_of::<S, 8, 1>(s, point, sums, first),
                [4, 1] => self.tiles_of::<S, 4, 1>(s, point, sums, first),
                other => unreachable!("no tile of {other:?}"),
            }
        }
    }

    /// # Safety
    /// As [`Block::multiply`].
    #[inline(always)]
    unsafe fn tiles_of<S: Simd, const MR: usize, const NV: usize>(
        &self,
        s: S,
        point: usize,
        sums: &mut [f32],
        first: bool,
    ) {
        debug_assert!(S::LANES.is_multiple_of(MR));
        let (inputs, outputs, count) = (self.plan.shape.in_channels, self.plan.shape.out_channels, self.tiles.len());
        assert_eq!(sums.len(), inputs * outputs);
        let (input_stride, gradient_stride) = self.strides();
        let a = self.scratch.at(point * input_stride).cast_const();
        let d = self.gradients().cast_const().wrapping_add(point * gradient_stride);
        for output in (0..outputs).step_by(NV * S::LANES) {
            for input in (0..inputs).step_by(MR) {
                let a = a.wrapping_add(input / S::LANES * S::LANES * count + input % S::LANES);
                let d = d.wrapping_add(output * count);
                let at = input * outputs + output;
                // SAFETY: channels are whole vectors, and MR divides a vector; the sums have them all.
                unsafe { self.tile::<S, MR, NV>(s, a, d, &mut sums[at..], outputs - output, first) };
            }
        }
    }

    /// # Safety
    /// As [`outer`]; `sums` begins with MR rows of `left` channels, at the distance of its rows.
    #[inline(always)]
    unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(
        &self,
        s: S,
        a: *const f32,
        d: *const f32,
        sums: &mut [f32],
        left: usize,
        first: bool,
    ) {
        let (outputs, count) = (self.plan.shape.out_channels, self.tiles.len());
        if NV > 1 && left < NV * S::LANES {
            // SAFETY: the caller's promise, with one vector.
            unsafe { self.tile::<S, MR, 1>(s, a, d, sums, left, first) };
            return;
        }
        let mut acc = [[s.zero(); NV]; MR];
        // SAFETY: the caller's promise.
        unsafe {
            outer(s, count, (a, S::LANES), (d, S::LANES, S::LANES * count), left, &mut acc);
            for (r, row) in acc.iter().enumerate() {
                for (v, &value) in row.iter().enumerate() {
                    let to = sums.as_mut_ptr().add(r * outputs + v * S::LANES);
                    s.store(to, if first { value } else { s.add(s.load(to), value) });
                }
            }
        }
    }

    /// Transforms some tiles of the input and of dy.
    ///
    /// # Safety
    /// `tiles` are of the block's, the scratch holds the block, and no one else touches these tiles' places.
    #[inline(always)]
    unsafe fn transform<S: Simd>(&self, s: S, tiles: Range<usize>) {
        let (shape, count) = (&self.plan.shape, self.tiles.len());
        let (input_stride, gradient_stride) = self.strides();
        let (inputs, gradients) = (self.scratch.at(0), self.gradients());
        let input = |place: TilePosition| TileCorner {
            image: place.image * shape.input_len(),
            row: place.row as isize - shape.padding[0] as isize,
            column: place.column as isize - shape.padding[1] as isize,
            size: shape.input,
            channels: shape.in_channels,
        };
        let gradient = |place: TilePosition| TileCorner {
            image: place.image * shape.output_len(),
            row: place.row as isize,
            column: place.column as isize,
            size: self.plan.target,
            channels: shape.out_channels,
        };
        let floats = Floats(s);
        let places = self.plan.places(tiles.start).zip(self.plan.places(tiles.start + AHEAD));
        for (index, (place, ahead)) in tiles.zip(places) {
            let to = (index - self.tiles.start) * S::LANES;
            input(ahead).prefetch(s, self.x.as_ptr(), F4::N - F4::M);
            gradient(ahead).prefetch(s, self.dy.as_ptr(), 0);
            // SAFETY: the caller's promise; `x` was checked to hold every image.
            unsafe {
                let to = inputs.wrapping_add(to);
                transform_input::<_, _, F4>(floats, floats, self.x.as_ptr(), input(place), to, (input_stride, count));
            }
            let to = gradients.wrapping_add(to);
            // SAFETY: the caller's promise; `dy` was checked to hold every image.
            unsafe { transform_gradient(s, self.dy.as_ptr(), gradient(place), to, gradient_stride, count) };
        }
    }
}

/// Transforms one tile of dy: the vector of channels from c on of point p goes to `to + p · stride + c · next`.
///
/// # Safety
/// `source` holds the image of `corner`, whose channels are whole vectors; `to` can be written as stated.
#[inline(always)]
unsafe fn transform_gradient<S: Simd>(
    s: S,
    source: *const f32,
    corner: TileCorner,
    to: *mut f32,
    stride: usize,
    next: usize,
) {
    let mut pixels = [[None; 4]; 4];
    for (row, pixels) in pixels.iter_mut().enumerate() {
        for (column, pixel) in pixels.iter_mut().enumerate() {
            *pixel = corner.pixel(row, column);
        }
    }
    let inside = corner.is_inside(4);
    let start = source.wrapping_add(corner.pixel(0, 0).unwrap_or(0));
    let below = corner.size[1] * corner.channels;
    for channel in (0..corner.channels).step_by(S::LANES) {
        let mut half = [[s.zero(); 6]; 6];
        for column in 0..4 {
            let mut values = [s.zero(); 6];
            for row in 0..4 {
                // SAFETY: the pixel lies in the image and has a whole vector from `channel` on.
                unsafe {
                    if inside {
                        values[row] = s.load(start.add(row * below + column * corner.channels + channel));
                    } else if let Some(pixel) = pixels[row][column] {
                        values[row] = s.load(source.add(pixel + channel));
                    }
                }
            }
            let rows = gradient_input(s, values);
            for row in 0..6 {
                half[row][column] = rows[row];
            }
        }
        for (row, &values) in half.iter().enumerate() {
            for (column, &value) in gradient_input(s, values).iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { s.store(to.add((row * 6 + column) * stride + channel * next), value) };
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
