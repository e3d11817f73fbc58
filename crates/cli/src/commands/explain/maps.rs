//! Maps of the pixels that speak for a class, and their scores.

use super::Context;
use super::class::ClassChoice;
use super::images::{Loaded, Subjects};
use super::output::{picture, short_name, write};
use crate::Done;
use crate::args::Explain;
use crate::commands::predict::picture::of_input;
use crate::failure::Failure;
use crate::output::{complain, path_text, print, print_json, table};
use crate::progress::Progress;
use residual::explain::{
    ExplainError, Explainer, Faithfulness, Map, Method, MethodOptions, Occlusion, Randomised, Target, faithfulness,
    shuffle_weights, spearman,
};
use residual::infer::probabilities;
use residual::model::Model;
use residual::report::{Paint, PictureGrid, Tile, overlay};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};

/// Steps of the insertion and deletion scores.
const STEPS: usize = 50;
/// A rank correlation above which a map hardly changes when all weights are shuffled.
const UNCHANGED: f64 = 0.7;
/// Width and height of an image in the picture, in pixels.
const SIZE: f64 = 160.0;

/// An image and the class that is explained.
struct Pair {
    /// The place of the image among those that were read.
    place: usize,
    target: Target,
    probability: f32,
    score: f32,
}

#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    images: usize,
    maps: Vec<Row<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

/// A map.
#[derive(Serialize)]
struct Row<'a> {
    input: &'a str,
    class: String,
    index: usize,
    /// The softmax probability of the class.
    probability: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<String>,
    /// The logit of the class, minus that of the class that it is contrasted with.
    score: f32,
    method: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<String>,
    /// The row and column of the largest value.
    peak: [usize; 2],
    min: f32,
    max: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Faithfulness>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    randomization: Vec<Randomised>,
    #[serde(skip)]
    pair: usize,
    #[serde(skip)]
    map: Map,
}

