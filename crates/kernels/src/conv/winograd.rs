//! 3×3 convolutions of stride 1 by Winograd's minimal filtering (Lavin & Gray, "Fast algorithms for convolutional neural
//! networks", 2015). F(4×4, 3×3) computes a tile of 16 outputs with 36 multiply-accumulates in place of 144, F(2×2, 3×3) a
//! tile of 4 with 16 in place of 36.
//!
//! A block of tiles is transformed into `[point][tile][channel]`, multiplied point by point with the transformed weights by
//! the same micro-kernel as the direct convolution, and transformed back with the epilogue. The gradient of the weights is
//! the transposed algorithm: transformed input times transformed dy, summed over tiles.
#![allow(clippy::needless_range_loop, reason = "tiles are addressed by row and column")]
#![allow(clippy::manual_memcpy, reason = "values stay in registers")]

use super::ConvShape;
use super::blocks::{Partition, Workload};
use super::forward::Epilogue;
use super::moments::{self, Moments, Statistics};
use super::pack::panel_width;
use super::tile::{multiply_blocks, tile_rows, tile_vectors, with_tile};
use crate::extents::is_batch;
use crate::isa::{Element, ElementKernel, ElementProduct, Floats, Isa, Reg, Sealed, Simd};
use crate::raw::{SharedMut, is_non_temporal};
use crate::rows::join_moments;
use half::bf16;
use residual_threads::{Pool, split};
use std::ops::Range;

mod choose;
mod pack;
mod transform;
mod weights;

pub(super) use choose::{choose, choose_bf16, choose_weights, choose_weights_bf16, fits};
use pack::Pack;
use transform::{F2, F4, Transform};
pub(super) use weights::WinogradWeights;

/// Floats that a block's transformed input may take: half an L2 cache.
const BLOCK_LEN: usize = 160 << 10;
/// Tiles of a block are a multiple of this, which every micro-kernel's rows divide.
const TILE_GRAIN: usize = 12;
/// Floats between the points of a block, a cache line, so that a tile's points do not compete for the same cache sets.
const SKEW: usize = 16;
/// Most tiles of a block.
const MAX_TILES: usize = 96;

/// The tile of Winograd's algorithm F(m×m, 3×3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WinogradTile {
    /// F(2×2, 3×3): 2.25 times fewer multiply-accumulates, errors like the direct convolution's.
    F2x3,
    /// F(4×4, 3×3): 4 times fewer multiply-accumulates, errors a few times the direct convolution's.
    F4x3,
}

impl WinogradTile {
    /// Side of the tile of outputs.
    pub(super) fn outputs(self) -> usize {
        match self {
            WinogradTile::F2x3 => F2::M,
            WinogradTile::F4x3 => F4::M,
        }
    }

    /// Elements of a lane of the transformed operands, where those of the input have `group`.
    pub(super) fn group(self, group: usize) -> usize {
        match self {
            WinogradTile::F2x3 => group,
            WinogradTile::F4x3 => 1,
        }
    }

    /// Products of a tile: the points of the transformed domain.
    pub(super) fn points(self) -> usize {
        match self {
            WinogradTile::F2x3 => F2::N * F2::N,
            WinogradTile::F4x3 => F4::N * F4::N,
        }
    }
}

/// One pass of a convolution: forward, or backward-data as the forward pass of dy with weights rotated by 180°.
#[derive(Clone, Debug)]
pub(super) struct Winograd {
    tile: WinogradTile,
    /// Height and width of what is read.
    source: [usize; 2],
    /// Its channels.
    channels: usize,
    /// Height and width of what is written.
    target: [usize; 2],
    /// Its channels.
    outputs: usize,
    padding: [usize; 2],
    /// Whether the weights are read rotated by 180° with their channels exchanged.
    rotated: bool,
    /// Elements of a lane of the transformed input and weights: floats, or with the small tile, whose errors allow it, two bf16.
    group: usize,
}

impl Winograd {
    /// The forward pass.
    pub(super) fn forward(shape: &ConvShape, tile: WinogradTile, group: usize) -> Self {
        Self {
            tile,
            source: shape.input,
            channels: shape.in_channels,
            target: shape.output(),
            outputs: shape.out_channels,
            padding: shape.padding,
            rotated: false,
            group: tile.group(group),
        }
    }

