//! Kernels on bf16 against the definitions on the same rounded numbers.

use crate::{stamp, uniform};
use residual_kernels::conv::{Algorithm, Algorithms, Conv, ConvShape, Elements, Epilogue, Statistics, WinogradTile};
use residual_kernels::pool::PoolShape;
use residual_kernels::reference::{conv_backward_data, conv_forward};
use residual_kernels::{Isa, bf16, convert, pool, reference};
use residual_tensor::AlignedBuffer;
use residual_threads::Pool;

stamp!(
    direct_convolution_is_its_definition,
    winograd_is_its_definition,
    backward_data_is_its_definition,
    statistics_are_those_of_the_unrounded_output,
    rounding_is_to_the_nearest_even,
    pooling_is_that_of_floats,
);

pub(crate) fn square(input: usize, channels: [usize; 2], kernel: usize, stride: usize, padding: usize) -> ConvShape {
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

/// Values that bf16 holds exactly.
pub(crate) fn rounded(seed: u64, len: usize) -> Vec<f32> {
    uniform(seed, len).into_iter().map(|x| bf16::from_f32(x).to_f32()).collect()
}

/// Pixels of bf16 with an even number of channels, zero where one is missing, aligned as the engine's are.
pub(crate) struct Pixels {
    memory: AlignedBuffer,
    len: usize,
}

impl Pixels {
    pub(crate) fn new(values: &[f32], channels: usize) -> Self {
        let pixel = Elements::Bf16.pixel(channels);
        let len = values.len() / channels * pixel;
        let mut pixels = Self { memory: AlignedBuffer::zeros(len.div_ceil(2)), len };
        for (to, from) in pixels.values_mut().chunks_exact_mut(pixel).zip(values.chunks_exact(channels)) {
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = bf16::from_f32(from));
        }
        pixels
    }

    pub(crate) fn values(&self) -> &[bf16] {
        &bytemuck::cast_slice(&self.memory)[..self.len]
    }

    pub(crate) fn values_mut(&mut self) -> &mut [bf16] {
        &mut bytemuck::cast_slice_mut(&mut self.memory)[..self.len]
    }
}

/// Checks one rounding to bf16, 2⁻⁹ of a value, and errors of the sum, `error` times the magnitude of its terms.
#[track_caller]
pub(crate) fn close(got: &[bf16], expected: &[f32], terms: &[f32], error: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, ((got, expected), terms)) in got.iter().zip(expected).zip(terms).enumerate() {
        let allowed = expected.abs() / 256.0 + error * terms + 1e-6;
        let got = got.to_f32();
        assert!((got - expected).abs() <= allowed, "{what}: at {index}: expected {expected}, got {got}");
    }
}

struct Case {
    shape: ConvShape,
    images: usize,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    add: Vec<f32>,
}

impl Case {
    fn new(seed: u64, shape: ConvShape, images: usize) -> Self {
        Self {
            shape,
            images,
            x: rounded(seed, images * shape.input_len()),
            w: rounded(seed + 1, shape.weight_len()),
            bias: uniform(seed + 2, shape.out_channels),
            add: rounded(seed + 3, images * shape.output_len()),
        }
    }

    /// Compares the forward pass, plain and with every part of the epilogue, on one thread and on three.
    fn check(&self, isa: Isa, forward: Algorithm, error: f32) {
        let Self { shape, images, x, w, .. } = self;
        let algorithms = Algorithms { forward, ..Algorithms::DIRECT };
        let conv = Conv::of_elements(isa, *shape, algorithms, Elements::Bf16);
        assert_eq!(conv.algorithms().forward, forward, "{shape:?}");
        let sums = conv_forward(shape, *images, x, w);
        let magnitude = |values: &[f32]| values.iter().map(|value| value.abs()).collect::<Vec<_>>();
        let terms = conv_forward(shape, *images, &magnitude(x), &magnitude(w));
        let with_all =
            |index: usize, sum: f32| (sum + self.bias[index % shape.out_channels] + self.add[index]).max(0.0);
        let finished: Vec<f32> = sums.iter().enumerate().map(|(index, &sum)| with_all(index, sum)).collect();
        let (x, add) = (Pixels::new(x, shape.in_channels), Pixels::new(&self.add, shape.out_channels));
        let run = |threads: usize, epilogue: Epilogue<'_, bf16>| {
            let pool = Pool::new(threads);
            let mut packed = vec![f32::NAN; conv.packed_forward_len()];
            conv.pack_forward(&pool, w, &mut packed);
            let mut workspace = AlignedBuffer::zeros(conv.workspace_len(threads));
            workspace.fill(f32::NAN);
            let mut y = Pixels::new(&vec![f32::NAN; sums.len()], shape.out_channels);
            conv.forward(&pool, *images, x.values(), &packed, epilogue, y.values_mut(), &mut workspace);
            y.values().to_vec()
        };
        let all = Epilogue { accumulate: false, bias: Some(&self.bias), add: Some(add.values()), relu: true };
        for (epilogue, expected) in [(Epilogue::default(), &sums), (all, &finished)] {
            let y = run(1, epilogue);
            close(&y, expected, &terms, error, &format!("{shape:?} {forward:?}"));
            assert_eq!(run(3, epilogue), y, "{shape:?} {forward:?}: three threads against one");
        }
    }
}

