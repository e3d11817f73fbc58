//! `residual inspect --plan`: the engine's plan of a network, step by step.

use crate::args::{BenchMode, Inspect};
use crate::failure::Failure;
use crate::machine;
use crate::noise::noise;
use crate::output::{bytes, facts, print, print_json, table};
use crate::tuning::tune;
use residual::engine::{Engine, Memory, Mode, Options, Pass, PlanStep, PlanSummary};
use residual::kernels::peak_gflops;
use residual::model::Model;
use residual::tensor::Stream;
use serde::Serialize;
use std::time::{Duration, Instant};

/// The assumed memory bandwidth in GB/s. The estimate of a step is the longer of two times: its multiply-adds at the
/// measured peak, and its bytes at this bandwidth. Steps whose values come from a cache take less.
const BANDWIDTH: f64 = 16.0;
/// Untimed passes before a measurement.
const WARM_UP: usize = 2;
/// Fewest timed passes, and their shortest time.
const PASSES: (usize, Duration) = (5, Duration::from_secs(1));

#[derive(Serialize)]
struct Document {
    model: String,
    mode: &'static str,
    batch: usize,
    isa: &'static str,
    threads: usize,
    peak_gflops: f64,
    bandwidth_gb_per_second: f64,
    estimated_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured_ms: Option<f64>,
    memory: MemoryBytes,
    steps: Vec<Row>,
}

#[derive(Serialize)]
struct MemoryBytes {
    values: usize,
    packed_weights: usize,
    workspace: usize,
    parameters: usize,
    total: usize,
}

#[derive(Serialize)]
struct Row {
    node: String,
    pass: &'static str,
    work: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<Kernel>,
    result_bytes: usize,
    estimated_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured_ms: Option<f64>,
}

#[derive(Serialize)]
struct Kernel {
    algorithm: String,
    rows: usize,
    vectors: usize,
    multiply_adds: u64,
    packed_weight_bytes: usize,
}

pub(super) fn show(arguments: &Inspect, model: &Model, size: [usize; 2]) -> Result<(), Failure> {
    let mut options = machine::compute_options(arguments.compute)?;
    let mode = match arguments.mode {
        BenchMode::Infer => Mode::Infer,
        BenchMode::Train => Mode::Train,
    };
    let batch = arguments.batch_size.get().into();
    if arguments.compute.autotune {
        options = tune(options, model, &[(mode, batch)], size)?;
    }
    // The memory is shown of plans that this machine cannot run as well.
    let plan = PlanSummary::new(model, mode, batch, size, &[], &options)?;
    let peak = peak_gflops(options.isa, &options.pool);
    let mut steps: Vec<Row> = plan.steps().map(|step| row(&step, peak)).collect();
    if arguments.measure {
        let mut engine = Engine::new(model, mode, batch, size, &[], &options)?;
        let len = batch * model.graph.input_size()[0] * size[0] * size[1];
        for (row, time) in steps.iter_mut().zip(measure(&mut engine, mode, len)?) {
            row.measured_ms = Some(time);
        }
    }
    let memory = plan.memory();
    let Memory { values, packed, workspace, parameters } = memory;
    let document = Document {
        model: model.graph.name.clone(),
        mode: arguments.mode.name(),
        batch,
        isa: options.isa.name(),
        threads: options.pool.threads(),
        peak_gflops: peak,
        bandwidth_gb_per_second: BANDWIDTH,
        estimated_ms: steps.iter().map(|row| row.estimated_ms).sum(),
        measured_ms: steps.iter().map(|row| row.measured_ms).sum(),
        memory: MemoryBytes { values, packed_weights: packed, workspace, parameters, total: memory.total() },
        steps,
    };
    if arguments.format.json { print_json(&document) } else { print(&text(&document, &options)) }
}

