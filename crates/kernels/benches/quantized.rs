//! Speed of the convolutions of bytes of ResNet-18 and ResNet-50, layer by layer, as a share of the peak of byte products measured in
//! the same run: `cargo bench -p residual-kernels --bench quantized [-- THREADS [ISA [NAME]]]`.

use residual_kernels::Isa;
use residual_kernels::conv::{ConvShape, Quantized, QuantizedConv, Requantize};
use residual_tensor::AlignedBuffer;
use residual_threads::Pool;
use std::time::Instant;

fn median(mut run: impl FnMut()) -> f64 {
    run();
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || (start.elapsed().as_secs_f64() < 0.3 && times.len() < 400) {
        let start = Instant::now();
        run();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn shape(input: usize, in_channels: usize, out_channels: usize, kernel: usize, stride: usize) -> ConvShape {
    ConvShape {
        input: [input; 2],
        in_channels,
        out_channels,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [kernel / 2; 2],
        dilation: [1; 2],
        groups: 1,
    }
}

/// Seconds of a convolution of `images` images, with a residual or without.
fn time(isa: Isa, pool: &Pool, images: usize, shape: ConvShape, adds: bool) -> f64 {
    let conv = QuantizedConv::new(isa, shape);
    let pixels = |size: [usize; 2], channels| images * size[0] * size[1] * QuantizedConv::pixel(channels);
    let bytes = |len: usize, value: u8| {
        let mut buffer = AlignedBuffer::zeros(len.div_ceil(4));
        buffer.as_bytes_mut().fill(value);
        buffer
    };
    let (x_len, y_len) = (pixels(shape.input, shape.in_channels), pixels(shape.output(), shape.out_channels));
    let (x, add, mut y) = (bytes(x_len, 3), bytes(y_len, 5), bytes(y_len, 0));
    let packed = AlignedBuffer::zeros(conv.packed_len());
    let mut workspace = AlignedBuffer::zeros(conv.workspace_len(pool.threads()));
    // Zero is the least number after a ReLU.
    let zero = if shape.in_channels == 3 { 118 } else { 0 };
    let (start, scale) = (vec![0; shape.out_channels], vec![0.01; shape.out_channels]);
    median(|| {
        let add = adds.then(|| (&add.as_bytes()[..y_len], 0.5));
        let requantize = Requantize { start: &start, scale: &scale, bias: &scale, add, least: 0.0 };
        let y = Quantized::Bytes(&mut y.as_bytes_mut()[..y_len]);
        conv.forward(pool, images, (&x.as_bytes()[..x_len], zero), &packed, requantize, y, &mut workspace);
    })
}

fn operations(images: usize, shape: &ConvShape) -> f64 {
    2.0 * (images * shape.output_len()) as f64 * (shape.weight_len() / shape.out_channels) as f64
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let threads = arguments.first().and_then(|n| n.parse().ok()).unwrap_or(2);
    let isa = arguments.get(1).map_or_else(Isa::detect, |name| Isa::from_name(name).expect("an instruction set"));
    let pool = Pool::new(threads);
    // Times, extents, whether a residual is added.
    let resnet50 = [
        (1, shape(224, 3, 64, 7, 2), false),
        (1, shape(56, 64, 64, 1, 1), false),
        (3, shape(56, 64, 64, 3, 1), false),
        (1, shape(56, 64, 256, 1, 1), false),
        (3, shape(56, 64, 256, 1, 1), true),
        (2, shape(56, 256, 64, 1, 1), false),
        (1, shape(56, 256, 128, 1, 1), false),
        (1, shape(56, 128, 128, 3, 2), false),
        (1, shape(56, 256, 512, 1, 2), false),
        (4, shape(28, 128, 512, 1, 1), true),
        (3, shape(28, 512, 128, 1, 1), false),
        (3, shape(28, 128, 128, 3, 1), false),
        (1, shape(28, 512, 256, 1, 1), false),
        (1, shape(28, 256, 256, 3, 2), false),
        (1, shape(28, 512, 1024, 1, 2), false),
        (6, shape(14, 256, 1024, 1, 1), true),
        (5, shape(14, 1024, 256, 1, 1), false),
        (5, shape(14, 256, 256, 3, 1), false),
        (1, shape(14, 1024, 512, 1, 1), false),
        (1, shape(14, 512, 512, 3, 2), false),
        (1, shape(14, 1024, 2048, 1, 2), false),
        (3, shape(7, 512, 2048, 1, 1), true),
        (2, shape(7, 2048, 512, 1, 1), false),
        (2, shape(7, 512, 512, 3, 1), false),
    ];
    let resnet18 = [
        (1, shape(224, 3, 64, 7, 2), false),
        (2, shape(56, 64, 64, 3, 1), false),
        (2, shape(56, 64, 64, 3, 1), true),
        (1, shape(56, 64, 128, 3, 2), false),
        (1, shape(56, 64, 128, 1, 2), false),
        (1, shape(28, 128, 128, 3, 1), false),
        (2, shape(28, 128, 128, 3, 1), true),
        (1, shape(28, 128, 256, 3, 2), false),
        (1, shape(28, 128, 256, 1, 2), false),
        (1, shape(14, 256, 256, 3, 1), false),
        (2, shape(14, 256, 256, 3, 1), true),
        (1, shape(14, 256, 512, 3, 2), false),
        (1, shape(14, 256, 512, 1, 2), false),
        (1, shape(7, 512, 512, 3, 1), false),
        (2, shape(7, 512, 512, 3, 1), true),
    ];
    // Operands that stay in the first-level cache.
    let small = shape(8, 512, 64, 1, 1);
    let peak = operations(1, &small) / time(isa, &Pool::new(1), 1, small, false) * threads as f64;
    println!("{isa:?}, {threads} threads, {:.0} GOP/s from cache", peak / 1e9);
    println!("{:>5} {:>26} {:>3} {:>10} {:>6}", "batch", "layer", "×", "ms", "GOP/s");
    for (name, layers) in [("ResNet-50", &resnet50[..]), ("ResNet-18", &resnet18[..])] {
        for images in [1, 8] {
            let mut total = 0.0;
            for &(count, shape, adds) in layers {
                let ConvShape { input: [input, _], in_channels, out_channels, kernel: [k, _], .. } = shape;
                let plus = if adds { " +" } else { "" };
                let layer = format!("{k}x{k} {in_channels}→{out_channels} @{input} /{}{plus}", shape.stride[0]);
                if arguments.get(2).is_some_and(|wanted| !layer.contains(wanted.as_str())) {
                    continue;
                }
                let time = time(isa, &pool, images, shape, adds);
                let rate = operations(images, &shape) / time;
                println!(
                    "{images:>5} {layer:>26} {count:>3} {:>10.3} {:>6.0} {:>3.0} %",
                    time * 1e3,
                    rate / 1e9,
                    100.0 * rate / peak
                );
                total += time * f64::from(count);
            }
            println!("{name}, batch {images}: {:.2} ms", total * 1e3);
        }
    }
}
