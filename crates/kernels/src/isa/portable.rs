//! Vectors of four floats as plain arrays, which the compiler turns into whatever the target has.

use super::Simd;

/// Every machine has this set.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const N: usize = 4;

impl Simd for Portable {
    const LANES: usize = N;
    const REGISTERS: usize = 16;
    type Reg = [f32; N];
    type Lanes = [usize; N];

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; N] {
        [x; N]
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> [f32; N] {
        // SAFETY: the caller lets N floats be read; arrays of floats have any float's alignment.
        unsafe { p.cast::<[f32; N]>().read() }
    }

    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> [f32; N] {
        let mut x = [0.0; N];
        for (lane, x) in x.iter_mut().enumerate().take(n) {
            // SAFETY: the caller lets n floats be read, and lane < n.
            *x = unsafe { *p.add(lane) };
        }
        x
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: [f32; N]) {
        // SAFETY: the caller lets N floats be written.
        unsafe { p.cast::<[f32; N]>().write(x) }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, x: [f32; N]) {
        for (lane, &x) in x.iter().enumerate().take(n) {
            // SAFETY: the caller lets n floats be written, and lane < n.
            unsafe { *p.add(lane) = x }
        }
    }

    #[inline(always)]
    fn add(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn max(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if b[i] > a[i] { b[i] } else { a[i] })
    }

    #[inline(always)]
    fn min(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn max_or_nan(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if a[i] >= b[i] || a[i].is_nan() { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn where_positive(self, mask: [f32; N], x: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if mask[i] > 0.0 { x[i] } else { 0.0 })
    }
    #[inline(always)]
    fn div(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn sqrt(self, a: [f32; N]) -> [f32; N] {
        a.map(f32::sqrt)
    }

    #[inline(always)]
    fn pow2(self, n: [f32; N]) -> [f32; N] {
        n.map(|n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23))
    }

    #[inline(always)]
    fn where_above(self, a: [f32; N], b: [f32; N], x: [f32; N], y: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if a[i] > b[i] || a[i].is_nan() { x[i] } else { y[i] })
    }

    #[inline(always)]
    fn lanes_of_runs(self, size: usize, k: usize) -> [usize; N] {
        std::array::from_fn(|lane| lane / size * size + k)
    }

    #[inline(always)]
    fn lanes(self, of: impl Fn(usize) -> usize) -> [usize; N] {
        std::array::from_fn(of)
    }

    #[inline(always)]
    fn pick(self, x: [f32; N], lanes: [usize; N]) -> [f32; N] {
        lanes.map(|lane| x[lane % N])
    }

    #[inline(always)]
    fn integers_to_floats(self, x: [f32; N]) -> [f32; N] {
        x.map(|lane| lane.to_bits() as i32 as f32)
    }

    #[inline(always)]
    fn multiply_add_pairs(self, a: [f32; N], b: [f32; N], acc: [f32; N]) -> [f32; N] {
        let pair = |lane: f32| [lane.to_bits() as i16, (lane.to_bits() >> 16) as i16].map(i32::from);
        std::array::from_fn(|i| {
            let ([a, c], [b, d]) = (pair(a[i]), pair(b[i]));
            let sum = (acc[i].to_bits() as i32).wrapping_add((a * b).wrapping_add(c * d));
            f32::from_bits(sum as u32)
        })
    }

    #[inline(always)]
    fn low_halves(self, x: [f32; N]) -> [f32; N] {
        x.map(|x| f32::from_bits(x.to_bits() << 16))
    }

    #[inline(always)]
    fn high_halves(self, x: [f32; N]) -> [f32; N] {
        x.map(|x| f32::from_bits(x.to_bits() & 0xffff_0000))
    }
}
