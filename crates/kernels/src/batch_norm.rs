//! Batch normalisation (Ioffe & Szegedy, arXiv:1502.03167) on a matrix of rows (pixels) and channels.
//!
//! Statistics are computed block by block, first the mean and then the squared deviations while the block is in cache, and
//! joined in f64 in a fixed order.

#![allow(clippy::needless_range_loop, reason = "vectors are addressed by number")]

use crate::isa::{Element, ElementKernel, ElementProduct, Isa, Reg, Simd};
use crate::raw::{SharedMut, is_non_temporal};
use crate::rows::{WIDE, block_rows, chunks, column_sum, for_blocks, for_rows, join, join_moments};
use residual_threads::Pool;
use std::ops::Range;

/// Mean and biased variance of each channel of `x` (rows × channels). `workspace` has at least
/// [`crate::rows::workspace_len`]`(channels)` floats.
///
/// # Panics
/// If a slice has not the length stated.
pub fn statistics<E: Element>(
    isa: Isa,
    pool: &Pool,
    x: &[E],
    mean: &mut [f32],
    variance: &mut [f32],
    workspace: &mut [f32],
) {
    E::statistics(isa, pool, x, mean, variance, workspace);
}

pub(crate) fn statistics_of<E: Element>(
    isa: Isa,
    pool: &Pool,
    x: &[E],
    mean: &mut [f32],
    variance: &mut [f32],
    workspace: &mut [f32],
) {
    let channels = mean.len();
    assert!(x.len().is_multiple_of(channels) && !x.is_empty() && variance.len() == channels);
    let partial = for_blocks(pool, x.len(), channels, 2, workspace, |range, sums| {
        E::run(isa, Moments { x: &x[range], channels, sums });
    });
    let rows = x.len() / channels;
    let block = block_rows(rows, channels);
    join_moments(pool, partial, |index| block.min(rows - index * block), mean, variance);
}

/// The mean and the sum of squared deviations of one block.
struct Moments<'a, E> {
    x: &'a [E],
    channels: usize,
    sums: &'a mut [f32],
}

impl<E: Element> ElementKernel<E> for Moments<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        let s = product.simd();
        let (x, channels) = (self.x.as_ptr(), self.channels);
        let rows = self.x.len() / channels;
        let scale = s.splat(1.0 / rows as f32);
        let (means, squares) = self.sums.split_at_mut(channels);
        means.fill(0.0);
        squares.fill(0.0);
        // SAFETY: rows · channels floats are in `x`; `means` and `squares` have `channels`.
        unsafe {
            for (first, count) in chunks(rows, channels) {
                let x = x.add(first * channels);
                add_columns(product, x, count, channels, None, means);
            }
            let mut c = 0;
            while c < channels {
                let (n, to) = (channels - c, means.as_mut_ptr().add(c));
                s.store_up_to(to, n, s.mul(s.load_up_to(to, n), scale));
                c += P::Simd::LANES;
            }
            for (first, count) in chunks(rows, channels) {
                let x = x.add(first * channels);
                add_columns(product, x, count, channels, Some(&*means), squares);
            }
        }
    }
}

