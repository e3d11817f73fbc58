//! Convolution of bytes: unsigned activations, signed weights, exact sums in 32-bit integers, requantised in the epilogue.
//!
//! It is the direct algorithm of floats in lanes of 32 bits, each a group of channels ([`ByteProduct::GROUP`]): the same im2col
//! matrix, panels, micro-kernels and partition. Activations are NHWC bytes whose pixels have a multiple of four channels
//! ([`QuantizedConv::pixel`]); channels that are only padding have weights of zero.

use super::ConvShape;
use super::blocks::{Partition, Workload};
use super::forward::{PANEL_LEN, panel_stride};
use super::im2col::{CopyLanes, Im2col, MAX_ROWS, Position, WidenBytes};
use super::pack::{pack, packed_len, panel_count};
use super::tile::{multiply, tile_rows, tile_vectors, with_tile};
use crate::extents::is_batch;
use crate::isa::{ByteKernel, ByteProduct, Isa, Simd};
use crate::raw::SharedMut;
use residual_threads::Pool;

/// Channels of a lane in memory.
const LANE: usize = 4;

/// A dense convolution of bytes, planned for one instruction set.
#[derive(Clone, Debug)]
pub struct QuantizedConv {
    shape: ConvShape,
    isa: Isa,
    /// Counted in lanes of four channels on the source's side, in bytes on the target's.
    im2col: Im2col,
}

/// How the sums of products become the result: `sum · scale + bias`, plus the residual, in floats with a rounding after every
/// multiplication and every addition, so that all instruction sets compute the same. The constants include the result's scale and
/// zero point where it is bytes.
#[derive(Clone, Copy, Debug)]
pub struct Requantize<'a> {
    /// What the sums begin with, for each output channel: minus the input's zero point times the sum of the weights.
    pub start: &'a [i32],
    /// For each output channel.
    pub scale: &'a [f32],
    /// For each output channel; includes minus the residual's zero point times its scale.
    pub bias: &'a [f32],
    /// Bytes of the output's shape, each times the scale.
    pub add: Option<(&'a [u8], f32)>,
    /// The least result: the zero point after a ReLU. Bytes are never below zero.
    pub least: f32,
}

