//! Layer normalisation against its definition and finite differences.

use crate::{close, dot, same_on_any_pool, slopes, stamp, uniform};
use residual_kernels::rows::workspace_len;
use residual_kernels::{Isa, layer_norm, reference};
use residual_threads::Pool;

stamp!(
    layer_norms_are_the_definition,
    gradients_are_the_definition_and_finite_differences,
    far_means_keep_their_digits
);

/// Rows × channels that fill no vector, one, several chains of them, and more than one block.
const SIZES: [(usize, usize); 9] = [(1, 1), (3, 2), (5, 15), (4, 16), (7, 33), (2, 64), (50, 96), (9, 200), (3000, 40)];

const EPS: f32 = 1e-3;

struct Case {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
}

fn case(rows: usize, channels: usize) -> Case {
    let weight = uniform(2, channels).iter().map(|w| w + 1.5).collect();
    let (x, dy) = (uniform(1, rows * channels), uniform(4, rows * channels));
    Case { x, weight, bias: uniform(3, channels), dy }
}

fn forward(isa: Isa, pool: &Pool, case: &Case, x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len()];
    layer_norm::forward(isa, pool, x, &case.weight, &case.bias, EPS, &mut y);
    y
}

/// dx, dweight and dbias, one after the other.
fn backward(isa: Isa, pool: &Pool, case: &Case, accumulate: bool, dx: &[f32]) -> Vec<f32> {
    let Case { x, weight, dy, .. } = case;
    let channels = weight.len();
    let mut dx = dx.to_vec();
    let (mut dweight, mut dbias) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
    let mut workspace = vec![f32::NAN; workspace_len(channels)];
    let gradients = Some([&mut dweight[..], &mut dbias]);
    layer_norm::backward(isa, pool, x, weight, EPS, dy, accumulate, &mut dx, gradients, &mut workspace);
    [dx, dweight, dbias].concat()
}

fn layer_norms_are_the_definition(isa: Isa) {
    for (rows, channels) in SIZES {
        let (case, what) = (case(rows, channels), format!("{rows} x {channels}"));
        let got = same_on_any_pool(&what, |pool| forward(isa, pool, &case, &case.x));
        close(&got, &reference::layer_norm(&case.x, &case.weight, &case.bias, EPS), 2e-6, &what);
    }
}

fn gradients_are_the_definition_and_finite_differences(isa: Isa) {
    for (rows, channels) in SIZES {
        let (case, what) = (case(rows, channels), format!("{rows} x {channels}"));
        let unset = vec![f32::NAN; case.x.len()];
        let got = same_on_any_pool(&what, |pool| backward(isa, pool, &case, false, &unset));
        let [dx, dweight, dbias] = reference::layer_norm_backward(&case.x, &case.weight, EPS, &case.dy);
        let (got_dx, got_parameters) = got.split_at(dx.len());
        close(got_dx, &dx, 5e-6, &what);
        close(got_parameters, &[dweight, dbias].concat(), 5e-6, &what);
        let before = uniform(5, dx.len());
        let sum = same_on_any_pool(&what, |pool| backward(isa, pool, &case, true, &before));
        close(&sum[..dx.len()], &reference::accumulate(&before, &dx), 5e-6, &format!("accumulated: {what}"));
        if channels > 2 {
            slopes(&what, &case.x, &dx, 1e-3, 5e-3, |x| {
                let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
                dot(&reference::layer_norm(&x, &case.weight, &case.bias, EPS), &case.dy)
            });
        }
    }
}

/// A mean a thousand times the deviation: squares are taken of what is left of it.
fn far_means_keep_their_digits(isa: Isa) {
    let mut case = case(6, 100);
    case.x.iter_mut().for_each(|x| *x += 1000.0);
    let got = forward(isa, &Pool::new(1), &case, &case.x);
    close(&got, &reference::layer_norm(&case.x, &case.weight, &case.bias, EPS), 1e-3, "far mean");
}
