//! Batch normalisation against its naive twins, finite differences and statistics with a large mean.

use crate::{close, same_on_any_pool, slopes, stamp, uniform};
use residual_kernels::batch_norm::{self, Mask};
use residual_kernels::rows::{column_sums, workspace_len};
use residual_kernels::{Isa, reference};
use residual_tensor::{AlignedBuffer, Stream};
use residual_threads::Pool;

stamp!(
    statistics_are_the_definition,
    statistics_survive_a_large_mean,
    affine_applies_in_order,
    backward_sums_are_the_definition,
    backward_apply_is_the_definition,
    column_sums_are_the_definition,
    gradients_are_the_definition,
    training_gradients_are_finite_differences,
    frozen_gradients_are_finite_differences,
    nan_passes_relu,
    results_of_non_temporal_stores_are_the_same,
);

/// Rows and channels: fewer rows than one unrolled step, channels that fill no vector, several blocks and tasks.
const MATRICES: [(usize, usize); 11] =
    [(1, 1), (2, 64), (7, 3), (5, 16), (33, 17), (9, 33), (70, 64), (1000, 70), (40_001, 1), (700, 1000), (12_345, 3)];

/// More floats than the largest number of ordinary blocks holds, so that blocks grow.
const LARGE: (usize, usize) = (65_000, 130);

fn statistics(isa: Isa, pool: &Pool, x: &[f32], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut mean, mut variance) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
    let mut workspace = vec![f32::NAN; workspace_len(channels)];
    batch_norm::statistics(isa, pool, x, &mut mean, &mut variance, &mut workspace);
    (mean, variance)
}

fn affine(isa: Isa, pool: &Pool, x: &[f32], scale: &[f32], shift: &[f32], add: Option<&[f32]>, relu: bool) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len()];
    batch_norm::affine(isa, pool, x, scale, shift, add, relu, &mut y);
    y
}

/// Σ dy and Σ dy · (x − mean); masks `dy` where the mask is the ReLU's result.
fn backward_sums(
    isa: Isa,
    pool: &Pool,
    dy: &mut [f32],
    mask: Mask<'_>,
    x: &[f32],
    mean: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (mut sum, mut sum_x) = (vec![f32::NAN; mean.len()], vec![f32::NAN; mean.len()]);
    let mut workspace = vec![f32::NAN; workspace_len(mean.len())];
    batch_norm::backward_sums(isa, pool, dy, mask, x, mean, &mut sum, &mut sum_x, &mut workspace);
    (sum, sum_x)
}

fn statistics_are_the_definition(isa: Isa) {
    for (rows, channels) in MATRICES.into_iter().chain([LARGE]) {
        let x = uniform(1, rows * channels);
        let what = format!("{rows} x {channels}");
        let got = same_on_any_pool(&what, |pool| {
            let (mean, variance) = statistics(isa, pool, &x, channels);
            [mean, variance].concat()
        });
        let (mean, variance) = reference::statistics(&x, channels);
        close(&got, &[mean, variance].concat(), 1e-6, &what);
    }
}

/// With a mean a thousand deviations away, E[x²] − E[x]² in f32 would have no digit left.
fn statistics_survive_a_large_mean(isa: Isa) {
    for (rows, channels) in [(100_000, 1), (3000, 17), (20_000, 64), LARGE] {
        let mut stream = Stream::new(1, &[]);
        let x: Vec<f32> = (0..rows * channels).map(|_| 1000.0 + stream.normal()).collect();
        let (mean, variance) = statistics(isa, &Pool::new(2), &x, channels);
        let (true_mean, true_variance) = reference::statistics(&x, channels);
        for channel in 0..channels {
            let error = (mean[channel] - true_mean[channel]).abs();
            assert!(error < 1e-3, "{rows} x {channels}: mean of {channel} is off by {error}");
            let error = (variance[channel] / true_variance[channel] - 1.0).abs();
            assert!(error < 1e-3, "{rows} x {channels}: variance of {channel} is off by {error} of itself");
        }
    }
}

