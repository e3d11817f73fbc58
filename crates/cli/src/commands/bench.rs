//! `residual bench`: the speed of inference and of training steps.

mod layers;
mod picture;
mod serve;
mod subject;

use crate::args::{Bench, Compute};
use crate::drawing;
use crate::failure::Failure;
use crate::output::{bytes, print, print_json, table};
use crate::weights::Named;
use crate::{Done, machine, weights};
use layers::{Layer, Layers};
use residual::engine::Options;
use residual::graph::Graph;
use residual::infer::{self, Latency, Repeats, Turns};
use residual::kernels::peak_gflops;
use residual::model::{Initialisation, Model, initialise};
use serde::Serialize;
use serve::serve;
use subject::Subject;

#[derive(Serialize)]
struct Document {
    isa: &'static str,
    precision: &'static str,
    /// With the first number of threads.
    peak_gflops: f64,
    warmup: usize,
    results: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    comparisons: Vec<Comparison>,
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
    /// The distance between the first and the third quartile.
    iqr_ms: f64,
    images_per_second: f64,
    gflops: f64,
    peak_gflops: f64,
    peak_percent: f64,
    memory_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Layer>>,
}

/// Two networks whose passes took turns.
#[derive(Serialize)]
struct Comparison {
    model: String,
    vs: String,
    batch: usize,
    threads: usize,
    /// The median time of `model` divided by that of `vs`.
    ratio: f64,
    /// The 95 % interval of the ratio.
    interval: [f64; 2],
}

pub(crate) fn run(arguments: &Bench) -> Result<Done, Failure> {
    if arguments.serve {
        return serve_one(arguments);
    }
    arguments.svg.as_deref().map(drawing::check).transpose()?;
    let mut document = Document {
        isa: "",
        precision: arguments.precision.precision.name(),
        peak_gflops: 0.0,
        warmup: arguments.warmup.into(),
        results: Vec::new(),
        comparisons: Vec::new(),
    };
    let machines = arguments.compute.each().into_iter().map(|compute| Machine::new(arguments, compute));
    let machines = machines.collect::<Result<Vec<_>, _>>()?;
    document.isa = machines[0].options.isa.name();
    document.peak_gflops = machines[0].peak;
    let other = arguments.vs.as_deref().map(|name| Ok::<_, Failure>((name, model(arguments, name)?))).transpose()?;
    for name in &arguments.models {
        let model = model(arguments, name)?;
        for machine in &machines {
            for batch in &arguments.batch_size {
                let batch = batch.get().into();
                let mut subject = Subject::new(arguments, name, &model, batch, &machine.options)?;
                if let Some((other_name, other)) = &other {
                    let mut other = Subject::new(arguments, other_name, other, batch, &machine.options)?;
                    take_turns(arguments, [&mut subject, &mut other], machine, &mut document)?;
                } else {
                    document.results.push(measure(arguments, &mut subject, machine)?);
                }
            }
        }
    }
    if let Some(path) = &arguments.svg
        && !picture::write(&document, &machines, path)?
    {
        return Ok(Done::Finished);
    }
    if arguments.format.json {
        print_json(&document)?
    } else {
        print(&text(arguments, &document))?
    }
    Ok(Done::Finished)
}

fn serve_one(arguments: &Bench) -> Result<Done, Failure> {
    let [name] = &arguments.models[..] else {
        return Err(Failure::usage("--serve: expected one network"));
    };
    let [batch] = arguments.batch_size[..] else {
        return Err(Failure::usage("--serve: expected one batch size"));
    };
    let [compute] = arguments.compute.each()[..] else {
        return Err(Failure::usage("--serve: expected one number of threads"));
    };
    let options = options(arguments, compute)?;
    // The model itself is not kept: the process's memory is measured too.
    let mut subject = Subject::new(arguments, name, &model(arguments, name)?, batch.get().into(), &options)?;
    serve(&mut subject, arguments.warmup.into(), &options)?;
    Ok(Done::Finished)
}

fn options(arguments: &Bench, compute: Compute) -> Result<Options, Failure> {
    let mut options = machine::compute_options(compute)?;
    // Each is of the plans of its mode alone.
    options.inference.elements = arguments.precision.precision;
    options.gradients.elements = arguments.precision.precision;
    Ok(options)
}

/// The options of a measurement, and the measured peak of as many threads.
struct Machine {
    options: Options,
    peak: f64,
}

impl Machine {
    fn new(arguments: &Bench, compute: Compute) -> Result<Self, Failure> {
        let options = options(arguments, compute)?;
        let peak = peak_gflops(options.isa, &options.pool);
        Ok(Self { options, peak })
    }
}

fn repeats(arguments: &Bench) -> Repeats {
    Repeats { warm_up: arguments.warmup.into(), timed: arguments.repeats.map(|repeats| repeats.get().into()) }
}

