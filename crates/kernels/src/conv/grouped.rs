//! Grouped convolutions, depthwise ones among them, a vector of output channels at a time.
//!
//! The matrices of small groups fill no tile of `tile`. Here a tile is one vector of output channels, a *panel*, of a few
//! neighbouring pixels of a row; a panel has as many small groups as fit a vector. Each source pixel is read once per tap
//! row, for all tap columns and outputs of the tile. Tap rows and pixels outside the source are skipped.

mod multiply;
mod weights;

pub(super) use multiply::{multiply, statistics_len, workspace_len};
pub(super) use weights::{backward_weights, workspace_len as weights_workspace_len};

use super::ConvShape;
use super::im2col::Im2col;
use crate::isa::{Isa, Simd};
use crate::raw::SharedMut;
use residual_threads::Pool;
use std::ops::Range;

/// Most panels that one task takes.
const CHUNK: usize = 8;

/// The factor of the lanes of a panel, for one source channel of a group after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    /// Depthwise: each lane with its own channel.
    Own,
    /// A vector holds several groups: each lane with a channel of its group.
    Run,
    /// A vector holds outputs of one group: all lanes with the same channel.
    Splat,
}

/// Tap columns that a tile computes at a time, and the distance of its outputs in the source. Tap columns that are not
/// neighbours are computed one at a time.
type Columns = (usize, usize);

/// The panels of a pass.
#[derive(Clone, Copy, Debug)]
struct Panels {
    operand: Operand,
    lanes: usize,
    /// Source channels of a group.
    depth: usize,
    /// Output channels of a group.
    outputs: usize,
    /// Panels of one group; if panels have several groups, all channels count as one group.
    per_group: usize,
    count: usize,
    target_channels: usize,
    taps: usize,
}

/// A panel.
#[derive(Clone, Copy)]
struct Panel {
    /// Its first source channel.
    source: usize,
    /// Its first output channel.
    target: usize,
    /// Output channels from the first to the last of its group or groups.
    left: usize,
}

impl Panels {
    fn new(isa: Isa, im2col: &Im2col) -> Self {
        let (lanes, depth, outputs) = (isa.lanes(), im2col.channels, im2col.outputs);
        let fits = depth == outputs && depth < lanes && lanes.is_multiple_of(depth);
        let operand = match depth {
            1 if fits => Operand::Own,
            _ if fits => Operand::Run,
            _ => Operand::Splat,
        };
        let channels = if operand == Operand::Splat { outputs } else { im2col.target_channels };
        let per_group = channels.div_ceil(lanes);
        let count = im2col.target_channels / channels * per_group;
        let (target_channels, taps) = (im2col.target_channels, im2col.taps.len());
        Self { operand, lanes, depth, outputs, per_group, count, target_channels, taps }
    }

    fn panel(&self, index: usize) -> Panel {
        let (group, first) = (index / self.per_group, index % self.per_group * self.lanes);
        match self.operand {
            Operand::Splat => {
                Panel { source: group * self.depth, target: group * self.outputs + first, left: self.outputs - first }
            }
            _ => Panel { source: first, target: first, left: self.target_channels - first },
        }
    }

    /// Floats of one packed panel.
    fn len(&self) -> usize {
        self.taps * self.depth * self.lanes
    }

    /// Panels of a task: few enough that `blocks` times the number of chunks are tasks enough for the threads. It divides
    /// `CHUNK`.
    fn chunk_len(&self, blocks: usize, threads: usize) -> usize {
        let enough = |len: &usize| blocks * self.count.div_ceil(*len) >= 8 * threads;
        [CHUNK, CHUNK / 2, CHUNK / 4].into_iter().find(enough).unwrap_or(1)
    }

    fn chunks(&self, len: usize) -> usize {
        self.count.div_ceil(len)
    }

    fn chunk(&self, len: usize, index: usize) -> Range<usize> {
        index * len..((index + 1) * len).min(self.count)
    }

