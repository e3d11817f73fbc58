//! Convolutions of bytes are their definition, to the bit, on every instruction set.

use crate::{stamp, uniform};
use residual_kernels::Isa;
use residual_kernels::conv::{ConvShape, Quantized, QuantizedConv, Requantize};
use residual_kernels::reference::conv_quantized;
use residual_tensor::AlignedBuffer;
use residual_tensor::Stream;
use residual_threads::Pool;

stamp!(every_shape_is_its_definition, every_grouped_shape_is_its_definition, sums_do_not_saturate);

fn shape(input: [usize; 2], channels: [usize; 2], kernel: usize, stride: usize, padding: usize) -> ConvShape {
    ConvShape {
        input,
        in_channels: channels[0],
        out_channels: channels[1],
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [1; 2],
        groups: 1,
    }
}

/// Pixels of whole groups of channels; what is padding is anything.
fn pixels(stream: &mut Stream, count: usize, channels: usize) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::zeros((count * QuantizedConv::pixel(channels)).div_ceil(4));
    buffer.as_bytes_mut().iter_mut().for_each(|byte| *byte = stream.below(256) as u8);
    buffer
}

struct Case {
    shape: ConvShape,
    images: usize,
    x: AlignedBuffer,
    w: Vec<i8>,
    zero: u8,
    start: Vec<i32>,
    scale: Vec<f32>,
    bias: Vec<f32>,
    add: Option<(AlignedBuffer, f32)>,
    least: f32,
}

impl Case {
    fn new(seed: u64, shape: ConvShape, images: usize, add: bool, zero: u8) -> Self {
        let mut stream = Stream::new(seed, &[]);
        let x = pixels(&mut stream, images * shape.input.iter().product::<usize>(), shape.in_channels);
        let w: Vec<i8> = (0..shape.weight_len()).map(|_| (stream.below(256) as i32 - 128) as i8).collect();
        let outputs = shape.out_channels;
        let mut sums = vec![0i32; outputs];
        let (group_outputs, group_len) = (outputs / shape.groups, w.len() / shape.groups);
        for (index, &w) in w.iter().enumerate() {
            sums[index / group_len * group_outputs + index % group_outputs] += i32::from(w);
        }
        let depth = (shape.weight_len() / outputs) as f32;
        // Results that mostly fit a byte, with some beyond both ends.
        let scale = uniform(seed + 1, outputs).iter().map(|u| (1.5 + u) * 0.008 / depth.sqrt()).collect();
        let bias = uniform(seed + 2, outputs).iter().map(|u| 120.0 + 40.0 * u).collect();
        let target = images * shape.output().iter().product::<usize>();
        Self {
            start: sums.iter().map(|sum| -i32::from(zero) * sum).collect(),
            add: add.then(|| (pixels(&mut stream, target, outputs), 0.37)),
            least: if add { 11.0 } else { 0.0 },
            shape,
            images,
            x,
            w,
            zero,
            scale,
            bias,
        }
    }

    fn requantize(&self) -> Requantize<'_> {
        let len =
            self.images * self.shape.output().iter().product::<usize>() * QuantizedConv::pixel(self.shape.out_channels);
        Requantize {
            start: &self.start,
            scale: &self.scale,
            bias: &self.bias,
            add: self.add.as_ref().map(|(add, factor)| (&add.as_bytes()[..len], *factor)),
            least: self.least,
        }
    }

    fn x(&self) -> (&[u8], u8) {
        let len =
            self.images * self.shape.input.iter().product::<usize>() * QuantizedConv::pixel(self.shape.in_channels);
        (&self.x.as_bytes()[..len], self.zero)
    }

    fn check(&self, isa: Isa) {
        let Self { shape, images, .. } = self;
        let expected = conv_quantized(shape, *images, self.x(), &self.w, self.requantize());
        let conv = QuantizedConv::new(isa, *shape);
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            let mut packed = vec![f32::NAN; conv.packed_len()];
            conv.pack(&pool, &self.w, &mut packed);
            let mut workspace = vec![f32::NAN; conv.workspace_len(threads)];
            let mut floats = vec![f32::NAN; expected.len()];
            let to = Quantized::Floats(&mut floats);
            conv.forward(&pool, *images, self.x(), &packed, self.requantize(), to, &mut workspace);
            assert_eq!(floats, expected, "{shape:?} on {threads} threads");
            let (outputs, pixel) = (shape.out_channels, QuantizedConv::pixel(shape.out_channels));
            let mut bytes = vec![77; expected.len() / outputs * pixel];
            let to = Quantized::Bytes(&mut bytes);
            conv.forward(&pool, *images, self.x(), &packed, self.requantize(), to, &mut workspace);
            for (pixel, expected) in bytes.chunks_exact(pixel).zip(expected.chunks_exact(outputs)) {
                let rounded = expected.iter().map(|value| value.min(255.0).round_ties_even() as u8);
                assert!(pixel.iter().copied().take(outputs).eq(rounded), "{shape:?} on {threads} threads");
                assert!(pixel[outputs..].iter().all(|&byte| byte == 77), "padding between pixels is not written");
            }
        }
    }
}

