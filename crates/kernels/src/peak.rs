//! The machine's limits: multiply-adds that touch no memory, and reads that compute next to nothing.

use crate::isa::{Isa, Kernel, Simd};
use residual_threads::Pool;
use std::hint::black_box;
use std::time::Instant;

/// Multiply-adds in flight: more than the latency of one times the number a core starts at once.
const CHAINS: usize = 12;
/// Rounds of one task: a few hundred microseconds.
const ROUNDS: usize = 1 << 16;

/// The most multiply-adds, in GFLOP/s, that all threads of `pool` together do on registers; the best of a few tries that
/// take some tens of milliseconds.
pub fn peak_gflops(isa: Isa, pool: &Pool) -> f64 {
    let tasks = 16 * pool.threads();
    let flops = (2 * tasks * ROUNDS * CHAINS * isa.lanes()) as f64;
    let attempt = || {
        let start = Instant::now();
        pool.run(tasks, |_, _| {
            black_box(isa.run(Chains));
        });
        flops / start.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(|_| attempt()).fold(0.0, f64::max)
}

/// Floats of the memory that [`read_bandwidth`] reads: 256 MB, more than caches hold.
const READ: usize = 1 << 26;

/// The memory bandwidth in GB/s at which all threads of `pool` together read 256 MB, the best of a few tries that take some
/// tenths of a second; `None` if there is not that much memory.
pub fn read_bandwidth(pool: &Pool) -> Option<f64> {
    let mut values: Vec<f32> = Vec::new();
    values.try_reserve_exact(READ).ok()?;
    // Not zero: pages of zeros may all be one.
    values.resize(READ, 1.0);
    let tasks = 16 * pool.threads();
    let chunk = READ.div_ceil(tasks);
    let attempt = || {
        let start = Instant::now();
        pool.run(tasks, |task, _| {
            let part = &values[(task * chunk).min(READ)..((task + 1) * chunk).min(READ)];
            black_box(largest(part));
        });
        (READ * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    Some((0..3).map(|_| attempt()).fold(0.0, f64::max))
}

/// The largest bit pattern, in as many independent lanes as compilers vectorise well.
fn largest(values: &[f32]) -> u32 {
    const LANES: usize = 32;
    let mut lanes = [0u32; LANES];
    for block in values.chunks_exact(LANES) {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane = (*lane).max(value.to_bits());
        }
    }
    lanes.into_iter().max().unwrap_or(0)
}

struct Chains;

impl Kernel for Chains {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        // Not known to the compiler, so that the sums have to be computed.
        let (a, b) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
        let mut chains = [s.zero(); CHAINS];
        for _ in 0..ROUNDS {
            for chain in &mut chains {
                *chain = s.mul_add(*chain, a, b);
            }
        }
        let mut sum = s.zero();
        for chain in chains {
            sum = s.add(sum, chain);
        }
        s.sum(sum)
    }
}
