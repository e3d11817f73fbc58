//! One suite of tests, stamped on every instruction set. A set that this machine lacks is skipped, and says so, unless
//! `RESIDUAL_REQUIRE_ISA` (`avx2,avx512`) names it.

mod activation;
mod batch_norm;
mod bf16;
mod bf16_gradients;
mod conv;
mod distillation;
mod elementwise;
mod golden;
mod image;
mod layer_norm;
mod loss;
mod optim;
mod pool;
mod quantize;
mod quantized;
mod scale;

use residual_kernels::Isa;
use residual_tensor::Stream;
use residual_threads::Pool;

/// Stamps test functions that take an [`Isa`] on every instruction set.
macro_rules! stamp {
    ($($test:ident),* $(,)?) => {
        stamp!(@ portable $($test)*);
        stamp!(@ avx2 $($test)*);
        stamp!(@ avx512 $($test)*);
    };
    (@ $isa:ident $($test:ident)*) => {
        mod $isa {
            $(#[test]
            fn $test() {
                crate::on(stringify!($isa), super::$test);
            })*
        }
    };
}
pub(crate) use stamp;

fn on(name: &str, test: impl Fn(Isa)) {
    match Isa::from_name(name) {
        Ok(isa) => test(isa),
        Err(error) => {
            let required = std::env::var("RESIDUAL_REQUIRE_ISA").unwrap_or_default();
            assert!(!required.split(',').any(|required| required == name), "{error}");
            eprintln!("skipped: {error}");
        }
    }
}

/// Uniform values in [-1, 1).
fn uniform(seed: u64, len: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, &[]);
    (0..len).map(|_| stream.range(-1.0, 1.0)).collect()
}

/// Compares `got` with `expected` within `tolerance` of the largest expected magnitude (at least 1).
#[track_caller]
fn close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1.0f32, |scale, value| scale.max(value.abs()));
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs();
        assert!(error <= tolerance * scale, "{what}: at {index}: expected {expected}, got {got}");
    }
}

/// Runs `compute` on one, two and three threads and compares the results bit by bit.
#[track_caller]
fn same_on_any_pool(what: &str, compute: impl Fn(&Pool) -> Vec<f32>) -> Vec<f32> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let one = compute(&Pool::new(1));
    for threads in [2, 3] {
        assert_eq!(bits(&compute(&Pool::new(threads))), bits(&one), "{what}: {threads} threads against one");
    }
    one
}

/// Compares entries of `gradient` with central differences of `loss` around `x`.
#[track_caller]
fn slopes(what: &str, x: &[f32], gradient: &[f32], step: f64, tolerance: f32, loss: impl Fn(&[f64]) -> f64) {
    assert_eq!(x.len(), gradient.len(), "{what}");
    let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
    for index in (0..8).map(|probe| probe * 7919 % x.len()) {
        let at = |step: f64| {
            let mut x = x.clone();
            x[index] += step;
            loss(&x)
        };
        let slope = (at(step) - at(-step)) / (2.0 * step);
        close(&[gradient[index]], &[slope as f32], tolerance, &format!("{what}: slope {index}"));
    }
}

/// Σ y · seed: the loss whose gradient with respect to `y` is `seed`.
fn dot(y: &[f32], seed: &[f32]) -> f64 {
    assert_eq!(y.len(), seed.len());
    y.iter().zip(seed).map(|(y, seed)| f64::from(*y) * f64::from(*seed)).sum()
}
