//! Weights laid out as the micro-kernels read them: `[group][panel of output channels][depth][channels of the panel]`,
//! zero-filled to whole panels, so that a tile reads one stream of aligned vectors.

use super::im2col::Im2col;
use super::tile::tile_vectors;
use super::{ConvShape, Elements};
use crate::isa::{ElementKernel, ElementProduct, Isa, MAX_LANES, Sealed, Simd};
use crate::raw::SharedMut;
use half::bf16;
use residual_threads::Pool;

/// Output channels of one panel.
pub(super) fn panel_width(isa: Isa, outputs: usize) -> usize {
    tile_vectors(isa, outputs) * isa.lanes()
}

/// Panels of one group.
pub(super) fn panel_count(isa: Isa, im2col: &Im2col) -> usize {
    im2col.outputs.div_ceil(panel_width(isa, im2col.outputs))
}

/// Floats of a packed matrix.
pub(super) fn packed_len(isa: Isa, im2col: &Im2col) -> usize {
    im2col.groups * panel_count(isa, im2col) * im2col.depth() * panel_width(isa, im2col.outputs)
}

/// Packs for the forward pass: depth is (tap, input channel), columns are output channels.
pub(super) fn pack_forward(
    isa: Isa,
    pool: &Pool,
    shape: &ConvShape,
    im2col: &Im2col,
    elements: Elements,
    weights: &[f32],
    packed: &mut [f32],
) {
    let outputs = shape.out_channels / shape.groups;
    if elements == Elements::Bf16 {
        let (inputs, lanes) = (shape.in_channels, im2col.channels);
        return pack(isa, pool, im2col, packed, |_, first, width, panel, panel_width| {
            let taps = weights.chunks_exact(inputs * outputs).zip(panel.chunks_exact_mut(lanes * panel_width));
            for (weights, panel) in taps {
                bf16::run(isa, ZipRows { weights, stride: outputs, first, width, panel, panel_width });
            }
        });
    }
    let depth = im2col.depth();
    pack(isa, pool, im2col, packed, |group, first, width, panel, panel_width| {
        let weights = &weights[group * depth * outputs..][..depth * outputs];
        for (from, to) in weights.chunks_exact(outputs).zip(panel.chunks_exact_mut(panel_width)) {
            to[..width].copy_from_slice(&from[first..first + width]);
            to[width..].fill(0.0);
        }
    });
}

/// Packs one phase for the backward-data pass: depth is (tap, output channel), columns are input channels.
pub(super) fn pack_backward(
    isa: Isa,
    pool: &Pool,
    shape: &ConvShape,
    phase: &Im2col,
    elements: Elements,
    weights: &[f32],
    packed: &mut [f32],
) {
    let (inputs, outputs) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let taps = shape.kernel[0] * shape.kernel[1];
    if elements == Elements::Bf16 {
        return pack(isa, pool, phase, packed, |_, first, width, panel, panel_width| {
            for (panel, &tap) in panel.chunks_exact_mut(phase.channels * panel_width).zip(&phase.taps) {
                let weights = &weights[(tap * inputs + first) * outputs..][..width * outputs];
                bf16::run(isa, TransposePairs { weights, outputs, panel, panel_width });
            }
        });
    }
    pack(isa, pool, phase, packed, |group, first, width, panel, panel_width| {
        for (to, &tap) in panel.chunks_exact_mut(outputs * panel_width).zip(&phase.taps) {
            let weights = &weights[((group * taps + tap) * inputs + first) * outputs..][..width * outputs];
            // A square at a time, so that neither side strides through the cache.
            for start in (0..outputs).step_by(16) {
                let end = (start + 16).min(outputs);
                for (column, from) in weights.chunks_exact(outputs).enumerate() {
                    for (output, &weight) in (start..end).zip(&from[start..end]) {
                        to[output * panel_width + column] = weight;
                    }
                }
                to[start * panel_width..end * panel_width]
                    .chunks_exact_mut(panel_width)
                    .for_each(|row| row[width..].fill(0.0));
            }
        }
    });
}

