//! Activation recomputation (gradient checkpointing): chooses which activations are stored for the backward pass. The
//! others are recomputed (Chen et al., "Training deep nets with sublinear memory cost", 2016).

use super::{Fused, Step};
use residual_graph::{NodeId, Shape};

/// The maximum number of segments to try. The optimum is about the square root of the number of steps.
const MOST_SEGMENTS: usize = 1000;

/// For each node, whether its value is stored for the backward pass.
///
/// The network can be cut where a single value connects the steps before to the steps after, such as at the end of a
/// residual block. Of all partitions into segments of about equal size, this chooses the one with the lowest memory: the
/// values at the cuts plus those inside the largest segment, as one segment is recomputed at a time. The last segment, with
/// which the backward pass begins, is stored.
pub(crate) fn stored(fused: &Fused, shapes: &[Shape], kept: &[NodeId]) -> Vec<bool> {
    let Fused { steps, source } = fused;
    let mut always = vec![false; source.len()];
    always[0] = true;
    kept.iter().for_each(|id| always[source[id.0].0] = true);
    let len = |node: NodeId| if always[node.0] { 0 } else { shapes[node.0].len() };
    // Cumulative floats of the values computed before each step.
    let mut before = vec![0];
    steps.iter().for_each(|step| before.push(before[before.len() - 1] + len(step.output)));
    let cuts = cuts(steps, source.len(), &always);
    let total = before[steps.len()];
    let plans = (1..=MOST_SEGMENTS.min(cuts.len() + 1)).map(|count| {
        let (mut stored, mut start, mut most) = (Vec::new(), 0, 0);
        for (index, cut) in cuts.iter().enumerate() {
            let next = cuts.get(index + 1).map_or(steps.len(), |next| next.end);
            if before[next] - before[start] > total / count {
                stored.push(cut);
                most = most.max(before[cut.end] - before[start]);
                start = cut.end;
            }
        }
        let floats: usize = stored.iter().map(|cut| len(cut.value)).sum();
        (floats + most.max(total - before[start]), stored)
    });
    let (_, chosen) = plans.min_by_key(|(floats, _)| *floats).expect("there is one at least");
    let last = chosen.last().map_or(0, |cut| cut.end);
    chosen.iter().for_each(|cut| always[cut.value.0] = true);
    steps[last..].iter().for_each(|step| always[step.output.0] = true);
    always
}

/// A cut between two steps that a single value crosses.
struct Cut {
    /// The steps before it.
    end: usize,
    value: NodeId,
}

fn cuts(steps: &[Step], nodes: usize, always: &[bool]) -> Vec<Cut> {
    let mut last_read = vec![0; nodes];
    for (index, step) in steps.iter().enumerate() {
        step.inputs.iter().for_each(|id| last_read[id.0] = index);
    }
    // The values that are last read by each step, and the live values: their number, and the sum of their ids.
    let mut ends: Vec<Vec<NodeId>> = vec![Vec::new(); steps.len()];
    let (mut alive, mut sum) = (0, 0);
    let mut cuts = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let last_read = last_read[step.output.0];
        if last_read > index && !always[step.output.0] {
            ends[last_read].push(step.output);
            (alive, sum) = (alive + 1, sum + step.output.0);
        }
        for value in &ends[index] {
            (alive, sum) = (alive - 1, sum - value.0);
        }
        if alive == 1 {
            cuts.push(Cut { end: index + 1, value: NodeId(sum) });
        }
    }
    cuts
}
