//! `residual inspect`.

mod plan;

use crate::args::Inspect;
use crate::commands::bench::untrained;
use crate::failure::Failure;
use crate::output::{grouped, print, print_json, table};
use crate::weights::Named;
use crate::{Done, weights};
use residual::graph::{Graph, NodeAnalysis};
use residual::model::Model;
use residual::zoo::Config;
use serde::Serialize;

#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    parameters: usize,
    macs: u64,
    receptive_field: usize,
    nodes: Vec<NodeRow<'a>>,
}

#[derive(Serialize)]
struct NodeRow<'a> {
    name: &'a str,
    op: &'a str,
    output: [usize; 3],
    parameters: usize,
    macs: u64,
    receptive_field: Option<usize>,
}

pub(crate) fn run(arguments: &Inspect) -> Result<Done, Failure> {
    let Subject { graph, size, read } = subject(arguments)?;
    let [height, width] = arguments.img_size.map_or(size, |side| [side; 2]);
    if arguments.plan || arguments.measure {
        let model = read.map_or_else(|| untrained(graph), Ok)?;
        plan::show(arguments, &model, [height, width])?;
        return Ok(Done::Finished);
    }
    let analysis = graph.analyse(height, width)?;
    let row = |node: &'_ NodeAnalysis| -> [usize; 3] { [node.output.height, node.output.width, node.output.channels] };
    if arguments.format.json {
        let nodes = analysis.nodes.iter().map(|node| NodeRow {
            name: &node.name,
            op: node.op,
            output: row(node),
            parameters: node.parameters,
            macs: node.macs,
            receptive_field: node.receptive_field.map(|field| field.size),
        });
        print_json(&Document {
            model: &graph.name,
            parameters: analysis.parameters,
            macs: analysis.macs,
            receptive_field: analysis.receptive_field,
            nodes: nodes.collect(),
        })?;
        return Ok(Done::Finished);
    }
    let head = ["node", "op", "output", "parameters", "MACs", "receptive field"].map(String::from).to_vec();
    let line = |node: &NodeAnalysis| {
        let [height, width, channels] = row(node);
        vec![
            node.name.clone(),
            node.op.to_owned(),
            format!("{height}×{width}×{channels}"),
            grouped(node.parameters as u64),
            grouped(node.macs),
            node.receptive_field.map_or_else(|| "all".to_owned(), |field| field.size.to_string()),
        ]
    };
    let total = vec![
        graph.name.clone(),
        "total".to_owned(),
        String::new(),
        grouped(analysis.parameters as u64),
        grouped(analysis.macs),
        analysis.receptive_field.to_string(),
    ];
    let rows: Vec<_> = std::iter::once(head).chain(analysis.nodes.iter().map(line)).chain([total]).collect();
    print(&table(&rows))?;
    Ok(Done::Finished)
}

/// A network, and the image size that it was designed or trained for.
struct Subject {
    graph: Graph,
    size: [usize; 2],
    /// Its model, if it was read from weights.
    read: Option<Model>,
}

fn subject(arguments: &Inspect) -> Result<Subject, Failure> {
    match weights::named(&arguments.subject, arguments.model.as_deref(), arguments.download)? {
        Named::Model(model) => {
            Ok(Subject { graph: model.graph.clone(), size: model.preprocessing.size, read: Some(model) })
        }
        Named::Network(config) => {
            let num_classes = arguments.num_classes.unwrap_or(config.num_classes);
            let graph = Config { num_classes, ..config }.graph()?;
            let [_, height, width] = graph.input_size();
            Ok(Subject { graph, size: [height, width], read: None })
        }
    }
}