/// Errors of sums of exact products in floats.
const SUM: f32 = 1e-6;

fn direct_convolution_is_its_definition(isa: Isa) {
    let shapes = [
        (1, square(1, [1, 2], 1, 1, 0)),
        (3, square(7, [5, 4], 3, 1, 1)),
        (2, square(9, [16, 16], 3, 1, 1)),
        (2, square(8, [17, 34], 3, 2, 1)),
        (1, square(23, [3, 64], 7, 2, 3)),
        (2, square(6, [64, 70], 1, 1, 0)),
        (2, square(7, [40, 24], 1, 2, 0)),
        (1, square(3, [600, 20], 3, 1, 1)),
        (1, square(7, [512, 64], 7, 1, 0)),
        (40, square(1, [64, 10], 1, 1, 0)),
        (3, square(6, [600, 530], 1, 1, 0)),
        (2, ConvShape { dilation: [3, 2], stride: [2, 3], padding: [3, 1], ..square(11, [4, 10], 3, 1, 0) }),
        (2, ConvShape { input: [5, 12], kernel: [1, 4], padding: [0, 2], ..square(0, [3, 18], 1, 1, 0) }),
    ];
    for (seed, (images, shape)) in shapes.into_iter().enumerate() {
        Case::new(10 * seed as u64, shape, images).check(isa, Algorithm::Direct, SUM);
    }
}

/// The large tile multiplies floats; the small one multiplies points that are rounded to bf16.
fn winograd_is_its_definition(isa: Isa) {
    let shapes = [
        (1, square(8, [32, 32], 3, 1, 1)),
        (2, square(7, [64, 96], 3, 1, 1)),
        (3, square(5, [32, 64], 3, 1, 0)),
        (1, ConvShape { input: [9, 14], padding: [2, 1], ..square(0, [64, 32], 3, 1, 1) }),
    ];
    for (seed, (images, shape)) in shapes.into_iter().enumerate() {
        let case = Case::new(200 + 10 * seed as u64, shape, images);
        case.check(isa, Algorithm::Winograd(WinogradTile::F4x3), 1e-4);
        case.check(isa, Algorithm::Winograd(WinogradTile::F2x3), 1.0 / 256.0);
    }
}

fn backward_data_is_its_definition(isa: Isa) {
    let shapes = [
        (2, square(9, [16, 32], 3, 1, 1), Algorithm::Direct),
        (2, square(8, [18, 34], 3, 2, 1), Algorithm::Direct),
        (2, square(7, [40, 24], 1, 2, 0), Algorithm::Direct),
        (1, square(8, [64, 32], 3, 1, 1), Algorithm::Winograd(WinogradTile::F2x3)),
        (1, square(8, [64, 32], 3, 1, 1), Algorithm::Winograd(WinogradTile::F4x3)),
    ];
    for (seed, (images, shape, backward_data)) in shapes.into_iter().enumerate() {
        let dy = rounded(400 + seed as u64, images * shape.output_len());
        let w = rounded(500 + seed as u64, shape.weight_len());
        let conv = Conv::of_elements(isa, shape, Algorithms { backward_data, ..Algorithms::DIRECT }, Elements::Bf16);
        let pool = Pool::new(2);
        let mut packed = vec![f32::NAN; conv.packed_backward_len()];
        conv.pack_backward(&pool, &w, &mut packed);
        let mut workspace = AlignedBuffer::zeros(conv.workspace_len(2));
        let before = rounded(600, images * shape.input_len());
        let mut dx = Pixels::new(&before, shape.in_channels);
        let dy_pixels = Pixels::new(&dy, shape.out_channels);
        conv.backward_data(&pool, images, dy_pixels.values(), &packed, true, dx.values_mut(), &mut workspace);
        let mut expected = conv_backward_data(&shape, images, &dy, &w);
        expected.iter_mut().zip(&before).for_each(|(dx, before)| *dx += before);
        let terms = vec![(9 * shape.out_channels) as f32 / 4.0; expected.len()];
        let error = if backward_data == Algorithm::Direct { SUM } else { 1.0 / 256.0 };
        close(dx.values(), &expected, &terms, error, &format!("{shape:?} {backward_data:?}"));
    }
}