fn measure(arguments: &Bench, subject: &mut Subject, machine: &Machine) -> Result<Row, Failure> {
    let mut layers = (arguments.layers || arguments.svg.is_some()).then(|| Layers::new(subject));
    if layers.is_some() {
        subject.engine_mut().time_steps();
    }
    let mut passes = 0;
    let latency = infer::measure(repeats(arguments), || {
        let time = subject.pass()?;
        passes += 1;
        if let Some(layers) = layers.as_mut().filter(|_| passes > usize::from(arguments.warmup)) {
            layers.note(subject);
        }
        Ok::<_, Failure>(time)
    })?;
    Ok(Row { layers: layers.map(Layers::finish), ..row(subject, &latency, machine) })
}

/// Measures two networks in turns: a row for each, and their comparison.
fn take_turns(
    arguments: &Bench,
    mut subjects: [&mut Subject; 2],
    machine: &Machine,
    document: &mut Document,
) -> Result<(), Failure> {
    let Turns { latencies, ratio, interval } = infer::take_turns(repeats(arguments), |which| subjects[which].pass())?;
    for (subject, latency) in subjects.iter().zip(&latencies) {
        document.results.push(row(subject, latency, machine));
    }
    document.comparisons.push(Comparison {
        model: subjects[0].name.clone(),
        vs: subjects[1].name.clone(),
        batch: subjects[0].batch,
        threads: machine.options.pool.threads(),
        ratio,
        interval,
    });
    Ok(())
}

fn row(subject: &Subject, latency: &Latency, machine: &Machine) -> Row {
    let gflops = subject.flops / latency.median() / 1e9;
    Row {
        model: subject.name.clone(),
        mode: subject.mode.name(),
        batch: subject.batch,
        threads: machine.options.pool.threads(),
        repeats: latency.count(),
        median_ms: 1e3 * latency.median(),
        p95_ms: 1e3 * latency.quantile(0.95),
        minimum_ms: 1e3 * latency.quantile(0.0),
        iqr_ms: 1e3 * latency.interquartile_range(),
        images_per_second: subject.batch as f64 / latency.median(),
        gflops,
        peak_gflops: machine.peak,
        peak_percent: 100.0 * gflops / machine.peak,
        memory_bytes: subject.memory as u64,
        layers: None,
    }
}

fn text(arguments: &Bench, document: &Document) -> String {
    let mut text = String::new();
    for row in &document.results {
        if let Some(layers) = row.layers.as_ref().filter(|_| arguments.layers) {
            let Row { model, mode, batch, threads, .. } = row;
            text += &format!(
                "{model} {mode} batch {batch}, {threads} threads\n{}\n",
                layers::show(layers, row.peak_gflops)
            );
        }
    }
    let head = [
        "model",
        "mode",
        "batch",
        "threads",
        "median ms",
        "p95 ms",
        "IQR ms",
        "images/s",
        "GFLOP/s",
        "of peak",
        "memory",
    ];
    let line = |row: &Row| {
        vec![
            row.model.clone(),
            row.mode.to_owned(),
            row.batch.to_string(),
            row.threads.to_string(),
            format!("{:.2}", row.median_ms),
            format!("{:.2}", row.p95_ms),
            format!("{:.2}", row.iqr_ms),
            format!("{:.1}", row.images_per_second),
            format!("{:.0}", row.gflops),
            format!("{:.0} %", row.peak_percent),
            bytes(row.memory_bytes),
        ]
    };
    let results = &document.results;
    let rows: Vec<_> = std::iter::once(head.map(String::from).to_vec()).chain(results.iter().map(line)).collect();
    text += &table(&rows);
    for Comparison { model, vs, batch, threads, ratio, interval: [low, high] } in &document.comparisons {
        text += &format!(
            "\n{model} takes {ratio:.3} of the time of {vs} at batch size {batch}, {threads} threads (95 % interval {low:.3} to {high:.3})"
        );
    }
    if !document.comparisons.is_empty() {
        text.push('\n');
    }
    let repeats = |pick: fn(usize, usize) -> usize| results.iter().map(|row| row.repeats).reduce(pick).unwrap_or(0);
    let repeats = match (repeats(usize::min), repeats(usize::max)) {
        (least, most) if least == most => format!("{least}"),
        (least, most) => format!("{least} to {most}"),
    };
    text + &format!(
        "\n{}, {}, peak {:.0} GFLOP/s in f32; {} warm-up and {repeats} timed passes; IQR: between the quartiles\n\
         GFLOP/s count the multiply-adds of direct convolution, of which Winograd's algorithms need fewer\n",
        document.isa, document.precision, document.peak_gflops, document.warmup
    )
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
