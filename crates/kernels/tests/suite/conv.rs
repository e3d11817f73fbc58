//! Convolution against its naive twin and against finite differences.

use crate::{close, same_on_any_pool, stamp, uniform};
use residual_kernels::Isa;
use residual_kernels::conv::{Algorithm, Algorithms, Conv, ConvShape, Epilogue, Statistics, WinogradTile};
use residual_kernels::reference::{self, conv_backward_data, conv_backward_weights, conv_forward};
use residual_tensor::AlignedBuffer;
use residual_threads::Pool;

stamp!(
    forward_is_the_definition,
    backward_data_is_the_definition,
    backward_weights_is_the_definition,
    epilogues_apply_in_order,
    gradients_are_finite_differences,
    empty_phases_give_zero_gradients,
    no_images_give_zero_gradients,
    images_larger_than_memory_are_refused,
    statistics_are_those_of_the_output,
    outputs_of_non_temporal_stores_are_the_same,
    winograd_is_the_definition,
    grouped_is_the_definition,
    winograd_error_stays_within_its_bound,
);

const DIRECT: Algorithms = Algorithms::DIRECT;
const GROUPED: Algorithms =
    Algorithms { forward: Algorithm::Grouped, backward_data: Algorithm::Grouped, backward_weights: Algorithm::Grouped };

fn square(input: usize, channels: [usize; 2], kernel: usize, stride: usize, padding: usize) -> ConvShape {
    ConvShape {
        input: [input; 2],
        in_channels: channels[0],
        out_channels: channels[1],
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [1; 2],
        groups: 1,
    }
}

/// Awkward sizes: channels that fill no vector, several panels, depths past one panel, windows larger than the image,
/// every kind of stride, dilation and grouping.
fn shapes() -> Vec<(usize, ConvShape)> {
    vec![
        (1, square(1, [1, 1], 1, 1, 0)),
        (3, square(7, [5, 3], 3, 1, 1)),
        (2, square(9, [16, 16], 3, 1, 1)),
        (2, square(8, [17, 33], 3, 2, 1)),
        (1, square(23, [3, 64], 7, 2, 3)),
        (2, square(6, [64, 70], 1, 1, 0)),
        (2, square(7, [40, 24], 1, 2, 0)),
        (1, square(4, [130, 48], 3, 1, 1)),
        (1, square(3, [600, 20], 3, 1, 1)),
        (2, square(2, [8, 8], 5, 1, 2)),
        (40, square(1, [64, 10], 1, 1, 0)),
        (12, square(11, [24, 300], 1, 1, 0)),
        (3, square(6, [600, 530], 1, 1, 0)),
        (5, square(15, [8, 16], 3, 1, 1)),
        (2, ConvShape { dilation: [2; 2], ..square(9, [6, 10], 3, 1, 2) }),
        (2, ConvShape { dilation: [3, 2], stride: [2, 3], padding: [3, 1], ..square(11, [4, 9], 3, 1, 0) }),
        (2, ConvShape { groups: 4, ..square(6, [8, 12], 3, 1, 1) }),
        (2, ConvShape { groups: 2, ..square(6, [32, 64], 1, 1, 0) }),
        (2, ConvShape { groups: 10, ..square(8, [10, 10], 3, 2, 1) }),
        (2, ConvShape { input: [5, 12], kernel: [1, 4], padding: [0, 2], ..square(0, [3, 18], 1, 1, 0) }),
        (1, ConvShape { input: [12, 5], kernel: [5, 2], stride: [3, 1], ..square(0, [20, 7], 1, 1, 0) }),
        (1, square(7, [4, 4], 2, 3, 0)),
    ]
}

