//! Grouped convolutions, depthwise ones among them.
//!
//! A *slice* is the source channels that are copied together, from a band of rows with the padding around it, and the outputs
//! that read them. The copy holds the operands of the products side by side, so that a tile is any few pixels of the band and
//! reads the same places after the place of each.

mod copy;
mod multiply;

use super::lane;
use super::output::Output;
use crate::conv::ConvShape;
use crate::conv::tile::{tile_vectors, with_tile};
use crate::extents::elements;
use crate::isa::{ByteKernel, ByteProduct, Isa, Simd};
use crate::raw::SharedMut;
use multiply::{Multiply, Splat, Taps, Vectors};
use residual_threads::Pool;
use std::ops::Range;

/// Lanes of a copy that stays in the L2 cache while its outputs are computed.
const COPY: usize = 32 << 10;
/// Bytes of a cache line: tasks write whole ones where they can.
const LINE: usize = 64;
/// Rows of a tile whose operands are vectors.
const ROWS: usize = 8;

/// The numbers that are multiplied by the weights of a vector of outputs, and summed within a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    /// Depthwise: each lane with neighbouring tap columns of its own channel. A slice is a vector of channels.
    Own,
    /// Each lane with channels of its own group. A slice is several groups, as many as fill a vector with outputs.
    Run,
    /// All lanes with the same channels. A slice is one group.
    Splat,
}

/// A plan of a grouped convolution.
#[derive(Clone, Debug)]
pub(super) struct Grouped {
    shape: ConvShape,
    operand: Operand,
    /// Floats of a vector.
    lanes: usize,
    /// Numbers of a lane.
    numbers: usize,
    /// Channels of one group, of the source and of the target.
    inputs: usize,
    outputs: usize,
    /// Lanes of a group's channels.
    depth: usize,
    /// Vectors of outputs of a panel.
    vectors: usize,
    /// Pixels of a row of the copy.
    width: usize,
    /// Lanes of a pixel of the copy.
    pixel: usize,
    taps: Taps,
    /// Rows of the target in a band.
    band: usize,
    /// The places in the copy of a band's pixels.
    places: Vec<usize>,
}

/// A slice: its first source channel, its groups, its first output and its outputs.
#[derive(Clone, Copy)]
struct Slice {
    source: usize,
    groups: usize,
    target: usize,
    outputs: usize,
}

impl Grouped {
    pub(super) fn new(isa: Isa, shape: &ConvShape) -> Self {
        let (lanes, numbers) = (isa.lanes(), isa.byte_group());
        let [inputs, outputs] = [shape.in_channels, shape.out_channels].map(|channels| channels / shape.groups);
        let depth = inputs.div_ceil(numbers);
        let operand = match (inputs, outputs) {
            (1, 1) => Operand::Own,
            _ if outputs < lanes && lanes.is_multiple_of(outputs) && depth <= outputs => Operand::Run,
            _ => Operand::Splat,
        };
        let pixel = match operand {
            Operand::Own => lanes,
            Operand::Run => depth * lanes,
            Operand::Splat => depth,
        };
        let ([height, columns], [rows, tap_columns]) = (shape.output(), shape.kernel);
        let reach: [usize; 2] = std::array::from_fn(|axis| (shape.kernel[axis] - 1) * shape.dilation[axis]);
        let width = (columns - 1) * shape.stride[1] + reach[1] + 1;
        // No copy has more rows than this.
        let _ = elements(&[(height - 1) * shape.stride[0] + reach[0] + 1, width, pixel]);
        let row = width * pixel;
        let next_run = shape.dilation[1] * pixel;
        let (runs, steps, step) = match operand {
            // A lane has several columns.
            Operand::Own => (1, tap_columns.div_ceil(numbers), numbers * next_run),
            // Neighbouring columns follow each other.
            _ if shape.dilation[1] == 1 => (1, tap_columns * depth, pixel / depth),
            _ => (tap_columns, depth, pixel / depth),
        };
        let taps = Taps { rows, next_row: shape.dilation[0] * row, runs, next_run, steps, step };
        let most = ((COPY / row).saturating_sub(reach[0] + 1) / shape.stride[0] + 1).min(height);
        let band = height.div_ceil(height.div_ceil(most));
        let place = |index| index / columns * shape.stride[0] * row + index % columns * shape.stride[1] * pixel;
        Self {
            shape: *shape,
            operand,
            lanes,
            numbers,
            inputs,
            outputs,
            depth,
            vectors: if operand == Operand::Splat { tile_vectors(isa, outputs) } else { 1 },
            width,
            pixel,
            taps,
            band,
            places: (0..band * columns).map(place).collect(),
        }
    }

    fn slices(&self) -> usize {
        match self.operand {
            Operand::Splat => self.shape.groups,
            _ => self.shape.out_channels.div_ceil(self.lanes),
        }
    }

    fn slice(&self, index: usize) -> Slice {
        let most = if self.operand == Operand::Splat { self.outputs } else { self.lanes };
        let target = index * most;
        let outputs = most.min(self.shape.out_channels - target);
        Slice { source: target / self.outputs * self.inputs, groups: outputs / self.outputs, target, outputs }
    }

    /// Outputs of a panel.
    fn panel_width(&self) -> usize {
        self.vectors * self.lanes
    }

    /// Panels of a slice.
    fn panels(&self) -> usize {
        if self.operand == Operand::Splat { self.outputs.div_ceil(self.panel_width()) } else { 1 }
    }