/// The result of a [`QuantizedConv`].
#[derive(Debug)]
pub enum Quantized<'a> {
    /// Bytes: rounded to the nearest, halves to the even one, at most 255.
    Bytes(&'a mut [u8]),
    /// Floats, without padding between pixels.
    Floats(&'a mut [f32]),
}

impl QuantizedConv {
    /// Plans a convolution.
    ///
    /// # Panics
    /// As [`super::Conv::new`]; or if there are several groups.
    pub fn new(isa: Isa, shape: ConvShape) -> Self {
        assert_eq!(shape.groups, 1, "{shape:?}");
        let _ = (shape.input_len(), shape.output_len(), shape.weight_len());
        let lanes = shape.in_channels.div_ceil(LANE);
        let im2col = Im2col { source_channels: lanes, channels: lanes, ..Im2col::forward(&shape) };
        Self { shape, isa, im2col }
    }

    /// The extents.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Bytes of a pixel with `channels` channels.
    pub fn pixel(channels: usize) -> usize {
        channels.next_multiple_of(LANE)
    }

    /// The im2col matrix as its panels hold it: lanes of the product's groups.
    fn panel(&self) -> Im2col {
        let lanes = self.im2col.channels * (LANE / self.isa.byte_group());
        Im2col { channels: lanes, ..self.im2col.clone() }
    }

    /// Floats of the packed weights.
    pub fn packed_len(&self) -> usize {
        packed_len(self.isa, &self.panel())
    }

    /// Floats of workspace for so many threads.
    pub fn workspace_len(&self, threads: usize) -> usize {
        threads * self.thread_len()
    }

    fn thread_len(&self) -> usize {
        let tile = tile_rows(self.isa, tile_vectors(self.isa, self.im2col.outputs));
        PANEL_LEN.max(tile * panel_stride(self.panel().depth()))
    }

    /// Lays out weights, `[tap row][tap column][input channel][output channel]`, for [`QuantizedConv::forward`].
    ///
    /// # Panics
    /// If a slice has not the length this plan states.
    pub fn pack(&self, pool: &Pool, weights: &[i8], packed: &mut [f32]) {
        assert_eq!(weights.len(), self.shape.weight_len());
        let (inputs, outputs, group) = (self.shape.in_channels, self.shape.out_channels, self.isa.byte_group());
        let panel = self.panel();
        pack(self.isa, pool, &panel, packed, |_, first, width, to, panel_width| {
            for (row, to) in to.chunks_exact_mut(panel_width).enumerate() {
                let (tap, channel) = (row / panel.channels, row % panel.channels * group);
                let weight = |input: usize, output: usize| match input < inputs && output < width {
                    true => weights[(tap * inputs + input) * outputs + first + output],
                    false => 0,
                };
                for (output, lane) in to.iter_mut().enumerate() {
                    let bits = match group {
                        LANE => u32::from_ne_bytes(std::array::from_fn(|i| weight(channel + i, output) as u8)),
                        _ => {
                            let [low, high] = [0, 1].map(|i| i16::from(weight(channel + i, output)) as u16);
                            u32::from(high) << 16 | u32::from(low)
                        }
                    };
                    *lane = f32::from_bits(bits);
                }
            }
        });
    }

    /// y = x ∗ w for `images` images, where `zero` is the input's zero point, which stands outside the image.
    ///
    /// # Panics
    /// If a slice has not the length this plan states, or `x` is not aligned to four bytes.
    pub fn forward(
        &self,
        pool: &Pool,
        images: usize,
        (x, zero): (&[u8], u8),
        packed: &[f32],
        requantize: Requantize<'_>,
        y: Quantized<'_>,
        workspace: &mut [f32],
    ) {
        let Self { shape, isa, im2col } = self;
        let outputs = shape.out_channels;
        let pixel = match y {
            Quantized::Bytes(_) => Self::pixel(outputs),
            Quantized::Floats(_) => outputs,
        };
        let len = match &y {
            Quantized::Bytes(y) => y.len(),
            Quantized::Floats(y) => y.len(),
        };
        assert!(is_batch(x.len(), images, shape.input, LANE * im2col.channels), "x of {}", x.len());
        assert!(is_batch(len, images, shape.output(), pixel), "y of {len}");
        assert!(x.as_ptr().cast::<f32>().is_aligned(), "x at {:?}", x.as_ptr());
        assert_eq!(packed.len(), self.packed_len());
        assert!(workspace.len() >= self.workspace_len(pool.threads()), "workspace of {}", workspace.len());
        let Requantize { start, scale, bias, add, .. } = requantize;
        assert!([start.len(), scale.len(), bias.len()] == [outputs; 3], "constants of {outputs} channels");
        let add_len = images * shape.output().iter().product::<usize>() * Self::pixel(outputs);
        assert!(add.is_none_or(|(add, _)| add.len() == add_len), "a residual of {add_len}");
        let rows = images * im2col.rows_per_image();
        let (panel, thread_len) = (self.panel(), self.thread_len());
        let (vectors, depth) = (tile_vectors(*isa, outputs), panel.depth());
        let grain = tile_rows(*isa, vectors);
        let widened = LANE / isa.byte_group();
        let work = Workload {
            rows,
            grain,
            most: (thread_len / panel_stride(depth)).min(MAX_ROWS) / grain * grain,
            panels: panel_count(*isa, &panel),
            groups: 1,
            threads: pool.threads(),
            row: if im2col.is_direct() && widened == 1 { 0 } else { 20 + depth / 8 },
            product: vectors * depth,
            panel_len: vectors * isa.lanes() * depth,
        };
        let Partition { block, blocks, splits } = work.partition();
        let (mut bytes, mut floats) = (&mut [][..], &mut [][..]);
        match y {
            Quantized::Bytes(y) => bytes = y,
            Quantized::Floats(y) => floats = y,
        }
        let is_bytes = floats.is_empty();
        let least = if is_bytes { requantize.least.max(0.0) } else { requantize.least };
        let requantize = Requantize { least, ..requantize };
        let (bytes, floats, workspace) = (SharedMut::new(bytes), SharedMut::new(floats), SharedMut::new(workspace));
        pool.run(blocks * splits, |task, worker| {
            let index = task / splits;
            isa.run_bytes(Block {
                im2col,
                depth,
                vectors,
                rows: index * block..((index + 1) * block).min(rows),
                panels: residual_threads::split(work.panels, splits, 1, task % splits),
                x: x.as_ptr().cast(),
                zero,
                packed,
                requantize,
                outputs,
                y: if is_bytes { Target::Bytes(bytes) } else { Target::Floats(floats) },
                panel: workspace.at(worker * thread_len),
            });
        });
    }
}

/// The destination of a block.
#[derive(Clone, Copy)]
enum Target<'a> {
    Bytes(SharedMut<'a, u8>),
    Floats(SharedMut<'a, f32>),
}

struct Block<'a> {
    im2col: &'a Im2col,
    /// Lanes of a row of the panel.
    depth: usize,
    vectors: usize,
    rows: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
    x: *const f32,
    zero: u8,
    packed: &'a [f32],
    requantize: Requantize<'a>,
    outputs: usize,
    y: Target<'a>,
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
        let mut table = [Position::default(); MAX_ROWS];
        let positions = &mut table[..self.rows.len()];
        im2col.positions(self.rows.start, positions);
        let (matrix, stride) = if im2col.is_direct() && P::GROUP == LANE {
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
            let (column, left) = (panel * width, self.outputs - panel * width);
            let mut start = [s.zero(); NV];
            for (v, start) in start.iter_mut().enumerate() {
                if v * P::Simd::LANES < left {
                    // SAFETY: `start` has a number for each channel.
                    *start = unsafe {
                        let from = self.requantize.start.as_ptr().add(column + v * P::Simd::LANES);
                        s.load_up_to(from.cast(), left - v * P::Simd::LANES)
                    };
                }
            }
            for tile in (0..positions.len()).step_by(MR) {
                let valid = (positions.len() - tile).min(MR);
                // Rows past the end repeat the last one and are not stored.
                let mut rows = [matrix; MR];
                for (r, pointer) in rows.iter_mut().enumerate() {
                    *pointer = matrix.wrapping_add((tile + r.min(valid - 1)) * stride);
                }
                let mut acc = [start; MR];
                // SAFETY: each row has `depth` lanes, in the panel or in `x`; `packed` was checked to hold whole panels.
                unsafe { multiply(product, 0..depth, &rows, b, &mut acc) };
                if left >= width {
                    self.finish::<P::Simd, MR, NV, true>(s, &positions[tile..tile + valid], column, acc);
                } else {
                    self.finish::<P::Simd, MR, NV, false>(s, &positions[tile..tile + valid], column, acc);
                }
            }
        }
    }

    /// Requantises a tile and stores it. `column` is its first output channel. A `WHOLE` panel has all its channels.
    #[inline(always)]
    fn finish<S: Simd, const MR: usize, const NV: usize, const WHOLE: bool>(
        &self,
        s: S,
        positions: &[Position],
        column: usize,
        acc: [[S::Reg; NV]; MR],
    ) {
        let Requantize { scale, bias, add, least, .. } = self.requantize;
        let (least, most) = (s.splat(least), s.splat(255.0));
        // The channels left in the output at vector v.
        let left = |v: usize| if WHOLE { S::LANES } else { (self.outputs - column).saturating_sub(v * S::LANES) };
        let mut constants = [[s.zero(); 2]; NV];
        for (v, constants) in constants.iter_mut().enumerate().filter(|(v, _)| left(*v) > 0) {
            // SAFETY: the constants have a number for each channel.
            let load = |list: &[f32]| unsafe { s.load_up_to(list.as_ptr().add(column + v * S::LANES), left(v)) };
            *constants = [load(scale), load(bias)];
        }
        for (sums, &position) in acc.iter().zip(positions) {
            let pixel = self.im2col.target_pixel(position);
            for (v, (&sum, [scale, bias])) in sums.iter().zip(constants).enumerate().filter(|(v, _)| left(*v) > 0) {
                let (channel, n) = (column + v * S::LANES, left(v));
                let at = pixel * QuantizedConv::pixel(self.outputs) + channel;
                let mut value = s.add(s.mul(s.integers_to_floats(sum), scale), bias);
                // SAFETY: `at` are channels of one pixel of the target, which only this task writes; a residual has its shape.
                unsafe {
                    if let Some((add, factor)) = add {
                        value = s.add(value, s.mul(s.load_bytes(add.as_ptr().add(at), n), s.splat(factor)));
                    }
                    value = s.max(value, least);
                    match self.y {
                        Target::Bytes(y) => s.store_bytes(y.at(at), n, s.where_above(value, most, most, value)),
                        Target::Floats(y) => s.store_up_to(y.at(pixel * self.outputs + channel), n, value),
                    }
                }
            }
        }
    }
}
