//! Kernels of the training pass on bf16: their naive twins on the same numbers, rounded once, the same bits for any number of threads.

use crate::bf16::{Pixels, close, rounded, square};
use crate::{stamp, uniform};
use residual_kernels::batch_norm::{self, Mask};
use residual_kernels::conv::{Algorithm, Algorithms, Conv, ConvShape, Elements, WinogradTile};
use residual_kernels::elementwise::{self, ChannelSlice, Subsample};
use residual_kernels::pool::PoolShape;
use residual_kernels::{Element, Isa, activation, bf16, convert, pool, reference, rows};
use residual_tensor::AlignedBuffer;
use residual_threads::Pool;

stamp!(
    gradients_of_weights_are_their_definition,
    batch_norm_is_its_definition,
    gradients_of_batch_norm_are_their_definition,
    non_temporal_stores_change_no_bit,
    statistics_and_sums_are_those_of_floats,
    functions_are_those_of_floats,
    max_pooling_notes_its_maxima_and_gives_them_the_gradient,
    gradients_of_means_and_copies_are_their_definition,
    sums_of_both_types_are_rounded_once,
);

fn halves(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&value| bf16::from_f32(value)).collect()
}

/// Values whose floats have some error may round to the neighbour.
#[track_caller]
fn near(got: &[bf16], expected: &[f32], what: &str) {
    close(got, expected, &vec![1.0; expected.len()], 1e-5, what);
}

/// The same on one thread and on three.
#[track_caller]
fn on_any_pool<T: PartialEq>(what: &str, compute: impl Fn(&Pool) -> T) -> T {
    let one = compute(&Pool::new(1));
    assert!(compute(&Pool::new(3)) == one, "{what}: three threads against one");
    one
}

fn gradients_of_weights_are_their_definition(isa: Isa) {
    let direct = [
        (1, square(1, [1, 2], 1, 1, 0)),
        (3, square(7, [5, 4], 3, 1, 1)),
        (2, square(9, [16, 16], 3, 1, 1)),
        (3, square(9, [17, 34], 3, 2, 1)),
        (1, square(23, [3, 64], 7, 2, 3)),
        (3, square(6, [64, 70], 1, 1, 0)),
        (2, square(7, [40, 24], 1, 2, 0)),
        (5, square(5, [600, 34], 1, 1, 0)),
        (9, square(15, [24, 130], 3, 1, 1)),
        (2, ConvShape { dilation: [2; 2], ..square(9, [6, 10], 3, 1, 2) }),
        (2, ConvShape { input: [5, 12], kernel: [1, 4], padding: [0, 2], ..square(0, [3, 18], 1, 1, 0) }),
    ];
    let winograd =
        [(3, square(9, [16, 32], 3, 1, 1)), (4, square(8, [64, 64], 3, 1, 1)), (2, square(7, [128, 96], 3, 1, 0))];
    let cases = direct.map(|case| (case, Algorithm::Direct, 1e-6));
    // The small tile rounds what it transforms.
    let large = winograd.map(|case| (case, Algorithm::Winograd(WinogradTile::F4x3), 1e-5));
    let small = winograd.map(|case| (case, Algorithm::Winograd(WinogradTile::F2x3), 1.0 / 256.0));
    for (seed, ((images, shape), backward_weights, error)) in cases.into_iter().chain(large).chain(small).enumerate() {
        let what = format!("{images} × {shape:?} {backward_weights:?}");
        let conv = Conv::of_elements(isa, shape, Algorithms { backward_weights, ..Algorithms::DIRECT }, Elements::Bf16);
        assert_eq!(conv.algorithms().backward_weights, backward_weights, "{what}");
        let x = rounded(1000 + seed as u64, images * shape.input_len());
        let dy = rounded(2000 + seed as u64, images * shape.output_len());
        let (x_pixels, dy_pixels) = (Pixels::new(&x, shape.in_channels), Pixels::new(&dy, shape.out_channels));
        let dw = on_any_pool(&what, |pool| {
            let mut dw = vec![f32::NAN; shape.weight_len()];
            let mut workspace = AlignedBuffer::zeros(conv.weights_workspace_len(images, pool.threads()));
            workspace.fill(f32::NAN);
            conv.backward_weights(pool, images, x_pixels.values(), dy_pixels.values(), &mut dw, &mut workspace);
            dw
        });
        let magnitude = |values: &[f32]| values.iter().map(|value| value.abs()).collect::<Vec<_>>();
        let expected = reference::conv_backward_weights(&shape, images, &x, &dy);
        let terms = reference::conv_backward_weights(&shape, images, &magnitude(&x), &magnitude(&dy));
        for (index, ((got, expected), terms)) in dw.iter().zip(&expected).zip(&terms).enumerate() {
            assert!((got - expected).abs() <= error * terms + 1e-6, "{what}: at {index}: {expected}, got {got}");
        }
    }
}

