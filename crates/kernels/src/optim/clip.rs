//! Clipping of gradients by value and by the norms of units.

use super::BucketOrder;
use crate::elementwise::for_ranges;
use crate::isa::{Isa, Kernel, Simd};
use crate::raw::SharedMut;
use residual_threads::Pool;

/// x = min(max(x, −limit), limit), as torch's `clip_grad_value_`; NaN stays NaN.
pub fn clamp(isa: Isa, pool: &Pool, x: &mut [f32], limit: f32) {
    for_ranges(pool, x, |_, x| isa.run(Clamp { x, limit }));
}

struct Clamp<'a> {
    x: &'a mut [f32],
    limit: f32,
}

impl Kernel for Clamp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let least = s.splat(-self.limit);
        let mut i = 0;
        while i < self.x.len() {
            let n = self.x.len() - i;
            // SAFETY: `n` floats are left from `i` on.
            unsafe {
                let x = self.x.as_mut_ptr().add(i);
                let above = s.max(s.load_up_to(x, n), least);
                let negative = s.max(s.sub(s.zero(), above), least);
                s.store_up_to(x, n, s.sub(s.zero(), negative));
            }
            i += S::LANES;
        }
    }
}

/// Rows whose squares are summed in f32 before they are added to a sum in f64.
const CHUNK: usize = 256;
/// Outputs whose norms one task computes at a time: a cache line.
const OUTPUTS: usize = 16;
/// Floats of one task.
const GRAIN: usize = 16 << 10;
/// The least norm of a gradient that is divided by, as timm has it.
const LEAST_NORM: f64 = 1e-6;

/// Adaptive gradient clipping (Brock et al., arXiv:2102.06171) as timm's `adaptive_clip_grad`: the gradient of each unit, one
/// output of a layer, is scaled to a norm of at most `factor` times the norm of its values, which counts as at least `least`.
///
/// # Panics
/// If the slices do not have the order's length.
pub fn clip_units(
    isa: Isa,
    pool: &Pool,
    values: &[f32],
    gradients: &mut [f32],
    order: BucketOrder,
    factor: f64,
    least: f64,
) {
    let BucketOrder { groups, rows, outputs } = order;
    let len = groups * rows * outputs;
    assert!(
        values.len() == len && gradients.len() == len,
        "{order:?}: slices of {} and {}",
        values.len(),
        gradients.len()
    );
    let blocks = outputs.div_ceil(OUTPUTS);
    let together = GRAIN.div_ceil(rows.max(1) * OUTPUTS.min(outputs).max(1));
    let gradients = SharedMut::new(gradients);
    pool.run((groups * blocks).div_ceil(together), |task, _| {
        for block in task * together..((task + 1) * together).min(groups * blocks) {
            let (group, first) = (block / blocks, block % blocks * OUTPUTS);
            let start = group * rows * outputs + first;
            let units = Units { rows, outputs, count: OUTPUTS.min(outputs - first) };
            // SAFETY: the elements of the block's units are in the slices, and no other task has them.
            unsafe {
                isa.run(Clip {
                    values: values.as_ptr().add(start),
                    gradients: gradients.at(start),
                    units,
                    factor,
                    least,
                })
            };
        }
    });
}

/// Adjacent outputs.
#[derive(Clone, Copy)]
struct Units {
    rows: usize,
    /// The distance between rows.
    outputs: usize,
    /// At most [`OUTPUTS`].
    count: usize,
}

struct Clip {
    values: *const f32,
    gradients: *mut f32,
    units: Units,
    factor: f64,
    least: f64,
}

impl Kernel for Clip {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { values, gradients, units, factor, least } = self;
        // SAFETY: `clip_units` has checked that all rows of the units are in both slices.
        let (values, norms) = unsafe { (squares(s, values, units), squares(s, gradients, units)) };
        let mut scales = [1.0f32; OUTPUTS];
        let mut is_clipped = false;
        for ((scale, value), norm) in scales.iter_mut().zip(values).zip(norms) {
            let (most, norm) = (value.sqrt().max(least) * factor, norm.sqrt());
            let is_within = norm < most;
            if !is_within {
                *scale = (most / if norm < LEAST_NORM { LEAST_NORM } else { norm }) as f32;
                is_clipped = true;
            }
        }
        if !is_clipped {
            return;
        }
        for row in 0..units.rows {
            let mut first = 0;
            while first < units.count {
                let n = units.count - first;
                // SAFETY: as above; there are as many scales as units.
                unsafe {
                    let gradient = gradients.add(row * units.outputs + first);
                    let scale = s.load_up_to(scales.as_ptr().add(first), n);
                    s.store_up_to(gradient, n, s.mul(s.load_up_to(gradient, n), scale));
                }
                first += S::LANES;
            }
        }
    }
}

/// The sum of the squares of each unit.
///
/// # Safety
/// All rows of the units can be read at `x`.
#[inline(always)]
unsafe fn squares<S: Simd>(s: S, x: *const f32, units: Units) -> [f64; OUTPUTS] {
    let mut total = [0.0; OUTPUTS];
    let mut start = 0;
    while start < units.rows {
        let rows = CHUNK.min(units.rows - start);
        let mut sums = [0.0f32; OUTPUTS];
        let mut first = 0;
        while first < units.count {
            let n = units.count - first;
            let mut sum = s.zero();
            for row in start..start + rows {
                // SAFETY: the caller's promise.
                let x = unsafe { s.load_up_to(x.add(row * units.outputs + first), n) };
                sum = s.mul_add(x, x, sum);
            }
            // SAFETY: as many sums as units.
            unsafe { s.store_up_to(sums.as_mut_ptr().add(first), n, sum) };
            first += S::LANES;
        }
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += f64::from(sum);
        }
        start += rows;
    }
    total
}