pub(super) fn run(context: &Context<'_>, subjects: &Subjects) -> Result<Done, Failure> {
    let Context { arguments, model, options, stop } = *context;
    let methods: &[Method] = match &arguments.method[..] {
        [] => &[Method::NAMES[0].1],
        methods => methods,
    };
    if let (false, [layer, ..]) = (methods.iter().any(|method| method.has_layers()), &arguments.layer[..]) {
        let name = methods[0].name();
        return Err(Failure::usage(format!(
            "layer: expected none for {name}, which explains the image, got \"{layer}\""
        )));
    }
    let outputs = model.graph.output_channels()?;
    let typed: &[String] = if arguments.class.is_empty() { &["top1".to_owned()] } else { &arguments.class };
    let parse = |flag: &str, text: &str| ClassChoice::parse(flag, text, &model.labels, outputs);
    let classes = typed.iter().map(|text| parse("--class", text)).collect::<Result<Vec<_>, _>>()?;
    let against = arguments.contrast.as_deref().map(|text| parse("--contrast", text)).transpose()?;
    let mut explainers = methods
        .iter()
        .map(|&method| {
            let layers: Vec<&str> =
                arguments.layer.iter().map(String::as_str).filter(|_| method.has_layers()).collect();
            Explainer::new(
                model,
                method,
                &layers,
                method_options(arguments, model.preprocessing.size),
                context.batch(),
                options,
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    let Some(loaded) = subjects.load(context)? else { return Ok(Done::Interrupted) };
    let logits = explainers[0].network().logits(&loaded.values)?;
    let pairs = pairs(subjects, &loaded, &logits, outputs, model, &classes, against.as_ref())?;
    let label = |class: usize| model.labels.get(class).cloned().unwrap_or_else(|| class.to_string());

    let progress = Progress::new();
    let stop = stop.listen();
    let mut rows = Vec::new();
    for (explainer, method) in explainers.iter_mut().zip(methods) {
        let layers: Vec<String> = explainer.layers().iter().map(|layer| layer.node.clone()).collect();
        let Some(maps) = maps_of(explainer, context, &loaded, &pairs, stop)? else { return Ok(Done::Interrupted) };
        for (number, (pair, map)) in pairs.iter().zip(maps).enumerate() {
            let [min, max] = map.range();
            rows.push(Row {
                input: subjects.name(loaded.indices[pair.place]),
                class: label(pair.target.class()),
                index: pair.target.class(),
                probability: pair.probability,
                against: match pair.target {
                    Target::Class(_) => None,
                    Target::Contrast { against, .. } => Some(label(against)),
                },
                score: pair.score,
                method: method.name(),
                layers: layers.clone(),
                peak: map.peak(),
                min,
                max,
                scores: None,
                randomization: Vec::new(),
                pair: number,
                map,
            });
        }
        let start = rows.len() - pairs.len();
        if arguments.scores {
            for (done, row) in rows[start..].iter_mut().enumerate() {
                if stop.load(Ordering::Relaxed) {
                    return Ok(Done::Interrupted);
                }
                let pair = &pairs[row.pair];
                let image = loaded.image(pair.place);
                row.scores =
                    Some(faithfulness(explainer.network(), image, pair.target, &row.map, STEPS, arguments.seed)?);
                progress.steps("scoring maps", done + 1, pairs.len());
            }
        }
        if arguments.randomization_check {
            let (mut done, parts) = (0, model.graph.parts()?.len());
            shuffle_weights(model, arguments.seed, |part, tensors| {
                explainer.load(tensors)?;
                progress.steps("randomization check", done, parts);
                done += 1;
                let maps = match maps_of(explainer, context, &loaded, &pairs, stop) {
                    // Shuffled weights may overflow: then there is nothing to compare.
                    Err(ExplainError::NotFinite { .. }) => vec![None; pairs.len()],
                    maps => maps?.unwrap_or_default().into_iter().map(Some).collect(),
                };
                for (row, map) in rows[start..].iter_mut().zip(maps) {
                    let correlation = map.and_then(|map| spearman(&row.map.values, &map.values));
                    row.randomization.push(Randomised { part: part.to_owned(), correlation });
                }
                Ok::<(), Failure>(())
            })?;
        }
    }
    progress.finish();
    if stop.load(Ordering::Relaxed) {
        return Ok(Done::Interrupted);
    }
    // The maps of a pair beside each other.
    rows.sort_by_key(|row| row.pair);
    if let Some(path) = &arguments.output {
        write(path, || draw(context, &loaded, &pairs, &rows, methods), || Ok(array(&rows, methods.len())))?;
    }
    print_rows(context, subjects.len(), rows)?;
    Ok(Done::Finished)
}

fn method_options(arguments: &Explain, size: [usize; 2]) -> MethodOptions {
    let usual = MethodOptions::default();
    let side = |typed: Option<std::num::NonZeroU16>| typed.map(|side| usize::from(side.get()));
    let occlusion = match (side(arguments.window), side(arguments.stride)) {
        (None, None) => None,
        (Some(window), stride) => Some(Occlusion { window, stride: stride.unwrap_or((window / 2).max(1)) }),
        (None, Some(stride)) => Some(Occlusion { stride, ..Occlusion::for_image(size) }),
    };
    MethodOptions {
        steps: side(arguments.steps).unwrap_or(usual.steps),
        samples: side(arguments.samples).unwrap_or(usual.samples),
        noise: arguments.noise.unwrap_or(usual.noise),
        occlusion,
        seed: arguments.seed,
    }
}

/// Every image with every class that was typed.
fn pairs(
    subjects: &Subjects,
    loaded: &Loaded,
    logits: &[f32],
    outputs: usize,
    model: &Model,
    classes: &[ClassChoice],
    against: Option<&ClassChoice>,
) -> Result<Vec<Pair>, Failure> {
    let mut pairs = Vec::with_capacity(loaded.indices.len() * classes.len());
    for (place, logits) in logits.chunks_exact(outputs).enumerate() {
        let index = loaded.indices[place];
        let probabilities = probabilities(logits, model.activation, model.temperature);
        for class in classes {
            // Two typed classes are the same for every image; ranks and true classes may be for some.
            let is_typed =
                [Some(class), against].into_iter().flatten().all(|class| matches!(class, ClassChoice::Output(_)));
            let class = class.output("--class", subjects, index, logits)?;
            let other = against.map(|choice| choice.output("--contrast", subjects, index, logits)).transpose()?;
            let target = match other {
                None => Target::Class(class),
                Some(against) if against != class => Target::Contrast { class, against },
                Some(_) => {
                    let name = subjects.name(index);
                    let same = format!("--contrast: expected another class than --class, got the same for {name}");
                    if is_typed {
                        return Err(Failure::usage(same));
                    }
                    complain(&format!("skipped: {same}"));
                    continue;
                }
            };
            pairs.push(Pair { place, target, probability: probabilities[class], score: target.score(logits) });
        }
    }
    match pairs.is_empty() {
        true => Err(Failure::usage("--contrast: expected another class than --class, got the same for every image")),
        false => Ok(pairs),
    }
}

/// The map of every pair; `None` if a signal ended it.
fn maps_of(
    explainer: &mut Explainer,
    context: &Context<'_>,
    loaded: &Loaded,
    pairs: &[Pair],
    stop: &AtomicBool,
) -> Result<Option<Vec<Map>>, ExplainError> {
    let mut maps = Vec::with_capacity(pairs.len());
    for part in pairs.chunks(context.batch()) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let images: Vec<f32> = part.iter().flat_map(|pair| loaded.image(pair.place)).copied().collect();
        let targets: Vec<Target> = part.iter().map(|pair| pair.target).collect();
        maps.extend(explainer.maps(&images, &targets)?);
    }
    Ok(Some(maps))
}

/// The image and its maps, a row for each pair.
fn draw(
    context: &Context<'_>,
    loaded: &Loaded,
    pairs: &[Pair],
    rows: &[Row<'_>],
    methods: &[Method],
) -> Result<residual::report::Svg, Failure> {
    let mut tiles = Vec::with_capacity(rows.len() + pairs.len());
    for (pair, rows) in pairs.iter().zip(rows.chunks_exact(methods.len())) {
        let image = picture(&of_input(loaded.image(pair.place), &context.model.preprocessing)?)?;
        let row = &rows[0];
        let class = match &row.against {
            None => row.class.clone(),
            Some(against) => format!("{} rather than {against}", row.class),
        };
        let percent = format!("{:.1} %", 100.0 * row.probability);
        let caption =
            vec![(short_name(row.input).to_owned(), Paint::Muted), (format!("{class} {percent}"), Paint::Ink)];
        tiles.push(Tile { picture: image.clone(), caption, title: format!("{}: {class}, {percent}", row.input) });
        for (row, method) in rows.iter().zip(methods) {
            let mut caption = vec![(row.method.to_owned(), Paint::Ink)];
            if let Some(Faithfulness { insertion, deletion, road }) = row.scores {
                caption.push((format!("insertion {insertion:.2}, deletion {deletion:.2}"), Paint::Muted));
                caption.push((format!("ROAD {road:.2}"), Paint::Muted));
            }
            if let Some(last) = row.randomization.last() {
                caption.push((format!("shuffled weights: ρ {}", correlation(last.correlation)), Paint::Muted));
            }
            let title = format!("{} of {class} in {}", row.method, row.input);
            tiles.push(Tile { picture: overlay(&image, &row.map, method.is_signed())?, caption, title });
        }
    }
    let columns = columns(methods.len() + 1, pairs.len());
    Ok(PictureGrid { title: format!("What {} looks at", context.model.graph.name), tiles, columns, size: SIZE }.draw())
}

/// Columns of a grid of `rows` rows of `each` tiles that belong together: several rows side by side while they are short.
fn columns(each: usize, rows: usize) -> usize {
    let beside = (6 / each).max(1).min((rows as f64).sqrt().ceil() as usize);
    each * beside
}

/// The maps: pairs × methods × height × width; without the methods where there is one.
fn array(rows: &[Row<'_>], methods: usize) -> (Vec<usize>, Vec<f32>) {
    let [height, width] = rows.first().map_or([0, 0], |row| row.map.size());
    let pairs = rows.len() / methods;
    let shape = if methods == 1 { vec![pairs, height, width] } else { vec![pairs, methods, height, width] };
    (shape, rows.iter().flat_map(|row| &row.map.values).copied().collect())
}

fn correlation(value: Option<f64>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{value:.2}"))
}

fn print_rows(context: &Context<'_>, images: usize, rows: Vec<Row<'_>>) -> Result<(), Failure> {
    let arguments = context.arguments;
    let unchanged = |row: &&Row<'_>| {
        let last = row.randomization.last().and_then(|last| last.correlation);
        last.is_some_and(|correlation| correlation > UNCHANGED)
    };
    for row in rows.iter().filter(unchanged) {
        complain(&format!(
            "note: {} of {} hardly changes when all weights are shuffled: it shows the image, not what the network learned",
            row.method, row.input
        ));
    }
    let file = arguments.output.as_deref().map(path_text);
    if arguments.format.json {
        return print_json(&Document { model: &context.model.graph.name, images, maps: rows, file });
    }
    let mut head = vec!["image", "class", "probability", "method", "peak"];
    if arguments.scores {
        head.extend(["insertion", "deletion", "ROAD"]);
    }
    if arguments.randomization_check {
        head.push("shuffled");
    }
    let line = |row: &Row<'_>| {
        let class = match &row.against {
            None => row.class.clone(),
            Some(against) => format!("{} − {against}", row.class),
        };
        let mut cells = vec![
            row.input.to_owned(),
            class,
            format!("{:.1} %", 100.0 * row.probability),
            row.method.to_owned(),
            format!("{},{}", row.peak[0], row.peak[1]),
        ];
        if let Some(scores) = row.scores {
            cells.extend([scores.insertion, scores.deletion, scores.road].map(|score| format!("{score:.3}")));
        }
        if let Some(last) = row.randomization.last() {
            cells.push(correlation(last.correlation));
        }
        cells
    };
    let lines: Vec<_> =
        std::iter::once(head.iter().map(ToString::to_string).collect()).chain(rows.iter().map(line)).collect();
    print(&table(&lines))?;
    if let Some(file) = file {
        print(&format!("file  {}\n", crate::output::line(&file)))?;
    }
    Ok(())
}
