//! Pooling against its naive twins, finite differences and torch's rules for ties and NaN.

use crate::{close, dot, same_on_any_pool, slopes, stamp, uniform};
use residual_kernels::conv::QuantizedConv;
use residual_kernels::pool::{self, AdaptiveShape, PoolShape};
use residual_kernels::quantize::Quantization;
use residual_kernels::{Isa, reference};
use residual_tensor::Stream;
use residual_threads::Pool;

stamp!(
    max_pool_is_the_definition,
    max_pool_backward_is_the_definition,
    max_pool_gradients_are_finite_differences,
    the_first_maximum_takes_the_gradient,
    nan_wins_its_window,
    infinities_pool,
    maxima_of_bytes_are_the_definition,
);

fn square(input: [usize; 2], channels: usize, kernel: usize, stride: usize, padding: usize) -> PoolShape {
    let (kernel, stride, padding) = ([kernel; 2], [stride; 2], [padding; 2]);
    PoolShape { input, channels, kernel, stride, padding, ceil_mode: false }
}

/// Awkward sizes: channels that fill no vector and several channel blocks, odd images, windows that overlap, that leave
/// gaps, that are larger than the image, that are cut off at its end.
fn shapes() -> Vec<(usize, PoolShape)> {
    vec![
        (1, square([1, 1], 1, 1, 1, 0)),
        (2, square([7, 5], 3, 3, 2, 1)),
        (2, square([9, 9], 16, 3, 1, 1)),
        (1, square([8, 7], 17, 2, 2, 0)),
        (3, square([11, 6], 33, 3, 2, 1)),
        (2, square([6, 7], 64, 2, 3, 0)),
        (1, square([13, 9], 70, 3, 2, 1)),
        (1, square([5, 5], 130, 5, 1, 2)),
        (2, square([2, 2], 8, 5, 1, 2)),
        (2, square([7, 7], 65, 7, 7, 0)),
        (2, PoolShape { kernel: [2, 3], stride: [3, 1], padding: [1, 0], ..square([8, 6], 5, 0, 0, 0) }),
        (2, PoolShape { ceil_mode: true, ..square([7, 5], 18, 2, 2, 0) }),
        (2, PoolShape { ceil_mode: true, ..square([8, 6], 4, 3, 2, 1) }),
        (1, PoolShape { ceil_mode: true, ..square([6, 7], 3, 3, 3, 1) }),
        (1, PoolShape { ceil_mode: true, ..square([1, 1], 16, 2, 2, 0) }),
        (1, PoolShape { ceil_mode: true, ..square([5, 9], 2, 2, 4, 1) }),
    ]
}

fn lens(images: usize, shape: &PoolShape) -> [usize; 2] {
    [shape.input, shape.output()].map(|[height, width]| images * height * width * shape.channels)
}

/// Small whole numbers, so that many maxima are tied.
fn tied(seed: u64, len: usize) -> Vec<f32> {
    uniform(seed, len).iter().map(|x| (2.0 * x).round()).collect()
}

/// Here and there a NaN, also two in one window.
fn rare_nan(len: usize) -> Vec<f32> {
    uniform(1, len).iter().map(|&x| if x > 0.7 { f32::NAN } else { x }).collect()
}

/// 0, 1, 2, … in random order.
fn distinct(seed: u64, len: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, &[]);
    let mut values: Vec<f32> = (0..len).map(|value| value as f32).collect();
    for last in (1..len).rev() {
        values.swap(last, stream.below(last as u32 + 1) as usize);
    }
    values
}

fn max_pool(isa: Isa, pool: &Pool, shape: &PoolShape, images: usize, x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; lens(images, shape)[1]];
    pool::max_pool(isa, pool, shape, images, x, &mut y);
    y
}

/// The maxima and their places.
fn max_pool_with_index(isa: Isa, pool: &Pool, shape: &PoolShape, images: usize, x: &[f32]) -> (Vec<f32>, Vec<u8>) {
    let (mut y, mut index) = (vec![f32::NAN; lens(images, shape)[1]], vec![77; images * shape.index_len()]);
    pool::max_pool_with_index(isa, pool, shape, images, x, &mut y, &mut index);
    (y, index)
}