    /// Source channels of a panel.
    fn inputs(&self, panel: Panel) -> usize {
        if self.operand == Operand::Splat { self.depth } else { panel.left.min(self.lanes) }
    }

    /// Vectors of source channels of a panel.
    fn vectors(&self) -> usize {
        if self.operand == Operand::Splat { self.depth.div_ceil(self.lanes) } else { 1 }
    }

    /// Calls `visit(place, weight, lanes)` for every vector of a packed panel: lane by lane, it holds the weights of index
    /// `weight` + one of `lanes`.
    fn weights(
        &self,
        shape: &ConvShape,
        im2col: &Im2col,
        pass: Pass,
        index: usize,
        mut visit: impl FnMut(usize, usize, &[usize]),
    ) {
        let Panel { target, left, .. } = self.panel(index);
        let (inputs, outputs) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
        let taps = shape.kernel[0] * shape.kernel[1];
        let (lane_step, depth_step) = if pass == Pass::Forward { (1, outputs) } else { (outputs, 1) };
        let mut lanes = [0; 16];
        let lanes = &mut lanes[..left.min(self.lanes)];
        for (channel, lane) in (target..).zip(lanes.iter_mut()) {
            *lane = channel / self.outputs * taps * inputs * outputs + channel % self.outputs * lane_step;
        }
        let columns = im2col.columns.len();
        for (number, tap) in im2col.taps.iter().enumerate() {
            let (row, column) = (number / columns, number % columns);
            for k in 0..self.depth {
                let place = ((row * self.depth + k) * columns + column) * self.lanes;
                visit(place, tap * inputs * outputs + k * depth_step, lanes);
            }
        }
    }
}

/// Which of a weight's two channels the lanes are: the output's in the forward pass, the input's in the backward-data pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Forward,
    BackwardData,
}

/// Whether grouped forward and backward-data passes are expected to be faster than direct ones: the matrices of larger
/// groups fill the tiles of `tile`.
pub(super) fn pays(shape: &ConvShape) -> bool {
    shape.groups > 1 && shape.in_channels.max(shape.out_channels) / shape.groups <= 32
}

/// Whether a grouped gradient of the weights is expected to be faster than a direct one: if groups are smaller than a
/// vector.
pub(super) fn weights_pay(isa: Isa, shape: &ConvShape) -> bool {
    shape.groups > 1 && Panels::new(isa, &Im2col::forward(shape)).operand != Operand::Splat
}

/// Floats of the packed weights of a pass, or one of its phases: `[panel][tap row][source channel][tap column][lane]`.
pub(super) fn packed_len(isa: Isa, im2col: &Im2col) -> usize {
    let panels = Panels::new(isa, im2col);
    panels.count * panels.len()
}

/// Packs weights for a pass, or one of its phases.
pub(super) fn pack(
    isa: Isa,
    pool: &Pool,
    shape: &ConvShape,
    im2col: &Im2col,
    pass: Pass,
    weights: &[f32],
    packed: &mut [f32],
) {
    let panels = Panels::new(isa, im2col);
    let len = panels.len();
    assert_eq!(packed.len(), panels.count * len);
    let packed = SharedMut::new(packed);
    pool.run(panels.chunks(CHUNK), |task, _| {
        for index in panels.chunk(CHUNK, task) {
            // SAFETY: every task has its own panels.
            let panel = unsafe { packed.part(index * len..(index + 1) * len) };
            panels.weights(shape, im2col, pass, index, |place, weight, lanes| {
                let vector = &mut panel[place..place + panels.lanes];
                let (to, rest) = vector.split_at_mut(lanes.len());
                to.iter_mut().zip(lanes).for_each(|(to, lane)| *to = weights[weight + lane]);
                rest.fill(0.0);
            });
        }
    });
}

/// Multiply-adds of a pass, or one of its phases, for `images` images, including lanes and pixels of padding.
pub(super) fn multiply_adds(isa: Isa, im2col: &Im2col, images: usize) -> usize {
    let [height, width] = im2col.grid;
    images * height * width.next_multiple_of(tile_pixels(im2col)) * packed_len(isa, im2col)
}

