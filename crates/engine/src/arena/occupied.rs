//! Which stretches of the arena are taken at which time.

use std::collections::BTreeMap;
use std::ops::Range;

/// A segment tree over time. Taking a stretch and finding a free one look at a logarithm of the time's length of tree nodes,
/// in each of which neighbouring stretches are one: plans of many thousands of values are placed in time near linear in
/// their number.
pub(super) struct Occupied {
    /// The number of moments, a power of two. Node 1 stands for all of them, 2n and 2n + 1 for the halves of n's.
    moments: usize,
    /// For each node, what is taken for the whole of its time by a value that the node was chosen to hold.
    always: Vec<Stretches>,
    /// For each node, what is taken at some moment of its time by a value that it or a node below holds.
    sometimes: Vec<Stretches>,
}

/// Stretches of the arena, disjoint and apart: start → end.
#[derive(Clone, Default)]
struct Stretches(BTreeMap<usize, usize>);

impl Occupied {
    /// Nothing is taken at any of `moments`.
    pub(super) fn new(moments: usize) -> Self {
        let moments = moments.next_power_of_two();
        let empty = || vec![Stretches::default(); 2 * moments];
        Self { moments, always: empty(), sometimes: empty() }
    }

    /// Takes the first `len` floats that are free all `time`, and returns where they start.
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

    /// The nodes that together stand for `time`, and those above them. `node` stands for `moments`.
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
    /// The end of the last stretch that overlaps `range`, if one does.
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