    /// The backward-data pass.
    pub(super) fn backward(shape: &ConvShape, tile: WinogradTile, group: usize) -> Self {
        Self {
            tile,
            source: shape.output(),
            channels: shape.out_channels,
            target: shape.input,
            outputs: shape.in_channels,
            padding: shape.padding.map(|padding| 2 - padding),
            rotated: true,
            group: tile.group(group),
        }
    }

    /// Lanes of a pixel's transformed channels.
    fn lanes(&self) -> usize {
        self.channels / self.group
    }

    fn grid(&self) -> [usize; 2] {
        self.target.map(|side| side.div_ceil(self.tile.outputs()))
    }

    fn tiles(&self, images: usize) -> usize {
        images * self.grid()[0] * self.grid()[1]
    }

    /// Tiles of a block, by which its transformed input fits the cache.
    fn block_tiles(&self) -> usize {
        let fitting = BLOCK_LEN / (self.tile.points() * self.lanes()) / TILE_GRAIN * TILE_GRAIN;
        fitting.clamp(TILE_GRAIN, MAX_TILES)
    }

    /// Floats of the transformed weights: `[point][panel][channel][output of the panel]`.
    pub(super) fn packed_len(&self, isa: Isa) -> usize {
        let width = panel_width(isa, self.outputs);
        self.tile.points() * self.outputs.div_ceil(width) * self.lanes() * width
    }

    /// Floats of one thread's workspace: a block's transformed input, and its products for one panel.
    pub(super) fn workspace_len(&self, isa: Isa) -> usize {
        let width = panel_width(isa, self.outputs);
        let lanes = if self.is_in_place(width) { self.lanes() } else { self.lanes() + width };
        self.tile.points() * (self.block_tiles() * lanes + 2 * SKEW)
    }

    /// Whether a tile's products take the place of its input: where one panel reads all of it and is as wide.
    fn is_in_place(&self, width: usize) -> bool {
        self.outputs <= width && width == self.lanes()
    }

    /// Transforms the weights.
    pub(super) fn pack(&self, isa: Isa, pool: &Pool, weights: &[f32], packed: &mut [f32]) {
        assert_eq!(weights.len(), 9 * self.channels * self.outputs);
        assert_eq!(packed.len(), self.packed_len(isa));
        let width = panel_width(isa, self.outputs);
        let panels = self.outputs.div_ceil(width);
        let packed = SharedMut::new(packed);
        pool.run(self.channels.div_ceil(isa.lanes()), |block, _| {
            let pack = Pack { winograd: self, weights, packed, first: block * isa.lanes(), width, panels };
            match self.group {
                1 => f32::run(isa, pack),
                _ => bf16::run(isa, pack),
            }
        });
    }

    /// target = source ∗ weights, then the epilogue.
    pub(super) fn run<E: Element>(
        &self,
        isa: Isa,
        pool: &Pool,
        images: usize,
        x: &[E],
        packed: &[f32],
        epilogue: Epilogue<'_, E>,
        statistics: Option<Statistics<'_>>,
        y: &mut [E],
        workspace: &mut [f32],
    ) {
        assert!(is_batch(x.len(), images, self.source, self.channels), "source of {}", x.len());
        assert!(is_batch(y.len(), images, self.target, self.outputs), "target of {}", y.len());
        assert_eq!(packed.len(), self.packed_len(isa));
        let share = self.workspace_len(isa);
        assert!(workspace.len() >= pool.threads() * share, "workspace of {}", workspace.len());
        assert!(epilogue.bias.is_none_or(|bias| bias.len() == self.outputs));
        assert!(epilogue.add.is_none_or(|add| add.len() == y.len()));
        let tiles = self.tiles(images);
        let threads = if statistics.is_some() { moments::THREADS } else { pool.threads() };
        let work = self.work(isa, tiles, threads);
        let (vectors, panels) = (tile_vectors(isa, self.outputs), work.panels);
        let Partition { block, blocks, splits } = work.partition();
        let (mut statistics, channels) = (statistics, self.outputs);
        let partial =
            statistics.as_mut().map(|statistics| SharedMut::new(&mut statistics.workspace[..2 * blocks * channels]));
        let non_temporal = E::GROUP == 1 && !epilogue.accumulate && is_non_temporal(y, channels);
        let (y, workspace) = (SharedMut::new(y), SharedMut::new(workspace));
        pool.run(blocks * splits, |task, worker| {
            let block = Block {
                winograd: self,
                vectors,
                tiles: task / splits * block..((task / splits + 1) * block).min(tiles),
                panels: split(panels, splits, 1, task % splits),
                x,
                packed,
                epilogue,
                non_temporal,
                moments: partial.map(|partial| partial.offset(2 * (task / splits) * channels)),
                y,
                scratch: workspace.at(worker * share),
            };
            E::run(isa, block);
        });
        if let Some(Statistics { mean, variance, workspace }) = statistics {
            let count = |index: usize| self.pixels(index * block..((index + 1) * block).min(tiles));
            join_moments(pool, &workspace[..2 * blocks * channels], count, mean, variance);
        }
    }

