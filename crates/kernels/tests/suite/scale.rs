//! Products with one factor per channel against their definition.

use crate::{close, dot, same_on_any_pool, stamp, uniform};
use residual_kernels::rows::workspace_len;
use residual_kernels::{Isa, reference, scale};
use residual_threads::Pool;

stamp!(products_are_the_definition, sums_are_the_definition, sums_are_the_gradient_of_factors);

/// Images, rows of each, channels, whether every image has factors of its own.
const SIZES: [(usize, usize, usize, bool); 9] = [
    (1, 1, 1, false),
    (2, 3, 5, true),
    (2, 3, 5, false),
    (3, 49, 17, true),
    (300, 4, 8, true),
    (4, 400, 64, true),
    (4, 400, 64, false),
    (2, 1, 33, true),
    (7, 900, 40, false),
];

struct Case {
    what: String,
    channels: usize,
    x: Vec<f32>,
    other: Vec<f32>,
    factors: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let case = |(images, rows, channels, own)| Case {
        what: format!("{images} x {rows} x {channels}, factors for each image: {own}"),
        channels,
        x: uniform(1, images * rows * channels),
        other: uniform(2, images * rows * channels),
        factors: uniform(3, if own { images * channels } else { channels }),
    };
    SIZES.into_iter().map(case).collect()
}

fn products_are_the_definition(isa: Isa) {
    for Case { what, channels, x, other, factors } in cases() {
        let product = reference::scale(&x, &factors, channels);
        let sum = reference::accumulate(&product, &other);
        for (add, accumulate, relu) in [
            (false, false, false),
            (false, false, true),
            (true, false, false),
            (true, false, true),
            (false, true, false),
        ] {
            let what = format!("{what}; add {add}, accumulate {accumulate}, relu {relu}");
            let got = same_on_any_pool(&what, |pool| {
                let mut y = if accumulate { other.clone() } else { vec![f32::NAN; x.len()] };
                let add = add.then_some(&other[..]);
                scale::forward(isa, pool, &x, &factors, channels, add, accumulate, relu, &mut y);
                y
            });
            let expected = if add || accumulate { &sum } else { &product };
            let expected = if relu { reference::relu(expected) } else { expected.clone() };
            close(&got, &expected, 1e-6, &what);
        }
    }
}

fn sums(isa: Isa, pool: &Pool, case: &Case, accumulate: bool, before: &[f32]) -> Vec<f32> {
    let Case { channels, x, other, .. } = case;
    let mut sums = before.to_vec();
    let mut workspace = vec![f32::NAN; workspace_len(*channels)];
    scale::sums(isa, pool, x, other, *channels, accumulate, &mut sums, &mut workspace);
    sums
}

fn sums_are_the_definition(isa: Isa) {
    for case in cases() {
        let what = &case.what;
        let expected = reference::scale_sums(&case.x, &case.other, case.factors.len(), case.channels);
        let unset = vec![f32::NAN; expected.len()];
        let got = same_on_any_pool(what, |pool| sums(isa, pool, &case, false, &unset));
        close(&got, &expected, 1e-6, what);
        let got = same_on_any_pool(what, |pool| sums(isa, pool, &case, true, &case.factors));
        close(&got, &reference::accumulate(&case.factors, &expected), 1e-6, &format!("accumulated: {what}"));
    }
}

/// ⟨x · f, dy⟩ = ⟨f, sums⟩.
fn sums_are_the_gradient_of_factors(isa: Isa) {
    for case in cases() {
        let pool = Pool::new(2);
        let mut y = vec![f32::NAN; case.x.len()];
        scale::forward(isa, &pool, &case.x, &case.factors, case.channels, None, false, false, &mut y);
        let gradient = sums(isa, &pool, &case, false, &vec![0.0; case.factors.len()]);
        let (forward, backward) = (dot(&y, &case.other), dot(&case.factors, &gradient));
        assert!((forward - backward).abs() < 1e-5 * (case.x.len() as f64).sqrt(), "{}", case.what);
    }
}