/// Groups of one channel, of some to a vector, and of more than one vector on every instruction set; with rows that fill no
/// tile, every kind of window, stride, dilation and padding, and windows larger than the image.
fn grouped_shapes() -> Vec<(usize, ConvShape)> {
    let depthwise =
        |channels, shape| ConvShape { groups: channels, in_channels: channels, out_channels: channels, ..shape };
    let grouped = |groups, channels, shape| ConvShape {
        groups,
        in_channels: groups * channels,
        out_channels: groups * channels,
        ..shape
    };
    let window = |input, kernel, stride, padding| square(input, [0; 2], kernel, stride, padding);
    vec![
        (2, depthwise(19, window(9, 7, 1, 3))),
        (1, depthwise(33, window(7, 3, 1, 1))),
        (2, depthwise(20, window(10, 3, 2, 1))),
        (2, grouped(5, 4, window(9, 3, 1, 1))),
        (2, grouped(3, 8, window(8, 3, 2, 1))),
        (1, grouped(2, 33, window(5, 3, 1, 1))),
        (1, depthwise(8, window(2, 7, 1, 3))),
        (1, depthwise(70, window(23, 7, 1, 3))),
        (3, depthwise(5, window(1, 1, 1, 0))),
        (1, depthwise(4, window(3, 3, 1, 7))),
        (2, depthwise(17, window(8, 5, 3, 2))),
        (1, depthwise(18, ConvShape { dilation: [2, 3], ..window(13, 3, 1, 4) })),
        (1, depthwise(6, ConvShape { kernel: [2, 7], stride: [2, 1], padding: [0, 5], ..window(12, 1, 1, 0) })),
        (1, depthwise(3, window(7, 1, 3, 0))),
        (40, depthwise(16, window(16, 3, 1, 1))),
        (9, depthwise(21, window(31, 7, 1, 3))),
        (2, grouped(9, 2, window(6, 3, 1, 1))),
        (2, grouped(4, 16, window(7, 3, 2, 1))),
        (1, grouped(3, 32, window(14, 3, 1, 1))),
        (20, grouped(7, 4, window(15, 3, 2, 1))),
        (1, grouped(3, 7, window(6, 1, 1, 0))),
        (1, grouped(2, 8, ConvShape { dilation: [1, 2], stride: [2, 3], ..window(11, 3, 1, 2) })),
        (1, grouped(2, 64, window(4, 2, 2, 0))),
        (1, ConvShape { groups: 6, ..square(7, [6, 24], 3, 1, 1) }),
        (2, ConvShape { groups: 2, ..square(5, [16, 10], 3, 2, 1) }),
    ]
}

fn no_images_give_zero_gradients(isa: Isa) {
    let winograd = Algorithms { backward_weights: Algorithm::Winograd(WinogradTile::F4x3), ..DIRECT };
    for algorithms in [DIRECT, winograd, GROUPED] {
        let conv = Conv::with_algorithms(isa, square(8, [32, 32], 3, 1, 1), algorithms);
        let (mut dw, mut workspace) = (vec![f32::NAN; 9 * 32 * 32], vec![f32::NAN; conv.workspace_len(1)]);
        conv.backward_weights(&Pool::new(1), 0, &[0.0f32; 0], &[], &mut dw, &mut workspace);
        assert!(dw.iter().all(|&value| value == 0.0), "{algorithms:?}");
    }
}

/// Products that wrap would let a short slice pass for a large image, or for many images.
fn images_larger_than_memory_are_refused(isa: Isa) {
    let panics = |run: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err();
    let wraps = usize::MAX / 3 * 2 + 1;
    assert_eq!(wraps.wrapping_mul(3), 1);
    let tall = ConvShape { input: [wraps, 3], ..square(1, [1, 1], 1, 1, 0) };
    let deep = square(1, [wraps, 3], 1, 1, 0);
    let no_room = square(2, [1, 1], 3, 1, 0);
    let padded = square(2, [1, 1], 3, 1, usize::MAX / 2);
    for shape in [tall, deep, no_room, padded] {
        assert!(panics(&|| _ = Conv::new(isa, shape, 1)), "{shape:?}");
    }
    for algorithms in [DIRECT, GROUPED] {
        let groups = if algorithms == DIRECT { 1 } else { 3 };
        let conv = Conv::with_algorithms(isa, ConvShape { groups, ..square(1, [3, 3], 1, 1, 0) }, algorithms);
        let packed = vec![0.0; conv.packed_forward_len()];
        let run = |images: usize, len: usize| {
            let (x, mut y, mut workspace) = (vec![0.0; len], vec![0.0; len], vec![0.0; conv.workspace_len(1)]);
            conv.forward(&Pool::new(1), images, &x, &packed, Epilogue::default(), &mut y, &mut workspace);
        };
        run(1, 3);
        assert!(panics(&|| run(wraps, 1)), "{algorithms:?}: images");
    }
}

fn forward(
    isa: Isa,
    algorithms: Algorithms,
    pool: &Pool,
    shape: &ConvShape,
    images: usize,
    x: &[f32],
    w: &[f32],
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    let conv = Conv::with_algorithms(isa, *shape, algorithms);
    let mut packed = vec![f32::NAN; conv.packed_forward_len()];
    conv.pack_forward(pool, w, &mut packed);
    let mut workspace = vec![f32::NAN; conv.workspace_len(pool.threads())];
    conv.forward(pool, images, x, &packed, epilogue, y, &mut workspace);
}