    /// Steps of a tap row.
    fn steps(&self) -> usize {
        self.taps.runs * self.taps.steps
    }

    /// Lanes of a panel: `[tap row][step][output]`.
    fn panel_len(&self) -> usize {
        self.taps.rows * self.steps() * self.panel_width()
    }

    pub(super) fn packed_len(&self) -> usize {
        self.slices() * self.panels() * self.panel_len()
    }

    /// Rows of the copy of a band of `rows` rows.
    fn copied_rows(&self, rows: usize) -> usize {
        (rows - 1) * self.shape.stride[0] + (self.shape.kernel[0] - 1) * self.shape.dilation[0] + 1
    }

    /// Floats of workspace that one thread needs: a copy, and a row of it before its lanes are repeated.
    pub(super) fn thread_len(&self) -> usize {
        let row = if self.operand == Operand::Run { self.width * self.lanes } else { 0 };
        self.copied_rows(self.band) * self.width * self.pixel + row
    }

    pub(super) fn pack(&self, pool: &Pool, weights: &[i8], packed: &mut [f32]) {
        let (panels, len, width) = (self.panels(), self.panel_len(), self.panel_width());
        let [tap_rows, tap_columns] = self.shape.kernel;
        let weight = |row: usize, column: usize, input: usize, output: usize| {
            if column >= tap_columns || input >= self.inputs {
                return 0;
            }
            let (group, output) = (output / self.outputs, output % self.outputs);
            let tap = (group * tap_rows + row) * tap_columns + column;
            i32::from(weights[(tap * self.inputs + input) * self.outputs + output])
        };
        let packed = SharedMut::new(packed);
        pool.run(self.slices() * panels, |task, _| {
            let (slice, first) = (self.slice(task / panels), task % panels * width);
            // SAFETY: every task has a panel of its own.
            let panel = unsafe { packed.part(task * len..(task + 1) * len) };
            for (index, vector) in panel.chunks_exact_mut(width).enumerate() {
                let (row, step) = (index / self.steps(), index % self.steps());
                for (output, to) in (first..).zip(vector) {
                    let number = |number: usize| match self.operand {
                        _ if output >= slice.outputs => 0,
                        Operand::Own => weight(row, step * self.numbers + number, 0, slice.target + output),
                        _ => {
                            let (column, input) = (step / self.depth, step % self.depth * self.numbers + number);
                            weight(row, column, input, slice.target + output)
                        }
                    };
                    *to = f32::from_bits(lane(self.numbers, number));
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
        let height = self.shape.output()[0];
        let (bands, slices) = (height.div_ceil(self.band), self.slices());
        let chunk = LINE.div_ceil(self.slice(0).outputs);
        let chunks = slices.div_ceil(chunk);
        let workspace = SharedMut::new(workspace);
        pool.run(images * bands * chunks, |task, worker| {
            let (index, first) = (task / chunks, task % chunks * chunk);
            let (image, row) = (index / bands, index % bands * self.band);
            isa.run_bytes(Block {
                plan: self,
                slices: first..(first + chunk).min(slices),
                image,
                rows: row..(row + self.band).min(height),
                x,
                zero,
                packed,
                output,
                copy: workspace.at(worker * self.thread_len()),
            });
        });
    }
}

/// A band of an image and a few slices.
struct Block<'a> {
    plan: &'a Grouped,
    slices: Range<usize>,
    image: usize,
    /// Rows of the target.
    rows: Range<usize>,
    x: &'a [u8],
    zero: u8,
    packed: &'a [f32],
    output: Output<'a>,
    /// This thread's workspace.
    copy: *mut f32,
}

impl ByteKernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<P: ByteProduct>(self, product: P) {
        match self.plan.operand {
            Operand::Splat => with_tile!(self.plan.vectors, P::Simd, self.tiles::<P, Splat>(product)),
            _ => self.tiles::<P, Vectors, ROWS, 1>(product),
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn tiles<P: ByteProduct, M: Multiply, const MR: usize, const NV: usize>(&self, product: P) {
        let (s, plan) = (product.simd(), self.plan);
        let [height, width] = plan.shape.output();
        let (count, panels, panel_width) = (self.rows.len() * width, plan.panels(), NV * P::Simd::LANES);
        let first = (self.image * height + self.rows.start) * width;
        for index in self.slices.clone() {
            let slice = plan.slice(index);
            self.copy(product, slice);
            for panel in 0..panels {
                let b = self.packed.as_ptr().wrapping_add((index * panels + panel) * plan.panel_len());
                let channels = (slice.target + panel * panel_width, slice.outputs - panel * panel_width);
                let start = self.output.start::<P::Simd, NV>(s, channels.0, channels.1);
                for tile in (0..count).step_by(MR) {
                    let valid = (count - tile).min(MR);
                    // Rows past the end repeat the last one and are not stored.
                    let mut rows = [self.copy.cast_const(); MR];
                    for (r, pointer) in rows.iter_mut().enumerate() {
                        *pointer = pointer.wrapping_add(plan.places[tile + r.min(valid - 1)]);
                    }
                    let mut acc = [start; MR];
                    // SAFETY: the copy has all taps of the band's pixels; `packed` was checked to hold whole panels.
                    unsafe { M::multiply(product, &plan.taps, &rows, b, &mut acc) };
                    let pixels: [usize; MR] = std::array::from_fn(|r| first + tile + r);
                    self.output.finish(s, &pixels[..valid], channels, acc);
                }
            }
        }
    }
}
