//! The gradient of the weights in the transformed domain: for each point, transformed input times transformed dy summed
//! over tiles; only the sums are transformed back. The large tile, with products of floats; or of bf16 the small one, whose errors
//! allow products of bf16: those sum two tiles.
//!
//! Few channels: the sum is cut into parts, each with sums of its own, and a task transforms and multiplies the tiles of
//! its part block by block in its L2 cache. Many channels, whose sums do not fit there: all threads transform a chunk of
//! tiles together, and then each task multiplies one point of the whole chunk, so that sums are read and written rarely.
#![allow(clippy::needless_range_loop, reason = "tiles are addressed by row and column")]

use super::transform::{F2, F4, Transform};
use super::{
    AHEAD, BLOCK_LEN, SKEW, TILE_GRAIN, TileCorner, TilePosition, TilePositions, WinogradTile, transform_input,
};
use crate::conv::ConvShape;
use crate::conv::tile::{outer, outer_tile};
use crate::isa::{Element, ElementKernel, ElementProduct, Floats, Isa, Kernel, Reg, Simd};
use crate::raw::SharedMut;
use residual_threads::{Pool, split};
use std::ops::Range;

/// Most parts of the sum over tiles, each summed by one task.
const MAX_PARTS: usize = 8;
/// Fewest tiles that make a part worth its memory.
const PART_TILES: usize = 96;
/// Floats of a part's sums, past which the points are partitioned instead of the tiles.
const PART_SUMS: usize = 36 * 64 * 64;
/// Floats that a chunk's transformed tiles take.
const CHUNK_LEN: usize = 4 << 20;
/// Tiles that one task transforms.
const TASK_TILES: usize = 4;

/// The plan of one convolution's gradient.
#[derive(Clone, Debug)]
pub(in crate::conv) struct WinogradWeights {
    shape: ConvShape,
    target: [usize; 2],
    tile: WinogradTile,
    /// Tiles of a lane of the transformed operands.
    group: usize,
}

impl WinogradWeights {
    /// Fewer tiles do not pay for the transform of the sums.
    pub(in crate::conv) const FEWEST_TILES: usize = 48;

    /// `shape` is one that [`super::fits`].
    pub(in crate::conv) fn new(shape: &ConvShape, tile: WinogradTile, group: usize) -> Self {
        Self { shape: *shape, target: shape.output(), tile, group: tile.group(group) }
    }

    fn grid(&self) -> [usize; 2] {
        self.target.map(|side| side.div_ceil(self.tile.outputs()))
    }

    fn tiles(&self, images: usize) -> usize {
        images * self.grid()[0] * self.grid()[1]
    }

    fn sums_len(&self) -> usize {
        self.tile.points() * self.shape.in_channels * self.shape.out_channels
    }

    fn shares_points(&self) -> bool {
        self.sums_len() > PART_SUMS
    }

    fn parts(&self, images: usize) -> usize {
        if self.shares_points() { 1 } else { (self.tiles(images) / PART_TILES).clamp(1, MAX_PARTS) }
    }

    /// Tiles that are transformed before they are multiplied.
    fn block_tiles(&self, images: usize) -> usize {
        let lane = self.tile.points() * (self.shape.in_channels + self.shape.out_channels);
        let lanes = if self.shares_points() {
            (CHUNK_LEN / lane).clamp(1, self.tiles(images).div_ceil(self.group))
        } else {
            (BLOCK_LEN / lane / TILE_GRAIN * TILE_GRAIN).clamp(TILE_GRAIN, super::MAX_TILES)
        };
        lanes * self.group
    }

    /// Floats of the transformed tiles of one block.
    fn scratch_len(&self, images: usize) -> usize {
        let lanes = self.block_tiles(images) / self.group;
        self.tile.points() * (lanes * (self.shape.in_channels + self.shape.out_channels) + 2 * SKEW)
    }

    /// Floats of workspace.
    pub(in crate::conv) fn workspace_len(&self, images: usize, threads: usize) -> usize {
        let blocks = if self.shares_points() { 1 } else { threads };
        blocks * self.scratch_len(images) + self.parts(images) * self.sums_len()
    }