/// Adds to `sums`, for each of the channels, the sum over `rows` rows of x, or of (x − mean)².
///
/// # Safety
/// rows · channels floats can be read at `x`, and there is a mean and a sum for each channel.
#[inline(always)]
unsafe fn add_columns<P: ElementProduct>(
    product: P,
    x: *const P::Element,
    rows: usize,
    channels: usize,
    means: Option<&[f32]>,
    sums: &mut [f32],
) {
    let s = product.simd();
    let mut c = 0;
    while c < channels {
        let n = channels - c;
        // SAFETY: the channels from `c` on are there, WIDE vectors of them or up to one.
        unsafe {
            let (x, to) = (x.add(c), sums.as_mut_ptr().add(c));
            if n >= WIDE * P::Simd::LANES {
                let sums = match means {
                    None => wide_sums(product, x, rows, channels, [s.zero(); WIDE], |x, _| x),
                    Some(means) => {
                        let mut mean = [s.zero(); WIDE];
                        for v in 0..WIDE {
                            mean[v] = s.load(means.as_ptr().add(c + v * P::Simd::LANES));
                        }
                        wide_sums(product, x, rows, channels, mean, |x, mean| {
                            let x = s.sub(x, mean);
                            s.mul(x, x)
                        })
                    }
                };
                for v in 0..WIDE {
                    let to = to.add(v * P::Simd::LANES);
                    s.store(to, s.add(s.load(to), sums[v]));
                }
                c += WIDE * P::Simd::LANES;
            } else {
                let sum = match means {
                    None => column_sum(product, x, rows, channels, n, |x| x),
                    Some(means) => {
                        let mean = s.load_up_to(means.as_ptr().add(c), n);
                        column_sum(product, x, rows, channels, n, |x| {
                            let x = s.sub(x, mean);
                            s.mul(x, x)
                        })
                    }
                };
                s.store_up_to(to, n, s.add(s.load_up_to(to, n), sum));
                c += P::Simd::LANES;
            }
        }
    }
}

/// Σ over rows of `map` of each of WIDE vectors at `x + row · stride`, and its number in `with`.
///
/// # Safety
/// The vectors can be read for every row.
#[inline(always)]
unsafe fn wide_sums<P: ElementProduct>(
    product: P,
    x: *const P::Element,
    rows: usize,
    stride: usize,
    with: [Reg<P>; WIDE],
    map: impl Fn(Reg<P>, Reg<P>) -> Reg<P>,
) -> [Reg<P>; WIDE] {
    let (s, lanes) = (product.simd(), P::Simd::LANES);
    let mut sums = [s.zero(); WIDE];
    for row in 0..rows {
        for v in 0..WIDE {
            // SAFETY: row < rows.
            let x = unsafe { product.load_up_to(x.add(row * stride + v * lanes), lanes) };
            sums[v] = s.add(sums[v], map(x, with[v]));
        }
    }
    sums
}

/// The factors of [`affine`]: scale = weight / √(variance + `eps`) and shift = bias − mean · scale for each channel.
///
/// # Panics
/// If a slice has not a number for each channel.
pub fn scale_and_shift(
    weight: &[f32],
    bias: &[f32],
    mean: &[f32],
    variance: &[f32],
    eps: f32,
    scale: &mut [f32],
    shift: &mut [f32],
) {
    let channels = weight.len();
    assert!([bias, mean, variance, &*scale, &*shift].iter().all(|numbers| numbers.len() == channels));
    for c in 0..channels {
        let exact = f64::from(weight[c]) / (f64::from(variance[c]) + f64::from(eps)).sqrt();
        scale[c] = exact as f32;
        shift[c] = (f64::from(bias[c]) - f64::from(mean[c]) * exact) as f32;
    }
}

/// Moves running statistics towards those of a batch: running = (1 − `momentum`) · running + `momentum` · batch, with the
/// unbiased variance of the `count` rows whose biased one is `variance`, as torch's `BatchNorm2d` does.
///
/// # Panics
/// If a slice has not a number for each channel.
pub fn update_running(
    momentum: f32,
    count: usize,
    mean: &[f32],
    variance: &[f32],
    running_mean: &mut [f32],
    running_variance: &mut [f32],
) {
    let unbiased = count as f32 / (count as f32 - 1.0);
    let follow = |running: &mut [f32], batch: &[f32], factor: f32| {
        assert_eq!(running.len(), batch.len());
        for (running, batch) in running.iter_mut().zip(batch) {
            *running = (1.0 - momentum) * *running + momentum * (batch * factor);
        }
    };
    follow(running_mean, mean, 1.0);
    follow(running_variance, variance, unbiased);
}

