//! The machine's peak: multiply-adds that touch no memory.

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
