//! Matrices of rows (pixels) and channels: the partition of their rows into blocks, sums over rows, and the reduction
//! of the blocks' partial sums.

use crate::isa::{Element, ElementKernel, ElementProduct, Isa, Reg, Simd};
use crate::raw::SharedMut;
use residual_threads::Pool;
use std::ops::Range;

/// Floats of a block: two passes over it find it in the L2 cache.
const BLOCK: usize = 32 << 10;
/// Floats of the rows that are summed together (see [`chunks`]).
const CHUNK: usize = 4096;
/// Most blocks of a reduction.
pub(crate) const MAX_BLOCKS: usize = 256;

/// Floats of workspace that sums over rows, [`column_sums`] and those of the norms, need for `channels` channels.
pub fn workspace_len(channels: usize) -> usize {
    2 * MAX_BLOCKS * channels
}

/// Rows of each block of a reduction over `rows` rows: a function of the matrix's shape alone.
pub(crate) fn block_rows(rows: usize, channels: usize) -> usize {
    let blocks = (rows * channels).div_ceil(BLOCK).clamp(1, MAX_BLOCKS);
    rows.div_ceil(blocks).max(1)
}

/// Partitions the rows of a matrix of `len` elements into the blocks of a reduction, and calls `body` with each block's
/// elements and its partial results, `numbers` per channel. Returns those of all blocks, in the order of the blocks.
pub(crate) fn for_blocks<'a>(
    pool: &Pool,
    len: usize,
    channels: usize,
    numbers: usize,
    workspace: &'a mut [f32],
    body: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> &'a [f32] {
    let step = block_rows(len / channels, channels) * channels;
    let (blocks, part) = (len.div_ceil(step), numbers * channels);
    let partial = &mut workspace[..blocks * part];
    let shared = SharedMut::new(&mut *partial);
    pool.run(blocks, |task, _| {
        // SAFETY: every task has its own part.
        let own = unsafe { shared.part(task * part..(task + 1) * part) };
        body(task * step..((task + 1) * step).min(len), own);
    });
    partial
}

/// Calls `body` with ranges of whole rows of `y` that together cover it.
pub(crate) fn for_rows<E: Element>(
    pool: &Pool,
    channels: usize,
    y: &mut [E],
    body: impl Fn(Range<usize>, &mut [E]) + Sync,
) {
    let step = (BLOCK / 2).div_ceil(channels) * channels;
    let len = y.len();
    let y = SharedMut::new(y);
    pool.run(len.div_ceil(step), |task, _| {
        let range = task * step..((task + 1) * step).min(len);
        // SAFETY: every task has its own range.
        let part = unsafe { y.part(range.clone()) };
        body(range, part);
    });
}

/// The sum of each column of `x` (rows × channels): the gradient of a bias. `workspace` has at least
/// [`workspace_len`]`(channels)` floats.
///
/// # Panics
/// If a slice has not the length stated.
pub fn column_sums<E: Element>(isa: Isa, pool: &Pool, x: &[E], sums: &mut [f32], workspace: &mut [f32]) {
    E::column_sums(isa, pool, x, sums, workspace);
}

pub(crate) fn column_sums_of<E: Element>(isa: Isa, pool: &Pool, x: &[E], sums: &mut [f32], workspace: &mut [f32]) {
    let channels = sums.len();
    assert!(x.len().is_multiple_of(channels));
    let partial = for_blocks(pool, x.len(), channels, 1, workspace, |range, sums| {
        E::run(isa, ColumnSums { x: &x[range], sums });
    });
    join(pool, partial, false, [sums]);
}

struct ColumnSums<'a, E> {
    x: &'a [E],
    sums: &'a mut [f32],
}

impl<E: Element> ElementKernel<E> for ColumnSums<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        let channels = self.sums.len();
        let mut c = 0;
        while c < channels {
            let n = channels - c;
            // SAFETY: each row of `x` has `n` channels from `c` on, and so have the sums.
            unsafe {
                let sum = column_sum(product, self.x.as_ptr().add(c), self.x.len() / channels, channels, n, |x| x);
                product.simd().store_up_to(self.sums.as_mut_ptr().add(c), n, sum);
            }
            c += P::Simd::LANES;
        }
    }
}

/// The (first row, rows) of chunks that are summed before the next: memory is then read in order.
pub(crate) fn chunks(rows: usize, channels: usize) -> impl Iterator<Item = (usize, usize)> {
    let step = (CHUNK / channels).max(4);
    (0..rows).step_by(step).map(move |first| (first, step.min(rows - first)))
}

