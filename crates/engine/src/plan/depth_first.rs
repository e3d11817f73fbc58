//! Depth-first execution: chooses the early layers of an inference plan that run for one part of the batch after the other,
//! so that their large feature maps are still in cache when the next layer reads them.

use super::schedule::Schedule;
use super::{Instruction, Scheduled};
use residual_kernels::conv::Conv;

/// Bytes of a step's values that are expected to stay in cache until the next step.
const CACHE: usize = 8 << 20;

/// The first instructions of a plan, run for `images` images at a time before the rest runs for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DepthFirst {
    pub(crate) instructions: usize,
    pub(crate) images: usize,
}

/// Splits the batch where the saved memory traffic of values exceeds that of the weights, which are read again for every
/// part. Values whose lifetime lies inside these layers get memory for one part only.
pub(crate) fn choose(schedule: &mut Schedule, convs: &[Conv], batch: usize) -> Option<DepthFirst> {
    let values: Vec<usize> = schedule.forward.iter().map(|scheduled| value_bytes(schedule, scheduled)).collect();
    let images = (CACHE / values.iter().max()?.max(&1)).max(1);
    let weights = |scheduled: &Scheduled| scheduled.facts.conv.map_or(0, |conv| 4 * convs[conv.0].packed_forward_len());
    let (mut saved, mut best) = (0, (0, 0));
    // The range of a batch is known when all of it has been computed.
    let of_batch = |scheduled: &&Scheduled| matches!(scheduled.instruction, Instruction::QuantizeDynamic { .. });
    for (index, scheduled) in schedule.forward.iter().take_while(|scheduled| !of_batch(scheduled)).enumerate() {
        let spilled = if values[index] * batch > CACHE { values[index] } else { 0 };
        saved += spilled as isize - (weights(scheduled) / images) as isize;
        best = best.max((saved, index + 1));
    }
    let (_, end) = best;
    if end == 0 || images >= batch {
        return None;
    }
    for (index, buffer) in schedule.buffers.iter_mut().enumerate() {
        let is_input = index == schedule.input.0;
        if buffer.alive.start >= end {
            continue;
        }
        if is_input || buffer.alive.end > end {
            // Every part of the batch reads or writes it.
            buffer.alive = 0..buffer.alive.end.max(end);
        } else {
            buffer.images = Some(images);
        }
    }
    Some(DepthFirst { instructions: end, images })
}

/// Bytes of the values that an instruction reads and writes for one image.
fn value_bytes(schedule: &Schedule, scheduled: &Scheduled) -> usize {
    let mut buffers = scheduled.facts.buffers.clone();
    buffers.sort_unstable();
    buffers.dedup();
    buffers.iter().map(|id| schedule.buffers[id.0].len).sum()
}