/// Rows and channels, always an even number of these.
const MATRICES: [(usize, usize); 6] = [(1, 2), (7, 6), (33, 18), (70, 64), (700, 1000), (12_345, 4)];

fn batch_norm_is_its_definition(isa: Isa) {
    for (rows, channels) in MATRICES {
        let (x, other) = (rounded(1, rows * channels), rounded(2, rows * channels));
        let (scale, shift) = (uniform(3, channels), uniform(4, channels));
        for (add, relu) in [(None, false), (Some(&other), true)] {
            let what = format!("{rows} × {channels}, relu {relu}");
            let (x, added) = (&x, add.map(|add| halves(add)));
            let y = on_any_pool(&what, |pool| {
                let mut y = vec![bf16::NAN; rows * channels];
                batch_norm::affine(isa, pool, &halves(x), &scale, &shift, added.as_deref(), relu, &mut y);
                y
            });
            near(&y, &reference::affine(x, &scale, &shift, add.map(Vec::as_slice), relu), &what);
        }
    }
}

fn gradients_of_batch_norm_are_their_definition(isa: Isa) {
    for (rows, channels) in MATRICES {
        let len = rows * channels;
        let (x, dy, y) = (rounded(1, len), rounded(2, len), rounded(3, len));
        let (mean, scale, shift) = (uniform(4, channels), uniform(5, channels), uniform(6, channels));
        let (x_halves, y_halves) = (halves(&x), halves(&y));
        let affine = reference::affine(&x, &scale, &shift, None, false);
        let masked = |by: &[f32]| reference::relu_backward(by, &dy);
        let masks = [
            (Mask::None, dy.clone(), false),
            (Mask::Result(&y_halves[..]), masked(&y), true),
            (Mask::Affine { scale: &scale, shift: &shift }, masked(&affine), false),
        ];
        for (mask, masked, writes) in masks {
            let what = format!("{rows} × {channels} {writes}");
            let (sums, left) = on_any_pool(&what, |pool| {
                let (mut sum, mut sum_x) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
                let (mut dy, mut workspace) = (halves(&dy), vec![f32::NAN; rows::workspace_len(channels)]);
                batch_norm::backward_sums(
                    isa,
                    pool,
                    &mut dy,
                    mask,
                    &x_halves,
                    &mean,
                    &mut sum,
                    &mut sum_x,
                    &mut workspace,
                );
                ([sum, sum_x], dy)
            });
            assert!(left == halves(if writes { &masked } else { &dy }), "{what}");
            let (sum, sum_x) = reference::backward_sums(&masked, &x, &mean);
            crate::close(&sums[0], &sum, 1e-5, &what);
            crate::close(&sums[1], &sum_x, 1e-5, &what);
        }
        let factors = [uniform(7, channels), uniform(8, channels), uniform(9, channels)];
        let factors = factors.each_ref().map(Vec::as_slice);
        let before = rounded(10, len);
        for (in_place, mask, accumulate) in [(true, true, false), (false, false, true), (false, true, false)] {
            let what = format!("{rows} × {channels}: in place {in_place}, mask {mask}, accumulate {accumulate}");
            let dx = on_any_pool(&what, |pool| {
                let mut dx = halves(if in_place { &dy } else { &before });
                let dy_halves = halves(&dy);
                let from = (!in_place).then_some(&dy_halves[..]);
                let mask = mask.then_some([&scale[..], &shift]);
                batch_norm::backward_apply(isa, pool, from, &x_halves, factors, mask, accumulate, &mut dx);
                dx
            });
            let masked = if mask { masked(&affine) } else { dy.clone() };
            let mut expected = reference::backward_apply(&masked, &x, factors);
            if accumulate {
                expected.iter_mut().zip(&before).for_each(|(dx, before)| *dx += before);
            }
            near(&dx, &expected, &what);
        }
    }
}

