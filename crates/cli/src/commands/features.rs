//! `residual features`.

use crate::args::Features;
use crate::failure::Failure;
use crate::inputs::{Images, Inputs, listed};
use crate::output::{facts, path_text, print, print_json};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::tuning::tune;
use crate::{Done, machine, weights};
use residual::data::{Loader, LoaderOptions, Transform};
use residual::engine::Mode;
use residual::graph::Shape;
use residual::infer::{Head, ModelRequest};
use residual::{FeatureExtractor, FeatureFile, FeatureTable, layer_node};
use serde::Serialize;
use std::sync::atomic::Ordering;
use std::time::Instant;

#[derive(Serialize)]
struct Summary {
    file: String,
    images: usize,
    layers: Vec<Layer>,
    classes: Vec<String>,
    /// The image of each row, if the file does not contain it.
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Vec<String>>,
    skipped: Vec<String>,
    images_per_second: f64,
}

#[derive(Serialize)]
struct Layer {
    layer: String,
    node: String,
    /// As in the file: channels, or channels, height and width.
    shape: Vec<usize>,
}

pub(crate) fn run(arguments: &Features, stop: &Stop) -> Result<Done, Failure> {
    let began = Instant::now();
    let mut options = machine::compute_options(arguments.compute)?;
    options.inference.elements = arguments.precision.precision;
    let images = Images::open(&arguments.images, None)?;
    let typed = if images.is_none() { Some(listed(&arguments.inputs)?) } else { None };
    weights::fetch(&arguments.weights.weights, arguments.weights.download)?;
    // Features need no head.
    let request = ModelRequest { head: Head::Optional, ..weights::request(&arguments.weights)? };
    let format = images.as_ref().map(|images| images.dataset.format());
    let model = weights::resolve(&arguments.weights.weights, request.open()?, format)?;
    let model = arguments.image.apply(model)?;
    let Inputs { dataset, sources, classes, description } = match images {
        Some(images) => Inputs::of_dataset(images),
        None => typed.expect("either images or a dataset").into_inputs(model.preprocessing.channels()),
    };
    let batch = usize::from(arguments.batch_size.get()).min(sources.len());
    if arguments.compute.autotune {
        options = tune(options, &model, &[(Mode::Infer, batch)], model.preprocessing.size)?;
    }
    let names: Vec<&str> = arguments.layers.iter().map(String::as_str).collect();
    let nodes = names
        .iter()
        .map(|name| Ok(model.graph.node(layer_node(&model.graph, name)?).name.clone()))
        .collect::<Result<Vec<_>, Failure>>()?;
    let transform = Transform::evaluation(model.preprocessing.clone())?;
    let mut extractor = FeatureExtractor::with_options(model, batch, &options)?;
    let shapes = extractor.shapes(&names)?;
    let layers: Vec<(String, Shape)> = arguments.layers.iter().cloned().zip(shapes).collect();
    let contents = FeatureTable { sources, classes: classes.clone(), layers: layers.clone() };
    let mut out = FeatureFile::create(&arguments.output, contents)?;

    let loading = LoaderOptions {
        batch_size: batch,
        workers: arguments.reading.workers.into(),
        skip_bad_images: arguments.reading.skip_bad_images,
        ..LoaderOptions::default()
    };
    let progress = Progress::new();
    description.iter().for_each(|text| progress.line(&format!("data  {text}")));
    let total = dataset.len() as u64;
    let mut loader = Loader::new(dataset.clone(), transform, loading)?;
    let stop = stop.listen();
    let (mut done, mut kept) = (0, Vec::new());
    for loaded in loader.by_ref() {
        let loaded = loaded.map_err(|error| Failure::from(error).or_skip())?;
        if stop.load(Ordering::Relaxed) {
            progress.finish();
            return Ok(Done::Interrupted);
        }
        if !loaded.is_empty() {
            let features = extractor.features_nhwc(loaded.images(), &names)?;
            out.push(loaded.indices(), &features)?;
            kept.extend_from_slice(loaded.indices());
        }
        done += batch as u64;
        progress.images("features", done.min(total), total);
    }
    if kept.is_empty() {
        progress.finish();
        loader.skipped().iter().for_each(|skipped| progress.line(&format!("skipped: {}", skipped.reason)));
        return Err(Failure::new(format!("inputs: expected at least one readable image, got none of {total}")));
    }
    let images = out.finish()?;
    progress.finish();
    let skipped: Vec<String> = loader.skipped().iter().map(|skipped| skipped.reason.clone()).collect();
    skipped.iter().for_each(|reason| progress.line(&format!("skipped: {reason}")));
    let is_array = arguments.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"));
    let path = |&index: &usize| dataset.describe(index);
    let layer = |((layer, shape), node): ((String, Shape), String)| Layer {
        layer,
        node,
        shape: match [shape.height, shape.width] {
            [1, 1] => vec![shape.channels],
            [height, width] => vec![shape.channels, height, width],
        },
    };
    report(
        arguments,
        Summary {
            file: path_text(&arguments.output),
            images,
            layers: layers.into_iter().zip(nodes).map(layer).collect(),
            classes,
            paths: is_array.then(|| kept.iter().map(path).collect()),
            skipped,
            images_per_second: images as f64 / began.elapsed().as_secs_f64().max(1e-9),
        },
    )?;
    Ok(Done::Finished)
}

fn report(arguments: &Features, summary: Summary) -> Result<(), Failure> {
    if arguments.format.json {
        return print_json(&summary);
    }
    let mut rows = vec![("images", summary.images.to_string())];
    let shape = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let layers: Vec<String> = summary
        .layers
        .iter()
        .map(|Layer { layer, node, shape: extents }| format!("{layer} {} ({node})", shape(extents)))
        .collect();
    rows.extend(layers.into_iter().map(|layer| ("layer", layer)));
    if !summary.classes.is_empty() {
        rows.push(("classes", summary.classes.len().to_string()));
    }
    if !summary.skipped.is_empty() {
        rows.push(("skipped", summary.skipped.len().to_string()));
    }
    rows.push(("images/s", format!("{:.0}", summary.images_per_second)));
    rows.push(("file", summary.file));
    print(&facts(&rows))
}
