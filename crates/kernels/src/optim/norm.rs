//! The two kernels of clipping a gradient by its norm: the sum of its squares, and the scaling.

use super::GRAIN;
use crate::elementwise::for_ranges;
use crate::isa::{Isa, Kernel, Simd};
use crate::raw::SharedMut;
use residual_threads::Pool;

/// Most blocks of a sum: each has one partial sum.
const MAX_BLOCKS: usize = 256;
/// Floats whose squares are summed in f32 before they are added to a sum in f64.
const CHUNK: usize = 1024;

/// Σ x², zero for no values. Chunks of 1024 values are summed in f32, and their sums in f64 in an order that depends on the
/// length alone. A sum whose chunks exceed the range of f32 is infinite.
///
/// The square root of it over all gradients is the norm of torch's `clip_grad_norm_`; for gradients in several slices
/// add up their sums.
pub fn sum_of_squares(isa: Isa, pool: &Pool, x: &[f32]) -> f64 {
    let block = x.len().div_ceil(MAX_BLOCKS).next_multiple_of(CHUNK).max(GRAIN);
    let blocks = x.len().div_ceil(block);
    let mut sums = [0.0; MAX_BLOCKS];
    {
        let sums = SharedMut::new(&mut sums);
        pool.run(blocks, |task, _| {
            let x = &x[task * block..((task + 1) * block).min(x.len())];
            // SAFETY: every task has its own sum.
            let sum = unsafe { sums.part(task..task + 1) };
            sum[0] = isa.run(SumOfSquares { x });
        });
    }
    sums[..blocks].iter().sum()
}

struct SumOfSquares<'a> {
    x: &'a [f32],
}

impl Kernel for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let mut total = 0.0;
        for chunk in self.x.chunks(CHUNK) {
            // Four sums hide the latency of an addition.
            let mut sums = [s.zero(); 4];
            let mut i = 0;
            while i < chunk.len() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    let at = (i + v * S::LANES).min(chunk.len());
                    // SAFETY: so many floats are left from `at` on.
                    let x = unsafe { s.load_up_to(chunk.as_ptr().add(at), chunk.len() - at) };
                    *sum = s.mul_add(x, x, *sum);
                }
                i += 4 * S::LANES;
            }
            total += f64::from(s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]))));
        }
        total
    }
}

/// x = x · factor.
pub fn scale(isa: Isa, pool: &Pool, x: &mut [f32], factor: f32) {
    for_ranges(pool, x, |_, x| isa.run(Scale { x, factor }));
}

struct Scale<'a> {
    x: &'a mut [f32],
    factor: f32,
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factor = s.splat(self.factor);
        let mut i = 0;
        while i < self.x.len() {
            let n = self.x.len() - i;
            // SAFETY: `n` floats are left from `i` on.
            unsafe {
                let x = self.x.as_mut_ptr().add(i);
                s.store_up_to(x, n, s.mul(s.load_up_to(x, n), factor));
            }
            i += S::LANES;
        }
    }
}