fn row(step: &PlanStep<'_>, peak: f64) -> Row {
    let flops = step.kernel.map_or(0.0, |kernel| 2.0 * kernel.multiply_adds as f64);
    let seconds = (flops / (1e9 * peak)).max(step.touched as f64 / (1e9 * BANDWIDTH));
    Row {
        node: step.node.to_owned(),
        pass: match step.pass {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
        },
        work: step.work,
        kernel: step.kernel.map(|kernel| Kernel {
            algorithm: kernel.algorithm.to_string(),
            rows: kernel.rows,
            vectors: kernel.vectors,
            multiply_adds: kernel.multiply_adds,
            packed_weight_bytes: 4 * kernel.packed_len,
        }),
        result_bytes: step.result,
        estimated_ms: 1e3 * seconds,
        measured_ms: None,
    }
}

/// The median time of each step in milliseconds, on noise.
fn measure(engine: &mut Engine, mode: Mode, image_values: usize) -> Result<Vec<f64>, Failure> {
    let mut random = Stream::new(0, &[]);
    let images = noise(&mut random, image_values)?;
    let output = engine.output_name().to_owned();
    let mut pass = |engine: &mut Engine| -> Result<(), Failure> {
        engine.forward(&images)?;
        if mode != Mode::Infer {
            let seed: Vec<f32> = engine.output().iter().map(|_| 1e-3 * random.normal()).collect();
            engine.backward(&[(&output, &seed)])?;
        }
        Ok(())
    };
    for _ in 0..WARM_UP {
        pass(engine)?;
    }
    engine.time_steps();
    let mut times: Vec<Vec<f64>> = engine.steps().map(|_| Vec::new()).collect();
    let start = Instant::now();
    let mut count = 0;
    while count < PASSES.0 || start.elapsed() < PASSES.1 {
        pass(engine)?;
        count += 1;
        for (times, step) in times.iter_mut().zip(engine.steps()) {
            times.push(1e3 * step.time.unwrap_or_default().as_secs_f64());
        }
    }
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    Ok(times.iter().map(|times| times[times.len() / 2]).collect())
}

fn text(document: &Document, options: &Options) -> String {
    let measured = document.measured_ms.is_some();
    let mut head = vec!["node", "pass", "work", "algorithm", "kernel", "weights", "result", "estimated ms"];
    if measured {
        head.push("measured ms");
    }
    let line = |row: &Row| {
        let kernel = row.kernel.as_ref();
        let text = |cell: &dyn Fn(&Kernel) -> String| kernel.map_or_else(String::new, cell);
        let mut cells = vec![
            row.node.clone(),
            row.pass.to_owned(),
            row.work.to_owned(),
            text(&|kernel| kernel.algorithm.clone()),
            text(&|kernel| format!("{}×{}", kernel.rows, kernel.vectors)),
            text(&|kernel| match kernel.packed_weight_bytes {
                0 => String::new(),
                count => bytes(count as u64),
            }),
            bytes(row.result_bytes as u64),
            format!("{:.3}", row.estimated_ms),
        ];
        cells.extend(row.measured_ms.map(|ms| format!("{ms:.3}")));
        cells
    };
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    rows.extend(document.steps.iter().map(line));
    let mut total = vec![String::new(); 8];
    (total[0], total[7]) = ("total".to_owned(), format!("{:.3}", document.estimated_ms));
    total.extend(document.measured_ms.map(|ms| format!("{ms:.3}")));
    rows.push(total);
    let MemoryBytes { values, packed_weights, workspace, parameters, total } = document.memory;
    let memory = [
        ("values", values),
        ("packed weights", packed_weights),
        ("workspace", workspace),
        ("parameters", parameters),
        ("total", total),
    ];
    let memory = memory.map(|(name, count)| (name, bytes(count as u64)));
    format!(
        "{}\n{}\n{}, {} threads. Estimates: the longer of multiply-adds at {:.0} GFLOP/s, the measured peak, and bytes\n\
         at {BANDWIDTH} GB/s. Kernel: rows × vectors of output channels of the micro-kernel.\n",
        table(&rows),
        facts(&memory),
        options.isa.name(),
        options.pool.threads(),
        document.peak_gflops,
    )
}
