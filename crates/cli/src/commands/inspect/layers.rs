//! The layers of a network: a table, JSON or CSV.

use super::memory::PeakMemory;
use crate::args::Inspect;
use crate::failure::Failure;
use crate::machine;
use crate::output::{bytes, facts, grouped, print, print_json, table};
use residual::files::csv_field;
use residual::graph::{Analysis, Graph, NodeAnalysis, NodeId, Shape};
use serde::Serialize;
use std::ops::Range;

#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    input: [usize; 3],
    parameters: usize,
    macs: u64,
    activation_bytes: u64,
    /// Convolutions and linear layers on the longest path.
    depth: usize,
    receptive_field: usize,
    effective_stride: Option<usize>,
    effective_padding: Option<usize>,
    head: Option<Layers<'a>>,
    fully_connected: Layers<'a>,
    /// `null` for networks that the engine cannot run.
    memory: Option<PeakMemory>,
    stages: Vec<Sum<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modules: Option<Vec<Sum<'a>>>,
    nodes: Vec<NodeRow<'a>>,
}

/// Some layers, and their share of the parameters.
#[derive(Serialize)]
struct Layers<'a> {
    names: Vec<&'a str>,
    parameters: usize,
    parameter_percent: f64,
}

/// Several nodes together.
#[derive(Serialize)]
struct Sum<'a> {
    name: &'a str,
    nodes: usize,
    output: [usize; 3],
    parameters: usize,
    parameter_percent: f64,
    macs: u64,
    mac_percent: f64,
    activation_bytes: u64,
    activation_percent: f64,
    /// Of the last node.
    receptive_field: Option<usize>,
}

#[derive(Serialize)]
struct NodeRow<'a> {
    name: &'a str,
    op: &'a str,
    output: [usize; 3],
    kernel: Option<[usize; 2]>,
    stride: Option<[usize; 2]>,
    padding: Option<[usize; 2]>,
    dilation: Option<[usize; 2]>,
    groups: Option<usize>,
    parameters: usize,
    macs: u64,
    activation_bytes: u64,
    receptive_field: Option<usize>,
    effective_stride: Option<usize>,
    effective_padding: Option<usize>,
    depth: usize,
}

pub(super) fn show(arguments: &Inspect, graph: &Graph, [height, width]: [usize; 2]) -> Result<(), Failure> {
    let analysis = graph.analyse(height, width)?;
    let modules = arguments.depth.map(|depth| modules(graph, depth));
    let modules: Option<Vec<Sum<'_>>> =
        modules.map(|modules| modules.into_iter().map(|(name, nodes)| sum(&analysis, name, nodes)).collect());
    if arguments.csv {
        return print(&match &modules {
            Some(modules) => sums_csv(modules),
            None => nodes_csv(&analysis),
        });
    }
    let stages = graph.stages(height, width)?;
    let stages: Vec<Sum<'_>> = stages.iter().map(|stage| sum(&analysis, &stage.name, stage.nodes.clone())).collect();
    let head = graph.head().map(|head| Layers::of(&analysis, &[head]));
    let fully_connected = Layers::of(&analysis, &graph.fully_connected());
    let options = machine::compute_options(arguments.compute)?;
    let memory = PeakMemory::of(graph, arguments.batch_size.get().into(), [height, width], &options);
    if arguments.format.json {
        let field = analysis.last_feature_map().map(|(_, field)| field);
        return print_json(&Document {
            model: &graph.name,
            input: extents(analysis.nodes[0].output),
            parameters: analysis.parameters,
            macs: analysis.macs,
            activation_bytes: analysis.activation_bytes(),
            depth: analysis.depth,
            receptive_field: analysis.receptive_field,
            effective_stride: field.map(|field| field.stride),
            effective_padding: field.map(|field| field.padding),
            head,
            fully_connected,
            memory: memory.ok(),
            stages,
            modules,
            nodes: analysis.nodes.iter().map(NodeRow::of).collect(),
        });
    }
    let layers = match &modules {
        Some(modules) => sums_table(graph, &analysis, modules),
        None => nodes_table(graph, &analysis),
    };
    print(&format!("{layers}\n{}\n{}", shares(&stages), summary(&analysis, &fully_connected, memory)))
}

impl<'a> Layers<'a> {
    fn of(analysis: &'a Analysis, layers: &[NodeId]) -> Self {
        let rows = || layers.iter().map(|layer| &analysis.nodes[layer.0]);
        let parameters: usize = rows().map(|node| node.parameters).sum();
        Self {
            names: rows().map(|node| node.name.as_str()).collect(),
            parameters,
            parameter_percent: percent(parameters as f64, analysis.parameters as f64),
        }
    }
}

