//! `residual bench`: the speed of inference and of training steps.

mod layers;

use crate::args::{Bench, BenchMode};
use crate::failure::Failure;
use crate::noise::noise;
use crate::output::{print, print_json, table};
use crate::tuning::tune;
use crate::weights::Named;
use crate::{Done, machine, weights};
use layers::Layers;
use residual::data::Targets;
use residual::engine::{Engine, Mode, Options};
use residual::files::load_npy;
use residual::graph::{Graph, Shape};
use residual::infer;
use residual::kernels::peak_gflops;
use residual::model::{Initialisation, Model, initialise};
use residual::tensor::Stream;
use residual::train::{Recipe, TrainStep};
use serde::Serialize;
use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, Instant};

/// Untimed passes before a measurement.
const WARM_UP: usize = 3;
/// Shortest time of a measurement without `--repeats`.
const AT_LEAST: Duration = Duration::from_secs(2);
/// Fewest passes of a measurement without `--repeats`.
const MIN_REPEATS: usize = 10;

#[derive(Serialize)]
struct Document {
    isa: &'static str,
    peak_gflops: f64,
    results: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    model: String,
    mode: &'static str,
    batch: usize,
    threads: usize,
    repeats: usize,
    median_ms: f64,
    p95_ms: f64,
    minimum_ms: f64,
    images_per_second: f64,
    gflops: f64,
    peak_percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<layers::Layer>>,
}

pub(crate) fn run(arguments: &Bench) -> Result<Done, Failure> {
    let options = machine::compute_options(arguments.compute)?;
    if arguments.serve {
        let [model] = &arguments.models[..] else {
            return Err(Failure::usage("--serve: expected one network"));
        };
        let [batch] = arguments.batch_size[..] else {
            return Err(Failure::usage("--serve: expected one batch size"));
        };
        // The model itself is not kept: the process's memory is measured too.
        let mut subject =
            Subject::new(arguments, model, &self::model(arguments, model)?, batch.get().into(), &options)?;
        serve(&mut subject, &options)?;
        return Ok(Done::Finished);
    }
    let peak = peak_gflops(options.isa, &options.pool);
    let mut results = Vec::new();
    for name in &arguments.models {
        let model = model(arguments, name)?;
        for batch in &arguments.batch_size {
            let mut subject = Subject::new(arguments, name, &model, batch.get().into(), &options)?;
            results.push(measure(&mut subject, arguments, &options, peak)?);
        }
    }
    if arguments.format.json {
        print_json(&Document { isa: options.isa.name(), peak_gflops: peak, results })?;
        return Ok(Done::Finished);
    }
    let head = ["model", "mode", "batch", "median ms", "p95 ms", "images/s", "GFLOP/s", "of peak"];
    let line = |row: &Row| {
        vec![
            row.model.clone(),
            row.mode.to_owned(),
            row.batch.to_string(),
            format!("{:.2}", row.median_ms),
            format!("{:.2}", row.p95_ms),
            format!("{:.1}", row.images_per_second),
            format!("{:.0}", row.gflops),
            format!("{:.0} %", row.peak_percent),
        ]
    };
    for row in &results {
        if let Some(layers) = &row.layers {
            print(&format!("{} {} batch {}\n{}\n", row.model, row.mode, row.batch, layers::show(layers, peak)))?;
        }
    }
    let rows: Vec<_> = std::iter::once(head.map(String::from).to_vec()).chain(results.iter().map(line)).collect();
    let (isa, threads) = (options.isa.name(), options.pool.threads());
    print(&format!(
        "{}\n{isa}, {threads} threads, peak {peak:.0} GFLOP/s; GFLOP/s count the multiply-adds of direct\nconvolution, of which Winograd's algorithms need fewer\n",
        table(&rows)
    ))?;
    Ok(Done::Finished)
}