    fn work(&self, isa: Isa, tiles: usize, threads: usize) -> Workload {
        let (points, vectors) = (self.tile.points(), tile_vectors(isa, self.outputs));
        Workload {
            rows: tiles,
            grain: tile_rows(isa, vectors),
            most: self.block_tiles(),
            panels: self.outputs.div_ceil(panel_width(isa, self.outputs)),
            groups: 1,
            threads,
            // Each transform loads, adds and stores about all points of a vector of channels.
            row: 8 * points * self.channels / isa.lanes(),
            product: points * vectors * (self.lanes() + 8),
            panel_len: points * self.lanes() * panel_width(isa, self.outputs),
        }
    }

    /// Floats of workspace for the statistics of the output of up to `images` images.
    pub(super) fn statistics_len(&self, isa: Isa, images: usize) -> usize {
        2 * self.outputs * self.work(isa, self.tiles(images), moments::THREADS).most_blocks()
    }

    /// Pixels of the target that some tiles cover.
    fn pixels(&self, tiles: Range<usize>) -> usize {
        let side = self.tile.outputs();
        let pixels =
            |place: TilePosition| side.min(self.target[0] - place.row) * side.min(self.target[1] - place.column);
        TilePositions::new(self.target, side, tiles.start).take(tiles.len()).map(pixels).sum()
    }
}

/// Where a tile of outputs begins.
#[derive(Clone, Copy)]
struct TilePosition {
    image: usize,
    row: usize,
    column: usize,
}

/// The positions of the tiles: row by row, image by image.
struct TilePositions {
    next: TilePosition,
    target: [usize; 2],
    side: usize,
}

impl TilePositions {
    /// Those from tile `first` on, of tiles of `side` × `side` outputs.
    #[inline(always)]
    fn new(target: [usize; 2], side: usize, first: usize) -> Self {
        let [height, width] = target.map(|outputs| outputs.div_ceil(side));
        let (image, rest) = (first / (height * width), first % (height * width));
        Self { next: TilePosition { image, row: rest / width * side, column: rest % width * side }, target, side }
    }
}

impl Iterator for TilePositions {
    type Item = TilePosition;

    #[inline(always)]
    fn next(&mut self) -> Option<TilePosition> {
        let place = self.next;
        self.next.column += self.side;
        if self.next.column >= self.target[1] {
            (self.next.column, self.next.row) = (0, place.row + self.side);
            if self.next.row >= self.target[0] {
                (self.next.row, self.next.image) = (0, place.image + 1);
            }
        }
        Some(place)
    }
}

/// Some tiles, and some panels of their outputs.
struct Block<'a, E> {
    winograd: &'a Winograd,
    vectors: usize,
    tiles: Range<usize>,
    panels: Range<usize>,
    x: &'a [E],
    packed: &'a [f32],
    epilogue: Epilogue<'a, E>,
    /// Whether the output is stored with non-temporal stores.
    non_temporal: bool,
    /// The destination of this block's moments, if they are computed.
    moments: Option<SharedMut<'a>>,
    y: SharedMut<'a, E>,
    scratch: *mut f32,
}

impl<E: Element> ElementKernel<E> for Block<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        match (self.winograd.tile, self.winograd.group) {
            (WinogradTile::F4x3, _) => self.of_width::<P, _, F4>(product, Floats(product.simd())),
            (WinogradTile::F2x3, 1) => self.of_width::<P, _, F2>(product, Floats(product.simd())),
            (WinogradTile::F2x3, _) => self.of_width::<P, P, F2>(product, product),
        }
    }
}

