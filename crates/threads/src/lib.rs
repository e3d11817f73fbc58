//! A thread pool that spins, then parks, and runs indexed tasks.
//!
//! The tasks of a job are chosen by the caller from shapes alone, never from the number of threads, and each task
//! writes what no other task writes. Which thread takes a task then cannot change a result.
//!
//! ```
//! use std::sync::atomic::{AtomicUsize, Ordering};
//!
//! let pool = residual_threads::Pool::new(2);
//! let sum = AtomicUsize::new(0);
//! pool.run(10, |task, _worker| {
//!     sum.fetch_add(task, Ordering::Relaxed);
//! });
//! assert_eq!(sum.into_inner(), 45);
//! ```

mod pool;
mod sync;

pub use pool::{Pool, PoolError};

use std::ops::Range;

/// The `index`-th of `parts` nearly equal ranges that cover `0..len`, each but the last a multiple of `grain` long.
///
/// ```
/// let ranges: Vec<_> = (0..3).map(|i| residual_threads::split(10, 3, 2, i)).collect();
/// assert_eq!(ranges, [0..4, 4..8, 8..10]);
/// ```
pub fn split(len: usize, parts: usize, grain: usize, index: usize) -> Range<usize> {
    let step = len.div_ceil(parts).div_ceil(grain) * grain;
    (index * step).min(len)..((index + 1) * step).min(len)
}
