//! `residual inspect --svg`: the architecture of a network, or receptive fields over a picture.

use crate::args::Inspect;
use crate::drawing;
use crate::failure::Failure;
use crate::output::{facts, path_text, print, print_json};
use residual::graph::{Analysis, Graph, NodeAnalysis};
use residual::preprocess::{Preprocessing, Preprocessor};
use residual::report::{FieldOfView, Picture, Svg, architecture, receptive_fields};
use std::path::Path;

/// Writes the picture of `graph` at images of `size` (height, width), which `preprocessing` makes.
pub(super) fn write(
    arguments: &Inspect,
    graph: &Graph,
    size: [usize; 2],
    preprocessing: Preprocessing,
    path: &Path,
) -> Result<(), Failure> {
    drawing::check(path)?;
    let preprocessing = Preprocessing { size, ..preprocessing };
    let svg = match &arguments.picture {
        Some(image) => over_image(arguments, graph, preprocessing, image)?,
        None => architecture(graph, size)?,
    };
    if !drawing::write(&svg, path)? {
        return Ok(());
    }
    if arguments.format.json {
        print_json(&serde_json::json!({ "model": graph.name, "file": path_text(path) }))
    } else {
        print(&facts(&[("file", path_text(path))]))
    }
}

fn over_image(arguments: &Inspect, graph: &Graph, preprocessing: Preprocessing, image: &Path) -> Result<Svg, Failure> {
    let size = preprocessing.size;
    let analysis = graph.analyse(size[0], size[1])?;
    let fields = match &arguments.node {
        Some(name) => vec![named(graph, &analysis, name)?],
        None => {
            let stages = graph.stages(size[0], size[1])?;
            let last = |nodes: std::ops::Range<usize>| nodes.rev().find_map(|node| view(&analysis.nodes[node]));
            stages.into_iter().filter_map(|stage| last(stage.nodes)).collect()
        }
    };
    let picture = seen(preprocessing, image)?;
    Ok(receptive_fields(&format!("Receptive fields of {}", graph.name), &picture, &fields))
}

fn named(graph: &Graph, analysis: &Analysis, name: &str) -> Result<FieldOfView, Failure> {
    let unknown = || Failure::usage(format!("--node: expected a node that `residual inspect` shows, got \"{name}\""));
    let node = &analysis.nodes[graph.find(name).ok_or_else(unknown)?.0];
    view(node).ok_or_else(|| {
        Failure::usage(format!("--node: expected a feature map, got {name}, which sees the whole image"))
    })
}

/// The field of a node's central value; `None` if it sees the whole image.
fn view(node: &NodeAnalysis) -> Option<FieldOfView> {
    let field = node.receptive_field?;
    Some(FieldOfView { name: node.name.clone(), field, map: [node.output.height, node.output.width] })
}

/// The image as the network sees it, before it is normalised, in colour.
fn seen(preprocessing: Preprocessing, path: &Path) -> Result<Picture, Failure> {
    let image = residual::read_image(path)?;
    let [height, width] = preprocessing.size;
    let unscaled = Preprocessing { mean: vec![0.0; 3], std: vec![1.0; 3], ..preprocessing };
    let preprocessor = Preprocessor::new(unscaled)?;
    let mut values = vec![0.0; preprocessor.output_len()];
    preprocessor.run(&image, &mut values).map_err(|error| Failure::at(path_text(path), &error))?;
    let rgb = values.iter().map(|value| (255.0 * value).round() as u8).collect();
    Ok(Picture::new(width, height, rgb)?)
}