fn backward_data(
    isa: Isa,
    algorithms: Algorithms,
    pool: &Pool,
    shape: &ConvShape,
    images: usize,
    dy: &[f32],
    w: &[f32],
    accumulate: bool,
    dx: &mut [f32],
) {
    let conv = Conv::with_algorithms(isa, *shape, algorithms);
    let mut packed = vec![f32::NAN; conv.packed_backward_len()];
    conv.pack_backward(pool, w, &mut packed);
    let mut workspace = vec![f32::NAN; conv.workspace_len(pool.threads())];
    conv.backward_data(pool, images, dy, &packed, accumulate, dx, &mut workspace);
}

fn backward_weights(
    isa: Isa,
    algorithms: Algorithms,
    pool: &Pool,
    shape: &ConvShape,
    images: usize,
    x: &[f32],
    dy: &[f32],
) -> Vec<f32> {
    let conv = Conv::with_algorithms(isa, *shape, algorithms);
    let mut workspace = vec![f32::NAN; conv.weights_workspace_len(images, pool.threads())];
    let mut dw = vec![f32::NAN; shape.weight_len()];
    conv.backward_weights(pool, images, x, dy, &mut dw, &mut workspace);
    dw
}

fn forward_is_the_definition(isa: Isa) {
    for (images, shape) in shapes() {
        let (x, w) = (uniform(1, images * shape.input_len()), uniform(2, shape.weight_len()));
        let got = same_on_any_pool(&format!("{shape:?}"), |pool| {
            let mut y = vec![f32::NAN; images * shape.output_len()];
            forward(isa, DIRECT, pool, &shape, images, &x, &w, Epilogue::default(), &mut y);
            y
        });
        close(&got, &conv_forward(&shape, images, &x, &w), 2e-6, &format!("{shape:?}"));
    }
}

fn backward_data_is_the_definition(isa: Isa) {
    for (images, shape) in shapes() {
        let (dy, w) = (uniform(3, images * shape.output_len()), uniform(4, shape.weight_len()));
        let expected = conv_backward_data(&shape, images, &dy, &w);
        let before = uniform(5, expected.len());
        for accumulate in [false, true] {
            let what = format!("accumulate {accumulate}: {shape:?}");
            let got = same_on_any_pool(&what, |pool| {
                let mut dx = if accumulate { before.clone() } else { vec![f32::NAN; expected.len()] };
                backward_data(isa, DIRECT, pool, &shape, images, &dy, &w, accumulate, &mut dx);
                dx
            });
            let add = |(index, value): (usize, &f32)| if accumulate { value + before[index] } else { *value };
            let expected: Vec<f32> = expected.iter().enumerate().map(add).collect();
            close(&got, &expected, 2e-6, &what);
        }
    }
}

fn backward_weights_is_the_definition(isa: Isa) {
    let many_rows =
        [(40, square(16, [5, 18], 3, 1, 1)), (30, square(20, [3, 16], 3, 2, 1)), (9, square(30, [24, 64], 1, 1, 0))];
    for (images, shape) in shapes().into_iter().chain(many_rows) {
        let (x, dy) = (uniform(6, images * shape.input_len()), uniform(7, images * shape.output_len()));
        let what = format!("{shape:?}");
        let got = same_on_any_pool(&what, |pool| backward_weights(isa, DIRECT, pool, &shape, images, &x, &dy));
        close(&got, &conv_backward_weights(&shape, images, &x, &dy), 3e-6, &what);
    }
}

fn epilogues_apply_in_order(isa: Isa) {
    for (images, shape) in shapes() {
        let (x, w) = (uniform(1, images * shape.input_len()), uniform(2, shape.weight_len()));
        let len = images * shape.output_len();
        let (bias, add, before) = (uniform(8, shape.out_channels), uniform(9, len), uniform(10, len));
        let plain = conv_forward(&shape, images, &x, &w);
        for mask in 0..16 {
            let (accumulate, biased, added, relu) = (mask & 1 > 0, mask & 2 > 0, mask & 4 > 0, mask & 8 > 0);
            let mut expected = plain.clone();
            for (index, value) in expected.iter_mut().enumerate() {
                *value += if accumulate { before[index] } else { 0.0 };
                *value += if biased { bias[index % shape.out_channels] } else { 0.0 };
                *value += if added { add[index] } else { 0.0 };
                *value = if relu { value.max(0.0) } else { *value };
            }
            let epilogue = Epilogue { accumulate, bias: biased.then_some(&bias), add: added.then_some(&add), relu };
            let mut y = before.clone();
            forward(isa, DIRECT, &Pool::new(2), &shape, images, &x, &w, epilogue, &mut y);
            close(&y, &expected, 2e-6, &format!("{mask:#b} {shape:?}"));
        }
    }
}