/// Runs a backward pass that overwrites, then one that accumulates, and compares both with `expected`.
#[track_caller]
fn check_backward(what: &str, expected: &[f32], backward: impl Fn(&Pool, bool, &mut [f32])) {
    let before = uniform(9, expected.len());
    let got = same_on_any_pool(what, |pool| {
        let mut dx = vec![f32::NAN; expected.len()];
        backward(pool, false, &mut dx);
        dx
    });
    close(&got, expected, 1e-6, what);
    let got = same_on_any_pool(what, |pool| {
        let mut dx = before.clone();
        backward(pool, true, &mut dx);
        dx
    });
    close(&got, &reference::accumulate(&before, expected), 1e-6, &format!("accumulated: {what}"));
}

fn max_pool_is_the_definition(isa: Isa) {
    for (images, shape) in shapes() {
        // Below zero throughout: padding that counted as zero would win.
        let x: Vec<f32> = uniform(1, lens(images, &shape)[0]).iter().map(|x| x - 2.0).collect();
        let got = same_on_any_pool(&format!("{shape:?}"), |pool| max_pool(isa, pool, &shape, images, &x));
        assert_eq!(got, reference::max_pool(&shape, images, &x), "{shape:?}");
    }
}

fn max_pool_backward_is_the_definition(isa: Isa) {
    for (images, shape) in shapes() {
        let [input, output] = lens(images, &shape);
        let dy = uniform(2, output);
        for x in [uniform(1, input), tied(1, input), vec![0.0; input], vec![f32::NEG_INFINITY; input], rare_nan(input)]
        {
            let what = format!("{shape:?}");
            let (y, index) = max_pool_with_index(isa, &Pool::new(1), &shape, images, &x);
            for threads in [2, 3] {
                let (same, places) = max_pool_with_index(isa, &Pool::new(threads), &shape, images, &x);
                let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
                assert!(bits(&same) == bits(&y) && places == index, "{what}: {threads} threads against one");
            }
            let alone = max_pool(isa, &Pool::new(1), &shape, images, &x);
            assert!(y.iter().zip(&alone).all(|(y, alone)| y == alone || y.is_nan() && alone.is_nan()), "{what}");
            let expected = reference::max_pool_backward(&shape, images, &x, &dy);
            check_backward(&what, &expected, |pool, accumulate, dx| {
                pool::max_pool_backward(pool, &shape, images, &index, &dy, accumulate, dx);
            });
        }
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

fn max_pool_gradients_are_finite_differences(isa: Isa) {
    let pool = Pool::new(2);
    for (images, shape) in shapes() {
        let [input, output] = lens(images, &shape);
        let (x, seed) = (distinct(1, input), uniform(2, output));
        let (_, index) = max_pool_with_index(isa, &pool, &shape, images, &x);
        let mut dx = vec![f32::NAN; input];
        pool::max_pool_backward(&pool, &shape, images, &index, &seed, false, &mut dx);
        slopes(&format!("{shape:?}"), &x, &dx, 0.25, 1e-5, |x| {
            dot(&max_pool(isa, &pool, &shape, images, &narrow(x)), &seed)
        });
    }
}

/// Bytes of whole groups of channels; what is between pixels is the largest.
fn pixels(seed: u64, count: usize, channels: usize, most: u32) -> Vec<u8> {
    let (mut stream, pixel) = (Stream::new(seed, &[]), QuantizedConv::pixel(channels));
    let byte = |index: usize| if index % pixel < channels { stream.below(most + 1) as u8 } else { 255 };
    (0..count * pixel).map(byte).collect()
}

fn maxima_of_bytes_are_the_definition(isa: Isa) {
    for (images, shape) in shapes() {
        let [input, output] = lens(images, &shape).map(|len| len / shape.channels);
        for most in [0, 3, 255] {
            let x = pixels(1, input, shape.channels, most);
            let expected = reference::max_pool_bytes(&shape, images, &x);
            for threads in [1, 2, 3] {
                let mut y = vec![77; output * QuantizedConv::pixel(shape.channels)];
                pool::max_pool_bytes(isa, &Pool::new(threads), &shape, images, &x, &mut y);
                let pixels = y.chunks_exact(QuantizedConv::pixel(shape.channels));
                let got: Vec<u8> = pixels.flat_map(|pixel| &pixel[..shape.channels]).copied().collect();
                assert_eq!(got, expected, "{shape:?} on {threads} threads");
            }
        }
    }
}

/// Sums are integers: the same for any order, and exact where a sum of floats is not.
#[test]
fn global_means_of_bytes_are_the_definition() {
    for (images, count, channels) in [(1, 1, 1), (2, 49, 64), (3, 5, 130), (2, 12, 67), (1, 70_001, 3)] {
        for (most, zero, scale) in [(255, 0, 0.02), (255, 128, 0.37), (0, 255, 1.5)] {
            let (x, from) = (pixels(2, images * count, channels, most), Quantization { scale, zero });
            let got = same_on_any_pool("global means", |pool| {
                let mut y = vec![f32::NAN; images * channels];
                pool::global_avg_pool_bytes(pool, count, channels, &x, from, &mut y);
                y
            });
            assert_eq!(got, reference::global_avg_pool_bytes(count, channels, &x, from));
        }
    }
    let mut mean = [f32::NAN];
    let halves = Quantization { scale: 0.5, zero: 100 };
    pool::global_avg_pool_bytes(
        &Pool::new(1),
        4,
        1,
        &[90, 9, 9, 9, 110, 9, 9, 9, 255, 9, 9, 9, 0, 9, 9, 9],
        halves,
        &mut mean,
    );
    assert_eq!(mean, [55.0 * 0.5 / 4.0]);
}

/// torch keeps the first maximum in row-major order of the window.
fn the_first_maximum_takes_the_gradient(isa: Isa) {
    let (shape, pool) = (square([3, 3], 1, 2, 1, 0), Pool::new(1));
    let x = [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0];
    let dy = [1.0, 10.0, 100.0, f32::INFINITY];
    let (y, index) = max_pool_with_index(isa, &pool, &shape, 1, &x);
    assert_eq!(y, [1.0; 4]);
    let mut dx = [f32::NAN; 9];
    pool::max_pool_backward(&pool, &shape, 1, &index, &dy, false, &mut dx);
    assert_eq!(dx, [0.0, 11.0, 0.0, 100.0, f32::INFINITY, 0.0, 0.0, 0.0, 0.0]);
}

/// A NaN anywhere in a window makes the window's maximum NaN, and no other's.
fn nan_wins_its_window(isa: Isa) {
    for shape in [square([7, 5], 3, 3, 2, 1), square([6, 6], 19, 2, 2, 0)] {
        for at in 0..lens(1, &shape)[0] {
            let mut x = uniform(1, lens(1, &shape)[0]);
            x[at] = f32::NAN;
            let got = max_pool(isa, &Pool::new(1), &shape, 1, &x);
            let expected = reference::max_pool(&shape, 1, &x);
            for (got, expected) in got.iter().zip(&expected) {
                assert!(got == expected || got.is_nan() && expected.is_nan(), "NaN at {at}: {expected}, got {got}");
            }
        }
    }
}

fn infinities_pool(isa: Isa) {
    let (shape, pool) = (square([2, 4], 1, 2, 2, 0), Pool::new(1));
    let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
    let x = [low, low, 1.0, high, low, low, 2.0, 3.0];
    let (y, index) = max_pool_with_index(isa, &pool, &shape, 1, &x);
    assert_eq!(y, [low, high]);
    let mut dx = [f32::NAN; 8];
    pool::max_pool_backward(&pool, &shape, 1, &index, &[5.0, 7.0], false, &mut dx);
    assert_eq!(dx, [5.0, 0.0, 0.0, 7.0, 0.0, 0.0, 0.0, 0.0]);
}

/// `F.max_pool2d([[1, nan, nan, 2]], (1, 4))` sends its gradient to the second NaN.
#[test]
fn the_last_nan_takes_the_gradient() {
    let shape = PoolShape { kernel: [1, 4], ..square([1, 4], 1, 1, 1, 0) };
    let (y, index) = max_pool_with_index(Isa::detect(), &Pool::new(1), &shape, 1, &[1.0, f32::NAN, f32::NAN, 2.0]);
    assert!(y[0].is_nan());
    let mut dx = [f32::NAN; 4];
    pool::max_pool_backward(&Pool::new(1), &shape, 1, &index, &[3.0], false, &mut dx);
    assert_eq!(dx, [0.0, 0.0, 3.0, 0.0]);
}

/// The positions in an index are checked before they are used.
#[test]
#[should_panic(expected = "of a slice of")]
fn an_index_of_another_pooling_is_refused() {
    let shape = square([4, 4], 1, 2, 2, 0);
    pool::max_pool_backward(&Pool::new(1), &shape, 1, &[32; 4], &[1.0; 4], false, &mut [0.0; 16]);
}

/// Of a window at the border only the pixels inside the image can hold its maximum: others would be the next row's, the
/// next image's or another task's.
#[test]
fn an_index_outside_of_the_image_is_refused() {
    let shape = square([4, 4], 64, 3, 2, 1);
    let refused = |output: usize, place: u8| {
        // A place inside for every window: its middle.
        let mut index = vec![4; shape.index_len()];
        index[output * shape.channels] = place;
        let (dy, mut dx) = (vec![1.0; 4 * 64], vec![0.0; 16 * 64]);
        let run = || pool::max_pool_backward(&Pool::new(1), &shape, 1, &index, &dy, false, &mut dx);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
    };
    // Outputs 0 and 1 lie at the top, output 3 has all of its window inside.
    for (output, inside) in [(0, [4, 5, 7, 8].as_slice()), (1, &[3, 4, 5, 6, 7, 8]), (3, &[0, 1, 2, 3, 4, 5, 6, 7, 8])]
    {
        for place in (0..12).chain([200, 255]) {
            assert_eq!(refused(output, place), !inside.contains(&place), "output {output}, place {place}");
        }
    }
}

/// Products that wrap would let a short slice pass for a large image.
#[test]
fn an_image_larger_than_memory_is_refused() {
    let (pool, wraps) = (Pool::new(1), usize::MAX / 3 * 2 + 1);
    let panics = |run: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err();
    assert_eq!(wraps.wrapping_mul(3), 1);
    let shape = square([wraps, 3], 1, 1, 1, 0);
    assert!(panics(&|| pool::max_pool(Isa::detect(), &pool, &shape, 1, &[0.0], &mut [0.0])));
    assert!(panics(&|| pool::avg_pool(&pool, &shape, true, 1, &[0.0], &mut [0.0])));
    let shape = square([3, 1], 1, 1, 1, 0);
    assert!(panics(&|| pool::max_pool(Isa::detect(), &pool, &shape, wraps, &[0.0], &mut [0.0])));
    assert!(panics(&|| pool::max_pool_backward(&pool, &shape, wraps, &[0], &[0.0], false, &mut [0.0])));
    assert!(panics(&|| pool::global_avg_pool(&pool, wraps, 1, &[0.0], &mut [0.0; 3])));
    let shape = AdaptiveShape { input: [wraps, 3], output: [1, 1], channels: 1 };
    assert!(panics(&|| pool::adaptive_avg_pool(&pool, &shape, 1, &[0.0], &mut [0.0])));
    assert!(panics(&|| _ = square([2, 2], 1, 3, 1, 0).output()), "a window that does not fit");
}

#[test]
fn adaptive_avg_pool_and_its_gradient_are_the_definition() {
    let shapes =
        [([7, 7], [7, 7], 3), ([8, 5], [3, 2], 17), ([2, 3], [7, 7], 4), ([1, 1], [7, 7], 65), ([10, 9], [4, 9], 2)];
    for (input, output, channels) in shapes {
        let shape = AdaptiveShape { input, output, channels };
        let (what, images) = (format!("{shape:?}"), 2);
        let len = |[height, width]: [usize; 2]| images * height * width * channels;
        let (x, dy) = (uniform(1, len(input)), uniform(2, len(output)));
        let forward = |pool: &Pool, x: &[f32]| {
            let mut y = vec![f32::NAN; len(output)];
            pool::adaptive_avg_pool(pool, &shape, images, x, &mut y);
            y
        };
        let got = same_on_any_pool(&what, |pool| forward(pool, &x));
        close(&got, &reference::adaptive_avg_pool(&shape, images, &x), 1e-6, &what);
        let expected = reference::adaptive_avg_pool_backward(&shape, images, &dy);
        check_backward(&what, &expected, |pool, accumulate, dx| {
            pool::adaptive_avg_pool_backward(pool, &shape, images, &dy, accumulate, dx);
        });
        slopes(&what, &x, &expected, 1.0, 1e-5, |x| dot(&forward(&Pool::new(1), &narrow(x)), &dy));
    }
}

fn avg_pool(pool: &Pool, shape: &PoolShape, include: bool, images: usize, x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; lens(images, shape)[1]];
    pool::avg_pool(pool, shape, include, images, x, &mut y);
    y
}

#[test]
fn avg_pool_is_the_definition() {
    for (images, shape) in shapes() {
        let x = uniform(1, lens(images, &shape)[0]);
        for include in [false, true] {
            let what = format!("padding counts {include}: {shape:?}");
            let got = same_on_any_pool(&what, |pool| avg_pool(pool, &shape, include, images, &x));
            close(&got, &reference::avg_pool(&shape, include, images, &x), 1e-6, &what);
        }
    }
}

#[test]
fn avg_pool_backward_is_the_definition() {
    for (images, shape) in shapes() {
        let [input, output] = lens(images, &shape);
        let (x, dy) = (uniform(1, input), uniform(2, output));
        for include in [false, true] {
            let what = format!("padding counts {include}: {shape:?}");
            let expected = reference::avg_pool_backward(&shape, include, images, &dy);
            check_backward(&what, &expected, |pool, accumulate, dx| {
                pool::avg_pool_backward(pool, &shape, include, images, &dy, accumulate, dx);
            });
            let mut dx = vec![f32::NAN; input];
            pool::avg_pool_backward(&Pool::new(1), &shape, include, images, &dy, false, &mut dx);
            slopes(&what, &x, &dx, 1.0, 1e-5, |x| {
                dot(&avg_pool(&Pool::new(1), &shape, include, images, &narrow(x)), &dy)
            });
        }
    }
}

#[test]
fn global_avg_pool_and_its_gradient_are_the_definition() {
    for (images, pixels, channels) in [(1, 1, 1), (3, 49, 3), (2, 64, 17), (5, 1, 33), (2, 3136, 64), (1, 7, 2048)] {
        let what = format!("{images} x {pixels} x {channels}");
        let (x, dy) = (uniform(1, images * pixels * channels), uniform(2, images * channels));
        let forward = |pool: &Pool, x: &[f32]| {
            let mut y = vec![f32::NAN; images * channels];
            pool::global_avg_pool(pool, pixels, channels, x, &mut y);
            y
        };
        let got = same_on_any_pool(&what, |pool| forward(pool, &x));
        close(&got, &reference::global_avg_pool(pixels, channels, &x), 1e-6, &what);
        let expected = reference::global_avg_pool_backward(pixels, channels, &dy);
        check_backward(&what, &expected, |pool, accumulate, dx| {
            pool::global_avg_pool_backward(pool, pixels, channels, &dy, accumulate, dx);
        });
        let mut dx = vec![f32::NAN; x.len()];
        pool::global_avg_pool_backward(&Pool::new(1), pixels, channels, &dy, false, &mut dx);
        slopes(&what, &x, &dx, 1.0, 1e-5, |x| dot(&forward(&Pool::new(1), &narrow(x)), &dy));
    }
}