    /// dw = the gradient of the weights.
    pub(in crate::conv) fn run<E: Element>(
        &self,
        isa: Isa,
        pool: &Pool,
        images: usize,
        x: &[E],
        dy: &[E],
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
                let tiles = split(tiles, parts, self.group, part);
                E::run(isa, PartialSums { plan: self, tiles, block, x, dy, sums, scratch });
            });
        }
        let (sums, dw) = (&*sums, SharedMut::new(dw));
        pool.run(self.shape.in_channels, |channel, _| {
            isa.run(Finish { plan: self, channel, sums, dw });
        });
    }

    /// The sums of all points over all tiles, chunk by chunk.
    fn sum_points<E: Element>(
        &self,
        isa: Isa,
        pool: &Pool,
        images: usize,
        x: &[E],
        dy: &[E],
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
                E::run(isa, TransformTiles { block, tiles: first..(first + TASK_TILES).min(chunk.end) });
            });
            pool.run(self.tile.points(), |point, _| {
                let block = Block { plan: self, tiles: chunk.clone(), x, dy, scratch };
                // SAFETY: every task has its own point.
                let sums = unsafe { sums.part(point * len..(point + 1) * len) };
                E::run(isa, MultiplyPoint { block, point, sums, first: start == 0 });
            });
        }
    }

    /// The places of tiles from `first` on.
    #[inline(always)]
    fn places(&self, first: usize) -> TilePositions {
        TilePositions::new(self.target, self.tile.outputs(), first)
    }
}

/// The sums over some tiles, block by block.
struct PartialSums<'a, E> {
    plan: &'a WinogradWeights,
    tiles: Range<usize>,
    /// Tiles of a block.
    block: usize,
    x: &'a [E],
    dy: &'a [E],
    /// `[point][input channel][output channel]`.
    sums: &'a mut [f32],
    scratch: SharedMut<'a>,
}

impl<E: Element> ElementKernel<E> for PartialSums<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        let len = self.plan.sums_len() / self.plan.tile.points();
        for start in self.tiles.clone().step_by(self.block) {
            let tiles = start..(start + self.block).min(self.tiles.end);
            let block = Block { plan: self.plan, tiles: tiles.clone(), x: self.x, dy: self.dy, scratch: self.scratch };
            // SAFETY: the scratch belongs to this task and holds a block.
            unsafe { block.transform(product, tiles) };
            for (point, sums) in self.sums.chunks_exact_mut(len).enumerate() {
                // SAFETY: all tiles of the block were transformed.
                unsafe { block.multiply(product, point, sums, start == self.tiles.start) };
            }
        }
    }
}

/// One task's part of a chunk's transforms.
struct TransformTiles<'a, E> {
    block: Block<'a, E>,
    tiles: Range<usize>,
}

impl<E: Element> ElementKernel<E> for TransformTiles<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        // SAFETY: the tiles lie in the block, whose scratch holds it; every task has its own tiles.
        unsafe { self.block.transform(product, self.tiles) };
    }
}

/// One point of a chunk.
struct MultiplyPoint<'a, E> {
    block: Block<'a, E>,
    point: usize,
    sums: &'a mut [f32],
    first: bool,
}

impl<E: Element> ElementKernel<E> for MultiplyPoint<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        // SAFETY: the job before this one transformed all tiles of the block.
        unsafe { self.block.multiply(product, self.point, self.sums, self.first) };
    }
}

/// Tiles that are multiplied together. Their transforms are stored as `[point][vector of channels][tile or pair][lane]`, those
/// of the input before those of dy, so that a micro-kernel's operands are close together.
struct Block<'a, E> {
    plan: &'a WinogradWeights,
    tiles: Range<usize>,
    x: &'a [E],
    dy: &'a [E],
    scratch: SharedMut<'a>,
}

