//! Speed of the convolutions of ResNet-20 and ResNet-50 layer by layer, as a share of the FMA peak measured in the same
//! run: `cargo bench -p residual-kernels --bench conv [-- THREADS [ISA [best|direct|f2|f4 [NAME]]]]`.

use residual_kernels::Isa;
use residual_kernels::conv::{Algorithm, Algorithms, Conv, ConvShape, Epilogue, WinogradTile};
use residual_tensor::AlignedBuffer;
use residual_threads::Pool;
use std::time::Instant;

fn median(mut run: impl FnMut()) -> f64 {
    run();
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || (start.elapsed().as_secs_f64() < 0.3 && times.len() < 200) {
        let start = Instant::now();
        run();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// GFLOP/s of a product whose operands stay in the first-level cache.
fn peak(isa: Isa, pool: &Pool) -> f64 {
    let shape = shape(8, 256, 64, 1, 1);
    let conv = Conv::with_algorithms(isa, shape, Algorithms::DIRECT);
    let packed = floats(conv.packed_forward_len(), 0.5);
    let x = floats(64 * shape.input_len(), 0.5);
    let mut y = floats(64 * shape.output_len(), 0.0);
    let mut workspace = floats(conv.workspace_len(pool.threads()), 0.0);
    let time = median(|| conv.forward(pool, 64, &x, &packed, Epilogue::default(), &mut y, &mut workspace));
    2.0 * 64.0 * 64.0 * 256.0 * 64.0 / time / 1e9
}

/// Memory as the engine has it.
fn floats(len: usize, value: f32) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::zeros(len);
    buffer.fill(value);
    buffer
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

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let threads = arguments.first().and_then(|n| n.parse().ok()).unwrap_or(2);
    let isa = arguments.get(1).map_or_else(Isa::detect, |name| Isa::from_name(name).expect("an instruction set"));
    let forced = arguments.get(2).filter(|name| *name != "best").map(|name| match name.as_str() {
        "direct" => Algorithm::Direct,
        "f2" => Algorithm::Winograd(WinogradTile::F2x3),
        "f4" => Algorithm::Winograd(WinogradTile::F4x3),
        other => panic!("algorithm: expected best, direct, f2 or f4, got {other:?}"),
    });
    let pool = Pool::new(threads);
    let layers = [
        (128, shape(32, 3, 16, 3, 1)),
        (128, shape(32, 16, 16, 3, 1)),
        (128, shape(32, 16, 32, 3, 2)),
        (128, shape(16, 32, 32, 3, 1)),
        (128, shape(16, 32, 64, 3, 2)),
        (128, shape(8, 64, 64, 3, 1)),
        (1, shape(224, 3, 64, 7, 2)),
        (1, shape(56, 64, 64, 1, 1)),
        (1, shape(56, 64, 64, 3, 1)),
        (1, shape(56, 64, 256, 1, 1)),
        (1, shape(28, 128, 128, 3, 1)),
        (1, shape(14, 256, 256, 3, 1)),
        (1, shape(14, 1024, 256, 1, 1)),
        (1, shape(7, 512, 512, 3, 1)),
        (1, shape(7, 512, 2048, 1, 1)),
        (1, shape(7, 2048, 512, 1, 1)),
        (8, shape(7, 512, 512, 3, 1)),
        (8, shape(14, 256, 256, 3, 1)),
        (8, shape(28, 128, 128, 3, 1)),
        (8, shape(56, 64, 64, 3, 1)),
        (16, shape(224, 3, 64, 7, 2)),
        (16, shape(56, 64, 64, 3, 1)),
        (16, shape(56, 64, 256, 1, 1)),
        (16, shape(56, 256, 64, 1, 1)),
        (16, shape(56, 128, 128, 3, 2)),
        (16, shape(28, 128, 128, 3, 1)),
        (16, shape(14, 1024, 256, 1, 1)),
        (16, shape(14, 256, 1024, 1, 1)),
        (16, shape(14, 256, 256, 3, 1)),
        (16, shape(7, 512, 512, 3, 1)),
        (16, shape(7, 512, 2048, 1, 1)),
        (16, shape(7, 2048, 512, 1, 1)),
    ];
    println!("{isa:?}, {threads} threads, {:.0} GFLOP/s from cache", peak(isa, &pool));
    println!("{:>5} {:>26} {:>16} {:>16} {:>16}", "batch", "layer", "forward", "backward-data", "weights");
    for (images, shape) in layers {
        let [kh, kw] = shape.kernel;
        let name =
            format!("{kh}x{kw} {}→{} @{} /{}", shape.in_channels, shape.out_channels, shape.input[0], shape.stride[0]);
        if arguments.get(3).is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let algorithms = match forced {
            Some(forward) => Algorithms { forward, backward_data: forward, backward_weights: forward },
            None => Algorithms::choose(isa, &shape, images),
        };
        let conv = Conv::with_algorithms(isa, shape, algorithms);
        let flops = 2.0 * (images * shape.output_len()) as f64 * (shape.weight_len() / shape.out_channels) as f64;
        let (x, mut dx) = (floats(images * shape.input_len(), 0.5), floats(images * shape.input_len(), 0.0));
        let (dy, mut y) = (floats(images * shape.output_len(), 0.5), floats(images * shape.output_len(), 0.0));
        let packed = floats(conv.packed_forward_len(), 0.5);
        let packed_back = floats(conv.packed_backward_len(), 0.5);
        let mut dw = floats(shape.weight_len(), 0.0);
        let mut workspace = floats(conv.workspace_len(threads).max(conv.weights_workspace_len(images, threads)), 0.0);
        let none = Epilogue::default();
        let times = [
            median(|| conv.forward(&pool, images, &x, &packed, none, &mut y, &mut workspace)),
            median(|| conv.backward_data(&pool, images, &dy, &packed_back, false, &mut dx, &mut workspace)),
            median(|| conv.backward_weights(&pool, images, &x, &dy, &mut dw, &mut workspace)),
        ];
        let cell = |time: f64| format!("{:.2} ms {:4.0} GF", time * 1e3, flops / time / 1e9);
        println!("{images:>5} {name:>26} {:>16} {:>16} {:>16}", cell(times[0]), cell(times[1]), cell(times[2]));
    }
}