fn gradients_are_finite_differences(isa: Isa) {
    let pool = Pool::new(2);
    let direct = shapes().into_iter().take(5).map(|(images, shape)| (DIRECT, images, shape));
    let grouped = grouped_shapes().into_iter().take(6).map(|(images, shape)| (GROUPED, images, shape));
    for (algorithms, images, shape) in direct.chain(grouped) {
        let (x, w) = (uniform(1, images * shape.input_len()), uniform(2, shape.weight_len()));
        let seed = uniform(3, images * shape.output_len());
        let loss = |x: &[f32], w: &[f32]| -> f64 {
            let mut y = vec![0.0; seed.len()];
            forward(isa, algorithms, &pool, &shape, images, x, w, Epilogue::default(), &mut y);
            y.iter().zip(&seed).map(|(y, seed)| f64::from(*y) * f64::from(*seed)).sum()
        };
        let slope = |change: &dyn Fn(f32) -> f64| (change(0.5) - change(-0.5)) as f32;
        let mut dx = vec![0.0; x.len()];
        backward_data(isa, algorithms, &pool, &shape, images, &seed, &w, false, &mut dx);
        let dw = backward_weights(isa, algorithms, &pool, &shape, images, &x, &seed);
        for probe in 0..8 {
            let (xi, wi) = (probe * 7919 % x.len(), probe * 104_729 % w.len());
            let numeric = slope(&|step| {
                let mut x = x.clone();
                x[xi] += step;
                loss(&x, &w)
            });
            close(&[dx[xi]], &[numeric], 2e-4, &format!("dx[{xi}] {shape:?}"));
            let numeric = slope(&|step| {
                let mut w = w.clone();
                w[wi] += step;
                loss(&x, &w)
            });
            close(&[dw[wi]], &[numeric], 2e-4, &format!("dw[{wi}] {shape:?}"));
        }
    }
}

/// A stride larger than the kernel leaves inputs that no output sees.
fn empty_phases_give_zero_gradients(isa: Isa) {
    let shape = square(6, [3, 4], 1, 2, 0);
    let (dy, w) = (uniform(1, shape.output_len()), uniform(2, shape.weight_len()));
    let mut dx = vec![f32::NAN; shape.input_len()];
    backward_data(isa, DIRECT, &Pool::new(2), &shape, 1, &dy, &w, false, &mut dx);
    for (index, value) in dx.iter().enumerate() {
        let pixel = index / 3;
        assert_eq!(*value != 0.0, pixel / 6 % 2 == 0 && pixel % 6 % 2 == 0, "pixel {pixel}");
    }
}

/// Shapes that Winograd's algorithms compute: images that tiles do and do not divide, every padding, one tile and many
/// blocks of them, channels that fill no panel.
fn winograd_shapes() -> Vec<(usize, ConvShape)> {
    vec![
        (1, square(4, [16, 16], 3, 1, 1)),
        (3, square(7, [32, 16], 3, 1, 1)),
        (2, square(9, [16, 48], 3, 1, 0)),
        (2, square(5, [48, 80], 3, 1, 2)),
        (1, square(1, [16, 32], 3, 1, 1)),
        (20, square(14, [16, 64], 3, 1, 1)),
        (5, square(30, [16, 16], 3, 1, 1)),
        (40, square(8, [64, 64], 3, 1, 1)),
        (2, ConvShape { input: [6, 13], padding: [0, 1], ..square(0, [32, 32], 3, 1, 0) }),
    ]
}

fn winograd_is_the_definition(isa: Isa) {
    for (images, shape) in winograd_shapes() {
        for (tile, tolerance) in [(WinogradTile::F2x3, 4e-6), (WinogradTile::F4x3, 2e-5)] {
            let algorithm = Algorithm::Winograd(tile);
            let algorithms = Algorithms { forward: algorithm, backward_data: algorithm, backward_weights: algorithm };
            passes_are_the_definition(isa, algorithms, &shape, images, (tolerance, 6e-5));
        }
    }
}