impl<E: Element> Block<'_, E> {
    #[inline(always)]
    fn of_width<P, Q, T>(&self, product: P, points: Q)
    where
        P: ElementProduct<Element = E>,
        Q: ElementProduct<Simd = P::Simd>,
        T: Transform,
    {
        with_tile!(self.vectors, P::Simd, self.run_block::<P, Q, T>((product, points)))
    }

    /// Values are those of `P`, transformed operands those of `Q`.
    #[inline(always)]
    fn run_block<P, Q, T, const MR: usize, const NV: usize>(&self, (product, operands): (P, Q))
    where
        P: ElementProduct<Element = E>,
        Q: ElementProduct<Simd = P::Simd>,
        T: Transform,
    {
        let s = product.simd();
        let winograd = self.winograd;
        let (channels, lanes, tiles) = (winograd.channels, winograd.lanes(), self.tiles.len());
        let points = T::N * T::N;
        let width = NV * P::Simd::LANES;
        let input_stride = tiles * lanes + SKEW;
        let (products, product_stride) = if winograd.is_in_place(width) {
            (self.scratch, input_stride)
        } else {
            (self.scratch.wrapping_add(points * input_stride), tiles * width + SKEW)
        };
        let (source, size) = (self.x.as_ptr(), winograd.source);
        let places = |first: usize| TilePositions::new(winograd.target, T::M, first);
        let corner = |place: TilePosition| TileCorner {
            image: place.image * size[0] * size[1] * channels,
            row: place.row as isize - winograd.padding[0] as isize,
            column: place.column as isize - winograd.padding[1] as isize,
            size,
            channels,
        };
        let ahead = places(self.tiles.start + AHEAD);
        for (index, (place, ahead)) in places(self.tiles.start).zip(ahead).take(tiles).enumerate() {
            corner(ahead).prefetch(s, source, T::N - T::M);
            // SAFETY: `x` was checked to hold every image; the scratch holds `points` times the block's tiles.
            unsafe {
                let to = self.scratch.wrapping_add(index * P::Simd::LANES);
                transform_input::<P, Q, T>(product, operands, source, corner(place), to, (input_stride, tiles));
            }
        }
        let panels = winograd.outputs.div_ceil(width);
        for panel in self.panels.clone() {
            for point in 0..points {
                let b = self.packed.as_ptr().wrapping_add((point * panels + panel) * lanes * width);
                let a = self.scratch.cast_const().wrapping_add(point * input_stride);
                let products = products.wrapping_add(point * product_stride);
                for first in (0..tiles).step_by(MR) {
                    let valid = (tiles - first).min(MR);
                    let mut acc = [[s.zero(); NV]; MR];
                    // SAFETY: a row is a tile, with a vector in each of the blocks. Rows past the last tile are the next
                    // block's or, at the end, products: they are not stored. `packed` was checked.
                    unsafe {
                        let a = a.wrapping_add(first * P::Simd::LANES);
                        multiply_blocks(operands, lanes / P::Simd::LANES, a, tiles * P::Simd::LANES, b, &mut acc);
                    }
                    for (r, values) in acc.iter().enumerate().take(valid) {
                        for (v, &value) in values.iter().enumerate() {
                            let at = (v * tiles + first + r) * P::Simd::LANES;
                            // SAFETY: the scratch has room for the products of a panel. If they replace the input, no later
                            // row reads these tiles.
                            unsafe { s.store(products.add(at), value) };
                        }
                    }
                }
            }
            let left = winograd.outputs - panel * width;
            let mut moments = Moments::<P::Simd, NV>::new(s);
            let ahead = places(self.tiles.start + AHEAD_STORED);
            for (index, (place, ahead)) in places(self.tiles.start).zip(ahead).take(tiles).enumerate() {
                self.prefetch::<P::Simd, T, NV>(s, ahead, panel * width);
                for v in 0..NV {
                    if v * P::Simd::LANES >= left {
                        break;
                    }
                    let from = products.cast_const().wrapping_add((v * tiles + index) * P::Simd::LANES);
                    let channel = panel * width + v * P::Simd::LANES;
                    // SAFETY: one vector of each point's products for this tile.
                    unsafe {
                        let tile = (place, index == 0);
                        self.transform_output::<P, T, NV>(
                            product,
                            from,
                            product_stride,
                            tile,
                            channel,
                            v,
                            &mut moments,
                        );
                    }
                }
            }
            if let Some(to) = self.moments {
                let count = winograd.pixels(self.tiles.clone());
                // SAFETY: only this task has these panels of this block.
                unsafe { moments.write(s, count, (panel * width, left, winograd.outputs), to) };
            }
        }
        if self.non_temporal {
            s.store_fence();
        }
    }

    /// Prefetches a tile's outputs for writing, NV vectors from `channel` on, and the values that are added to them.
    #[inline(always)]
    fn prefetch<S: Simd, T: Transform, const NV: usize>(&self, s: S, place: TilePosition, channel: usize) {
        let winograd = self.winograd;
        let add = self.epilogue.add;
        if winograd.outputs > SHORT && add.is_none() {
            return;
        }
        let [height, width] = winograd.target;
        let first = (place.image * height + place.row) * width + place.column;
        for row in 0..T::M {
            for column in 0..T::M {
                // Past the end of a row or of the tensor is other memory, which is only prefetched.
                let at = (first + row * width + column) * winograd.outputs + channel;
                for element in (0..NV * S::LANES).step_by(16 * E::GROUP) {
                    if !self.non_temporal {
                        s.prefetch_to_write(self.y.at(0).wrapping_add(at + element).cast());
                    }
                    if let Some(add) = add {
                        s.prefetch(add.as_ptr().wrapping_add(at + element).cast());
                    }
                }
            }
        }
    }

    /// # Safety
    /// A vector can be read at `from + point · stride` for every point.
    #[inline(always)]
    unsafe fn transform_output<P: ElementProduct<Element = E>, T: Transform, const NV: usize>(
        &self,
        product: P,
        from: *const f32,
        stride: usize,
        (place, begins): (TilePosition, bool),
        channel: usize,
        v: usize,
        moments: &mut Moments<P::Simd, NV>,
    ) {
        let (s, winograd) = (product.simd(), self.winograd);
        let mut half = [[s.zero(); 6]; 4];
        for column in 0..T::N {
            let mut points = [s.zero(); 6];
            for (row, value) in points.iter_mut().enumerate().take(T::N) {
                // SAFETY: the caller's promise.
                *value = unsafe { s.load(from.add((row * T::N + column) * stride)) };
            }
            let rows = T::output(s, points);
            for row in 0..T::M {
                half[row][column] = rows[row];
            }
        }
        let [height, width] = winograd.target;
        let at = ((place.image * height + place.row) * width + place.column) * winograd.outputs + channel;
        let (below, next) = (width * winograd.outputs, winograd.outputs);
        // Constant bounds let the compiler keep a whole tile in registers.
        if place.row + T::M <= height && place.column + T::M <= width {
            let mut tile = [[s.zero(); 4]; 4];
            for row in 0..T::M {
                let values = T::output(s, half[row]);
                for column in 0..T::M {
                    tile[row][column] = values[column];
                }
            }
            // SAFETY: all pixels lie inside the target and have a whole vector from `channel` on; only this task writes
            // them.
            unsafe { self.store_tile::<P, T>(product, &mut tile, channel, at, (below, next)) };
            if self.moments.is_some() {
                for row in 0..T::M {
                    for column in 0..T::M {
                        moments.add(s, v, tile[row][column], begins && row == 0 && column == 0);
                    }
                }
            }
        } else {
            for row in 0..T::M.min(height - place.row) {
                let values = T::output(s, half[row]);
                for column in 0..T::M.min(width - place.column) {
                    let at = at + row * below + column * next;
                    let how = (self.epilogue.accumulate, true);
                    // SAFETY: as above, for this pixel.
                    unsafe {
                        let place = (channel, at, P::Simd::LANES);
                        let value = self.epilogue.apply(product, values[column], place, how, self.y.at(at));
                        if self.moments.is_some() {
                            moments.add(s, v, value, begins && row == 0 && column == 0);
                        }
                        self.store(product, self.y.at(at), value);
                    }
                }
            }
        }
    }

    /// # Safety
    /// A vector can be written at `to`, in whole vectors from the beginning of the output.
    #[inline(always)]
    unsafe fn store<P: ElementProduct<Element = E>>(&self, product: P, to: *mut E, value: Reg<P>) {
        // SAFETY: the caller's promise; an output that is stored non-temporally begins at a cache line, and `store_fence`
        // follows.
        unsafe {
            if self.non_temporal {
                product.store_non_temporal(to, value);
            } else {
                product.store_up_to(to, P::Simd::LANES, value);
            }
        }
    }

    /// [`Epilogue::apply`] for the pixels of a tile, whose options are checked once; stores it.
    ///
    /// # Safety
    /// The pixels of the tile, `below` and `next` floats apart, lie inside the target and have a whole vector from
    /// `channel` on; the first has index `at`.
    #[inline(always)]
    unsafe fn store_tile<P: ElementProduct<Element = E>, T: Transform>(
        &self,
        product: P,
        tile: &mut [[Reg<P>; 4]; 4],
        channel: usize,
        at: usize,
        (below, next): (usize, usize),
    ) {
        let s = product.simd();
        let Epilogue { accumulate, bias, add, relu } = self.epilogue;
        let y = self.y.at(at);
        // SAFETY: the caller's promise; `bias` has a number for each channel and `add` the output's length.
        unsafe {
            if accumulate {
                add_tile::<P, T>(product, tile, y, (below, next));
            }
            if let Some(bias) = bias {
                let bias = s.load(bias.as_ptr().add(channel));
                for row in 0..T::M {
                    for column in 0..T::M {
                        tile[row][column] = s.add(tile[row][column], bias);
                    }
                }
            }
            if let Some(add) = add {
                add_tile::<P, T>(product, tile, add.as_ptr().add(at), (below, next));
            }
            if relu {
                for row in 0..T::M {
                    for column in 0..T::M {
                        tile[row][column] = s.max(tile[row][column], s.zero());
                    }
                }
            }
            for row in 0..T::M {
                for column in 0..T::M {
                    self.store(product, y.add(row * below + column * next), tile[row][column]);
                }
            }
        }
    }
}