fn affine_applies_in_order(isa: Isa) {
    for (rows, channels) in MATRICES {
        let (x, add) = (uniform(1, rows * channels), uniform(2, rows * channels));
        let (scale, shift) = (uniform(3, channels), uniform(4, channels));
        for (add, relu) in [(None, false), (None, true), (Some(&add[..]), false), (Some(&add[..]), true)] {
            let what = format!("{rows} x {channels}, add {}, relu {relu}", add.is_some());
            let got = same_on_any_pool(&what, |pool| affine(isa, pool, &x, &scale, &shift, add, relu));
            close(&got, &reference::affine(&x, &scale, &shift, add, relu), 1e-6, &what);
        }
    }
}

fn backward_sums_are_the_definition(isa: Isa) {
    for (rows, channels) in MATRICES.into_iter().chain([LARGE]) {
        let (x, mean) = (uniform(1, rows * channels), uniform(2, channels));
        let (y, dy) = (uniform(3, x.len()), uniform(4, x.len()));
        let (scale, shift) = (uniform(5, channels), uniform(6, channels));
        let normalised = affine(isa, &Pool::new(1), &x, &scale, &shift, None, true);
        let masks = [Mask::None, Mask::Result(&y), Mask::Affine { scale: &scale, shift: &shift }];
        for (mask, result) in masks.into_iter().zip([None, Some(&y), Some(&normalised)]) {
            let what = format!("{rows} x {channels}, mask {mask:.3?}");
            let got = same_on_any_pool(&what, |pool| {
                let mut dy = dy.clone();
                let (sum, sum_x) = backward_sums(isa, pool, &mut dy, mask, &x, &mean);
                [sum, sum_x, dy].concat()
            });
            let masked = result.map_or(dy.clone(), |result| reference::relu_backward(result, &dy));
            let left = if matches!(mask, Mask::Result(_)) { &masked } else { &dy };
            assert_eq!(&got[2 * channels..], left, "{what}");
            let (sum, sum_x) = reference::backward_sums(&masked, &x, &mean);
            close(&got[..channels], &sum, 2e-5, &what);
            close(&got[channels..2 * channels], &sum_x, 2e-5, &what);
        }
    }
}

fn backward_apply_is_the_definition(isa: Isa) {
    for (rows, channels) in MATRICES {
        let (x, dy, before) = (uniform(1, rows * channels), uniform(2, rows * channels), uniform(3, rows * channels));
        let factors: [Vec<f32>; 3] = std::array::from_fn(|factor| uniform(4 + factor as u64, channels));
        let factors = factors.each_ref().map(|factor| &factor[..]);
        let (scale, shift) = (uniform(7, channels), uniform(8, channels));
        let normalised = affine(isa, &Pool::new(1), &x, &scale, &shift, None, true);
        let ways = [(false, false), (false, true), (true, false)];
        for ((in_place, accumulate), masked) in ways.into_iter().flat_map(|way| [(way, false), (way, true)]) {
            let what = format!("{rows} x {channels}, in place {in_place}, accumulate {accumulate}, masked {masked}");
            let mask = masked.then_some([&scale[..], &shift]);
            let counts = if masked { reference::relu_backward(&normalised, &dy) } else { dy.clone() };
            let plain = reference::backward_apply(&counts, &x, factors);
            let added = reference::accumulate(&plain, &before);
            let got = same_on_any_pool(&what, |pool| {
                let mut dx = if in_place { dy.clone() } else { before.clone() };
                let dy = (!in_place).then_some(&dy[..]);
                batch_norm::backward_apply(isa, pool, dy, &x, factors, mask, accumulate, &mut dx);
                dx
            });
            close(&got, if accumulate { &added } else { &plain }, 1e-6, &what);
        }
    }
}

fn column_sums_are_the_definition(isa: Isa) {
    for (rows, channels) in MATRICES {
        let x = uniform(1, rows * channels);
        let what = format!("{rows} x {channels}");
        let got = same_on_any_pool(&what, |pool| {
            let mut sums = vec![f32::NAN; channels];
            column_sums(isa, pool, &x, &mut sums, &mut vec![f32::NAN; workspace_len(channels)]);
            sums
        });
        close(&got, &reference::column_sums(&x, channels), 1e-6, &what);
    }
}

