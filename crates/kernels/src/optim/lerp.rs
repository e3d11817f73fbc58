//! Linear interpolation, the update of an exponential moving average.

use crate::elementwise::{Map, apply};
use crate::isa::{Isa, Simd};
use residual_threads::Pool;

/// average += (value − average) · weight, as torch's `lerp_`: from a weight of 0.5 on it is computed from the value's side, so
/// that a weight of 1 copies the values exactly.
///
/// An exponential moving average with decay `d` has weight 1 − d.
///
/// # Panics
/// If the lengths differ.
pub fn lerp(isa: Isa, pool: &Pool, average: &mut [f32], values: &[f32], weight: f32) {
    assert!(average.len() == values.len(), "lerp: slices of different lengths");
    if weight < 0.5 {
        apply(isa, pool, FromAverage(weight), values, average);
    } else {
        apply(isa, pool, FromValue(1.0 - weight), values, average);
    }
}

/// Weight of the value.
#[derive(Clone, Copy)]
struct FromAverage(f32);

impl Map for FromAverage {
    #[inline(always)]
    fn map<S: Simd>(self, s: S, value: S::Reg, average: S::Reg) -> S::Reg {
        s.mul_add(s.sub(value, average), s.splat(self.0), average)
    }
}

/// Weight of the average.
#[derive(Clone, Copy)]
struct FromValue(f32);

impl Map for FromValue {
    #[inline(always)]
    fn map<S: Simd>(self, s: S, value: S::Reg, average: S::Reg) -> S::Reg {
        s.mul_add(s.sub(average, value), s.splat(self.0), value)
    }
}