/// tile += the pixels at `from`, `below` and `next` floats apart.
///
/// # Safety
/// A vector can be read at each.
#[inline(always)]
unsafe fn add_tile<P: ElementProduct, T: Transform>(
    product: P,
    tile: &mut [[Reg<P>; 4]; 4],
    from: *const P::Element,
    (below, next): (usize, usize),
) {
    for row in 0..T::M {
        for column in 0..T::M {
            // SAFETY: the caller's promise.
            let value = unsafe { product.load_up_to(from.add(row * below + column * next), P::Simd::LANES) };
            tile[row][column] = product.simd().add(tile[row][column], value);
        }
    }
}

/// Where a tile's input begins; rows and columns outside `size` are padding.
#[derive(Clone, Copy)]
struct TileCorner {
    /// The first float of the image.
    image: usize,
    row: isize,
    column: isize,
    size: [usize; 2],
    channels: usize,
}

impl TileCorner {
    /// Whether a square of `side` pixels from here on lies inside the image.
    #[inline(always)]
    fn is_inside(&self, side: usize) -> bool {
        let inside = |start: isize, size: usize| start >= 0 && start as usize + side <= size;
        inside(self.row, self.size[0]) && inside(self.column, self.size[1])
    }

    #[inline(always)]
    fn pixel(&self, row: usize, column: usize) -> Option<usize> {
        let (row, column) = (self.row + row as isize, self.column + column as isize);
        let inside = row >= 0 && column >= 0 && (row as usize) < self.size[0] && (column as usize) < self.size[1];
        inside.then(|| self.image + (row as usize * self.size[1] + column as usize) * self.channels)
    }
}