/// Tensors past the size from which on stores bypass the caches.
fn non_temporal_stores_change_no_bit(isa: Isa) {
    let (rows, channels) = (100_100, 64);
    let x = rounded(1, channels);
    let (scale, shift) = (uniform(2, channels), uniform(3, channels));
    let matrix = |values: &[f32]| {
        let mut pixels = Pixels::new(&vec![0.0; rows * channels], channels);
        let row = halves(values);
        pixels.values_mut().chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(&row));
        pixels
    };
    let (x_rows, mut y) = (matrix(&x), matrix(&[0.0; 64]));
    let pool = Pool::new(2);
    batch_norm::affine(isa, &pool, x_rows.values(), &scale, &shift, None, true, y.values_mut());
    let mut one = vec![bf16::NAN; channels];
    batch_norm::affine(isa, &pool, &halves(&x), &scale, &shift, None, true, &mut one);
    assert!(y.values().chunks_exact(channels).all(|row| row == one));
    let factors = [&scale[..], &shift, &scale];
    batch_norm::backward_apply(
        isa,
        &pool,
        Some(x_rows.values()),
        x_rows.values(),
        factors,
        None,
        false,
        y.values_mut(),
    );
    batch_norm::backward_apply(isa, &pool, Some(&halves(&x)), &halves(&x), factors, None, false, &mut one);
    assert!(y.values().chunks_exact(channels).all(|row| row == one));
}

/// Mean, variance and sum of each channel.
fn statistics<E: Element>(isa: Isa, x: &[E], channels: usize) -> [Vec<f32>; 3] {
    on_any_pool("statistics", |pool| {
        let [mut mean, mut variance, mut sums] = [(); 3].map(|()| vec![f32::NAN; channels]);
        let mut workspace = vec![f32::NAN; rows::workspace_len(channels)];
        batch_norm::statistics(isa, pool, x, &mut mean, &mut variance, &mut workspace);
        rows::column_sums(isa, pool, x, &mut sums, &mut workspace);
        [mean, variance, sums]
    })
}

/// Values are widened, and all else is the same.
fn statistics_and_sums_are_those_of_floats(isa: Isa) {
    for (rows, channels) in MATRICES {
        let x = rounded(20, rows * channels);
        let of_pairs = statistics(isa, &halves(&x), channels);
        assert!(statistics(isa, &x, channels) == of_pairs, "{rows} × {channels}");
    }
}

fn functions_are_those_of_floats(isa: Isa) {
    let pool = Pool::new(2);
    for len in [2, 34, 70_000] {
        let (x, y) = (rounded(30, len), rounded(31, len));
        macro_rules! same {
            ($($function:path),*) => { $(
                let (mut floats, mut pairs) = (y.clone(), halves(&y));
                $function(isa, &pool, &x, &mut floats);
                $function(isa, &pool, &halves(&x), &mut pairs);
                assert!(pairs == halves(&floats), "{} of {len}", stringify!($function));
            )* };
        }
        same!(elementwise::relu, elementwise::relu_backward, elementwise::accumulate, elementwise::accumulate_relu);
        same!(activation::gelu, activation::gelu_backward, activation::sigmoid, activation::sigmoid_backward);
    }
}

