//! Joins the sums that blocks of rows left.

use crate::raw::SharedMut;
use residual_threads::Pool;

/// Channels of one task.
const GROUP: usize = 16;

/// The sum over the blocks of each number: block b's stand from `b · sums.len()` on. Adds in f64, in the order of the
/// blocks; to what `sums` holds if `accumulate`.
pub(crate) fn join(pool: &Pool, partial: &[f32], accumulate: bool, sums: &mut [f32]) {
    let count = sums.len();
    let sums = SharedMut::new(sums);
    pool.run(count.div_ceil(GROUP), |task, _| {
        let group = task * GROUP..((task + 1) * GROUP).min(count);
        let mut totals = [0.0; GROUP];
        for block in partial.chunks_exact(count) {
            totals.iter_mut().zip(&block[group.clone()]).for_each(|(total, sum)| *total += f64::from(*sum));
        }
        // SAFETY: every task has its own numbers.
        let sums = unsafe { sums.part(group) };
        for (sum, total) in sums.iter_mut().zip(totals) {
            *sum = if accumulate { *sum + total as f32 } else { total as f32 };
        }
    });
}