/// y = x · scale + shift for each channel, plus `add`, then ReLU if `relu`: batch normalisation once its statistics are
/// known.
///
/// # Panics
/// If a slice has not the length stated.
pub fn affine<E: Element>(
    isa: Isa,
    pool: &Pool,
    x: &[E],
    scale: &[f32],
    shift: &[f32],
    add: Option<&[E]>,
    relu: bool,
    y: &mut [E],
) {
    E::affine(isa, pool, x, [scale, shift], add, relu, y);
}

pub(crate) fn affine_of<E: Element>(
    isa: Isa,
    pool: &Pool,
    x: &[E],
    [scale, shift]: [&[f32]; 2],
    add: Option<&[E]>,
    relu: bool,
    y: &mut [E],
) {
    let channels = scale.len();
    assert!(shift.len() == channels && y.len() == x.len() && x.len().is_multiple_of(channels));
    assert!(add.is_none_or(|add| add.len() == x.len()));
    let non_temporal = is_non_temporal(y, channels);
    for_rows(pool, channels, y, |range, y| {
        let (x, add) = (&x[range.clone()], add.map(|add| &add[range.clone()]));
        E::run(isa, Affine { x, scale, shift, add, relu, non_temporal, y });
    });
}

struct Affine<'a, E> {
    x: &'a [E],
    scale: &'a [f32],
    shift: &'a [f32],
    add: Option<&'a [E]>,
    relu: bool,
    /// Whether `y`, in whole vectors then, is stored with non-temporal stores.
    non_temporal: bool,
    y: &'a mut [E],
}

impl<E: Element> ElementKernel<E> for Affine<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        let s = product.simd();
        let channels = self.scale.len();
        let mut start = 0;
        while start < self.x.len() {
            let mut c = 0;
            while c < channels {
                let (n, at) = (channels - c, start + c);
                // SAFETY: `at` starts `n` channels of a row that all of the tensors have.
                unsafe {
                    let scale = s.load_up_to(self.scale.as_ptr().add(c), n);
                    let shift = s.load_up_to(self.shift.as_ptr().add(c), n);
                    let mut y = s.mul_add(product.load_up_to(self.x.as_ptr().add(at), n), scale, shift);
                    if let Some(add) = self.add {
                        y = s.add(y, product.load_up_to(add.as_ptr().add(at), n));
                    }
                    if self.relu {
                        y = s.max(y, s.zero());
                    }
                    let to = self.y.as_mut_ptr().add(at);
                    if self.non_temporal { product.store_non_temporal(to, y) } else { product.store_up_to(to, n, y) }
                }
                c += P::Simd::LANES;
            }
            start += channels;
        }
        if self.non_temporal {
            s.store_fence();
        }
    }
}

/// Where the gradient of a ReLU after the batch normalisation is zero.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a, E = f32> {
    /// There was no ReLU.
    None,
    /// Where its result is not positive.
    Result(&'a [E]),
    /// Where x · scale + shift is not positive: nothing was added before the ReLU.
    Affine {
        /// The scale of each channel.
        scale: &'a [f32],
        /// The shift of each channel.
        shift: &'a [f32],
    },
}

impl<E> Mask<'_, E> {
    /// Whether it fits tensors of `len` with this many channels.
    fn fits(&self, len: usize, channels: usize) -> bool {
        match self {
            Mask::None => true,
            Mask::Result(y) => y.len() == len,
            Mask::Affine { scale, shift } => scale.len() == channels && shift.len() == channels,
        }
    }
}

/// The sums that the gradient of a batch normalisation needs: Σ dy and Σ dy · (x − mean) for each channel, with `dy`
/// taken as zero where `mask` says so. With [`Mask::Result`] those zeros are written to `dy`. `workspace` has at least
/// [`crate::rows::workspace_len`]`(channels)` floats.
///
/// # Panics
/// If a slice has not the length stated.
pub fn backward_sums<E: Element>(
    isa: Isa,
    pool: &Pool,
    dy: &mut [E],
    mask: Mask<'_, E>,
    x: &[E],
    mean: &[f32],
    sum: &mut [f32],
    sum_x: &mut [f32],
    workspace: &mut [f32],
) {
    E::backward_sums(isa, pool, dy, mask, x, mean, [sum, sum_x], workspace);
}