fn measure(subject: &mut Subject, arguments: &Bench, options: &Options, peak: f64) -> Result<Row, Failure> {
    for _ in 0..WARM_UP {
        subject.pass()?;
    }
    let mut layers = arguments.layers.then(|| Layers::new(subject));
    if layers.is_some() {
        subject.runner.engine_mut().time_steps();
    }
    let start = Instant::now();
    let mut times = Vec::new();
    let enough = |count: usize| match arguments.repeats {
        Some(repeats) => count >= usize::from(repeats.get()),
        None => count >= MIN_REPEATS && start.elapsed() >= AT_LEAST,
    };
    while !enough(times.len()) {
        times.push(subject.pass()?);
        if let Some(layers) = &mut layers {
            layers.note(subject);
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let gflops = subject.flops / at(0.5) / 1e9;
    Ok(Row {
        model: subject.name.clone(),
        mode: subject.mode.name(),
        batch: subject.batch,
        threads: options.pool.threads(),
        repeats: times.len(),
        median_ms: 1e3 * at(0.5),
        p95_ms: 1e3 * at(0.95),
        minimum_ms: 1e3 * times[0],
        images_per_second: subject.batch as f64 / at(0.5),
        gflops,
        peak_percent: 100.0 * gflops / peak,
        layers: layers.map(Layers::finish),
    })
}

/// Answers lines `run N` with the times of N passes and `logits FILE.npy` with the outputs for those images, for a program
/// that interleaves the measurements of several programs (`bench/compare.py`), until `quit` or the end of the input.
fn serve(subject: &mut Subject, options: &Options) -> Result<(), Failure> {
    for _ in 0..WARM_UP {
        subject.pass()?;
    }
    print(&format!(
        "{{\"ready\": {{\"isa\": \"{}\", \"threads\": {}}}}}\n",
        options.isa.name(),
        options.pool.threads()
    ))?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::at("stdin", &error))?;
        if line == "quit" {
            break;
        }
        if let Some(path) = line.strip_prefix("logits ") {
            let logits = subject.logits(Path::new(path))?;
            print(&format!("{}\n", serde_json::json!({ "logits": logits })))?;
            continue;
        }
        let count = line.strip_prefix("run ").and_then(|count| count.parse::<u32>().ok());
        let Some(count) = count else {
            return Err(Failure::usage(format!(
                "stdin: expected \"run N\", \"logits FILE\" or \"quit\", got \"{line}\""
            )));
        };
        let times = (0..count).map(|_| Ok(1e3 * subject.pass()?)).collect::<Result<Vec<f64>, Failure>>()?;
        print(&format!("{{\"ms\": {times:?}}}\n"))?;
    }
    Ok(())
}

/// A network with a batch of noise.
struct Subject {
    name: String,
    mode: BenchMode,
    batch: usize,
    /// Multiplications and additions of each node for one image.
    macs: HashMap<String, u64>,
    size: [usize; 2],
    runner: Runner,
    images: Vec<f32>,
    labels: Vec<u32>,
    /// Multiplications and additions of one pass, if every convolution were computed directly.
    flops: f64,
}