impl<'a> NodeRow<'a> {
    fn of(node: &'a NodeAnalysis) -> Self {
        let (window, field) = (node.window, node.receptive_field);
        Self {
            name: &node.name,
            op: node.op,
            output: extents(node.output),
            kernel: window.map(|window| window.kernel),
            stride: window.map(|window| window.stride),
            padding: window.map(|window| window.padding),
            dilation: window.map(|window| window.dilation),
            groups: window.map(|window| window.groups),
            parameters: node.parameters,
            macs: node.macs,
            activation_bytes: node.activation_bytes(),
            receptive_field: field.map(|field| field.size),
            effective_stride: field.map(|field| field.stride),
            effective_padding: field.map(|field| field.padding),
            depth: node.depth,
        }
    }
}

/// Consecutive nodes whose names agree in their first `depth` components; all together for 0.
fn modules(graph: &Graph, depth: usize) -> Vec<(&str, Range<usize>)> {
    let path = |name: &'_ str| -> usize {
        let end = name.match_indices('.').map(|(end, _)| end).chain([name.len()]).take(depth).last();
        end.unwrap_or(0)
    };
    let mut modules: Vec<(&str, Range<usize>)> = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let name = match depth {
            0 => graph.name.as_str(),
            _ => &node.name[..path(&node.name)],
        };
        match modules.last_mut() {
            Some((last, nodes)) if *last == name => nodes.end = index + 1,
            _ => modules.push((name, index..index + 1)),
        }
    }
    modules
}

fn sum<'a>(analysis: &Analysis, name: &'a str, nodes: Range<usize>) -> Sum<'a> {
    let rows = &analysis.nodes[nodes];
    let parameters: usize = rows.iter().map(|node| node.parameters).sum();
    let macs = rows.iter().fold(0u64, |sum, node| sum.saturating_add(node.macs));
    let activation_bytes: u64 = rows.iter().map(NodeAnalysis::activation_bytes).sum();
    let last = rows.last().expect("a module has a node");
    Sum {
        name,
        nodes: rows.len(),
        output: extents(last.output),
        parameters,
        parameter_percent: percent(parameters as f64, analysis.parameters as f64),
        macs,
        mac_percent: percent(macs as f64, analysis.macs as f64),
        activation_bytes,
        // Of the nodes of all stages: the image itself belongs to none.
        activation_percent: percent(
            activation_bytes as f64,
            (analysis.activation_bytes() - analysis.nodes[0].activation_bytes()) as f64,
        ),
        receptive_field: last.receptive_field.map(|field| field.size),
    }
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { 100.0 * part / whole } else { 0.0 }
}

fn extents(Shape { height, width, channels }: Shape) -> [usize; 3] {
    [height, width, channels]
}

fn shape([height, width, channels]: [usize; 3]) -> String {
    format!("{height}×{width}×{channels}")
}

/// One number for both directions where they agree.
fn pair([height, width]: [usize; 2]) -> String {
    if height == width { height.to_string() } else { format!("{height}×{width}") }
}

fn sight(field: Option<usize>) -> String {
    field.map_or_else(|| "all".to_owned(), |field| grouped(field as u64))
}

fn nodes_table(graph: &Graph, analysis: &Analysis) -> String {
    let head = [
        "node",
        "op",
        "output",
        "kernel",
        "stride",
        "padding",
        "groups",
        "parameters",
        "MACs",
        "activations",
        "receptive field",
    ];
    let line = |node: &NodeAnalysis| {
        let row = NodeRow::of(node);
        let text = |cell: Option<String>| cell.unwrap_or_default();
        vec![
            row.name.to_owned(),
            row.op.to_owned(),
            shape(row.output),
            text(row.kernel.map(|[height, width]| format!("{height}×{width}"))),
            text(row.stride.map(pair)),
            text(row.padding.map(pair)),
            text(row.groups.filter(|&groups| groups > 1).map(|groups| groups.to_string())),
            grouped(row.parameters as u64),
            grouped(row.macs),
            bytes(row.activation_bytes),
            sight(row.receptive_field),
        ]
    };
    let mut total = vec![graph.name.clone(), "total".to_owned()];
    total.extend(std::iter::repeat_n(String::new(), 5));
    total.extend(totals(analysis));
    let head = head.map(String::from).to_vec();
    table(&std::iter::once(head).chain(analysis.nodes.iter().map(line)).chain([total]).collect::<Vec<_>>())
}

/// The last four cells of a table.
fn totals(analysis: &Analysis) -> [String; 4] {
    [
        grouped(analysis.parameters as u64),
        grouped(analysis.macs),
        bytes(analysis.activation_bytes()),
        analysis.receptive_field.to_string(),
    ]
}