/// Lanes with the bf16 of two input channels, a missing one being zero, for `width` outputs from `first` on.
struct ZipRows<'a> {
    /// `[input channel][output channel]`.
    weights: &'a [f32],
    stride: usize,
    first: usize,
    width: usize,
    panel: &'a mut [f32],
    panel_width: usize,
}

impl ElementKernel<bf16> for ZipRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = bf16>>(self, product: P) {
        let (s, lanes) = (product.simd(), P::Simd::LANES);
        let Self { weights, stride, first, width, panel, panel_width } = self;
        for (pair, to) in weights.chunks(2 * stride).zip(panel.chunks_exact_mut(panel_width)) {
            let (row, next) = (&pair[first..first + width], pair.get(stride + first..stride + first + width));
            for column in (0..width).step_by(lanes) {
                let n = width - column;
                // SAFETY: n columns are left in both rows, and the panel is whole vectors wide.
                unsafe {
                    let row = s.load_up_to(row.as_ptr().add(column), n);
                    let next = next.map_or(s.zero(), |next| s.load_up_to(next.as_ptr().add(column), n));
                    s.store(to.as_mut_ptr().add(column), product.zip([row, next]));
                }
            }
            to[width.next_multiple_of(lanes)..].fill(0.0);
        }
    }
}

/// Lanes with the bf16 of two neighbouring output channels, of each of which the panel has a row, for some inputs.
struct TransposePairs<'a> {
    /// `[input channel][output channel]`; an even number of these.
    weights: &'a [f32],
    outputs: usize,
    panel: &'a mut [f32],
    panel_width: usize,
}

impl ElementKernel<bf16> for TransposePairs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = bf16>>(self, product: P) {
        let (s, lanes) = (product.simd(), P::Simd::LANES);
        let Self { weights, outputs, panel, panel_width } = self;
        let pairs = outputs / 2;
        // A square at a time, so that neither side strides through the cache.
        let mut square = [[0.0f32; MAX_LANES]; MAX_LANES];
        for start in (0..pairs).step_by(lanes) {
            let rows = &mut panel[start * panel_width..(start + lanes).min(pairs) * panel_width];
            for first in (0..panel_width).step_by(lanes) {
                for (column, lane) in square.iter_mut().enumerate().take(lanes) {
                    let Some(from) = weights.get((first + column) * outputs..(first + column + 1) * outputs) else {
                        *lane = [0.0; MAX_LANES];
                        continue;
                    };
                    let from = &from[2 * start..];
                    // SAFETY: the slice has as many floats; there is room for the widest vector.
                    unsafe {
                        let low = s.load_up_to(from.as_ptr(), from.len());
                        let left = from.len().saturating_sub(lanes);
                        let high = match left {
                            0 => s.zero(),
                            left => s.load_up_to(from.as_ptr().add(lanes), left),
                        };
                        s.store(lane.as_mut_ptr(), product.group([low, high]));
                    }
                }
                for (pair, row) in rows.chunks_exact_mut(panel_width).enumerate() {
                    for (to, column) in row[first..first + lanes].iter_mut().zip(&square) {
                        *to = column[pair];
                    }
                }
            }
        }
    }
}

/// Calls `fill(group, first column, columns, panel, panel width)` for every panel.
pub(super) fn pack(
    isa: Isa,
    pool: &Pool,
    im2col: &Im2col,
    packed: &mut [f32],
    fill: impl Fn(usize, usize, usize, &mut [f32], usize) + Sync,
) {
    assert_eq!(packed.len(), packed_len(isa, im2col));
    let (panel_width, panels) = (panel_width(isa, im2col.outputs), panel_count(isa, im2col));
    let len = im2col.depth() * panel_width;
    let packed = SharedMut::new(packed);
    pool.run(im2col.groups * panels, |task, _| {
        let first = task % panels * panel_width;
        let width = panel_width.min(im2col.outputs - first);
        // SAFETY: every task has a panel of its own.
        let panel = unsafe { packed.part(task * len..(task + 1) * len) };
        fill(task / panels, first, width, panel, panel_width);
    });
}
