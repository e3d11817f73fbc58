//! Times of grouped convolutions, one per request: `bench/grouped.py` compares them with another program's.
//!
//! `cargo bench -p residual-kernels --bench grouped -- [THREADS [ISA [direct|grouped]]]` answers each line
//! `IMAGES SIZE CHANNELS KERNEL STRIDE GROUPS` on stdin with one line of four medians in milliseconds: forward,
//! backward-data, backward-weights, and a training step of the layer with its weights packed each time.

use residual_kernels::Isa;
use residual_kernels::conv::{Algorithm, Algorithms, Conv, ConvShape, Epilogue};
use residual_tensor::AlignedBuffer;
use residual_threads::Pool;
use std::time::{Duration, Instant};

/// Fewest runs that are timed, and for how long at least.
const RUNS: (usize, Duration) = (3, Duration::from_millis(60));

fn median(mut run: impl FnMut()) -> f64 {
    run();
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < RUNS.0 || start.elapsed() < RUNS.1 {
        let start = Instant::now();
        run();
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Memory as the engine has it.
fn floats(len: usize, value: f32) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::zeros(len);
    buffer.fill(value);
    buffer
}

fn times(isa: Isa, pool: &Pool, forced: Option<Algorithm>, line: &str) -> [f64; 4] {
    let numbers: Vec<usize> = line.split_whitespace().map(|n| n.parse().expect("a number")).collect();
    let &[images, size, channels, kernel, stride, groups] = &numbers[..] else {
        panic!("expected IMAGES SIZE CHANNELS KERNEL STRIDE GROUPS, got {line:?}");
    };
    let shape = ConvShape {
        input: [size; 2],
        in_channels: channels,
        out_channels: channels,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [kernel / 2; 2],
        dilation: [1; 2],
        groups,
    };
    let algorithms = match forced {
        Some(forward) => Algorithms { forward, backward_data: forward, backward_weights: forward },
        None => Algorithms::choose(isa, &shape, images),
    };
    let conv = Conv::with_algorithms(isa, shape, algorithms);
    let (x, mut dx) = (floats(images * shape.input_len(), 0.5), floats(images * shape.input_len(), 0.0));
    let (dy, mut y) = (floats(images * shape.output_len(), 0.5), floats(images * shape.output_len(), 0.0));
    let (w, mut dw) = (floats(shape.weight_len(), 0.5), floats(shape.weight_len(), 0.0));
    let mut packed = floats(conv.packed_forward_len(), 0.5);
    let mut packed_back = floats(conv.packed_backward_len(), 0.5);
    let len = conv.workspace_len(pool.threads()).max(conv.weights_workspace_len(images, pool.threads()));
    let mut workspace = floats(len, 0.0);
    let none = Epilogue::default();
    [
        median(|| conv.forward(pool, images, &x, &packed, none, &mut y, &mut workspace)),
        median(|| conv.backward_data(pool, images, &dy, &packed_back, false, &mut dx, &mut workspace)),
        median(|| conv.backward_weights(pool, images, &x, &dy, &mut dw, &mut workspace)),
        median(|| {
            conv.pack_forward(pool, &w, &mut packed);
            conv.forward(pool, images, &x, &packed, none, &mut y, &mut workspace);
            conv.pack_backward(pool, &w, &mut packed_back);
            conv.backward_data(pool, images, &dy, &packed_back, false, &mut dx, &mut workspace);
            conv.backward_weights(pool, images, &x, &dy, &mut dw, &mut workspace);
        }),
    ]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let threads = arguments.first().and_then(|n| n.parse().ok()).unwrap_or(2);
    let isa = arguments.get(1).map_or_else(Isa::detect, |name| Isa::from_name(name).expect("an instruction set"));
    let forced = arguments.get(2).map(|name| match name.as_str() {
        "direct" => Algorithm::Direct,
        "grouped" => Algorithm::Grouped,
        other => panic!("algorithm: expected direct or grouped, got {other:?}"),
    });
    let pool = Pool::new(threads);
    for line in std::io::stdin().lines() {
        let [forward, data, weights, train] = times(isa, &pool, forced, &line.expect("text"));
        println!("{forward:.4} {data:.4} {weights:.4} {train:.4}");
    }
}
