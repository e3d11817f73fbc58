//! SGD and AdamW against their naive twins and steps worked out by hand; moving averages and the norm of a gradient against
//! their naive twins.

use crate::{close, same_on_any_pool, stamp, uniform};
use residual_kernels::optim::{AdamW, Sgd, adamw, lerp, scale, sgd, sum_of_squares};
use residual_kernels::{Isa, reference};
use residual_threads::Pool;

stamp!(
    steps_are_torch_s,
    steps_are_the_definition,
    adamw_steps_are_the_definition,
    adamw_forgets_the_size_of_gradients,
    averages_are_the_definition,
    an_average_of_weight_one_is_a_copy,
    sums_of_squares_are_the_definition,
    sums_of_squares_keep_large_and_small_parts,
    scaling_multiplies_every_value,
);

/// Less than a vector, less than one unrolled step, several tasks.
const LENGTHS: [usize; 11] = [0, 1, 3, 16, 17, 33, 64, 70, 16 << 10, (16 << 10) + 1, 50_001];

/// Every number is a sum of few powers of two, so f32 holds it exactly.
fn steps_are_torch_s(isa: Isa) {
    let plain = Sgd { lr: 0.5, momentum: 0.0, weight_decay: 0.0, nesterov: false };
    let decay = Sgd { weight_decay: 0.25, ..plain };
    let momentum = Sgd { momentum: 0.5, ..decay };
    let nesterov = Sgd { nesterov: true, ..momentum };
    // The value after gradients 1, -2 and 0.5, from 1.
    let cases = [
        (plain, [0.5, 1.5, 1.25]),
        // 1 - (1 + 1/4)/2; then g = -2 + 0.09375; then g = 0.5 + 0.33203125
        (decay, [0.375, 1.328_125, 0.912_109_375]),
        // v = 1.25; then g = -2 + 0.09375, v = -1.28125; then g = 0.75390625, v = 0.11328125
        (momentum, [0.375, 1.015_625, 0.958_984_375]),
        // step 1.25 + 0.625; then g = -1.984375, v = -1.359375; then g = 0.8486328125, v = 0.1689453125
        (nesterov, [0.0625, 1.394_531_25, 0.927_978_515_625]),
    ];
    for (step, expected) in cases {
        let (mut value, mut velocity) = ([1.0], [0.0]);
        for (gradient, expected) in [1.0, -2.0, 0.5].into_iter().zip(expected) {
            sgd(isa, &Pool::new(1), &mut value, &[gradient], &mut velocity, &step);
            assert_eq!(value.map(f64::from), [expected], "{step:?}");
        }
    }
}

fn steps_are_the_definition(isa: Isa) {
    for len in LENGTHS {
        for (momentum, weight_decay, nesterov) in [(0.0, 0.0, false), (0.9, 5e-4, false), (0.9, 5e-4, true)] {
            let step = Sgd { lr: 0.1, momentum, weight_decay, nesterov };
            let what = format!("{len} values, {step:?}");
            let gradients: Vec<Vec<f32>> = (0..5).map(|step| uniform(step, len)).collect();
            let got = same_on_any_pool(&what, |pool| {
                let (mut values, mut velocity) = (uniform(7, len), vec![0.0; len]);
                gradients.iter().for_each(|gradient| sgd(isa, pool, &mut values, gradient, &mut velocity, &step));
                [values, velocity].concat()
            });
            let (mut values, mut velocity) = (uniform(7, len), vec![0.0; len]);
            gradients.iter().for_each(|gradient| reference::sgd(&mut values, gradient, &mut velocity, &step));
            close(&got, &[values, velocity].concat(), 1e-6, &what);
        }
    }
}

fn adamw_steps_are_the_definition(isa: Isa) {
    let usual = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05 };
    let other = AdamW { lr: 0.1, beta1: 0.8, beta2: 0.95, eps: 1e-3, weight_decay: 0.0 };
    for len in LENGTHS {
        for rule in [usual, other] {
            let what = format!("{len} values, {rule:?}");
            let gradients: Vec<Vec<f32>> = (0..5).map(|step| uniform(step, len)).collect();
            let got = same_on_any_pool(&what, |pool| {
                let (mut values, mut first, mut second) = (uniform(7, len), vec![0.0; len], vec![0.0; len]);
                for (step, gradient) in (1..).zip(&gradients) {
                    adamw(isa, pool, &mut values, gradient, &mut first, &mut second, step, &rule);
                }
                [values, first, second].concat()
            });
            let (mut values, mut first, mut second) = (uniform(7, len), vec![0.0; len], vec![0.0; len]);
            for (step, gradient) in (1..).zip(&gradients) {
                reference::adamw(&mut values, gradient, &mut first, &mut second, step, &rule);
            }
            close(&got, &[values, first, second].concat(), 1e-6, &what);
        }
    }
}