fn statistics_are_those_of_the_unrounded_output(isa: Isa) {
    for (seed, (images, shape)) in
        [(3, square(9, [16, 20], 3, 1, 1)), (2, square(12, [8, 64], 1, 2, 0))].into_iter().enumerate()
    {
        let case = Case::new(700 + 10 * seed as u64, shape, images);
        let conv = Conv::of_elements(isa, shape, Algorithms::DIRECT, Elements::Bf16);
        let y = conv_forward(&shape, images, &case.x, &case.w);
        let count = (y.len() / shape.out_channels) as f64;
        let channel = |c: usize| y.iter().skip(c).step_by(shape.out_channels).map(|&y| f64::from(y));
        let means: Vec<f64> = (0..shape.out_channels).map(|c| channel(c).sum::<f64>() / count).collect();
        let pool = Pool::new(2);
        let mut packed = vec![0.0; conv.packed_forward_len()];
        conv.pack_forward(&pool, &case.w, &mut packed);
        let (mut mean, mut variance) = (vec![0.0; shape.out_channels], vec![0.0; shape.out_channels]);
        let mut workspace = vec![0.0; conv.statistics_workspace_len(images)];
        let statistics = Statistics { mean: &mut mean, variance: &mut variance, workspace: &mut workspace };
        let x = Pixels::new(&case.x, shape.in_channels);
        let mut out = Pixels::new(&y, shape.out_channels);
        let mut scratch = AlignedBuffer::zeros(conv.workspace_len(2));
        conv.forward_with_statistics(
            &pool,
            images,
            x.values(),
            &packed,
            None,
            statistics,
            out.values_mut(),
            &mut scratch,
        );
        for c in 0..shape.out_channels {
            let deviation = channel(c).map(|y| (y - means[c]).powi(2)).sum::<f64>() / count;
            assert!((f64::from(mean[c]) - means[c]).abs() < 1e-5, "{shape:?}: mean of {c}");
            assert!((f64::from(variance[c]) - deviation).abs() < 1e-4 * deviation, "{shape:?}: variance of {c}");
        }
    }
}

fn rounding_is_to_the_nearest_even(isa: Isa) {
    let special =
        [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1.0, 1.003_906_2, 1.011_718_8];
    let halves = (0..200).map(|i| f32::from_bits(0x3f80_8000 + (i << 16)));
    let values: Vec<f32> = special.into_iter().chain(halves).chain(uniform(9, 300)).collect();
    for channels in [1, 3, 4, 509] {
        let values = &values[..values.len() / channels * channels];
        let pixel = Elements::Bf16.pixel(channels);
        let mut y = vec![bf16::NAN; values.len() / channels * pixel];
        convert::round_to_bf16(isa, &Pool::new(2), values, channels, false, &mut y);
        for (y, x) in y.chunks_exact(pixel).zip(values.chunks_exact(channels)) {
            let expected = x.iter().map(|&x| bf16::from_f32(x));
            assert!(y.iter().copied().take(channels).eq(expected), "{channels} channels");
            assert!(y[channels..].iter().all(|&y| y == bf16::ZERO), "padding is zero");
        }
        let mut back = vec![f32::NAN; values.len()];
        convert::widen_bf16(isa, &Pool::new(2), &y, channels, false, &mut back);
        assert!(back.iter().zip(values).all(|(back, &x)| *back == bf16::from_f32(x).to_f32()));
    }
    let mut y = [bf16::ZERO; 34];
    let nan = [f32::from_bits(0x7f80_0001); 34];
    convert::round_to_bf16(isa, &Pool::new(1), &nan, 34, false, &mut y);
    assert!(y.iter().all(|y| y.is_nan()), "a NaN stays one");
}

fn pooling_is_that_of_floats(isa: Isa) {
    let shape =
        PoolShape { input: [9, 7], channels: 38, kernel: [3; 2], stride: [2; 2], padding: [1; 2], ceil_mode: false };
    let mut x = rounded(11, 2 * 9 * 7 * 38);
    x[5] = f32::NAN;
    let halves = Pixels::new(&x, 38);
    let expected = reference::max_pool(&shape, 2, &x);
    let mut y = vec![bf16::ZERO; expected.len()];
    pool::max_pool(isa, &Pool::new(2), &shape, 2, halves.values(), &mut y);
    assert!(y.iter().zip(&expected).all(|(y, e)| y.to_f32() == *e || (y.is_nan() && e.is_nan())));
    let (mut means, mut of_floats) = (vec![0.0; 76], vec![0.0; 76]);
    pool::global_avg_pool(&Pool::new(2), 63, 38, halves.values(), &mut means);
    pool::global_avg_pool(&Pool::new(2), 63, 38, &x, &mut of_floats);
    assert!(means.iter().zip(&of_floats).all(|(a, b)| a.to_bits() == b.to_bits()), "means are computed in floats");
}