fn grouped_is_the_definition(isa: Isa) {
    for (images, shape) in grouped_shapes() {
        let conv = Conv::with_algorithms(isa, shape, GROUPED);
        assert_eq!(conv.algorithms(), GROUPED, "{shape:?}");
        passes_are_the_definition(isa, GROUPED, &shape, images, (2e-6, 4e-6));
    }
    let dense = Conv::with_algorithms(isa, square(7, [16, 16], 3, 1, 1), GROUPED);
    assert_eq!(dense.algorithms(), DIRECT, "a dense convolution has no groups");
}

/// All passes, with everything that can be done to their results, against the naive twin.
fn passes_are_the_definition(
    isa: Isa,
    algorithms: Algorithms,
    shape: &ConvShape,
    images: usize,
    (tolerance, weights_tolerance): (f32, f32),
) {
    let what = format!("{:?} {shape:?}", algorithms.forward);
    let conv = Conv::with_algorithms(isa, *shape, algorithms);
    let (x, w) = (uniform(1, images * shape.input_len()), uniform(2, shape.weight_len()));
    let (dy, add) = (uniform(3, images * shape.output_len()), uniform(4, images * shape.output_len()));
    let bias = uniform(5, shape.out_channels);

    let y = same_on_any_pool(&what, |pool| {
        let mut packed = vec![f32::NAN; conv.packed_forward_len()];
        conv.pack_forward(pool, &w, &mut packed);
        let mut workspace = vec![f32::NAN; conv.workspace_len(pool.threads())];
        let mut y = vec![f32::NAN; dy.len()];
        let epilogue = Epilogue { accumulate: false, bias: Some(&bias), add: Some(&add), relu: true };
        conv.forward(pool, images, &x, &packed, epilogue, &mut y, &mut workspace);
        y
    });
    let mut expected = conv_forward(shape, images, &x, &w);
    for (index, value) in expected.iter_mut().enumerate() {
        *value = (*value + bias[index % shape.out_channels] + add[index]).max(0.0);
    }
    close(&y, &expected, tolerance, &format!("forward, {what}"));

    let before = uniform(6, x.len());
    let dx = same_on_any_pool(&what, |pool| {
        let mut packed = vec![f32::NAN; conv.packed_backward_len()];
        conv.pack_backward(pool, &w, &mut packed);
        let mut workspace = vec![f32::NAN; conv.workspace_len(pool.threads())];
        let mut dx = before.clone();
        conv.backward_data(pool, images, &dy, &packed, true, &mut dx, &mut workspace);
        dx
    });
    let expected = conv_backward_data(shape, images, &dy, &w);
    let expected: Vec<f32> = expected.iter().zip(&before).map(|(dx, before)| dx + before).collect();
    close(&dx, &expected, tolerance, &format!("backward-data, {what}"));

    let dw = same_on_any_pool(&what, |pool| {
        let mut workspace = vec![f32::NAN; conv.weights_workspace_len(images, pool.threads())];
        let mut dw = vec![f32::NAN; shape.weight_len()];
        conv.backward_weights(pool, images, &x, &dy, &mut dw, &mut workspace);
        dw
    });
    let expected = conv_backward_weights(shape, images, &x, &dy);
    close(&dw, &expected, weights_tolerance, &format!("backward-weights, {what}"));
}

/// The relative L2 error against f64: on random values, on a large mean with a small signal, and on values of
/// alternating sign at the limits of the transforms.
fn winograd_error_stays_within_its_bound(isa: Isa) {
    let shape = square(24, [64, 64], 3, 1, 1);
    let w = uniform(2, shape.weight_len());
    let random = uniform(1, shape.input_len());
    let inputs = [
        ("random", random.clone()),
        ("large mean", random.iter().map(|x| 100.0 + x).collect()),
        (
            "checkerboard",
            (0..shape.input_len()).map(|i| if (i / 64 + i / 64 / 24) % 2 == 0 { 1.0 } else { -1.0 }).collect(),
        ),
        ("spikes", random.iter().map(|x| if *x > 0.99 { 1000.0 } else { *x }).collect()),
    ];
    let pool = Pool::new(1);
    for (name, x) in inputs {
        let expected = conv_forward(&shape, 1, &x, &w);
        for (algorithm, bound) in [
            (Algorithm::Direct, 1e-6),
            (Algorithm::Winograd(WinogradTile::F2x3), 1.5e-6),
            (Algorithm::Winograd(WinogradTile::F4x3), 6e-6),
        ] {
            let conv = Conv::with_algorithms(isa, shape, Algorithms { forward: algorithm, ..Algorithms::DIRECT });
            let mut packed = vec![0.0; conv.packed_forward_len()];
            conv.pack_forward(&pool, &w, &mut packed);
            let (mut y, mut workspace) = (vec![0.0; expected.len()], vec![0.0; conv.workspace_len(1)]);
            conv.forward(&pool, 1, &x, &packed, Epilogue::default(), &mut y, &mut workspace);
            let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
            let error = square(&mut y.iter().zip(&expected).map(|(y, e)| f64::from(y - e)));
            let relative = error / square(&mut expected.iter().map(|e| f64::from(*e)));
            assert!(relative < bound, "{name}, {algorithm:?}: {relative:.2e} is not below {bound:.1e}");
        }
    }
}