const EPS: f32 = 1e-5;

/// Batch normalisation with all of its gradients, composed of the kernels.
pub(crate) struct Norm {
    pub(crate) mean: Vec<f32>,
    pub(crate) variance: Vec<f32>,
    pub(crate) y: Vec<f32>,
    pub(crate) dx: Vec<f32>,
    pub(crate) dgamma: Vec<f32>,
    pub(crate) dbeta: Vec<f32>,
}

/// Runs it with the statistics of the batch, or with `frozen` ones.
pub(crate) fn batch_norm(
    isa: Isa,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    frozen: Option<(&[f32], &[f32])>,
    eps: f32,
    dy: &[f32],
) -> Norm {
    let (pool, channels) = (Pool::new(2), gamma.len());
    let (mean, variance) = match frozen {
        Some((mean, variance)) => (mean.to_vec(), variance.to_vec()),
        None => statistics(isa, &pool, x, channels),
    };
    let numbers = || vec![f32::NAN; channels];
    let (mut scale, mut shift) = (numbers(), numbers());
    batch_norm::scale_and_shift(gamma, beta, &mean, &variance, eps, &mut scale, &mut shift);
    let y = affine(isa, &pool, x, &scale, &shift, None, false);

    let (sum, sum_x) = backward_sums(isa, &pool, &mut dy.to_vec(), Mask::None, x, &mean);
    let (sums, count) = ([&sum[..], &sum_x], frozen.is_none().then_some(x.len() / channels));
    let (mut dgamma, mut dbeta) = (numbers(), numbers());
    batch_norm::parameter_gradients(&variance, eps, sums, &mut dgamma, &mut dbeta);
    let mut coefficients = [numbers(), numbers(), numbers()];
    let into = coefficients.each_mut().map(|numbers| &mut numbers[..]);
    batch_norm::input_gradient_coefficients(gamma, &mean, &variance, eps, sums, count, into);
    let mut dx = vec![f32::NAN; x.len()];
    let coefficients = coefficients.each_ref().map(|numbers| &numbers[..]);
    batch_norm::backward_apply(isa, &pool, Some(dy), x, coefficients, None, false, &mut dx);
    Norm { mean, variance, y, dx, dgamma, dbeta }
}

fn gradients_are_the_definition(isa: Isa) {
    for (rows, channels) in [(2, 64), (33, 17), (70, 64), (1000, 70), (12_345, 3)] {
        let (x, dy) = (uniform(1, rows * channels), uniform(2, rows * channels));
        let gamma: Vec<f32> = uniform(3, channels).iter().map(|gamma| 1.0 + gamma / 2.0).collect();
        let (beta, mean, variance) = (uniform(4, channels), uniform(5, channels), vec![0.7; channels]);
        for frozen in [None, Some((&mean[..], &variance[..]))] {
            let what = format!("{rows} x {channels}, frozen {}", frozen.is_some());
            let got = batch_norm(isa, &x, &gamma, &beta, frozen, EPS, &dy);
            let running = frozen.map(|(mean, variance)| [mean, variance]);
            let [dx, dgamma, dbeta] = reference::batch_norm_backward(&x, &gamma, EPS.into(), running, &dy);
            close(&got.dx, &dx, 1e-5, &format!("{what}: dx"));
            close(&got.dgamma, &dgamma, 1e-5, &format!("{what}: dgamma"));
            close(&got.dbeta, &dbeta, 1e-5, &format!("{what}: dbeta"));
        }
    }
}

/// Batch normalisation by its definition.
fn definition(x: &[f64], gamma: &[f64], beta: &[f64], frozen: Option<(&[f32], &[f32])>) -> Vec<f64> {
    let (channels, mut y) = (gamma.len(), x.to_vec());
    for channel in 0..channels {
        let column = || x.iter().skip(channel).step_by(channels);
        let rows = column().count() as f64;
        let (mean, variance) = match frozen {
            Some((mean, variance)) => (mean[channel].into(), variance[channel].into()),
            None => {
                let mean = column().sum::<f64>() / rows;
                (mean, column().map(|x| (x - mean).powi(2)).sum::<f64>() / rows)
            }
        };
        for y in y.iter_mut().skip(channel).step_by(channels) {
            *y = gamma[channel] * (*y - mean) / (variance + f64::from(EPS)).sqrt() + beta[channel];
        }
    }
    y
}

