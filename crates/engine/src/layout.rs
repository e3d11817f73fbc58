//! The order of a parameter's elements in the engine, and the transposition from and to torch's, in blocks that fit the
//! cache and on all threads.

use residual_graph::{Node, Op, Role};
use residual_threads::Pool;
use std::sync::{Mutex, PoisonError};

/// The output channels of a block: one cache line.
const OUTPUTS: usize = 16;
/// The kernel taps of input channels of a block.
const COLUMNS: usize = 128;
/// Minimum number of elements per task.
const GRAIN: usize = 1 << 18;

/// The order of a tensor's elements in the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As in torch.
    Plain,
    /// Torch's `[groups · o, i, h, w]` as `[groups][h][w][i][o]`. A linear layer on a flattened feature map is a
    /// convolution as large as the map.
    Filter { groups: usize, o: usize, i: usize, taps: usize },
}

impl Layout {
    /// The layout of the tensor of `node` with this role. `channels` is the number of contiguous channels in the value that
    /// the node reads: for a flattened feature map, the channels of the map.
    pub(crate) fn of(node: &Node, role: Role, channels: usize) -> Self {
        match (role, &node.op) {
            (Role::Weight | Role::QuantizedWeight, Op::Conv2d(conv)) => Layout::Filter {
                groups: conv.groups,
                o: conv.out_channels / conv.groups,
                i: conv.in_channels / conv.groups,
                taps: conv.kernel[0] * conv.kernel[1],
            },
            (Role::Weight | Role::QuantizedWeight, &Op::Linear { in_features, out_features, .. }) => {
                Layout::Filter { groups: 1, o: out_features, i: channels, taps: in_features / channels }
            }
            (Role::Weight | Role::QuantizedWeight, op) => unreachable!("{} has no weight", op.name()),
            (Role::Bias | Role::NormWeight | Role::NormBias | Role::LayerScale, _) => Layout::Plain,
            (Role::Buffer | Role::Counter | Role::Scale | Role::ZeroPoint, _) => Layout::Plain,
        }
    }
}

/// The bytes of a quantised weight in torch's order, in that of `layout`.
pub(crate) fn lay_out_bytes(layout: &Layout, values: &[i8]) -> Vec<i8> {
    let &Layout::Filter { groups, o, i, taps } = layout else { return values.to_vec() };
    let mut bytes = vec![0; values.len()];
    for (bytes, values) in bytes.chunks_exact_mut(o * i * taps).zip(values.chunks_exact(o * i * taps)).take(groups) {
        for (output, filter) in values.chunks_exact(i * taps).enumerate() {
            for (input, window) in filter.chunks_exact(taps).enumerate() {
                for (tap, &value) in window.iter().enumerate() {
                    bytes[(tap * i + input) * o + output] = value;
                }
            }
        }
    }
    bytes
}

/// Pending copies from torch's order.
#[derive(Default)]
pub(crate) struct FromTorch<'a>(Vec<Mutex<Transpose<'a>>>);

impl<'a> FromTorch<'a> {
    /// Copies `values`, each output's filter multiplied by its `scale`, into `bucket` in the order of `layout`: immediately
    /// if that is torch's order, otherwise when the copies are run.
    pub(crate) fn lay_out(
        &mut self,
        layout: &Layout,
        values: &'a [f32],
        scale: Option<&'a [f64]>,
        bucket: &'a mut [f32],
    ) {
        match *layout {
            Layout::Filter { o, i, taps, .. } if o * i > 1 => {
                for (group, part) in bucket.chunks_exact_mut(o * i * taps).enumerate() {
                    let values = &values[group * o * i * taps..][..o * i * taps];
                    let scale = scale.map(|scale| &scale[group * o..][..o]);
                    self.partition(values, scale, [o, i, taps], o, part);
                }
            }
            // The same order in both.
            _ => match scale {
                None => bucket.copy_from_slice(values),
                Some(scale) => {
                    let filter = values.len() / scale.len();
                    for ((to, from), &scale) in bucket.chunks_mut(filter).zip(values.chunks(filter)).zip(scale) {
                        to.iter_mut().zip(from).for_each(|(to, from)| *to = product(*from, scale));
                    }
                }
            },
        }
    }

    /// As [`FromTorch::lay_out`], but in panels of `width` outputs of a group each, zero-padded
    /// at the end: the packed format of the kernels.
    pub(crate) fn pack(
        &mut self,
        [groups, o, i, taps]: [usize; 4],
        values: &'a [f32],
        scale: Option<&'a [f64]>,
        width: usize,
        packed: &'a mut [f32],
    ) {
        let mut panels = packed.chunks_exact_mut(i * taps * width);
        for group in 0..groups {
            for first in (0..o).step_by(width) {
                let rows = group * o + first..group * o + o.min(first + width);
                let panel = panels.next().expect("a place for every panel");
                let values = &values[rows.start * i * taps..rows.end * i * taps];
                self.partition(values, scale.map(|scale| &scale[rows.clone()]), [rows.len(), i, taps], width, panel);
            }
        }
    }

    /// Adds the tasks that fill `bucket`, all inputs of a group, in lines of `width`.
    fn partition(
        &mut self,
        values: &'a [f32],
        scale: Option<&'a [f64]>,
        [o, i, taps]: [usize; 3],
        width: usize,
        bucket: &'a mut [f32],
    ) {
        let inputs = (GRAIN / (width * taps)).clamp(1, i);
        let mut parts: Vec<_> = bucket.chunks_exact_mut(i * width).map(|tap| tap.chunks_mut(inputs * width)).collect();
        for first in (0..i).step_by(inputs) {
            let taps_of_bucket = parts.iter_mut().filter_map(Iterator::next).collect();
            self.0.push(Mutex::new(Transpose { values, scale, o, i, taps, width, first, taps_of_bucket }));
        }
    }