/// Statistics taken on the way are those of the output, with a mean that is large beside the deviations too.
fn statistics_are_those_of_the_output(isa: Isa) {
    for (images, shape) in shapes().into_iter().chain(winograd_shapes()).chain(grouped_shapes()) {
        for (forward, mean) in Algorithm::ALL.into_iter().flat_map(|forward| [(forward, 0.0), (forward, 1000.0)]) {
            let conv = Conv::with_algorithms(isa, shape, Algorithms { forward, ..Algorithms::DIRECT });
            if conv.algorithms().forward != forward {
                continue;
            }
            let (x, w) = (uniform(1, images * shape.input_len()), uniform(2, shape.weight_len()));
            let bias: Vec<f32> = uniform(3, shape.out_channels).iter().map(|bias| mean + bias).collect();
            let what = format!("{forward:?}, mean {mean}, {shape:?}");
            let got = same_on_any_pool(&what, |pool| {
                let mut packed = vec![f32::NAN; conv.packed_forward_len()];
                conv.pack_forward(pool, &w, &mut packed);
                let mut workspace = vec![f32::NAN; conv.workspace_len(pool.threads())];
                let mut y = vec![f32::NAN; images * shape.output_len()];
                let (mut mean, mut variance) = (vec![f32::NAN; bias.len()], vec![f32::NAN; bias.len()]);
                let mut sums = vec![f32::NAN; conv.statistics_workspace_len(images)];
                let statistics = Statistics { mean: &mut mean, variance: &mut variance, workspace: &mut sums };
                let bias = Some(&bias[..]);
                conv.forward_with_statistics(pool, images, &x, &packed, bias, statistics, &mut y, &mut workspace);
                [mean, variance, y].concat()
            });
            let (statistics, y) = got.split_at(2 * shape.out_channels);
            let (mean, variance) = reference::statistics(y, shape.out_channels);
            close(&statistics[..shape.out_channels], &mean, 5e-6, &what);
            // Blocks leave their means in f32, which at a thousand is a step of 6e-5.
            close(&statistics[shape.out_channels..], &variance, if bias[0] > 100.0 { 1e-4 } else { 1e-5 }, &what);
        }
    }
}

/// Large outputs are stored with non-temporal stores where they begin at a cache line.
fn outputs_of_non_temporal_stores_are_the_same(isa: Isa) {
    let winograd = [Algorithm::Winograd(WinogradTile::F2x3), Algorithm::Winograd(WinogradTile::F4x3)];
    let direct = (square(224, [16, 64], 1, 1, 0), Algorithm::Direct);
    let shapes = winograd.map(|algorithm| (square(225, [16, 64], 3, 1, 1), algorithm)).into_iter().chain([direct]);
    for (shape, forward) in shapes {
        let conv = Conv::with_algorithms(isa, shape, Algorithms { forward, ..Algorithms::DIRECT });
        let pool = Pool::new(2);
        let (x, w) = (uniform(1, shape.input_len()), uniform(2, shape.weight_len()));
        let mut packed = vec![f32::NAN; conv.packed_forward_len()];
        conv.pack_forward(&pool, &w, &mut packed);
        let mut workspace = vec![f32::NAN; conv.workspace_len(2)];
        let mut y = AlignedBuffer::zeros(2 * shape.output_len() + 16);
        let (aligned, rest) = y.split_at_mut(shape.output_len().next_multiple_of(16));
        let (aligned, other) = (&mut aligned[..shape.output_len()], &mut rest[1..][..shape.output_len()]);
        for y in [&mut *aligned, &mut *other] {
            conv.forward(&pool, 1, &x, &packed, Epilogue::default(), y, &mut workspace);
        }
        assert!(aligned == other && aligned.iter().any(|value| *value != 0.0), "{forward:?}");
    }
}