fn gradients_are_finite_differences(isa: Isa, frozen: bool) {
    for (rows, channels) in [(12, 1), (50, 3), (31, 17), (40, 70)] {
        let (x, seed) = (uniform(1, rows * channels), uniform(2, rows * channels));
        let gamma: Vec<f32> = uniform(3, channels).iter().map(|gamma| 1.0 + gamma / 2.0).collect();
        let beta = uniform(4, channels);
        let (mean, variance) = (uniform(5, channels), vec![0.7; channels]);
        let frozen = frozen.then_some((&mean[..], &variance[..]));
        let got = batch_norm(isa, &x, &gamma, &beta, frozen, EPS, &seed);

        let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<f64>>();
        let (wide_x, wide_gamma, wide_beta) = (wide(&x), wide(&gamma), wide(&beta));
        let y = definition(&wide_x, &wide_gamma, &wide_beta, frozen);
        close(&got.y, &y.iter().map(|y| *y as f32).collect::<Vec<f32>>(), 2e-6, "y");
        let loss = |y: Vec<f64>| y.iter().zip(&seed).map(|(y, seed)| y * f64::from(*seed)).sum::<f64>();
        let what = |of: &str| format!("{of} of {rows} x {channels}");
        slopes(&what("dx"), &x, &got.dx, 1e-5, 1e-5, |x| loss(definition(x, &wide_gamma, &wide_beta, frozen)));
        slopes(&what("dgamma"), &gamma, &got.dgamma, 1e-5, 1e-5, |gamma| {
            loss(definition(&wide_x, gamma, &wide_beta, frozen))
        });
        slopes(&what("dbeta"), &beta, &got.dbeta, 1e-5, 1e-5, |beta| {
            loss(definition(&wide_x, &wide_gamma, beta, frozen))
        });
    }
}

fn training_gradients_are_finite_differences(isa: Isa) {
    gradients_are_finite_differences(isa, false);
}

fn frozen_gradients_are_finite_differences(isa: Isa) {
    gradients_are_finite_differences(isa, true);
}

fn nan_passes_relu(isa: Isa) {
    let channels = 19;
    for channel in 0..channels {
        let mut x = uniform(1, 3 * channels);
        x[channels + channel] = f32::NAN;
        let y = affine(isa, &Pool::new(1), &x, &vec![1.0; channels], &vec![0.0; channels], None, true);
        let nans: Vec<usize> = (0..y.len()).filter(|&index| y[index].is_nan()).collect();
        assert_eq!(nans, [channels + channel]);
    }
}

/// Large results are stored with non-temporal stores where they begin at a cache line.
fn results_of_non_temporal_stores_are_the_same(isa: Isa) {
    let (len, channels) = (4 << 20, 64);
    let (x, other) = (uniform(1, len), uniform(2, len));
    let (a, b, c) = (uniform(3, channels), uniform(4, channels), uniform(5, channels));
    let mut y = AlignedBuffer::zeros(2 * len + 16);
    let (aligned, rest) = y.split_at_mut(len);
    let unaligned = &mut rest[1..][..len];
    let pool = Pool::new(2);
    for y in [&mut *aligned, &mut *unaligned] {
        batch_norm::affine(isa, &pool, &x, &a, &b, Some(&other), true, y);
    }
    assert!(aligned == unaligned && aligned.iter().any(|value| *value != 0.0), "affine");
    for dx in [&mut *aligned, &mut *unaligned] {
        batch_norm::backward_apply(isa, &pool, Some(&other), &x, [&a, &b, &c], None, false, dx);
    }
    assert!(aligned == unaligned && aligned.iter().any(|value| *value != 0.0), "backward_apply");
}