/// Vectors of neighbouring channels that are summed together, so that memory is read in longer runs.
pub(crate) const WIDE: usize = 4;

/// Σ over rows of `map` of the vector at `x + row · stride`, or of its first `n` lanes.
///
/// # Safety
/// `min(n, LANES)` elements can be read at `x + row · stride` for every row.
#[inline(always)]
pub(crate) unsafe fn column_sum<P: ElementProduct>(
    product: P,
    x: *const P::Element,
    rows: usize,
    stride: usize,
    n: usize,
    map: impl Fn(Reg<P>) -> Reg<P>,
) -> Reg<P> {
    let s = product.simd();
    // Four sums hide the latency of an addition.
    let mut sums = [s.zero(); 4];
    let mut row = 0;
    while row + 4 <= rows {
        for (lane, sum) in sums.iter_mut().enumerate() {
            // SAFETY: row + lane < rows.
            *sum = s.add(*sum, map(unsafe { product.load_up_to(x.add((row + lane) * stride), n) }));
        }
        row += 4;
    }
    while row < rows {
        // SAFETY: row < rows.
        sums[0] = s.add(sums[0], map(unsafe { product.load_up_to(x.add(row * stride), n) }));
        row += 1;
    }
    s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]))
}

/// Channels of one task.
const GROUP: usize = 16;
/// Most numbers that one thread joins alone: waking the others would take longer.
const SMALL: usize = 2 << 10;

/// The sum over the blocks of each number. `partial` has the numbers of one block after another, for each those of all
/// `sums` in their order. Adds in f64, in the order of the blocks; to the values of `sums` if `accumulate`.
pub(crate) fn join<const N: usize>(pool: &Pool, partial: &[f32], accumulate: bool, sums: [&mut [f32]; N]) {
    let count = sums[0].len();
    assert!(sums.iter().all(|sums| sums.len() == count));
    let groups = count.div_ceil(GROUP);
    let all = sums.map(SharedMut::new);
    let run = |task: usize| {
        let (index, group) = (task / groups, task % groups);
        let group = group * GROUP..((group + 1) * GROUP).min(count);
        let mut totals = [0.0; GROUP];
        for block in partial.chunks_exact(N * count) {
            let sums = &block[index * count..][group.clone()];
            totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += f64::from(*sum));
        }
        // SAFETY: every task has its own numbers.
        let sums = unsafe { all[index].part(group) };
        for (sum, total) in sums.iter_mut().zip(totals) {
            *sum = if accumulate { *sum + total as f32 } else { total as f32 };
        }
    };
    if partial.len() <= SMALL {
        (0..N * groups).for_each(run);
    } else {
        pool.run(N * groups, |task, _| run(task));
    }
}

/// Mean and biased variance of each channel from those of blocks: `partial` has each block's means and then its sums of
/// squared deviations, over `count(block)` rows. Joined in f64 in the order of the blocks (Chan, Golub, LeVeque,
/// "Updating formulae and a pairwise algorithm", 1979).
pub(crate) fn join_moments(
    pool: &Pool,
    partial: &[f32],
    count: impl Fn(usize) -> usize + Sync,
    mean: &mut [f32],
    variance: &mut [f32],
) {
    let channels = mean.len();
    let (mean, variance) = (SharedMut::new(mean), SharedMut::new(variance));
    pool.run(channels.div_ceil(GROUP), |task, _| {
        let group = task * GROUP..((task + 1) * GROUP).min(channels);
        let (mut average, mut squares, mut rows) = ([0.0; GROUP], [0.0; GROUP], 0.0);
        for (index, moments) in partial.chunks_exact(2 * channels).enumerate() {
            let (means, deviations) = moments.split_at(channels);
            let n = count(index) as f64;
            let share = n / (rows + n);
            let block = means[group.clone()].iter().zip(&deviations[group.clone()]);
            for ((average, squares), (&mean, &deviations)) in average.iter_mut().zip(&mut squares).zip(block) {
                let delta = f64::from(mean) - *average;
                *average += delta * share;
                *squares += f64::from(deviations) + delta * delta * rows * share;
            }
            rows += n;
        }
        // SAFETY: every task has its own channels.
        let (mean, variance) = unsafe { (mean.part(group.clone()), variance.part(group)) };
        for (lane, (mean, variance)) in mean.iter_mut().zip(variance).enumerate() {
            *mean = average[lane] as f32;
            *variance = (squares[lane] / rows) as f32;
        }
    });
}