fn max_pooling_notes_its_maxima_and_gives_them_the_gradient(isa: Isa) {
    let shape = |input, kernel, stride, padding, ceil_mode| PoolShape {
        input,
        channels: 38,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
        ceil_mode,
    };
    for shape in [
        shape([9, 7], 3, 2, 1, false),
        shape([8, 9], 2, 2, 0, false),
        shape([8, 7], 3, 1, 1, false),
        shape([8, 11], 3, 2, 0, true),
        shape([10, 7], 2, 3, 0, false),
    ] {
        let len = 2 * shape.input.iter().product::<usize>() * 38;
        // Few different values: many maxima are shared.
        let x: Vec<f32> = uniform(40, len).into_iter().map(|x| (4.0 * x).round()).collect();
        let [height, width] = shape.output();
        let outputs = 2 * height * width * 38;
        let (y, index) = on_any_pool("max pool", |pool| {
            let (mut y, mut index) = (vec![bf16::NAN; outputs], vec![0; 2 * shape.index_len()]);
            pool::max_pool_with_index(isa, pool, &shape, 2, &halves(&x), &mut y, &mut index);
            (y, index)
        });
        assert!(y == halves(&reference::max_pool(&shape, 2, &x)), "{shape:?}");
        let (dy, before) = (rounded(41, outputs), rounded(42, len));
        for accumulate in [false, true] {
            let dx = on_any_pool("gradient of max pool", |pool| {
                let mut dx = halves(&before);
                pool::max_pool_backward_bf16(isa, pool, &shape, 2, &index, &halves(&dy), accumulate, &mut dx);
                dx
            });
            let mut expected = reference::max_pool_backward(&shape, 2, &x, &dy);
            if accumulate {
                expected.iter_mut().zip(&before).for_each(|(dx, before)| *dx += before);
            }
            near(&dx, &expected, &format!("{shape:?}"));
        }
    }
}

fn gradients_of_means_and_copies_are_their_definition(_: Isa) {
    let (dy, before) = (uniform(50, 3 * 38), rounded(51, 3 * 20 * 38));
    for accumulate in [false, true] {
        let dx = on_any_pool("gradient of means", |pool| {
            let mut dx = halves(&before);
            pool::global_avg_pool_backward(pool, 20, 38, &dy, accumulate, &mut dx);
            dx
        });
        let mut expected = reference::global_avg_pool_backward(20, 38, &dy);
        if accumulate {
            expected.iter_mut().zip(&before).for_each(|(dx, before)| *dx += before);
        }
        near(&dx, &expected, "gradient of means");
    }
    let pixels = Subsample { size: [6, 8], stride: 2 };
    let (to, from) =
        (ChannelSlice { channels: 12, offset: 2, count: 6 }, ChannelSlice { channels: 6, offset: 0, count: 6 });
    let (dy, before) = (rounded(52, 2 * 12 * 12), rounded(53, 2 * 48 * 6));
    let dx = on_any_pool("gradient of copies", |pool| {
        let mut dx = halves(&before);
        elementwise::copy_channels_backward(pool, pixels, &halves(&dy), to, &mut dx, from);
        dx
    });
    let mut expected = before;
    reference::copy_channels_backward(pixels, &dy, to, &mut expected, from);
    near(&dx, &expected, "gradient of copies");
}

fn sums_of_both_types_are_rounded_once(isa: Isa) {
    for channels in [1, 6, 33] {
        let floats = uniform(60, 50 * channels);
        let pixels = Pixels::new(&rounded(61, 50 * channels), channels);
        let pixel = Elements::Bf16.pixel(channels);
        let values = |pixels: &[bf16]| -> Vec<f32> {
            pixels.chunks_exact(pixel).flat_map(|pixel| &pixel[..channels]).map(|value| value.to_f32()).collect()
        };
        let sums: Vec<f32> = values(pixels.values()).iter().zip(&floats).map(|(a, b)| a + b).collect();
        let pool = Pool::new(2);
        let mut y = pixels.values().to_vec();
        convert::round_to_bf16(isa, &pool, &floats, channels, true, &mut y);
        assert!(halves(&values(&y)) == halves(&sums), "{channels} channels");
        let mut y = floats.clone();
        convert::widen_bf16(isa, &pool, pixels.values(), channels, true, &mut y);
        assert!(y == sums, "{channels} channels");
    }
}
