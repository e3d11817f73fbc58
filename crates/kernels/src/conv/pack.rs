//! Weights laid out as the micro-kernels read them: `[group][panel of output channels][depth][channels of the panel]`,
//! zero-filled to whole panels, so that a tile reads one stream of aligned vectors.

use super::im2col::Im2col;
use super::tile::tile_vectors;
use super::{ConvShape, Elements};
use crate::isa::Isa;
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
        let inputs = shape.in_channels;
        let weight = |tap: usize, input: usize, output: usize| weights[(tap * inputs + input) * outputs + output];
        return pack_pairs(isa, pool, im2col, inputs, weight, packed);
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
        let weight =
            |tap: usize, output: usize, input: usize| weights[(phase.taps[tap] * inputs + input) * outputs + output];
        return pack_pairs(isa, pool, phase, outputs, weight, packed);
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

/// Packs pairs of bf16: a lane has two of the `channels` that are summed over, a missing one being zero. `weight` is given the tap, the
/// channel and the column.
fn pack_pairs(
    isa: Isa,
    pool: &Pool,
    im2col: &Im2col,
    channels: usize,
    weight: impl Fn(usize, usize, usize) -> f32 + Sync,
    packed: &mut [f32],
) {
    pack(isa, pool, im2col, packed, |_, first, width, panel, panel_width| {
        for (row, to) in panel.chunks_exact_mut(panel_width).enumerate() {
            let (tap, channel) = (row / im2col.channels, row % im2col.channels * 2);
            let half = |channel: usize, column: usize| match channel < channels && column < width {
                true => u32::from(bf16::from_f32(weight(tap, channel, first + column)).to_bits()),
                false => 0,
            };
            for (column, to) in to.iter_mut().enumerate() {
                *to = f32::from_bits(half(channel, column) | half(channel + 1, column) << 16);
            }
        }
    });
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
