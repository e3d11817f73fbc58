//! SGD against its naive twin and steps worked out by hand.

use crate::{close, same_on_any_pool, stamp, uniform};
use residual_kernels::optim::{Sgd, sgd};
use residual_kernels::{Isa, reference};
use residual_threads::Pool;

stamp!(steps_are_torch_s, steps_are_the_definition);

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
    for len in [0, 1, 3, 16, 17, 33, 64, 70, 16 << 10, (16 << 10) + 1, 50_001] {
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