/// Tiles ahead of the one that is transformed, whose pixels are prefetched.
const AHEAD: usize = 8;
/// Tiles ahead of the one that is stored, whose outputs are prefetched.
const AHEAD_STORED: usize = 4;
/// Pixels with more channels are runs long enough for the hardware prefetcher.
const SHORT: usize = 64;

impl TileCorner {
    /// Prefetches a square of 4×4 pixels from `skip` pixels below and right of here: those that the tile before and the
    /// row of tiles above have not read.
    #[inline(always)]
    fn prefetch<S: Simd, E>(&self, s: S, source: *const E, skip: usize) {
        if self.channels > SHORT {
            return;
        }
        // Addresses outside the image are other memory, which is only prefetched.
        let first = (self.row + skip as isize) * self.size[1] as isize + self.column + skip as isize;
        let first = source.wrapping_add(self.image).wrapping_offset(first * self.channels as isize);
        for row in 0..4 {
            let row = first.wrapping_add(row * self.size[1] * self.channels);
            for element in (0..4 * self.channels).step_by(64 / size_of::<E>()) {
                s.prefetch(row.wrapping_add(element).cast());
            }
        }
    }
}

/// Transforms one tile of input: the vector of lanes from l on of point p goes to `to + p · stride + l · next`.
///
/// # Safety
/// `source` holds the image of `corner`, whose channels are whole vectors of lanes; `to` can be written as stated.
#[inline(always)]
unsafe fn transform_input<P, Q, T>(
    product: P,
    operands: Q,
    source: *const P::Element,
    corner: TileCorner,
    to: *mut f32,
    (stride, next): (usize, usize),
) where
    P: ElementProduct,
    Q: ElementProduct<Simd = P::Simd>,
    T: Transform,
{
    let step = P::Simd::LANES * Q::Element::GROUP;
    // A tile inside the image needs no bounds check for each pixel.
    if corner.is_inside(T::N) {
        let start = source.wrapping_add(corner.pixel(0, 0).unwrap_or(0));
        let below = corner.size[1] * corner.channels;
        for channel in (0..corner.channels).step_by(step) {
            let load = |row: usize, column: usize, channel: usize| {
                let at = start.wrapping_add(row * below + column * corner.channels + channel);
                // SAFETY: the pixel lies in the image and has a whole vector from `channel` on.
                unsafe { product.load_up_to(at, P::Simd::LANES) }
            };
            let to = to.wrapping_add(channel / Q::Element::GROUP * next);
            // SAFETY: the caller's promise.
            unsafe { transform_channels::<Q, T>(operands, load, channel, to, stride) };
        }
        return;
    }
    let mut pixels = [[None; 6]; 6];
    for row in 0..T::N {
        for column in 0..T::N {
            pixels[row][column] = corner.pixel(row, column);
        }
    }
    for channel in (0..corner.channels).step_by(step) {
        let load = |row: usize, column: usize, channel: usize| match pixels[row][column] {
            // SAFETY: the pixel lies in the image and has a whole vector from `channel` on.
            Some(pixel) => unsafe { product.load_up_to(source.add(pixel + channel), P::Simd::LANES) },
            None => product.simd().zero(),
        };
        let to = to.wrapping_add(channel / Q::Element::GROUP * next);
        // SAFETY: the caller's promise.
        unsafe { transform_channels::<Q, T>(operands, load, channel, to, stride) };
    }
}

