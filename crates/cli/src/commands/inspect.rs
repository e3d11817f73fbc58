//! `residual inspect`.

mod compare;
mod layers;
mod memory;
mod picture;
mod plan;

use crate::args::Inspect;
use crate::commands::bench::untrained;
use crate::failure::Failure;
use crate::weights::Named;
use crate::{Done, weights};
use residual::graph::Graph;
use residual::infer::default_preprocessing;
use residual::model::Model;
use residual::zoo::Config;

pub(crate) fn run(arguments: &Inspect) -> Result<Done, Failure> {
    if !arguments.compare.is_empty() {
        compare::show(arguments)?;
        return Ok(Done::Finished);
    }
    let name = arguments.subject.as_deref().expect("required without --compare");
    let Subject { graph, size, read } = Subject::open(arguments, name)?;
    if arguments.plan || arguments.measure {
        let model = read.map_or_else(|| untrained(graph), Ok)?;
        plan::show(arguments, &model, size)?;
    } else if let Some(path) = &arguments.svg {
        let default = || default_preprocessing(&graph, None);
        let preprocessing = read.map_or_else(default, |model| model.preprocessing);
        picture::write(arguments, &graph, size, preprocessing, path)?;
    } else {
        layers::show(arguments, &graph, size)?;
    }
    Ok(Done::Finished)
}

/// A network, and the image size that it is inspected at.
struct Subject {
    graph: Graph,
    size: [usize; 2],
    /// Its model, if it was read from weights.
    read: Option<Model>,
}

impl Subject {
    fn open(arguments: &Inspect, name: &str) -> Result<Self, Failure> {
        let (graph, own_size, read) = match weights::named(name, arguments.model.as_deref(), arguments.download)? {
            Named::Model(model) => (model.graph.clone(), model.preprocessing.size, Some(model)),
            Named::Network(config) => {
                let num_classes = arguments.num_classes.unwrap_or(config.num_classes);
                let graph = Config { num_classes, ..config }.graph()?;
                let [_, height, width] = graph.input_size();
                (graph, [height, width], None)
            }
        };
        Ok(Self { graph, size: arguments.img_size.map_or(own_size, |side| [side; 2]), read })
    }
}