pub(crate) fn backward_sums_of<E: Element>(
    isa: Isa,
    pool: &Pool,
    dy: &mut [E],
    mask: Mask<'_, E>,
    x: &[E],
    mean: &[f32],
    [sum, sum_x]: [&mut [f32]; 2],
    workspace: &mut [f32],
) {
    let channels = mean.len();
    assert!(sum.len() == channels && sum_x.len() == channels && x.len().is_multiple_of(channels));
    assert!(dy.len() == x.len() && mask.fits(x.len(), channels));
    let dy = SharedMut::new(dy);
    let partial = for_blocks(pool, x.len(), channels, 2, workspace, |range, sums| {
        let mask = match mask {
            Mask::Result(y) => Mask::Result(&y[range.clone()]),
            other => other,
        };
        // Every task has its own rows.
        let dy = dy.offset(range.start);
        E::run(isa, BackwardSums { dy, mask, x: &x[range], mean, sums: SharedMut::new(sums) });
    });
    join(pool, partial, false, [sum, sum_x]);
}

struct BackwardSums<'a, E> {
    dy: SharedMut<'a, E>,
    mask: Mask<'a, E>,
    x: &'a [E],
    mean: &'a [f32],
    /// Those of dy, then those of dy · (x − mean).
    sums: SharedMut<'a>,
}

impl<E: Element> ElementKernel<E> for BackwardSums<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        let channels = self.mean.len();
        // SAFETY: this task's part.
        unsafe { self.sums.part(0..2 * channels) }.fill(0.0);
        for (first, count) in chunks(self.x.len() / channels, channels) {
            let rows = first..first + count;
            let mut c = 0;
            while c < channels {
                let n = channels - c;
                // SAFETY: the channels from `c` on are there, WIDE vectors of them or up to one.
                unsafe {
                    if n >= WIDE * P::Simd::LANES {
                        self.wide(product, rows.clone(), c);
                        c += WIDE * P::Simd::LANES;
                    } else {
                        self.narrow(product, rows.clone(), c, n);
                        c += P::Simd::LANES;
                    }
                }
            }
        }
    }
}