impl<E: Element> Block<'_, E> {
    /// Tiles or pairs of them.
    #[inline(always)]
    fn count(&self) -> usize {
        self.tiles.len().div_ceil(self.plan.group)
    }

    /// Floats between the points of the input, and between those of dy.
    #[inline(always)]
    fn strides(&self) -> (usize, usize) {
        let ConvShape { in_channels, out_channels, .. } = self.plan.shape;
        (self.count() * in_channels + SKEW, self.count() * out_channels + SKEW)
    }

    #[inline(always)]
    fn gradients(&self) -> *mut f32 {
        self.scratch.at(self.plan.tile.points() * self.strides().0)
    }

    /// sums += (transformed input)ᵀ · transformed dy of one point; sums = that for the `first` block.
    ///
    /// # Safety
    /// All tiles of this block were transformed into the scratch.
    #[inline(always)]
    unsafe fn multiply<P: ElementProduct>(&self, product: P, point: usize, sums: &mut [f32], first: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.plan.group {
                1 => self.multiply_operands(Floats(product.simd()), point, sums, first),
                _ => self.multiply_operands(product, point, sums, first),
            }
        }
    }

    /// # Safety
    /// As [`Block::multiply`].
    #[inline(always)]
    unsafe fn multiply_operands<Q: ElementProduct>(&self, q: Q, point: usize, sums: &mut [f32], first: bool) {
        let lanes = Q::Simd::LANES;
        // SAFETY: the caller's promise.
        unsafe {
            let [rows, vectors] = outer_tile(lanes, Q::Simd::REGISTERS, self.plan.shape.out_channels);
            match [rows.min(lanes), vectors] {
                [8, 2] => self.tiles_of::<Q, 8, 2>(q, point, sums, first),
                [4, 2] => self.tiles_of::<Q, 4, 2>(q, point, sums, first),
                [8, 1] => self.tiles_of::<Q, 8, 1>(q, point, sums, first),
                [4, 1] => self.tiles_of::<Q, 4, 1>(q, point, sums, first),
                other => unreachable!("no tile of {other:?}"),
            }
        }
    }

    /// # Safety
    /// As [`Block::multiply`].
    #[inline(always)]
    unsafe fn tiles_of<Q: ElementProduct, const MR: usize, const NV: usize>(
        &self,
        q: Q,
        point: usize,
        sums: &mut [f32],
        first: bool,
    ) {
        let lanes = Q::Simd::LANES;
        debug_assert!(lanes.is_multiple_of(MR));
        let (inputs, outputs, count) = (self.plan.shape.in_channels, self.plan.shape.out_channels, self.count());
        assert_eq!(sums.len(), inputs * outputs);
        let (input_stride, gradient_stride) = self.strides();
        let a = self.scratch.at(point * input_stride).cast_const();
        let d = self.gradients().cast_const().wrapping_add(point * gradient_stride);
        for output in (0..outputs).step_by(NV * lanes) {
            for input in (0..inputs).step_by(MR) {
                let a = a.wrapping_add(input / lanes * lanes * count + input % lanes);
                let d = d.wrapping_add(output * count);
                let at = input * outputs + output;
                // SAFETY: channels are whole vectors, and MR divides a vector; the sums have them all.
                unsafe { self.tile::<Q, MR, NV>(q, a, d, &mut sums[at..], outputs - output, first) };
            }
        }
    }

    /// # Safety
    /// As [`outer`]; `sums` begins with MR rows of `left` channels, at the distance of its rows.
    #[inline(always)]
    unsafe fn tile<Q: ElementProduct, const MR: usize, const NV: usize>(
        &self,
        q: Q,
        a: *const f32,
        d: *const f32,
        sums: &mut [f32],
        left: usize,
        first: bool,
    ) {
        let (s, lanes) = (q.simd(), Q::Simd::LANES);
        let (outputs, count) = (self.plan.shape.out_channels, self.count());
        if NV > 1 && left < NV * lanes {
            // SAFETY: the caller's promise, with one vector.
            unsafe { self.tile::<Q, MR, 1>(q, a, d, sums, left, first) };
            return;
        }
        let mut acc = [[s.zero(); NV]; MR];
        // SAFETY: the caller's promise.
        unsafe {
            outer(q, count, (a, lanes), (d, lanes, lanes * count), left, &mut acc);
            for (r, row) in acc.iter().enumerate() {
                for (v, &value) in row.iter().enumerate() {
                    let to = sums.as_mut_ptr().add(r * outputs + v * lanes);
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
    unsafe fn transform<P: ElementProduct<Element = E>>(&self, product: P, tiles: Range<usize>) {
        let s = product.simd();
        let (shape, count) = (&self.plan.shape, self.count());
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
        let (floats, group) = (Floats(s), self.plan.group);
        let mut places = self.plan.places(tiles.start);
        let mut ahead = self.plan.places(tiles.start + AHEAD);
        for first in tiles.clone().step_by(group) {
            let to = (first - self.tiles.start) / group * P::Simd::LANES;
            let to = (inputs.wrapping_add(to), gradients.wrapping_add(to));
            let (x, dy) = (self.x.as_ptr(), self.dy.as_ptr());
            let mut pair = [None; 2];
            for place in pair.iter_mut().take(group.min(tiles.end - first)) {
                *place = places.next();
                if let Some(ahead) = ahead.next() {
                    input(ahead).prefetch(s, x, 2);
                    gradient(ahead).prefetch(s, dy, 0);
                }
            }
            // SAFETY: the caller's promise; `x` and `dy` were checked to hold every image.
            unsafe {
                match (self.plan.tile, pair) {
                    (WinogradTile::F4x3, [Some(place), _]) => {
                        let (from, strides) = (input(place), (input_stride, count));
                        transform_input::<_, _, F4>(product, floats, x, from, to.0, strides);
                        transform_gradient(product, dy, gradient(place), to.1, gradient_stride, count);
                    }
                    (_, pair) => {
                        let (from, of_dy) = (pair.map(|place| place.map(input)), pair.map(|place| place.map(gradient)));
                        transform_pair::<_, OfInput>(product, x, from, to.0, (input_stride, count));
                        transform_pair::<_, OfGradient>(product, dy, of_dy, to.1, (gradient_stride, count));
                    }
                }
            }
        }
    }
}

/// The transform of a square of values with the small tile.
trait OfPair {
    /// Its side.
    const SIDE: usize;
    fn apply<S: Simd>(s: S, values: [S::Reg; 6]) -> [S::Reg; 6];
}

struct OfInput;
impl OfPair for OfInput {
    const SIDE: usize = F2::N;
    #[inline(always)]
    fn apply<S: Simd>(s: S, values: [S::Reg; 6]) -> [S::Reg; 6] {
        F2::input(s, values)
    }
}

struct OfGradient;
impl OfPair for OfGradient {
    const SIDE: usize = F2::M;
    #[inline(always)]
    fn apply<S: Simd>(s: S, values: [S::Reg; 6]) -> [S::Reg; 6] {
        F2::gradient_input(s, values)
    }
}

/// Transforms two tiles, or one and zeros: the vector of channels from c on of point p, zipped, goes to
/// `to + p · stride + c · next`.
///
/// # Safety
/// `source` holds the images of `corners`, whose channels are whole vectors; `to` can be written as stated.
#[inline(always)]
unsafe fn transform_pair<P: ElementProduct, T: OfPair>(
    product: P,
    source: *const P::Element,
    corners: [Option<TileCorner>; 2],
    to: *mut f32,
    (stride, next): (usize, usize),
) {
    let Some(TileCorner { channels, size, .. }) = corners[0] else { return };
    let below = size[1] * channels;
    let lanes = P::Simd::LANES;
    // Tiles inside the image need no bounds check for each pixel.
    if let [Some(first), Some(second)] = corners
        && first.is_inside(T::SIDE)
        && second.is_inside(T::SIDE)
    {
        let starts = [first, second].map(|corner| source.wrapping_add(corner.pixel(0, 0).unwrap_or(0)));
        for channel in (0..channels).step_by(lanes) {
            let load = |tile: usize, row: usize, column: usize| {
                let at = starts[tile].wrapping_add(row * below + column * channels + channel);
                // SAFETY: the pixel lies in the image and has a whole vector from `channel` on.
                unsafe { product.load_up_to(at, lanes) }
            };
            // SAFETY: the caller's promise.
            unsafe { transform_loaded::<P, T>(product, load, to.wrapping_add(channel * next), stride) };
        }
        return;
    }
    let mut pixels = [[[None; 4]; 4]; 2];
    for (pixels, corner) in pixels.iter_mut().zip(corners) {
        for (row, pixels) in pixels.iter_mut().enumerate().take(T::SIDE) {
            for (column, pixel) in pixels.iter_mut().enumerate().take(T::SIDE) {
                *pixel = corner.and_then(|corner| corner.pixel(row, column));
            }
        }
    }
    for channel in (0..channels).step_by(lanes) {
        let load = |tile: usize, row: usize, column: usize| match pixels[tile][row][column] {
            // SAFETY: the pixel lies in the image and has a whole vector from `channel` on.
            Some(pixel) => unsafe { product.load_up_to(source.add(pixel + channel), lanes) },
            None => product.simd().zero(),
        };
        // SAFETY: the caller's promise.
        unsafe { transform_loaded::<P, T>(product, load, to.wrapping_add(channel * next), stride) };
    }
}

/// Transforms and zips a vector of channels of two tiles, `load`ed by tile, row and column.
///
/// # Safety
/// A vector can be written at `to + point · stride` for every point.
#[inline(always)]
unsafe fn transform_loaded<P: ElementProduct, T: OfPair>(
    product: P,
    load: impl Fn(usize, usize, usize) -> Reg<P>,
    to: *mut f32,
    stride: usize,
) {
    const { assert!(T::SIDE <= 4) };
    let s = product.simd();
    let mut halves = [[[s.zero(); 6]; 4]; 2];
    for tile in 0..2 {
        for column in 0..T::SIDE {
            let mut values = [s.zero(); 6];
            for row in 0..T::SIDE {
                values[row] = load(tile, row, column);
            }
            let rows = T::apply(s, values);
            for row in 0..F2::N {
                halves[tile][row][column] = rows[row];
            }
        }
    }
    for row in 0..F2::N {
        let (first, second) = (T::apply(s, halves[0][row]), T::apply(s, halves[1][row]));
        for column in 0..F2::N {
            let point = product.zip([first[column], second[column]]);
            // SAFETY: the caller's promise.
            unsafe { s.store(to.add((row * F2::N + column) * stride), point) };
        }
    }
}

/// Transforms one tile of dy: the vector of channels from c on of point p goes to `to + p · stride + c · next`.
///
/// # Safety
/// `source` holds the image of `corner`, whose channels are whole vectors; `to` can be written as stated.
#[inline(always)]
unsafe fn transform_gradient<P: ElementProduct>(
    product: P,
    source: *const P::Element,
    corner: TileCorner,
    to: *mut f32,
    stride: usize,
    next: usize,
) {
    let (s, lanes) = (product.simd(), P::Simd::LANES);
    let mut pixels = [[None; 4]; 4];
    for (row, pixels) in pixels.iter_mut().enumerate() {
        for (column, pixel) in pixels.iter_mut().enumerate() {
            *pixel = corner.pixel(row, column);
        }
    }
    let inside = corner.is_inside(4);
    let start = source.wrapping_add(corner.pixel(0, 0).unwrap_or(0));
    let below = corner.size[1] * corner.channels;
    for channel in (0..corner.channels).step_by(lanes) {
        let mut half = [[s.zero(); 6]; 6];
        for column in 0..4 {
            let mut values = [s.zero(); 6];
            for row in 0..4 {
                // SAFETY: the pixel lies in the image and has a whole vector from `channel` on.
                unsafe {
                    if inside {
                        let at = start.add(row * below + column * corner.channels + channel);
                        values[row] = product.load_up_to(at, lanes);
                    } else if let Some(pixel) = pixels[row][column] {
                        values[row] = product.load_up_to(source.add(pixel + channel), lanes);
                    }
                }
            }
            let rows = F4::gradient_input(s, values);
            for row in 0..6 {
                half[row][column] = rows[row];
            }
        }
        for (row, &values) in half.iter().enumerate() {
            for (column, &value) in F4::gradient_input(s, values).iter().enumerate() {
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
        match self.plan.tile {
            WinogradTile::F2x3 => self.transform::<S, F2>(s),
            WinogradTile::F4x3 => self.transform::<S, F4>(s),
        }
    }
}

impl Finish<'_> {
    #[inline(always)]
    fn transform<S: Simd, T: Transform>(&self, s: S) {
        let (inputs, outputs) = (self.plan.shape.in_channels, self.plan.shape.out_channels);
        for output in (0..outputs).step_by(S::LANES) {
            let mut half = [[s.zero(); 6]; 3];
            for column in 0..T::N {
                let mut points = [s.zero(); 6];
                for (row, value) in points.iter_mut().enumerate().take(T::N) {
                    let mut at = ((row * T::N + column) * inputs + self.channel) * outputs + output;
                    while at < self.sums.len() {
                        // SAFETY: a whole vector of one part's sums.
                        *value = s.add(*value, unsafe { s.load(self.sums.as_ptr().add(at)) });
                        at += self.plan.sums_len();
                    }
                }
                let rows = T::gradient_output(s, points);
                for row in 0..3 {
                    half[row][column] = rows[row];
                }
            }
            for (row, &values) in half.iter().enumerate() {
                for (column, &value) in T::gradient_output(s, values).iter().enumerate() {
                    let at = ((row * 3 + column) * inputs + self.channel) * outputs + output;
                    // SAFETY: a whole vector of this channel's gradients, which only this task writes.
                    unsafe { s.store(self.dw.at(at), value) };
                }
            }
        }
    }
}
