//! One suite of tests, stamped on every instruction set. A set that this machine lacks is skipped, and says so, unless
//! `RESIDUAL_REQUIRE_ISA` (`avx2,avx512`) names it.

mod conv;

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

/// Holds `got` against `expected` within `tolerance` of the largest expected magnitude (at least 1).
#[track_caller]
fn close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1.0f32, |scale, value| scale.max(value.abs()));
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs();
        assert!(error <= tolerance * scale, "{what}: at {index}: expected {expected}, got {got}");
    }
}

/// Runs `compute` on one, two and three threads and holds the results against each other, bit by bit.
#[track_caller]
fn same_on_any_pool(what: &str, compute: impl Fn(&Pool) -> Vec<f32>) -> Vec<f32> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let one = compute(&Pool::new(1));
    for threads in [2, 3] {
        assert_eq!(bits(&compute(&Pool::new(threads))), bits(&one), "{what}: {threads} threads against one");
    }
    one
}