impl<E: Element> BackwardSums<'_, E> {
    /// Adds up WIDE vectors of channels from `c` on.
    ///
    /// # Safety
    /// There are as many channels.
    #[inline(always)]
    unsafe fn wide<P: ElementProduct<Element = E>>(&self, product: P, rows: Range<usize>, c: usize) {
        let s = product.simd();
        // SAFETY: the caller's promise, for each row.
        unsafe {
            let mut mean = [s.zero(); WIDE];
            for v in 0..WIDE {
                mean[v] = s.load(self.mean.as_ptr().add(c + v * P::Simd::LANES));
            }
            let (mut sum, mut sum_x) = ([s.zero(); WIDE], [s.zero(); WIDE]);
            for row in rows {
                for v in 0..WIDE {
                    let (value, x) = self.read(product, row, c + v * P::Simd::LANES, P::Simd::LANES);
                    sum[v] = s.add(sum[v], value);
                    sum_x[v] = s.mul_add(value, s.sub(x, mean[v]), sum_x[v]);
                }
            }
            for v in 0..WIDE {
                self.add(s, c + v * P::Simd::LANES, P::Simd::LANES, sum[v], sum_x[v]);
            }
        }
    }

    /// Adds up to a vector of channels from `c` on.
    ///
    /// # Safety
    /// There are `n` channels.
    #[inline(always)]
    unsafe fn narrow<P: ElementProduct<Element = E>>(&self, product: P, rows: Range<usize>, c: usize, n: usize) {
        let s = product.simd();
        // SAFETY: the caller's promise, for each row.
        unsafe {
            let mean = s.load_up_to(self.mean.as_ptr().add(c), n);
            let (mut sum, mut sum_x) = ([s.zero(); 2], [s.zero(); 2]);
            for row in rows {
                let (value, x) = self.read(product, row, c, n);
                sum[row % 2] = s.add(sum[row % 2], value);
                sum_x[row % 2] = s.mul_add(value, s.sub(x, mean), sum_x[row % 2]);
            }
            self.add(s, c, n, s.add(sum[0], sum[1]), s.add(sum_x[0], sum_x[1]));
        }
    }

    /// dy with the mask applied, and x.
    ///
    /// # Safety
    /// `row` has `n` channels from `c` on.
    #[inline(always)]
    unsafe fn read<P: ElementProduct<Element = E>>(
        &self,
        product: P,
        row: usize,
        c: usize,
        n: usize,
    ) -> (Reg<P>, Reg<P>) {
        let s = product.simd();
        let at = row * self.mean.len() + c;
        // SAFETY: the caller's promise; the masks fit the tensors.
        unsafe {
            let x = product.load_up_to(self.x.as_ptr().add(at), n);
            let dy = self.dy.at(at);
            let value = product.load_up_to(dy, n);
            let value = match self.mask {
                Mask::None => value,
                Mask::Result(y) => {
                    let value = s.where_positive(product.load_up_to(y.as_ptr().add(at), n), value);
                    product.store_up_to(dy, n, value);
                    value
                }
                Mask::Affine { scale, shift } => {
                    let (scale, shift) = (scale.as_ptr().add(c), shift.as_ptr().add(c));
                    let result = s.mul_add(x, s.load_up_to(scale, n), s.load_up_to(shift, n));
                    s.where_positive(result, value)
                }
            };
            (value, x)
        }
    }

    /// # Safety
    /// There are `n` channels from `c` on.
    #[inline(always)]
    unsafe fn add<S: Simd>(&self, s: S, c: usize, n: usize, sum: S::Reg, sum_x: S::Reg) {
        // SAFETY: the caller's promise; the sums of the second kind follow those of the first.
        unsafe {
            let (to, to_x) = (self.sums.at(c), self.sums.at(self.mean.len() + c));
            s.store_up_to(to, n, s.add(s.load_up_to(to, n), sum));
            s.store_up_to(to_x, n, s.add(s.load_up_to(to_x, n), sum_x));
        }
    }
}

/// The gradients of weight and bias, from the sums of [`backward_sums`]: Σ dy · (x − mean) / √(variance + `eps`), and Σ dy.
///
/// # Panics
/// If a slice has not a number for each channel.
pub fn parameter_gradients(
    variance: &[f32],
    eps: f32,
    [sum, sum_x]: [&[f32]; 2],
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
) {
    let channels = variance.len();
    assert!(sum.len() == channels && sum_x.len() == channels && weight_gradient.len() == channels);
    bias_gradient.copy_from_slice(sum);
    for c in 0..channels {
        let inverse = 1.0 / (f64::from(variance[c]) + f64::from(eps)).sqrt();
        weight_gradient[c] = (f64::from(sum_x[c]) * inverse) as f32;
    }
}

/// The coefficients a, b and c of the gradient dx = a · dy + b · x + c that [`backward_apply`] writes, from the sums of
/// [`backward_sums`]. `count` is the number of rows whose mean and variance these are; without it they are running
/// statistics, which do not depend on x.
///
/// # Panics
/// If a slice has not a number for each channel.
pub fn input_gradient_coefficients(
    weight: &[f32],
    mean: &[f32],
    variance: &[f32],
    eps: f32,
    [sum, sum_x]: [&[f32]; 2],
    count: Option<usize>,
    [a, b, c]: [&mut [f32]; 3],
) {
    let channels = weight.len();
    assert!([mean, variance, sum, sum_x, &*a, &*b, &*c].iter().all(|numbers| numbers.len() == channels));
    for channel in 0..channels {
        let inverse = 1.0 / (f64::from(variance[channel]) + f64::from(eps)).sqrt();
        let scale = f64::from(weight[channel]) * inverse;
        let (of_x, mean_dy) = match count {
            None => (0.0, 0.0),
            Some(count) => {
                let (sum, sum_x) = (f64::from(sum[channel]), f64::from(sum_x[channel]));
                (-scale * inverse * inverse * sum_x / count as f64, sum / count as f64)
            }
        };
        a[channel] = scale as f32;
        b[channel] = of_x as f32;
        c[channel] = (-scale * mean_dy - of_x * f64::from(mean[channel])) as f32;
    }
}