impl Subject {
    fn new(arguments: &Bench, name: &str, model: &Model, batch: usize, options: &Options) -> Result<Self, Failure> {
        let [height, width] = arguments.img_size.map_or(model.preprocessing.size, |side| [side; 2]);
        let plan = match arguments.mode {
            BenchMode::Infer => Mode::Infer,
            BenchMode::Train => Mode::Train,
        };
        let output = model.graph.shapes(height, width)?[model.graph.output.0];
        if arguments.mode == BenchMode::Train && [output.height, output.width] != [1, 1] {
            let Shape { height, width, channels } = output;
            return Err(Failure::new(format!(
                "{name}: expected a result of one value per class to train, got a map of {height}×{width}×{channels}"
            )));
        }
        let mut options = options.clone();
        if arguments.compute.autotune {
            options = tune(options, model, &[(plan, batch)], [height, width])?;
        }
        let engine = Engine::new(model, plan, batch, [height, width], &[], &options)?;
        let classes = model.graph.output_channels()?;
        let [channels, ..] = model.graph.input_size();
        let mut random = Stream::new(0, &[]);
        let analysis = model.graph.analyse(height, width)?;
        let (runner, passes) = match arguments.mode {
            BenchMode::Infer => (Runner::Infer(Box::new(engine)), 1.0),
            // The data gradients take as many multiply-accumulates as the forward pass, and so do the weight gradients.
            BenchMode::Train => {
                let recipe = Recipe { weight_decay: 1e-4, ..Recipe::default() };
                (Runner::Train(Box::new(TrainStep::new(&recipe, engine, &options)?)), 3.0)
            }
        };
        Ok(Self {
            name: model.graph.name.clone(),
            mode: arguments.mode,
            batch,
            runner,
            images: noise(&mut random, batch * height * width * channels)?,
            labels: (0..batch).map(|_| random.below(classes as u32)).collect(),
            flops: 2.0 * passes * analysis.macs as f64 * batch as f64,
            macs: analysis.nodes.into_iter().map(|node| (node.name, node.macs)).collect(),
            size: [height, width],
        })
    }

    /// The outputs for a batch in a file (N×C×H×W, normalised).
    fn logits(&mut self, path: &Path) -> Result<Vec<Vec<f32>>, Failure> {
        let array = load_npy(path)?;
        let [height, width] = self.size;
        let pixels = height * width;
        let channels = self.images.len() / (self.batch * pixels);
        let expected = [self.batch, channels, height, width];
        if array.shape != expected {
            return Err(Failure::usage(format!("{}: expected {expected:?}, got {:?}", path.display(), array.shape)));
        }
        for (image, planes) in
            self.images.chunks_exact_mut(channels * pixels).zip(array.to_f32().chunks_exact(channels * pixels))
        {
            for (at, value) in image.iter_mut().enumerate() {
                *value = planes[at % channels * pixels + at / channels];
            }
        }
        let engine = self.runner.engine_mut();
        engine.forward(&self.images)?;
        let outputs = engine.output();
        Ok(outputs.chunks_exact(outputs.len() / self.batch).map(<[f32]>::to_vec).collect())
    }

    /// Runs the network or a training step once, and returns the seconds it took.
    fn pass(&mut self) -> Result<f64, Failure> {
        let start = Instant::now();
        match &mut self.runner {
            Runner::Infer(engine) => engine.forward(&self.images)?,
            // A learning rate of zero takes the same time and leaves the weights as they are.
            Runner::Train(step) => drop(step.step(&self.images, Targets::Hard(&self.labels), 0.0)?),
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

/// An engine, alone or in a training step.
enum Runner {
    Infer(Box<Engine>),
    Train(Box<TrainStep>),
}

impl Runner {
    fn engine(&self) -> &Engine {
        match self {
            Self::Infer(engine) => engine,
            Self::Train(step) => step.engine(),
        }
    }

    fn engine_mut(&mut self) -> &mut Engine {
        match self {
            Self::Infer(engine) => engine,
            Self::Train(step) => step.engine_mut(),
        }
    }
}

/// The model of some weights, or a network with random weights.
fn model(arguments: &Bench, name: &str) -> Result<Model, Failure> {
    match weights::named(name, arguments.model.as_deref(), arguments.download)? {
        Named::Model(model) => Ok(model),
        Named::Network(config) => untrained(config.graph()?),
    }
}

/// A network with random weights.
pub(crate) fn untrained(graph: Graph) -> Result<Model, Failure> {
    let tensors = initialise(&graph, Initialisation::usual(&graph), 0);
    let preprocessing = infer::default_preprocessing(&graph, None);
    Ok(Model::new(graph, tensors, preprocessing, Vec::new())?)
}
