//! Layer normalisation of each row (pixel) over its channels: torch's `LayerNorm` on NHWC.
//!
//! The backward pass computes mean and variance of a row again: it reads the row anyway, and nothing has to be stored.

use crate::isa::{Isa, Kernel, Simd};
use crate::raw::SharedMut;
use crate::rows::{for_blocks, for_rows, join};
use residual_threads::Pool;

/// y = (x − mean) / √(variance + eps) · weight + bias for each row of `x` (rows × channels), with the row's mean and
/// biased variance.
///
/// # Panics
/// If a slice has not the length stated.
pub fn forward(isa: Isa, pool: &Pool, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
    let channels = weight.len();
    assert!(bias.len() == channels && y.len() == x.len() && x.len().is_multiple_of(channels));
    for_rows(pool, channels, y, |range, y| isa.run(Forward { x: &x[range], weight, bias, eps, y }));
}

struct Forward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let channels = self.weight.len();
        for (x, y) in self.x.chunks_exact(channels).zip(self.y.chunks_exact_mut(channels)) {
            let [mean, inverse] = moments(s, x, self.eps);
            let (mean, inverse) = (s.splat(mean), s.splat(inverse));
            let mut c = 0;
            while c < channels {
                let n = channels - c;
                // SAFETY: there are `n` channels from `c` on in both rows, and as many weights and biases.
                unsafe {
                    let normal = s.mul(s.sub(s.load_up_to(x.as_ptr().add(c), n), mean), inverse);
                    let weight = s.load_up_to(self.weight.as_ptr().add(c), n);
                    let bias = s.load_up_to(self.bias.as_ptr().add(c), n);
                    s.store_up_to(y.as_mut_ptr().add(c), n, s.mul_add(normal, weight, bias));
                }
                c += S::LANES;
            }
        }
    }
}

/// The mean of a row, and 1 / √(variance + eps).
#[inline(always)]
fn moments<S: Simd>(s: S, x: &[f32], eps: f32) -> [f32; 2] {
    let count = x.len() as f32;
    // SAFETY: `sums` passes channels of the row.
    let [sum] = sums(s, x.len(), |c, n| [unsafe { s.load_up_to(x.as_ptr().add(c), n) }]);
    let mean = sum / count;
    let [squares] = sums(s, x.len(), |c, n| {
        // SAFETY: as above.
        let x = unsafe { s.load_up_to(x.as_ptr().add(c), n) };
        let x = s.sub(x, s.splat_up_to(mean, n));
        [s.mul(x, x)]
    });
    [mean, 1.0 / (squares / count + eps).sqrt()]
}

/// The sums over `channels` channels of `values(c, n)`, the values of the channels from `c` on: a whole vector, or the
/// first `n` lanes of one with zeros above.
#[inline(always)]
fn sums<S: Simd, const K: usize>(s: S, channels: usize, values: impl Fn(usize, usize) -> [S::Reg; K]) -> [f32; K] {
    // Several sums at once hide the latency of an addition.
    const CHAINS: usize = 4;
    let mut sums = [[s.zero(); CHAINS]; K];
    let mut c = 0;
    while c + CHAINS * S::LANES <= channels {
        for chain in 0..CHAINS {
            let values = values(c + chain * S::LANES, S::LANES);
            sums.iter_mut().zip(values).for_each(|(sums, value)| sums[chain] = s.add(sums[chain], value));
        }
        c += CHAINS * S::LANES;
    }
    while c < channels {
        sums.iter_mut().zip(values(c, channels - c)).for_each(|(sums, value)| sums[0] = s.add(sums[0], value));
        c += S::LANES;
    }
    sums.map(|[a, b, c, d]| s.sum(s.add(s.add(a, b), s.add(c, d))))
}

/// Gradients of [`forward`]: `dx` is written, or added to if `accumulate`; those of weight and bias are
/// written to `gradients`, if given. `workspace` is at least as long as [`crate::rows::workspace_len`] says.
///
/// # Panics
/// If a slice has not the length stated.
pub fn backward(
    isa: Isa,
    pool: &Pool,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    dy: &[f32],
    accumulate: bool,
    dx: &mut [f32],
    gradients: Option<[&mut [f32]; 2]>,
    workspace: &mut [f32],
) {
    let channels = weight.len();
    assert!(x.len().is_multiple_of(channels) && dy.len() == x.len() && dx.len() == x.len());
    assert!(gradients.iter().flatten().all(|gradient| gradient.len() == channels));
    let dx = SharedMut::new(dx);
    let partial = for_blocks(pool, x.len(), channels, 2, workspace, |range, sums| {
        let (dweight, dbias) = sums.split_at_mut(channels);
        // SAFETY: every task has its own rows.
        let dx = unsafe { dx.part(range.clone()) };
        isa.run(Backward { x: &x[range.clone()], weight, eps, dy: &dy[range], accumulate, dx, dweight, dbias });
    });
    if let Some(gradients) = gradients {
        join(pool, partial, false, gradients);
    }
}

struct Backward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    dy: &'a [f32],
    accumulate: bool,
    dx: &'a mut [f32],
    dweight: &'a mut [f32],
    dbias: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let channels = self.weight.len();
        self.dweight.fill(0.0);
        self.dbias.fill(0.0);
        let rows = self.x.chunks_exact(channels).zip(self.dy.chunks_exact(channels));
        for ((x, dy), dx) in rows.zip(self.dx.chunks_exact_mut(channels)) {
            let [mean, inverse] = moments(s, x, self.eps);
            // With g = dy · weight and n = (x − mean) · inverse: dx = inverse · (g − mean of g − n · mean of g · n).
            let [sum, sum_x] = sums(s, channels, |c, n| {
                // SAFETY: `sums` passes channels of the row, and all three rows have as many.
                let [x, dy, weight] = unsafe { [x, dy, self.weight].map(|row| s.load_up_to(row.as_ptr().add(c), n)) };
                let g = s.mul(dy, weight);
                [g, s.mul(g, s.sub(x, s.splat(mean)))]
            });
            let count = channels as f32;
            let slope = s.splat(-sum_x * inverse * inverse / count);
            let (mean, inverse, mean_g) = (s.splat(mean), s.splat(inverse), s.splat(sum / count));
            let mut c = 0;
            while c < channels {
                let n = channels - c;
                // SAFETY: there are `n` channels from `c` on in every row, and as many sums.
                unsafe {
                    let [x, dy, weight] = [x, dy, self.weight].map(|row| s.load_up_to(row.as_ptr().add(c), n));
                    let centred = s.sub(x, mean);
                    let to = dx.as_mut_ptr().add(c);
                    let mut value = s.mul(inverse, s.mul_add(centred, slope, s.sub(s.mul(dy, weight), mean_g)));
                    if self.accumulate {
                        value = s.add(value, s.load_up_to(to, n));
                    }
                    s.store_up_to(to, n, value);
                    let (dweight, dbias) = (self.dweight.as_mut_ptr().add(c), self.dbias.as_mut_ptr().add(c));
                    let normal = s.mul(centred, inverse);
                    s.store_up_to(dweight, n, s.mul_add(dy, normal, s.load_up_to(dweight, n)));
                    s.store_up_to(dbias, n, s.add(dy, s.load_up_to(dbias, n)));
                }
                c += S::LANES;
            }
        }
    }
}
