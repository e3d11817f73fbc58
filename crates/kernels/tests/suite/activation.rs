//! GELU and sigmoid against their definitions.

use crate::{close, same_on_any_pool, slopes, stamp, uniform};
use residual_kernels::activation::{gelu, gelu_backward, sigmoid, sigmoid_backward};
use residual_kernels::{Isa, reference};
use residual_threads::Pool;

stamp!(activations_are_the_definitions, far_values_and_nan_are_torchs, gradients_are_finite_differences);

/// Absolute, for results below 1: twice the error of the formula that the kernel follows.
const TOLERANCE: f32 = 3e-7;

type Op = fn(Isa, &Pool, &[f32], &mut [f32]);
type Twin = fn(&[f32], &[f32]) -> Vec<f32>;

const OPS: [(&str, Op, Twin); 4] = [
    ("gelu", gelu, |x, _| reference::gelu(x)),
    ("gelu_backward", gelu_backward, reference::gelu_backward),
    ("sigmoid", sigmoid, |x, _| reference::sigmoid(x)),
    ("sigmoid_backward", sigmoid_backward, reference::sigmoid_backward),
];

fn activations_are_the_definitions(isa: Isa) {
    for (name, op, twin) in OPS {
        for (len, range) in
            [(0, 1.0), (1, 1.0), (17, 1.0), (40_003, 0.01), (40_003, 1.0), (40_003, 6.0), (40_003, 100.0)]
        {
            let x: Vec<f32> = uniform(1, len).iter().map(|x| range * x).collect();
            let dy = uniform(2, len);
            // A sigmoid's gradient is a function of its result.
            let x = if name == "sigmoid_backward" { reference::sigmoid(&x) } else { x };
            let what = format!("{name} of {len} to {range}");
            let got = same_on_any_pool(&what, |pool| {
                let mut y = dy.clone();
                op(isa, pool, &x, &mut y);
                y
            });
            let expected = twin(&x, &dy);
            for ((got, expected), x) in got.iter().zip(&expected).zip(&x) {
                let error = (got - expected).abs();
                assert!(error <= TOLERANCE * expected.abs().max(1.0), "{what}: of {x}: {expected}, got {got}");
            }
        }
    }
}

fn far_values_and_nan_are_torchs(isa: Isa) {
    let x = [f32::NAN, f32::INFINITY, 0.0, -0.0, 1e30, -1e30, -20.0, 20.0, f32::MIN_POSITIVE, -200.0, 200.0, f32::MAX];
    let run = |op: Op| {
        let mut y = [7.0; 12];
        op(isa, &Pool::new(1), &x, &mut y);
        y
    };
    let y = run(gelu);
    assert!(y[0].is_nan());
    assert_eq!(y[1..5], [f32::INFINITY, 0.0, 0.0, 1e30]);
    assert!(y[6].abs() < 1e-20 && y[9].abs() < 1e-20 && y[5].abs() < 1e-6);
    assert_eq!([y[7], y[10], y[11]], [20.0, 200.0, f32::MAX]);
    let y = run(sigmoid);
    assert!(y[0].is_nan());
    assert_eq!(y[1..5], [1.0, 0.5, 0.5, 1.0]);
    assert!(y[5] < 1e-30 && y[9] < 1e-30 && y[6] < 3e-9);
}

fn gradients_are_finite_differences(isa: Isa) {
    let (pool, x) = (Pool::new(1), uniform(1, 50).iter().map(|x| 4.0 * x).collect::<Vec<f32>>());
    let mut gradient = vec![1.0; 50];
    gelu_backward(isa, &pool, &x, &mut gradient);
    let value = |twin: fn(&[f32]) -> Vec<f32>, x: &[f64]| -> f64 {
        let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
        twin(&x).iter().map(|y| f64::from(*y)).sum()
    };
    slopes("gelu", &x, &gradient, 1e-2, 1e-3, |x| value(reference::gelu, x));
    let (y, mut gradient) = (reference::sigmoid(&x), vec![1.0; 50]);
    sigmoid_backward(isa, &pool, &y, &mut gradient);
    slopes("sigmoid", &x, &gradient, 1e-2, 1e-3, |x| value(reference::sigmoid, x));
    close(&reference::gelu(&[1.0, -1.0]), &[0.841_344_8, -0.158_655_26], 1e-7, "torch's GELU of 1 and -1");
}