fn every_shape_is_its_definition(isa: Isa) {
    let shapes = [
        shape([9, 11], [16, 32], 3, 1, 1),
        shape([9, 11], [20, 17], 3, 2, 1),
        shape([17, 15], [3, 24], 7, 2, 3),
        shape([8, 8], [64, 40], 1, 1, 0),
        shape([8, 9], [32, 70], 1, 2, 0),
        shape([5, 5], [4, 5], 5, 1, 2),
        shape([1, 1], [130, 10], 1, 1, 0),
        shape([4, 3], [6, 130], 3, 1, 1),
    ];
    for (index, shape) in shapes.into_iter().enumerate() {
        for (images, add, zero) in [(1, false, 0), (2, true, 0), (3, false, 131), (1, true, 255)] {
            Case::new(10 + index as u64, shape, images, add, zero).check(isa);
        }
    }
}

/// Depthwise, several groups in a vector, whole vectors and parts of them; lanes that channels do not fill, strides, dilations,
/// padding larger than the image, one output and several bands.
fn every_grouped_shape_is_its_definition(isa: Isa) {
    let grouped = |groups, shape: ConvShape| ConvShape { groups, ..shape };
    let shapes = [
        // Depthwise.
        grouped(32, shape([9, 11], [32, 32], 3, 1, 1)),
        grouped(20, shape([8, 7], [20, 20], 3, 2, 1)),
        grouped(13, shape([7, 7], [13, 13], 7, 1, 3)),
        grouped(70, shape([5, 3], [70, 70], 5, 1, 2)),
        grouped(8, shape([1, 1], [8, 8], 3, 1, 1)),
        grouped(6, ConvShape { dilation: [2, 3], ..shape([9, 8], [6, 6], 3, 1, 4) }),
        grouped(5, ConvShape { kernel: [3, 2], stride: [1, 3], padding: [0, 6], ..shape([6, 4], [5, 5], 0, 1, 0) }),
        grouped(3, shape([4, 4], [3, 3], 1, 1, 0)),
        grouped(4, shape([90, 60], [4, 4], 7, 1, 3)),
        // As ResNeXt's.
        grouped(32, shape([6, 5], [128, 128], 3, 1, 1)),
        grouped(5, shape([7, 6], [20, 20], 3, 2, 1)),
        grouped(4, shape([5, 5], [32, 32], 3, 1, 1)),
        grouped(3, shape([5, 4], [48, 48], 3, 2, 1)),
        grouped(2, shape([6, 6], [64, 64], 3, 1, 1)),
        grouped(8, shape([80, 50], [32, 32], 3, 1, 1)),
        // Channels that do not fill lanes or vectors, and other numbers of outputs.
        grouped(4, shape([5, 5], [8, 8], 3, 1, 1)),
        grouped(3, shape([4, 6], [9, 6], 3, 1, 1)),
        grouped(2, shape([4, 4], [14, 10], 2, 2, 0)),
        grouped(7, shape([5, 5], [7, 14], 3, 1, 1)),
        grouped(6, shape([4, 5], [48, 6], 1, 1, 0)),
        grouped(2, shape([3, 3], [20, 66], 3, 1, 1)),
        grouped(4, ConvShape { dilation: [2, 2], ..shape([8, 9], [16, 16], 3, 1, 2) }),
        grouped(2, ConvShape { dilation: [3, 2], ..shape([8, 9], [24, 40], 3, 2, 3) }),
    ];
    for (index, shape) in shapes.into_iter().enumerate() {
        for (images, add, zero) in [(1, false, 0), (2, true, 128), (1, true, 255)] {
            Case::new(50 + index as u64, shape, images, add, zero).check(isa);
        }
    }
}

/// The largest bytes by the largest weights, over a depth of up to thousands: pairs of products exceed 16 bits.
fn sums_do_not_saturate(isa: Isa) {
    let dense = shape([3, 3], [512, 16], 3, 1, 1);
    let grouped = |groups| ConvShape { groups, ..dense };
    let depthwise = ConvShape { in_channels: 16, groups: 16, ..shape([20, 20], [0, 16], 15, 1, 7) };
    for (weight, shape) in
        [-128, 127].into_iter().flat_map(|w| [dense, grouped(2), grouped(4), depthwise].map(|s| (w, s)))
    {
        let mut case = Case::new(3, shape, 1, false, 0);
        case.x.as_bytes_mut().fill(255);
        case.w.fill(weight);
        case.start.fill(0);
        case.scale.fill(1.0 / 1024.0);
        case.least = f32::NEG_INFINITY;
        case.check(isa);
    }
}
