//! Weights out of torch's layout into the engine's, shared out over the threads.

use crate::parameters::Layout;
use residual_threads::Pool;
use std::sync::{Mutex, PoisonError};

/// The outputs that are brought along together: a cache line of them.
const OUTPUTS: usize = 16;
/// The inputs' taps that are brought along together.
const COLUMNS: usize = 128;
/// Elements that are worth a task.
const GRAIN: usize = 1 << 18;

/// What is left to do to lay tensors out.
#[derive(Default)]
pub(crate) struct Jobs<'a>(Vec<Mutex<Transpose<'a>>>);

impl<'a> Jobs<'a> {
    /// Lays `values`, each output's filter multiplied by its `scale`, out into `bucket` in the order of `layout`: at once
    /// where that is torch's order, else when the jobs are run.
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
                    self.share_out(values, scale, [o, i, taps], o, part);
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

    /// As [`Jobs::lay_out`] into the engine's order, but in panels of `width` outputs of a group each, with zeros past its
    /// last: as the kernels read weights.
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
                self.share_out(values, scale.map(|scale| &scale[rows.clone()]), [rows.len(), i, taps], width, panel);
            }
        }
    }

    /// Adds the tasks that fill `bucket`, all inputs of a group, in lines of `width`.
    fn share_out(
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

    /// Does it.
    pub(crate) fn run(self, pool: &Pool) {
        let Self(jobs) = self;
        pool.run(jobs.len(), |job, _| {
            jobs[job].lock().unwrap_or_else(PoisonError::into_inner).run();
        });
    }
}

/// As folding rounds it.
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
    /// The outputs of a line, which is zero past the last of them.
    width: usize,
    /// The first of the inputs.
    first: usize,
    /// Their places, one slice a tap.
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
    // Within the block, which spares the checks.
    let column = column % COLUMNS;
    let mut line = [0.0; OUTPUTS];
    line.iter_mut().zip(block).for_each(|(value, row)| *value = row[column]);
    line
}