/// Pixels of a tile: the number that wastes the fewest in a row.
pub(super) fn tile_pixels(im2col: &Im2col) -> usize {
    let width = im2col.grid[1];
    if width.next_multiple_of(8) <= width.next_multiple_of(7) { 8 } else { 7 }
}

fn columns(im2col: &Im2col) -> Columns {
    let neighbours = im2col.columns.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let columns = (im2col.columns.len(), im2col.source_step[1]);
    if neighbours && matches!(columns, (7 | 3 | 2, 1) | (3, 2)) { columns } else { (1, 1) }
}

/// How the factor of a panel is read, at one step of the depth: an [`Operand`].
trait Read<S: Simd>: Copy {
    /// Reads source channel `k` of groups of `size` channels.
    fn new(s: S, size: usize, k: usize) -> Self;

    /// The factor for the pixel whose channels begin at `pixel`.
    ///
    /// # Safety
    /// The panel's `left` channels can be read at `pixel`, or all of its group.
    unsafe fn read(self, s: S, pixel: *const f32, left: usize) -> S::Reg;
}

#[derive(Clone, Copy)]
struct Own;

#[derive(Clone, Copy)]
struct Run<S: Simd>(S::Lanes);

#[derive(Clone, Copy)]
struct Splat(usize);

impl<S: Simd> Read<S> for Own {
    #[inline(always)]
    fn new(_: S, _: usize, _: usize) -> Self {
        Self
    }

    #[inline(always)]
    unsafe fn read(self, s: S, pixel: *const f32, left: usize) -> S::Reg {
        // SAFETY: the caller's promise.
        unsafe { s.load_up_to(pixel, left) }
    }
}

impl<S: Simd> Read<S> for Run<S> {
    #[inline(always)]
    fn new(s: S, size: usize, k: usize) -> Self {
        Self(s.lanes_of_runs(size, k))
    }

    #[inline(always)]
    unsafe fn read(self, s: S, pixel: *const f32, left: usize) -> S::Reg {
        // SAFETY: the caller's promise.
        s.pick(unsafe { s.load_up_to(pixel, left) }, self.0)
    }
}

impl<S: Simd> Read<S> for Splat {
    #[inline(always)]
    fn new(_: S, _: usize, k: usize) -> Self {
        Self(k)
    }

    #[inline(always)]
    unsafe fn read(self, s: S, pixel: *const f32, _: usize) -> S::Reg {
        // SAFETY: the caller's promise; the group has a channel of this number.
        s.splat(unsafe { *pixel.add(self.0) })
    }
}

/// The columns of the source that a tile reads at a time: from `first` on, `step` apart; those with an index in
/// `inside` are inside the source.
#[derive(Clone, Copy)]
struct Window {
    first: isize,
    step: usize,
    inside: (usize, usize),
}

impl Window {
    /// For tap columns `run · K ..` of grid columns `start .. start + valid`, STEP apart in the source where K is above 1.
    #[inline(always)]
    fn new<const K: usize, const STEP: usize>(im2col: &Im2col, run: usize, start: usize, valid: usize) -> Self {
        let width = im2col.source[1] as isize;
        let first = (start * im2col.source_step[1]) as isize + im2col.columns[run * K];
        let step = if K > 1 { 1 } else { im2col.source_step[1] };
        let steps = |distance: isize| if distance <= 0 { 0 } else { (distance as usize).div_ceil(step) };
        let needed = (valid - 1) * STEP + K;
        Self { first, step, inside: (steps(-first), steps(width - first).min(needed)) }
    }
}

/// Expands the body for each constant below 17, the most columns that a tile reads: eight outputs, two apart, of three
/// taps.
macro_rules! each_column {
    ($column:ident => $body:block) => {
        each_column!(@ $column $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    (@ $column:ident $body:block $($number:literal)*) => {
        $({
            const $column: usize = $number;
            $body
        })*
    };
}
use each_column;