/// The first step is `lr` against the gradient's sign, be the gradient large or small, once the bias is corrected.
fn adamw_forgets_the_size_of_gradients(isa: Isa) {
    let rule = AdamW { lr: 0.125, beta1: 0.9, beta2: 0.999, eps: 1e-12, weight_decay: 0.0 };
    let mut values = [0.0; 6];
    let gradients = [1e-6, -1e-3, 1.0, -1e3, 1e6, 0.0];
    let (mut first, mut second) = ([0.0; 6], [0.0; 6]);
    adamw(isa, &Pool::new(1), &mut values, &gradients, &mut first, &mut second, 1, &rule);
    close(&values, &[-0.125, 0.125, -0.125, 0.125, -0.125, 0.0], 1e-6, "first step");
}

fn averages_are_the_definition(isa: Isa) {
    for len in LENGTHS {
        for weight in [0.0, 2e-4, 0.3, 0.5, 0.9, 1.0] {
            let what = format!("{len} values, weight {weight}");
            let values: Vec<Vec<f32>> = (0..5).map(|step| uniform(step, len)).collect();
            let got = same_on_any_pool(&what, |pool| {
                let mut average = uniform(7, len);
                values.iter().for_each(|values| lerp(isa, pool, &mut average, values, weight));
                average
            });
            let mut expected = uniform(7, len);
            values.iter().for_each(|values| reference::lerp(&mut expected, values, weight));
            close(&got, &expected, 1e-6, &what);
        }
    }
}

/// Also where the difference of average and value is rounded.
fn an_average_of_weight_one_is_a_copy(isa: Isa) {
    let mut average = [1e8, -3.0, 0.1];
    lerp(isa, &Pool::new(1), &mut average, &[0.3, 1e8, -0.7], 1.0);
    assert_eq!(average, [0.3, 1e8, -0.7]);
}

fn sums_of_squares_are_the_definition(isa: Isa) {
    // The last is more than the largest number of the smallest blocks.
    for len in LENGTHS.into_iter().chain([((256 * 16) << 10) + 1025]) {
        let x = uniform(3, len);
        let expected = reference::sum_of_squares(&x);
        let sums = [1, 2, 3].map(|threads| sum_of_squares(isa, &Pool::new(threads), &x));
        assert_eq!(sums.map(f64::to_bits), [sums[0].to_bits(); 3], "{len} values");
        assert!((sums[0] - expected).abs() <= 1e-6 * expected, "{len} values: {expected}, got {}", sums[0]);
    }
}

/// A value of 2²⁰ and a million of 1: an f32 that holds the former's square does not count the latter.
fn sums_of_squares_keep_large_and_small_parts(isa: Isa) {
    let mut x = vec![1.0; 1_000_001];
    x[0] = 1_048_576.0;
    let small = sum_of_squares(isa, &Pool::new(2), &x) - reference::sum_of_squares(&x[..1]);
    // The large value swallows its chunk.
    assert!((small - 1e6).abs() <= 1024.0, "{small}");
    x[1_000_000] = f32::NAN;
    assert!(sum_of_squares(isa, &Pool::new(2), &x).is_nan());
    x[1_000_000] = f32::INFINITY;
    assert_eq!(sum_of_squares(isa, &Pool::new(2), &x), f64::INFINITY);
}

fn scaling_multiplies_every_value(isa: Isa) {
    for len in LENGTHS {
        let x = uniform(4, len);
        let got = same_on_any_pool(&format!("{len} values"), |pool| {
            let mut x = x.clone();
            scale(isa, pool, &mut x, 0.3);
            x
        });
        assert_eq!(got, x.iter().map(|x| x * 0.3).collect::<Vec<_>>());
    }
}