    /// Runs them.
    pub(crate) fn run(self, pool: &Pool) {
        let Self(tasks) = self;
        pool.run(tasks.len(), |task, _| tasks[task].lock().unwrap_or_else(PoisonError::into_inner).run());
    }
}

/// Pending copies into torch's order.
#[derive(Default)]
pub(crate) struct ToTorch<'a>(Vec<Mutex<TransposeBack<'a>>>);

impl<'a> ToTorch<'a> {
    /// Copies a tensor in `bucket` with order `layout` to `values`, immediately if that is torch's order.
    pub(crate) fn read(&mut self, layout: &Layout, bucket: &'a [f32], values: &'a mut [f32]) {
        match *layout {
            Layout::Filter { o, i, taps, .. } if o * i > 1 => {
                let rows = (GRAIN / (i * taps)).clamp(1, o).next_multiple_of(OUTPUTS);
                let groups = values.chunks_exact_mut(o * i * taps).zip(bucket.chunks_exact(o * i * taps));
                for (values, bucket) in groups {
                    for (index, filters) in values.chunks_mut(rows * i * taps).enumerate() {
                        let task = TransposeBack { bucket, o, i, taps, first: index * rows, filters };
                        self.0.push(Mutex::new(task));
                    }
                }
            }
            // The same order in both.
            _ => values.copy_from_slice(bucket),
        }
    }

    /// Runs them.
    pub(crate) fn run(self, pool: &Pool) {
        let Self(tasks) = self;
        pool.run(tasks.len(), |task, _| tasks[task].lock().unwrap_or_else(PoisonError::into_inner).run());
    }
}

/// Rounded as in folding.
fn product(value: f32, scale: f64) -> f32 {
    (f64::from(value) * scale) as f32
}

/// Torch's `[o, i, taps]` as `[taps][i][o]`, for some of the inputs, in blocks that are read row by row and written line
/// by line.
struct Transpose<'a> {
    values: &'a [f32],
    scale: Option<&'a [f64]>,
    o: usize,
    i: usize,
    taps: usize,
    /// The outputs of a line, which is zero-padded.
    width: usize,
    /// The first of the inputs.
    first: usize,
    /// Their destinations, one slice per tap.
    taps_of_bucket: Vec<&'a mut [f32]>,
}

impl Transpose<'_> {
    fn run(&mut self) {
        let Self { values, scale, o, i, taps, width, first, .. } = *self;
        let end = (first + self.taps_of_bucket[0].len() / width) * taps;
        let mut block = [[0.0; COLUMNS]; OUTPUTS];
        for start in (first * taps..end).step_by(COLUMNS) {
            let columns = COLUMNS.min(end - start);
            for output in (0..o).step_by(OUTPUTS) {
                let rows = values[output * i * taps..].chunks_exact(i * taps);
                for (index, (row, values)) in block.iter_mut().zip(rows).enumerate() {
                    let values = &values[start..][..columns];
                    match scale.and_then(|scale| scale.get(output + index)) {
                        Some(&scale) => row.iter_mut().zip(values).for_each(|(to, from)| *to = product(*from, scale)),
                        None => row[..columns].copy_from_slice(values),
                    }
                }
                let (mut input, mut tap) = (start / taps - first, start % taps);
                for column in 0..columns {
                    let line = &mut self.taps_of_bucket[tap][input * width..][output..width];
                    match line.first_chunk_mut() {
                        Some(line) if output + OUTPUTS <= o => *line = line_of(&block, column),
                        _ => {
                            line[..o - output].copy_from_slice(&line_of(&block, column)[..o - output]);
                            line[o - output..].fill(0.0);
                        }
                    }
                    tap += 1;
                    if tap == taps {
                        (input, tap) = (input + 1, 0);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn line_of(block: &[[f32; COLUMNS]; OUTPUTS], column: usize) -> [f32; OUTPUTS] {
    // Within the block, which avoids bounds checks.
    let column = column % COLUMNS;
    let mut line = [0.0; OUTPUTS];
    line.iter_mut().zip(block).for_each(|(value, row)| *value = row[column]);
    line
}

/// `[taps][i][o]` as torch's `[o, i, taps]`, for some of the outputs.
struct TransposeBack<'a> {
    bucket: &'a [f32],
    o: usize,
    i: usize,
    taps: usize,
    /// The first of the outputs.
    first: usize,
    /// Their filters.
    filters: &'a mut [f32],
}

impl TransposeBack<'_> {
    fn run(&mut self) {
        let Self { bucket, o, i, taps, first, .. } = *self;
        let filter = i * taps;
        let mut block = [[0.0; COLUMNS]; OUTPUTS];
        for (index, filters) in self.filters.chunks_mut(OUTPUTS * filter).enumerate() {
            let output = first + index * OUTPUTS;
            let outputs = filters.len() / filter;
            for start in (0..filter).step_by(COLUMNS) {
                let columns = COLUMNS.min(filter - start);
                for column in 0..columns {
                    let (input, tap) = ((start + column) / taps, (start + column) % taps);
                    let line = &bucket[(tap * i + input) * o + output..][..outputs];
                    block.iter_mut().zip(line).for_each(|(row, value)| row[column] = *value);
                }
                for (filter, row) in filters.chunks_exact_mut(filter).zip(&block) {
                    filter[start..][..columns].copy_from_slice(&row[..columns]);
                }
            }
        }
    }
}
