//! Speed of whole networks: a training step (forward, loss, backward, SGD) or an inference.
//!
//!     cargo bench -p residual-engine --bench steps -- train resnet20 128 32 2 [ISA]
//!     (mode, model, batch, image side, threads, instruction set)
//!
//! prints median, minimum and 95th percentile. With `--serve` at the end it answers `run N` lines with times as JSON, for
//! `bench/compare.py` to alternate it with other programs.

use residual_engine::{Engine, Mode, Options};
use residual_kernels::Isa;
use residual_kernels::loss::cross_entropy;
use residual_kernels::optim::{Sgd, sgd};
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::Stream;
use residual_threads::Pool;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let serve = arguments.last().is_some_and(|last| last == "--serve");
    if serve {
        arguments.pop();
    }
    let text = |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.into());
    let number = |index: usize, default: &str| text(index, default).parse::<usize>().expect("a number");
    let (mode, name) = (text(0, "train"), text(1, "resnet20"));
    let (batch, side, threads) = (number(2, "128"), number(3, "32"), number(4, "2"));
    let isa = arguments.get(5).map_or_else(Isa::detect, |name| Isa::from_name(name).expect("an instruction set"));
    let options = Options { isa, pool: Arc::new(Pool::new(threads)) };

    let entry = residual_zoo::find(&name).expect("a model of the zoo");
    let classes = entry.num_classes;
    let graph = entry.graph(classes).expect("a graph");
    let tensors = initialise(&graph, Initialisation::KaimingFanOut { zero_init_residual: false }, 0);
    let preprocessing = Preprocessing::unscaled([side; 2], &[0.0; 3], &[1.0; 3]);
    let model = Model::new(graph, tensors, preprocessing, Vec::new()).expect("a model");
    let mut stream = Stream::new(0, &[]);
    let images: Vec<f32> = (0..batch * side * side * 3).map(|_| stream.normal()).collect();
    let labels: Vec<u32> = (0..batch).map(|_| stream.below(classes as u32)).collect();

    let plan = if mode == "train" { Mode::Train } else { Mode::Infer };
    let mut engine = Engine::new(&model, plan, batch, [side; 2], &[], &options).expect("a plan");
    let mut seed = vec![0.0; batch * classes];
    let mut velocity = if plan == Mode::Train { vec![0.0; engine.flat_mut().values.len()] } else { Vec::new() };
    let output = engine.output_name().to_owned();
    let step = Sgd { lr: 0.01, momentum: 0.9, weight_decay: 1e-4, nesterov: false };
    let mut run = || {
        let start = Instant::now();
        engine.forward(&images).expect("a batch");
        if plan == Mode::Train {
            cross_entropy(engine.output(), &labels, classes, 0.0, &mut seed);
            engine.backward(&[(&output, &seed)]).expect("a seed");
            let flat = engine.flat_mut();
            sgd(isa, &options.pool, flat.values, flat.gradients, &mut velocity, &step);
        }
        start.elapsed().as_secs_f64() * 1e3
    };
    for _ in 0..3 {
        run();
    }
    if serve {
        println!("{{\"ready\": {{\"isa\": \"{}\", \"threads\": {threads}}}}}", isa.name());
        for line in std::io::stdin().lock().lines() {
            let line = line.expect("a line");
            let Some(count) = line.strip_prefix("run ") else { break };
            let times: Vec<f64> = (0..count.parse().expect("a number")).map(|_| run()).collect();
            println!("{{\"ms\": {times:?}}}");
        }
        return;
    }
    let mut times: Vec<f64> = (0..15).map(|_| run()).collect();
    times.sort_by(f64::total_cmp);
    println!(
        "{mode} {name}, batch {batch}, {side}×{side}, {threads} threads, {}: median {:.2} ms, minimum {:.2}, p95 {:.2}, \
         {:.1} images/s",
        isa.name(),
        times[7],
        times[0],
        times[14],
        batch as f64 / times[7] * 1e3
    );
}
