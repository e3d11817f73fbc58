//! Products with one factor per channel: layer scale, whose factors are the same for every image, and the gate of
//! squeeze-and-excitation, whose factors differ per image.

use crate::isa::{Isa, Kernel, Simd};
use crate::raw::SharedMut;
use crate::rows::{MAX_BLOCKS, join};
use residual_threads::Pool;

/// Floats of a task.
const BLOCK: usize = 16 << 10;

/// y = x · factor, plus `add`, or plus the previous y if `accumulate`; then ReLU if `relu`. `x` is images × rows ×
/// `channels`, `factors` images × `channels`: one image if all rows have the same factors.
///
/// # Panics
/// If the slices do not fit, or both `add` and `accumulate` are given.
pub fn forward(
    isa: Isa,
    pool: &Pool,
    x: &[f32],
    factors: &[f32],
    channels: usize,
    add: Option<&[f32]>,
    accumulate: bool,
    relu: bool,
    y: &mut [f32],
) {
    let image = check(x, factors, channels);
    assert!(y.len() == x.len() && add.is_none_or(|add| add.len() == x.len() && !accumulate));
    let step = BLOCK.div_ceil(channels) * channels;
    let parts = image.div_ceil(step);
    let y = SharedMut::new(y);
    pool.run(x.len() / image * parts, |task, _| {
        let (index, part) = (task / parts, task % parts);
        let range = index * image + part * step..index * image + ((part + 1) * step).min(image);
        let factors = &factors[index * channels..(index + 1) * channels];
        // SAFETY: every task has its own rows.
        let y = unsafe { y.part(range.clone()) };
        isa.run(Forward { x: &x[range.clone()], factors, add: add.map(|add| &add[range]), accumulate, relu, y });
    });
}

/// Floats of an image.
fn check(x: &[f32], factors: &[f32], channels: usize) -> usize {
    assert!(!factors.is_empty() && factors.len().is_multiple_of(channels));
    let images = factors.len() / channels;
    assert!(!x.is_empty() && x.len().is_multiple_of(images * channels));
    x.len() / images
}

struct Forward<'a> {
    x: &'a [f32],
    factors: &'a [f32],
    add: Option<&'a [f32]>,
    accumulate: bool,
    relu: bool,
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let channels = self.factors.len();
        let y = self.y.as_mut_ptr();
        let add = if self.accumulate { Some(y.cast_const()) } else { self.add.map(<[f32]>::as_ptr) };
        let mut start = 0;
        while start < self.x.len() {
            let mut c = 0;
            while c < channels {
                let (n, at) = (channels - c, start + c);
                // SAFETY: `at` starts `n` channels of a row that all of the tensors have.
                unsafe {
                    let factor = s.load_up_to(self.factors.as_ptr().add(c), n);
                    let x = s.load_up_to(self.x.as_ptr().add(at), n);
                    let mut value = match add {
                        Some(add) => s.mul_add(x, factor, s.load_up_to(add.add(at), n)),
                        None => s.mul(x, factor),
                    };
                    if self.relu {
                        value = s.max(value, s.zero());
                    }
                    s.store_up_to(y.add(at), n, value);
                }
                c += S::LANES;
            }
            start += channels;
        }
    }
}

/// The gradient of the factors: for each image and channel the sum over its rows of x · dy. Overwrites `sums`, which are
/// laid out as the factors are, or adds to them if `accumulate`. `workspace` is at least as long as
/// [`crate::rows::workspace_len`] says.
///
/// # Panics
/// If the slices do not fit.
pub fn sums(
    isa: Isa,
    pool: &Pool,
    x: &[f32],
    dy: &[f32],
    channels: usize,
    accumulate: bool,
    sums: &mut [f32],
    workspace: &mut [f32],
) {
    let image = check(x, sums, channels);
    assert!(dy.len() == x.len());
    let images = x.len() / image;
    let rows = image / channels;
    let most = (2 * MAX_BLOCKS / images).max(1);
    let step = rows.div_ceil(image.div_ceil(BLOCK).clamp(1, most));
    let blocks = rows.div_ceil(step);
    let run = |task: usize, accumulate: bool, sums: &mut [f32]| {
        let (index, block) = (task / blocks, task % blocks);
        let start = index * image + block * step * channels;
        let range = start..(start + step * channels).min((index + 1) * image);
        isa.run(Sums { x: &x[range.clone()], dy: &dy[range], accumulate, sums });
    };
    if blocks == 1 {
        let sums = SharedMut::new(sums);
        pool.run(images, |task, _| {
            // SAFETY: every task has its own image.
            run(task, accumulate, unsafe { sums.part(task * channels..(task + 1) * channels) });
        });
        return;
    }
    let partial = &mut workspace[..images * blocks * channels];
    {
        let partial = SharedMut::new(partial);
        pool.run(images * blocks, |task, _| {
            // SAFETY: every task has its own part.
            run(task, false, unsafe { partial.part(task * channels..(task + 1) * channels) });
        });
    }
    for (sums, partial) in sums.chunks_exact_mut(channels).zip(partial.chunks_exact(blocks * channels)) {
        join(pool, partial, accumulate, [sums]);
    }
}

struct Sums<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    accumulate: bool,
    sums: &'a mut [f32],
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let channels = self.sums.len();
        let rows = self.x.len() / channels;
        let mut c = 0;
        while c < channels {
            let n = channels - c;
            // SAFETY: each row has `n` channels from `c` on, and so have the sums.
            unsafe {
                let product = |row: usize, to: S::Reg| {
                    let at = row * channels + c;
                    let x = s.load_up_to(self.x.as_ptr().add(at), n);
                    s.mul_add(x, s.load_up_to(self.dy.as_ptr().add(at), n), to)
                };
                // Four sums hide the latency of an addition.
                let mut sums = [s.zero(); 4];
                for row in 0..rows {
                    sums[row % 4] = product(row, sums[row % 4]);
                }
                let mut sum = s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]));
                let to = self.sums.as_mut_ptr().add(c);
                if self.accumulate {
                    sum = s.add(sum, s.load_up_to(to, n));
                }
                s.store_up_to(to, n, sum);
            }
            c += S::LANES;
        }
    }
}
