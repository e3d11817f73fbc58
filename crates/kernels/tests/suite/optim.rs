//! Optimiser steps against their naive twins and steps worked out by hand; moving averages and clipping against their naive
//! twins.

use crate::{close, same_on_any_pool, stamp, uniform};
use residual_kernels::optim::{
    Adam, BucketOrder, Lamb, Lion, Orthogonalisation, RmsProp, Sgd, adam, clamp, clip_units, lamb_direction, lerp,
    lion, nadam, rmsprop, scale, sgd, step_along, sum_of_squares,
};
use residual_kernels::{Isa, reference};
use residual_threads::Pool;

stamp!(
    steps_are_torch_s,
    steps_are_the_definition,
    adam_steps_are_the_definition,
    nadam_steps_are_the_definition,
    late_nadam_steps_are_the_definition,
    rmsprop_steps_are_the_definition,
    lion_steps_are_the_definition,
    lion_steps_by_signs,
    lamb_directions_are_the_definition,
    steps_along_a_direction_decay_the_value,
    orthogonalisation_is_the_definition,
    orthogonalisation_brings_singular_values_near_one,
    units_are_clipped_by_their_norms,
    clamping_limits_every_value,
    adam_forgets_the_size_of_gradients,
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

/// Values, gradients and state of a step.
struct Buffers {
    values: Vec<f32>,
    gradients: Vec<f32>,
    state: [Vec<f32>; 2],
}

/// Takes five steps with `step` on every instruction set and pool, and with `naive`; the state starts at `initial`. Steps count
/// from 1.
fn follows(
    what: &str,
    initial: [f32; 2],
    tolerance: f32,
    step: impl Fn(&Pool, &mut Buffers, u64),
    naive: impl Fn(&mut Buffers, u64),
) {
    for len in LENGTHS {
        let what = format!("{what}, {len} values");
        let steps = |take: &dyn Fn(&mut Buffers, u64)| {
            let state = initial.map(|initial| vec![initial; len]);
            let mut buffers = Buffers { values: uniform(7, len), gradients: Vec::new(), state };
            for step in 1..=5 {
                // Gradients of several sizes, so that the second moments differ.
                buffers.gradients = uniform(step, len).iter().map(|gradient| gradient * step as f32).collect();
                take(&mut buffers, step);
            }
            let Buffers { values, gradients, state: [first, second] } = buffers;
            [values, gradients, first, second].concat()
        };
        let got = same_on_any_pool(&what, |pool| steps(&|buffers, number| step(pool, buffers, number)));
        close(&got, &steps(&naive), tolerance, &what);
    }
}

fn steps_are_the_definition(isa: Isa) {
    for (momentum, weight_decay, nesterov) in [(0.0, 0.0, false), (0.9, 5e-4, false), (0.9, 5e-4, true)] {
        let rule = Sgd { lr: 0.1, momentum, weight_decay, nesterov };
        follows(
            &format!("{rule:?}"),
            [0.0; 2],
            1e-6,
            |pool, Buffers { values, gradients, state: [velocity, _] }, _| {
                sgd(isa, pool, values, gradients, velocity, &rule);
            },
            |Buffers { values, gradients, state: [velocity, _] }, _| {
                reference::sgd(values, gradients, velocity, &rule);
            },
        );
    }
}

fn adams() -> [Adam; 3] {
    let usual = Adam { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05, decoupled: true };
    [
        usual,
        Adam { decoupled: false, ..usual },
        Adam { lr: 0.1, beta1: 0.8, beta2: 0.95, eps: 1e-3, weight_decay: 0.0, decoupled: false },
    ]
}

fn adam_steps_are_the_definition(isa: Isa) {
    for rule in adams() {
        follows(
            &format!("{rule:?}"),
            [0.0; 2],
            1e-6,
            |pool, Buffers { values, gradients, state: [first, second] }, step| {
                adam(isa, pool, values, gradients, first, second, step, &rule);
            },
            |Buffers { values, gradients, state: [first, second] }, step| {
                reference::adam(values, gradients, first, second, step, &rule);
            },
        );
    }
}

fn nadam_steps_are_the_definition(isa: Isa) {
    for rule in adams() {
        follows(
            &format!("nadam, {rule:?}"),
            [0.0; 2],
            1e-6,
            |pool, Buffers { values, gradients, state: [first, second] }, step| {
                nadam(isa, pool, values, gradients, first, second, step, &rule);
            },
            |Buffers { values, gradients, state: [first, second] }, step| {
                reference::nadam(values, gradients, first, second, step, &rule);
            },
        );
    }
}

/// Far into a run the product of the momentum schedule has vanished.
fn late_nadam_steps_are_the_definition(isa: Isa) {
    for rule in adams() {
        for step in [40, 400, 4000] {
            let buffers = || (uniform(1, 9), uniform(2, 9), uniform(3, 9), vec![0.5; 9]);
            let (mut got, gradients, mut first, mut second) = buffers();
            nadam(isa, &Pool::new(1), &mut got, &gradients, &mut first, &mut second, step, &rule);
            let (mut expected, gradients, mut first, mut second) = buffers();
            reference::nadam(&mut expected, &gradients, &mut first, &mut second, step, &rule);
            close(&got, &expected, 1e-6, &format!("{rule:?}, step {step}"));
        }
    }
}

fn rmsprop_steps_are_the_definition(isa: Isa) {
    for (tensorflow, eps) in [(false, 1e-8), (false, 0.1), (true, 1e-10), (true, 0.1)] {
        for (momentum, weight_decay) in [(0.0, 0.0), (0.9, 0.05)] {
            let rule = RmsProp { lr: 0.01, alpha: 0.9, eps, momentum, weight_decay, tensorflow };
            follows(
                &format!("{rule:?}"),
                [if tensorflow { 1.0 } else { 0.0 }, 0.0],
                2e-6,
                |pool, Buffers { values, gradients, state: [average, buffer] }, _| {
                    rmsprop(isa, pool, values, gradients, average, buffer, &rule);
                },
                |Buffers { values, gradients, state: [average, buffer] }, _| {
                    reference::rmsprop(values, gradients, average, buffer, &rule);
                },
            );
        }
    }
}

fn lion_steps_are_the_definition(isa: Isa) {
    for weight_decay in [0.0, 0.1] {
        let rule = Lion { lr: 0.01, beta1: 0.9, beta2: 0.99, weight_decay };
        follows(
            &format!("{rule:?}"),
            [0.0; 2],
            1e-6,
            |pool, Buffers { values, gradients, state: [average, _] }, _| {
                lion(isa, pool, values, gradients, average, &rule);
            },
            |Buffers { values, gradients, state: [average, _] }, _| {
                reference::lion(values, gradients, average, &rule);
            },
        );
    }
}

/// The sign of zero is zero, and a gradient that is not finite is not hidden by its sign.
fn lion_steps_by_signs(isa: Isa) {
    let rule = Lion { lr: 0.5, beta1: 0.5, beta2: 0.5, weight_decay: 0.0 };
    let mut values = [1.0; 7];
    let gradients = [0.0, 1e-30, -1e-30, 5.0, -5.0, f32::NAN, f32::INFINITY];
    lion(isa, &Pool::new(1), &mut values, &gradients, &mut [0.0; 7], &rule);
    assert_eq!(values[..5], [1.0, 0.5, 1.5, 0.5, 1.5]);
    assert!(values[5].is_nan() && values[6].is_nan(), "{values:?}");
}

fn lamb_directions_are_the_definition(isa: Isa) {
    for (clip, weight_decay) in [(1.0, 0.0), (0.25, 0.02)] {
        let rule = Lamb { beta1: 0.9, beta2: 0.999, eps: 1e-6, weight_decay, clip };
        follows(
            &format!("{rule:?}"),
            [0.0; 2],
            1e-6,
            |pool, Buffers { values, gradients, state: [first, second] }, step| {
                lamb_direction(isa, pool, values, gradients, first, second, step, &rule);
                step_along(isa, pool, values, gradients, 0.0, -0.01);
            },
            |Buffers { values, gradients, state: [first, second] }, step| {
                reference::lamb_direction(values, gradients, first, second, step, &rule);
                values.iter_mut().zip(gradients).for_each(|(value, direction)| *value -= 0.01 * *direction);
            },
        );
    }
}

fn steps_along_a_direction_decay_the_value(isa: Isa) {
    for len in LENGTHS {
        let (values, direction) = (uniform(1, len), uniform(2, len));
        let got = same_on_any_pool("along", |pool| {
            let mut values = values.clone();
            step_along(isa, pool, &mut values, &direction, -0.25, 0.5);
            values
        });
        let expected: Vec<f32> = values.iter().zip(&direction).map(|(value, d)| 0.75 * value + 0.5 * d).collect();
        close(&got, &expected, 1e-6, "along");
    }
}

/// Weights in torch's order as the engine has them.
fn in_order(x: &[f32], BucketOrder { groups, rows, outputs }: BucketOrder) -> Vec<f32> {
    let at = |group: usize, row: usize, output: usize| x[(group * outputs + output) * rows + row];
    let row = |group: usize, row: usize| (0..outputs).map(move |output| at(group, row, output));
    (0..groups).flat_map(|group| (0..rows).flat_map(move |index| row(group, index))).collect()
}

const ORDERS: [BucketOrder; 9] = [
    BucketOrder { groups: 1, rows: 1, outputs: 1 },
    BucketOrder { groups: 1, rows: 27, outputs: 16 },
    BucketOrder { groups: 1, rows: 16, outputs: 27 },
    BucketOrder { groups: 1, rows: 33, outputs: 33 },
    BucketOrder { groups: 1, rows: 576, outputs: 64 },
    BucketOrder { groups: 1, rows: 10, outputs: 300 },
    BucketOrder { groups: 4, rows: 36, outputs: 3 },
    BucketOrder { groups: 24, rows: 9, outputs: 1 },
    BucketOrder { groups: 5, rows: 7, outputs: 16 },
];

fn orthogonalisation_is_the_definition(isa: Isa) {
    for order in ORDERS {
        let outputs = order.groups * order.outputs;
        let x = uniform(5, outputs * order.rows);
        let plan = Orthogonalisation::new(isa, order);
        let got = same_on_any_pool(&format!("{order:?}"), |pool| {
            let mut bucket = in_order(&x, order);
            let mut workspace = vec![f32::NAN; plan.workspace_len(pool.threads())];
            plan.run(pool, &mut bucket, &mut workspace);
            bucket
        });
        let expected = in_order(&reference::orthogonalise(&x, [outputs, order.rows]), order);
        close(&got, &expected, 1e-4, &format!("{order:?}"));
    }
}

/// Five iterations bring the singular values near one: those of a diagonal matrix are its elements.
fn orthogonalisation_brings_singular_values_near_one(isa: Isa) {
    let order = BucketOrder { groups: 1, rows: 3, outputs: 3 };
    let mut x = [3.0, 0.0, 0.0, 0.0, -0.5, 0.0, 0.0, 0.0, 40.0];
    let plan = Orthogonalisation::new(isa, order);
    plan.run(&Pool::new(1), &mut x, &mut vec![0.0; plan.workspace_len(1)]);
    for (index, value) in x.iter().enumerate() {
        let is_diagonal = index % 4 == 0;
        let size = value.abs();
        assert!(if is_diagonal { (0.6..1.3).contains(&size) } else { size == 0.0 }, "{x:?}");
    }
    assert!(x[0] > 0.0 && x[4] < 0.0 && x[8] > 0.0, "{x:?}");
    let mut zero = [0.0; 9];
    plan.run(&Pool::new(1), &mut zero, &mut vec![0.0; plan.workspace_len(1)]);
    assert_eq!(zero, [0.0; 9]);
}

fn units_are_clipped_by_their_norms(isa: Isa) {
    for order in ORDERS {
        let len = order.groups * order.outputs * order.rows;
        let mut values = uniform(5, len);
        // A unit whose norm is below the least, and gradients of all sizes around the limit.
        values[..order.rows].fill(1e-5);
        let gradients: Vec<f32> =
            uniform(6, len).iter().enumerate().map(|(at, g)| g * (1 + at / order.rows % 7) as f32 * 0.01).collect();
        let got = same_on_any_pool(&format!("{order:?}"), |pool| {
            let mut gradients = in_order(&gradients, order);
            clip_units(isa, pool, &in_order(&values, order), &mut gradients, order, 0.02, 1e-3);
            gradients
        });
        let mut expected = gradients.clone();
        reference::clip_units(&values, &mut expected, order.rows, 0.02, 1e-3);
        assert_ne!(expected, gradients, "some units are clipped");
        close(&got, &in_order(&expected, order), 1e-7, &format!("{order:?}"));
    }
}

fn clamping_limits_every_value(isa: Isa) {
    for len in LENGTHS {
        let x = uniform(4, len);
        let got = same_on_any_pool(&format!("{len} values"), |pool| {
            let mut x = x.clone();
            clamp(isa, pool, &mut x, 0.3);
            x
        });
        assert_eq!(got, x.iter().map(|x| x.clamp(-0.3, 0.3)).collect::<Vec<_>>());
    }
    let mut x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    clamp(isa, &Pool::new(1), &mut x, 2.0);
    assert!(x[0].is_nan() && x[1..] == [2.0, -2.0], "{x:?}");
}

/// The first step is `lr` against the gradient's sign, be the gradient large or small, once the bias is corrected.
fn adam_forgets_the_size_of_gradients(isa: Isa) {
    let rule = Adam { lr: 0.125, beta1: 0.9, beta2: 0.999, eps: 1e-12, weight_decay: 0.0, decoupled: true };
    let mut values = [0.0; 6];
    let gradients = [1e-6, -1e-3, 1.0, -1e3, 1e6, 0.0];
    let (mut first, mut second) = ([0.0; 6], [0.0; 6]);
    adam(isa, &Pool::new(1), &mut values, &gradients, &mut first, &mut second, 1, &rule);
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