/// Transforms a vector of lanes of channels from `channel` on, `load`ed by row, column and channel.
///
/// # Safety
/// A vector can be written at `to + point · stride` for every point.
#[inline(always)]
unsafe fn transform_channels<Q: ElementProduct, T: Transform>(
    operands: Q,
    load: impl Fn(usize, usize, usize) -> Reg<Q>,
    channel: usize,
    to: *mut f32,
    stride: usize,
) {
    let s = operands.simd();
    let mut halves = [[[s.zero(); 6]; 6]; 2];
    for (vector, half) in halves.iter_mut().enumerate().take(Q::Element::GROUP) {
        for column in 0..T::N {
            let mut values = [s.zero(); 6];
            for row in 0..T::N {
                values[row] = load(row, column, channel + vector * Q::Simd::LANES);
            }
            let rows = T::input(s, values);
            for row in 0..T::N {
                half[row][column] = rows[row];
            }
        }
    }
    for row in 0..T::N {
        let first = T::input(s, halves[0][row]);
        let second = if Q::Element::GROUP == 1 { first } else { T::input(s, halves[1][row]) };
        for column in 0..T::N {
            let point = operands.group([first[column], second[column]]);
            // SAFETY: the caller's promise.
            unsafe { s.store(to.add((row * T::N + column) * stride), point) };
        }
    }
}