/// dx = dy · a + x · b + c for each channel; without `dy`, in place: `dx` holds dy. Added to `dx` if `accumulate`. With
/// `mask`, a scale and a shift, dy counts as zero where x · scale + shift is not positive.
///
/// # Panics
/// If a slice has not the length stated, or if `dx` is to hold both `dy` and an earlier gradient.
pub fn backward_apply<E: Element>(
    isa: Isa,
    pool: &Pool,
    dy: Option<&[E]>,
    x: &[E],
    coefficients: [&[f32]; 3],
    mask: Option<[&[f32]; 2]>,
    accumulate: bool,
    dx: &mut [E],
) {
    E::backward_apply(isa, pool, dy, x, coefficients, mask, accumulate, dx);
}

pub(crate) fn backward_apply_of<E: Element>(
    isa: Isa,
    pool: &Pool,
    dy: Option<&[E]>,
    x: &[E],
    coefficients: [&[f32]; 3],
    mask: Option<[&[f32]; 2]>,
    accumulate: bool,
    dx: &mut [E],
) {
    let channels = coefficients[0].len();
    assert!(coefficients.iter().chain(mask.iter().flatten()).all(|numbers| numbers.len() == channels));
    assert!(x.len().is_multiple_of(channels) && dx.len() == x.len());
    assert!(dy.is_none_or(|dy| dy.len() == x.len()) && !(dy.is_none() && accumulate));
    let non_temporal = dy.is_some() && !accumulate && is_non_temporal(dx, channels);
    for_rows(pool, channels, dx, |range, dx| {
        let (dy, x) = (dy.map(|dy| &dy[range.clone()]), &x[range.clone()]);
        E::run(isa, BackwardApply { dy, x, coefficients, mask, accumulate, non_temporal, dx });
    });
}

struct BackwardApply<'a, E> {
    dy: Option<&'a [E]>,
    x: &'a [E],
    coefficients: [&'a [f32]; 3],
    mask: Option<[&'a [f32]; 2]>,
    accumulate: bool,
    /// Whether `dx`, in whole vectors then, is stored with non-temporal stores.
    non_temporal: bool,
    dx: &'a mut [E],
}

impl<E: Element> ElementKernel<E> for BackwardApply<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        let s = product.simd();
        let (channels, dx) = (self.coefficients[0].len(), self.dx.as_mut_ptr());
        let dy = self.dy.map_or(dx.cast_const(), <[E]>::as_ptr);
        let mut start = 0;
        while start < self.x.len() {
            let mut channel = 0;
            while channel < channels {
                let (n, at) = (channels - channel, start + channel);
                // SAFETY: `at` starts `n` channels of a row that all of the tensors have; there is a number of each kind
                // for each channel.
                unsafe {
                    let number = |numbers: &[f32]| s.load_up_to(numbers.as_ptr().add(channel), n);
                    let [a, b, c] = self.coefficients.map(number);
                    let x = product.load_up_to(self.x.as_ptr().add(at), n);
                    let mut value = product.load_up_to(dy.add(at), n);
                    if let Some([scale, shift]) = self.mask {
                        value = s.where_positive(s.mul_add(x, number(scale), number(shift)), value);
                    }
                    value = s.mul_add(value, a, s.mul_add(x, b, c));
                    let to = dx.add(at);
                    if self.accumulate {
                        value = s.add(value, product.load_up_to(to, n));
                    }
                    if self.non_temporal {
                        product.store_non_temporal(to, value)
                    } else {
                        product.store_up_to(to, n, value)
                    }
                }
                channel += P::Simd::LANES;
            }
            start += channels;
        }
        if self.non_temporal {
            s.store_fence();
        }
    }
}