fn sums_table(graph: &Graph, analysis: &Analysis, sums: &[Sum<'_>]) -> String {
    let head = ["module", "nodes", "output", "parameters", "MACs", "activations", "receptive field"];
    let line = |sum: &Sum<'_>| {
        vec![
            sum.name.to_owned(),
            sum.nodes.to_string(),
            shape(sum.output),
            grouped(sum.parameters as u64),
            grouped(sum.macs),
            bytes(sum.activation_bytes),
            sight(sum.receptive_field),
        ]
    };
    let mut total = vec![graph.name.clone(), analysis.nodes.len().to_string(), "total".to_owned()];
    total.extend(totals(analysis));
    let head = head.map(String::from).to_vec();
    table(&std::iter::once(head).chain(sums.iter().map(line)).chain([total]).collect::<Vec<_>>())
}

/// The share of each stage.
fn shares(stages: &[Sum<'_>]) -> String {
    let head = ["stage", "output", "parameters", "", "MACs", "", "activations", ""].map(String::from).to_vec();
    let percent = |percent: f64| format!("{percent:.1} %");
    let line = |stage: &Sum<'_>| {
        vec![
            stage.name.to_owned(),
            shape(stage.output),
            grouped(stage.parameters as u64),
            percent(stage.parameter_percent),
            grouped(stage.macs),
            percent(stage.mac_percent),
            bytes(stage.activation_bytes),
            percent(stage.activation_percent),
        ]
    };
    table(&std::iter::once(head).chain(stages.iter().map(line)).collect::<Vec<_>>())
}

fn summary(analysis: &Analysis, fully_connected: &Layers<'_>, memory: Result<PeakMemory, Failure>) -> String {
    let mut rows = vec![("depth", format!("{} convolutions and linear layers on the longest path", analysis.depth))];
    if let Some((node, field)) = analysis.last_feature_map() {
        let text = format!(
            "{} pixels at {}, stride {}, padding {}",
            grouped(field.size as u64),
            node.name,
            field.stride,
            field.padding
        );
        rows.push(("receptive field", text));
    }
    let Layers { names, parameters, parameter_percent } = fully_connected;
    if !names.is_empty() {
        let text = format!(
            "{parameter_percent:.1} % of the parameters ({}): {}",
            grouped(*parameters as u64),
            names.join(", ")
        );
        rows.push(("fully connected", text));
    }
    match memory {
        Ok(PeakMemory { batch, inference_bytes, training_bytes, training_amp_bytes }) => {
            let training = training_bytes
                .zip(training_amp_bytes)
                .map(|(training, amp)| format!(", {} training with SGD, {} with --amp", bytes(training), bytes(amp)));
            let inference = bytes(inference_bytes);
            let text = format!("{inference} inference{}, at batch size {batch}", training.unwrap_or_default());
            rows.push(("peak memory", text));
        }
        Err(failure) => rows.push(("peak memory", format!("not known: {failure}"))),
    }
    facts(&rows)
}

fn nodes_csv(analysis: &Analysis) -> String {
    let mut text =
        "name,op,height,width,channels,kernel_height,kernel_width,stride_height,stride_width,padding_height,\
         padding_width,dilation_height,dilation_width,groups,parameters,macs,activation_bytes,receptive_field,\
         effective_stride,effective_padding,depth\n"
            .to_owned();
    for row in analysis.nodes.iter().map(NodeRow::of) {
        let number = |value: Option<usize>| value.map_or_else(String::new, |value| value.to_string());
        let pair = |pair: Option<[usize; 2]>| [0, 1].map(|axis| number(pair.map(|pair| pair[axis])));
        let mut cells = vec![csv_field(row.name), row.op.to_owned()];
        cells.extend(row.output.map(|extent| extent.to_string()));
        cells.extend([row.kernel, row.stride, row.padding, row.dilation].into_iter().flat_map(pair));
        cells.extend([number(row.groups), row.parameters.to_string(), row.macs.to_string()]);
        cells.push(row.activation_bytes.to_string());
        cells.extend([row.receptive_field, row.effective_stride, row.effective_padding].map(number));
        cells.push(row.depth.to_string());
        text += &cells.join(",");
        text.push('\n');
    }
    text
}

fn sums_csv(sums: &[Sum<'_>]) -> String {
    let mut text = "module,nodes,height,width,channels,parameters,macs,activation_bytes,receptive_field\n".to_owned();
    for sum in sums {
        let mut cells = vec![csv_field(sum.name), sum.nodes.to_string()];
        cells.extend(sum.output.map(|extent| extent.to_string()));
        cells.extend([sum.parameters.to_string(), sum.macs.to_string(), sum.activation_bytes.to_string()]);
        cells.push(sum.receptive_field.map_or_else(String::new, |field| field.to_string()));
        text += &cells.join(",");
        text.push('\n');
    }
    text
}
