//! How a matrix product is partitioned: rows into blocks, and the panels of weights among a block's tasks.
//!
//! Every number of the result is summed by one task in an order that the partition does not change, so it may depend on the
//! number of threads.

/// A product of rows and panels, with the expected cost of its parts in cycles.
pub(super) struct Workload {
    pub(super) rows: usize,
    /// Rows that a micro-kernel takes at a time.
    pub(super) grain: usize,
    /// Most rows of a block.
    pub(super) most: usize,
    /// Panels of one group.
    pub(super) panels: usize,
    pub(super) groups: usize,
    pub(super) threads: usize,
    /// Cycles to gather or transform one row: once for each task that reads it.
    pub(super) row: usize,
    /// Cycles to multiply one row by one panel.
    pub(super) product: usize,
    /// Floats of one panel: once for each task that reads it.
    pub(super) panel_len: usize,
}

/// The partition with the lowest cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    /// Rows of a block.
    pub(super) block: usize,
    pub(super) blocks: usize,
    /// Parts that the panels are cut into.
    pub(super) splits: usize,
}

/// Weights of at most this many floats stay in the L2 cache while all blocks are multiplied by them.
const RESIDENT: usize = 128 << 10;

impl Workload {
    pub(super) fn partition(&self) -> Partition {
        let fewest = self.rows.div_ceil(self.most);
        let counts = [1, 2, 3, 4].into_iter().flat_map(|n| [fewest + n - 1, fewest.next_multiple_of(n * self.threads)]);
        let partitions = counts.flat_map(|count| {
            let block = self.rows.div_ceil(count).next_multiple_of(self.grain).min(self.most);
            let blocks = self.rows.div_ceil(block);
            let splits = [1, 2, 4, 8, 16, self.threads, 2 * self.threads];
            splits.map(|splits| Partition { block, blocks, splits: splits.min(self.panels) })
        });
        partitions.min_by_key(|partition| self.cost(partition)).expect("there are several")
    }

    /// More blocks than any partition of so many rows, or of fewer, has.
    pub(super) fn most_blocks(&self) -> usize {
        self.rows.div_ceil(self.most) + 4 * self.threads
    }

    /// The time in cycles until the last thread is done.
    fn cost(&self, partition: &Partition) -> usize {
        let Partition { block, blocks, splits } = *partition;
        let panels = self.panels.div_ceil(splits);
        // Bytes that a core reads per cycle from its L2 cache, or from beyond it.
        let bytes_per_cycle = if self.panels * self.panel_len <= RESIDENT { 32 } else { 8 };
        let fetch = panels * self.panel_len * 4 / bytes_per_cycle + 200;
        let task = |rows: usize| rows * (self.row + panels * self.product) + fetch;
        // The tasks of the last block, which has fewer rows, come last and fill gaps.
        let last = (self.rows - (blocks - 1) * block).next_multiple_of(self.grain);
        let (whole, rest) = ((blocks - 1) * splits * self.groups, splits * self.groups);
        let rounds = whole.div_ceil(self.threads) * task(block);
        let total = whole * task(block) + rest * task(last);
        let tail = if whole.is_multiple_of(self.threads) { rest.div_ceil(self.threads) * task(last) } else { 0 };
        (rounds + tail).max(total.div_ceil(self.threads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(rows: usize, panels: usize, depth: usize, threads: usize) -> Workload {
        let (grain, most) = (6, 96);
        Workload { rows, grain, most, panels, groups: 1, threads, row: 0, product: 4 * depth, panel_len: 64 * depth }
    }

    #[test]
    fn many_rows_are_shared_out_evenly() {
        for threads in [1, 2, 3, 4, 8] {
            let partition = work(50176, 1, 576, threads).partition();
            let rounds = partition.blocks.div_ceil(threads) * threads;
            assert!(rounds * partition.block < 50176 + 50176 / 50, "{threads} threads: {partition:?}");
        }
    }

    #[test]
    fn few_rows_share_out_the_panels_and_each_panel_is_read_once() {
        let partition = work(49, 32, 512, 2).partition();
        assert_eq!((partition.blocks, partition.block), (1, 54));
        assert!(partition.splits >= 2, "{partition:?}");
    }

    #[test]
    fn every_row_and_panel_has_its_place() {
        for rows in [1, 5, 6, 49, 97, 196, 1000] {
            for panels in [1, 2, 3, 8, 33] {
                let partition = work(rows, panels, 64, 2).partition();
                assert!(partition.block <= 96 && partition.block.is_multiple_of(6), "{partition:?}");
                assert!(
                    (partition.blocks - 1) * partition.block < rows && rows <= partition.blocks * partition.block,
                    "{partition:?}"
                );
                assert!((1..=panels).contains(&partition.splits), "{partition:?}");
                assert!(partition.blocks <= work(rows, panels, 64, 2).most_blocks(), "{partition:?}");
            }
        }
    }
}
