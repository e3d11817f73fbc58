//! `residual inspect --compare`: networks side by side.

use super::Subject;
use super::memory::PeakMemory;
use crate::args::Inspect;
use crate::commands::bench::untrained;
use crate::failure::Failure;
use crate::machine;
use crate::noise::noise;
use crate::output::{bytes, grouped, print, print_json, table};
use crate::tuning::tune;
use residual::engine::{Engine, Mode, Options};
use residual::graph::Graph;
use residual::infer::{Repeats, measure};
use residual::model::Model;
use residual::tensor::Stream;
use residual::zoo;
use serde::Serialize;
use std::time::Instant;

/// Untimed passes before a measurement.
const WARM_UP: usize = 3;

#[derive(Serialize)]
struct Document {
    batch: usize,
    threads: usize,
    networks: Vec<Network>,
}

#[derive(Serialize)]
struct Network {
    model: String,
    input: [usize; 3],
    depth: usize,
    parameters: usize,
    /// The share of the fully connected layers in the parameters.
    fully_connected_percent: f64,
    macs: u64,
    activation_bytes: u64,
    receptive_field: usize,
    effective_stride: Option<usize>,
    /// `null` for networks that the engine cannot run.
    memory: Option<PeakMemory>,
    published: Vec<Published>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Measured>,
}

/// Accuracies in percent on ImageNet's validation images, as their source prints them.
#[derive(Serialize)]
struct Published {
    source: &'static str,
    top1: f64,
    top5: f64,
}

#[derive(Serialize)]
struct Measured {
    median_ms: f64,
    p95_ms: f64,
    iqr_ms: f64,
    images_per_second: f64,
    repeats: usize,
}

pub(super) fn show(arguments: &Inspect) -> Result<(), Failure> {
    let options = machine::compute_options(arguments.compute)?;
    let batch = arguments.batch_size.get().into();
    let names = arguments.subject.iter().chain(&arguments.compare);
    let networks = names.map(|name| network(arguments, name, batch, &options)).collect::<Result<Vec<_>, _>>()?;
    let document = Document { batch, threads: options.pool.threads(), networks };
    if arguments.format.json { print_json(&document) } else { print(&text(&document)) }
}

fn network(arguments: &Inspect, name: &str, batch: usize, options: &Options) -> Result<Network, Failure> {
    let Subject { graph, size, read } = Subject::open(arguments, name)?;
    let [height, width] = size;
    let analysis = graph.analyse(height, width)?;
    let fully_connected: usize = graph.fully_connected().iter().map(|layer| analysis.nodes[layer.0].parameters).sum();
    let memory = PeakMemory::of(&graph, batch, size, options).ok();
    let network = Network {
        model: graph.name.clone(),
        input: [height, width, graph.input_size()[0]],
        depth: analysis.depth,
        parameters: analysis.parameters,
        fully_connected_percent: 100.0 * fully_connected as f64 / analysis.parameters.max(1) as f64,
        macs: analysis.macs,
        activation_bytes: analysis.activation_bytes(),
        receptive_field: analysis.receptive_field,
        effective_stride: analysis.last_feature_map().map(|(_, field)| field.stride),
        memory,
        // Other classes or sizes than those of the published network have no published accuracy.
        published: if arguments.num_classes.or(arguments.img_size).is_none() { published(name) } else { Vec::new() },
        latency: None,
    };
    if !arguments.measure {
        return Ok(network);
    }
    let latency = Some(latency(arguments, graph, read, batch, size, options)?);
    Ok(Network { latency, ..network })
}

/// What was published of the network `name`, or of the weights `name`.
fn published(name: &str) -> Vec<Published> {
    let entries = zoo::entries();
    let all = entries.iter().flat_map(|entry| entry.accuracies.iter().map(move |accuracy| (entry.name, accuracy)));
    let of_this = all.filter(|(network, accuracy)| *network == name || accuracy.source == name);
    of_this.map(|(_, &zoo::Accuracy { source, top1, top5 })| Published { source, top1, top5 }).collect()
}

fn latency(
    arguments: &Inspect,
    graph: Graph,
    read: Option<Model>,
    batch: usize,
    size: [usize; 2],
    options: &Options,
) -> Result<Measured, Failure> {
    let model = read.map_or_else(|| untrained(graph), Ok)?;
    let mut options = options.clone();
    if arguments.compute.autotune {
        options = tune(options, &model, &[(Mode::Infer, batch)], size)?;
    }
    let mut engine = Engine::new(&model, Mode::Infer, batch, size, &[], &options)?;
    let images = noise(&mut Stream::new(0, &[]), batch * model.graph.input_size()[0] * size[0] * size[1])?;
    let latency = measure(Repeats { warm_up: WARM_UP, timed: None }, || {
        let start = Instant::now();
        engine.forward(&images)?;
        Ok::<_, Failure>(start.elapsed().as_secs_f64())
    })?;
    Ok(Measured {
        median_ms: 1e3 * latency.median(),
        p95_ms: 1e3 * latency.quantile(0.95),
        iqr_ms: 1e3 * latency.interquartile_range(),
        images_per_second: batch as f64 / latency.median(),
        repeats: latency.count(),
    })
}

fn text(document: &Document) -> String {
    let measured = document.networks.iter().any(|network| network.latency.is_some());
    let mut head = vec!["network", "depth", "parameters", "FC", "MACs", "activations", "inference", "training"];
    head.extend(["field", "stride", "v1", "v2", "notes"]);
    if measured {
        head.extend(["ms", "images/s"]);
    }
    let line = |network: &Network| {
        let memory = |bytes_of: fn(&PeakMemory) -> Option<u64>| {
            network.memory.as_ref().and_then(bytes_of).map_or_else(|| "–".to_owned(), bytes)
        };
        let accuracy = |source: &str| {
            let found = network.published.iter().find(|published| published.source.ends_with(source));
            found.map_or_else(String::new, |Published { top1, top5, .. }| format!("{top1:.1}/{top5:.1}"))
        };
        let mut cells = vec![
            network.model.clone(),
            network.depth.to_string(),
            grouped(network.parameters as u64),
            format!("{:.1} %", network.fully_connected_percent),
            format!("{:.3} G", network.macs as f64 / 1e9),
            bytes(network.activation_bytes),
            memory(|memory| Some(memory.inference_bytes)),
            memory(|memory| memory.training_bytes),
            grouped(network.receptive_field as u64),
            network.effective_stride.map_or_else(String::new, |stride| stride.to_string()),
            accuracy(".v1"),
            accuracy(".v2"),
            accuracy("notes"),
        ];
        if let Some(latency) = &network.latency {
            cells.extend([format!("{:.2}", latency.median_ms), format!("{:.1}", latency.images_per_second)]);
        }
        cells
    };
    let head = head.into_iter().map(str::to_owned).collect();
    let rows: Vec<_> = std::iter::once(head).chain(document.networks.iter().map(line)).collect();
    let latency = match measured {
        true => format!("; latency: median of inference, {} threads, {WARM_UP} passes of warm-up", document.threads),
        false => String::new(),
    };
    format!(
        "{}\nFC: the fully connected layers' share of the parameters; inference, training: peak memory at batch size {}{latency}\n\
         v1, v2, notes: top-1/top-5 in percent on ImageNet, as published for torchvision's weights and in lecture notes\n",
        table(&rows),
        document.batch
    )
}
