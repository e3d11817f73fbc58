//! Which ranges of the arena are occupied at which time.

use std::collections::BTreeMap;
use std::ops::Range;

/// A segment tree over time. Occupying a range and finding a free one visit a number of tree nodes that is logarithmic in
/// the number of instructions; adjacent ranges of a node are merged. Placement is therefore near linear in the number of
/// values.
pub(super) struct Occupied {
    /// The number of moments, a power of two. Node 1 covers all of them, 2n and 2n + 1 the halves of node n.
    moments: usize,
    /// For each node, the ranges of values stored at this node: occupied during all of its time.
    always: Vec<Stretches>,
    /// For each node, the ranges of values stored at it or below: occupied at some moment of its time.
    sometimes: Vec<Stretches>,
}

/// Ranges of the arena, disjoint and not adjacent: start → end.
#[derive(Clone, Default)]
struct Stretches(BTreeMap<usize, usize>);

impl Occupied {
    /// Nothing is occupied at any of `moments`.
    pub(super) fn new(moments: usize) -> Self {
        let moments = moments.next_power_of_two();
        let empty = || vec![Stretches::default(); 2 * moments];
        Self { moments, always: empty(), sometimes: empty() }
    }

    /// Occupies the first `len` floats that are free during all of `time`, and returns their offset.
    pub(super) fn take(&mut self, time: &Range<usize>, len: usize) -> usize {
        let (mut holders, mut ancestors) = (Vec::new(), Vec::new());
        self.cover(1, 0..self.moments, time, &mut holders, &mut ancestors);
        let start = {
            let within = holders.iter().map(|&node| &self.sometimes[node]);
            let around = ancestors.iter().map(|&node| &self.always[node]);
            let taken: Vec<&Stretches> = within.chain(around).collect();
            let mut start = 0;
            while let Some(end) = taken.iter().find_map(|stretches| stretches.end_of_overlap(start..start + len)) {
                start = end;
            }
            start
        };
        holders.iter().for_each(|&node| self.always[node].insert(start..start + len));
        holders.iter().chain(&ancestors).for_each(|&node| self.sometimes[node].insert(start..start + len));
        start
    }

    /// The nodes that together cover `time`, and their ancestors. `node` covers `moments`.
    fn cover(
        &self,
        node: usize,
        moments: Range<usize>,
        time: &Range<usize>,
        holders: &mut Vec<usize>,
        ancestors: &mut Vec<usize>,
    ) {
        if moments.end <= time.start || time.end <= moments.start {
            return;
        }
        if time.start <= moments.start && moments.end <= time.end {
            holders.push(node);
            return;
        }
        ancestors.push(node);
        let middle = moments.start.midpoint(moments.end);
        self.cover(2 * node, moments.start..middle, time, holders, ancestors);
        self.cover(2 * node + 1, middle..moments.end, time, holders, ancestors);
    }
}

impl Stretches {
    /// The end of the last range that overlaps `range`, if one does.
    fn end_of_overlap(&self, range: Range<usize>) -> Option<usize> {
        let (_, &end) = self.0.range(..range.end).next_back()?;
        (end > range.start).then_some(end)
    }

    fn insert(&mut self, mut range: Range<usize>) {
        while let Some((&start, &end)) = self.0.range(..=range.end).next_back().filter(|&(_, &end)| end >= range.start)
        {
            self.0.remove(&start);
            range = range.start.min(start)..range.end.max(end);
        }
        self.0.insert(range.start, range.end);
    }
}
