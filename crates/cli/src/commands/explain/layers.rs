//! What layers compute: feature maps, filters, and the patches that excite a channel most.

use super::Context;
use super::images::Subjects;
use super::output::{picture, short_name, write, write_picture};
use crate::Done;
use crate::commands::predict::picture::of_input;
use crate::failure::Failure;
use crate::output::{path_text, print, print_json, table};
use residual::explain::{Map, Patch, PatchSearch};
use residual::graph::{Graph, Op};
use residual::report::{Paint, PictureGrid, Tile, filter_pictures, heat};
use residual::{FeatureExtractor, Image, layer_node};
use serde::Serialize;

/// Channels that are shown, if none were typed.
const CHANNELS: usize = 16;
/// Channels whose patches are looked for, if none were typed.
const PATCH_CHANNELS: usize = 4;
/// Patches of a channel, if no number was typed.
const PATCHES: usize = 8;
/// Filters of a picture at most.
const FILTERS: usize = 256;

/// The layer that was typed, or the first convolution.
fn layer<'a>(context: &'a Context<'_>, graph: &'a Graph) -> Result<&'a str, Failure> {
    match &context.arguments.layer[..] {
        [] => {
            let first = graph.nodes.iter().find(|node| matches!(node.op, Op::Conv2d(_)));
            first.map(|node| node.name.as_str()).ok_or_else(|| Failure::new("layer: expected a convolution, got none"))
        }
        [layer] => Ok(layer),
        layers => Err(Failure::usage(format!("layer: expected one, got {}", layers.len()))),
    }
}

/// The channels that were typed, or the first few.
fn channels(context: &Context<'_>, layer: &str, all: usize, usual: usize) -> Result<Vec<usize>, Failure> {
    match &context.arguments.channels[..] {
        [] => Ok((0..usual.min(all)).collect()),
        typed => match typed.iter().find(|&&channel| channel >= all) {
            None => Ok(typed.to_vec()),
            Some(got) => Err(Failure::usage(format!(
                "channels: expected numbers below {all}, the channels of {layer}, got {got}"
            ))),
        },
    }
}

#[derive(Serialize)]
struct ChannelRow<'a> {
    input: &'a str,
    channel: usize,
    min: f32,
    max: f32,
    mean: f64,
}

/// Some channels of a layer's value, for each image.
pub(super) fn feature_maps(context: &Context<'_>, subjects: &Subjects) -> Result<Done, Failure> {
    let Context { arguments, model, options, .. } = *context;
    let layer = layer(context, &model.graph)?;
    let node = model.graph.node(layer_node(&model.graph, layer)?).name.clone();
    let mut extractor = FeatureExtractor::with_options(model.clone(), context.batch(), options)?;
    let shape = extractor.shapes(&[layer])?[0];
    if shape.height * shape.width <= 1 {
        return Err(Failure::usage(format!(
            "layer: expected a feature map of more than one pixel, got {layer} of {shape}"
        )));
    }
    let channels = channels(context, layer, shape.channels, CHANNELS)?;
    let Some(loaded) = subjects.load(context)? else { return Ok(Done::Interrupted) };
    let features = extractor.features_nhwc(&loaded.values, &[layer])?;
    let size = [shape.height, shape.width];
    let map = |value: &[f32], channel: usize| {
        Map::new(size, value.iter().skip(channel).step_by(shape.channels).copied().collect())
    };
    let values = features[0].values.chunks_exact(shape.len());
    let maps: Vec<Vec<Map>> =
        values.map(|value| channels.iter().map(|&channel| map(value, channel)).collect()).collect();
    if let Some(path) = &arguments.output {
        let draw = || {
            let mut tiles = Vec::new();
            for (place, maps) in maps.iter().enumerate() {
                let name = short_name(subjects.name(loaded.indices[place]));
                let image = picture(&of_input(loaded.image(place), &model.preprocessing)?)?;
                tiles.push(Tile {
                    picture: image,
                    caption: vec![(name.to_owned(), Paint::Ink)],
                    title: name.to_owned(),
                });
                for (map, channel) in maps.iter().zip(&channels) {
                    let [min, max] = map.range();
                    let title = format!("channel {channel} of {node}: {min:.3} to {max:.3}");
                    let caption = vec![(format!("channel {channel}"), Paint::Muted)];
                    tiles.push(Tile { picture: heat(map)?, caption, title });
                }
            }
            let columns =
                if maps.len() == 1 { (tiles.len() as f64).sqrt().ceil() as usize } else { channels.len() + 1 };
            let title = format!("{node} of {}, {shape}", model.graph.name);
            Ok(PictureGrid { title, tiles, columns, size: 96.0 }.draw())
        };
        let array = || {
            let shape = vec![maps.len(), channels.len(), shape.height, shape.width];
            Ok((shape, maps.iter().flatten().flat_map(|map| &map.values).copied().collect()))
        };
        write(path, draw, array)?;
    }
    let mut rows = Vec::new();
    for (place, maps) in maps.iter().enumerate() {
        for (map, &channel) in maps.iter().zip(&channels) {
            let [min, max] = map.range();
            let mean = map.values.iter().map(|&value| f64::from(value)).sum::<f64>() / map.values.len() as f64;
            rows.push(ChannelRow { input: subjects.name(loaded.indices[place]), channel, min, max, mean });
        }
    }
    let shape = [shape.height, shape.width, shape.channels];
    let file = arguments.output.as_deref().map(path_text);
    if arguments.format.json {
        let document = serde_json::json!({
            "model": model.graph.name, "layer": layer, "node": node, "shape": shape, "channels": rows, "file": file,
        });
        print_json(&document)?;
        return Ok(Done::Finished);
    }
    let head = ["image", "channel", "min", "max", "mean"].map(String::from).to_vec();
    let line = |row: &ChannelRow<'_>| {
        let numbers = [f64::from(row.min), f64::from(row.max), row.mean].map(|number| format!("{number:.4}"));
        [row.input.to_owned(), row.channel.to_string()].into_iter().chain(numbers).collect()
    };
    print(&table(&std::iter::once(head).chain(rows.iter().map(line)).collect::<Vec<_>>()))?;
    Ok(Done::Finished)
}

/// The filters of a convolution.
pub(super) fn filters(context: &Context<'_>) -> Result<Done, Failure> {
    let Context { arguments, model, .. } = *context;
    let layer = layer(context, &model.graph)?;
    let node = model.graph.find(layer).map(|id| model.graph.node(id));
    let Some(node) = node.filter(|node| matches!(node.op, Op::Conv2d(_))) else {
        let got = node.map_or("no node", |node| node.op.name());
        return Err(Failure::usage(format!("layer: expected a convolution, got {got} \"{layer}\"")));
    };
    let tensor = &model.tensors[node.key("weight").as_str()];
    let values = tensor.as_f32().expect("weights are floats");
    let &[filters, inputs, height, width] = tensor.shape() else {
        return Err(Failure::new(format!("{layer}: expected a weight of four dimensions, got {:?}", tensor.shape())));
    };
    if let Some(path) = &arguments.output {
        let draw = || {
            let shown = filters.min(FILTERS);
            let tile =
                |(index, picture)| Tile { picture, caption: Vec::new(), title: format!("filter {index} of {layer}") };
            let pictures = filter_pictures(&values[..shown * inputs * height * width], [shown, inputs, height, width])?;
            let tiles: Vec<Tile> = pictures.into_iter().enumerate().map(tile).collect();
            let part = if shown < filters { format!(", the first {shown}") } else { String::new() };
            let title =
                format!("{layer} of {}: {filters} filters of {height}×{width}×{inputs}{part}", model.graph.name);
            let columns = (tiles.len() as f64).sqrt().ceil() as usize;
            Ok(PictureGrid { title, tiles, columns, size: 48.0 }.draw())
        };
        write(path, draw, || Ok((tensor.shape().to_vec(), values.to_vec())))?;
    }
    let len = inputs * height * width;
    let norm = |filter: &[f32]| filter.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let norms: Vec<f64> = values.chunks_exact(len.max(1)).map(norm).collect();
    let file = arguments.output.as_deref().map(path_text);
    if arguments.format.json {
        let document = serde_json::json!({
            "model": model.graph.name, "layer": layer, "shape": tensor.shape(), "norms": norms, "file": file,
        });
        print_json(&document)?;
        return Ok(Done::Finished);
    }
    let head = vec!["filter".to_owned(), "norm".to_owned()];
    let lines = norms.iter().enumerate().map(|(index, norm)| vec![index.to_string(), format!("{norm:.4}")]);
    print(&table(&std::iter::once(head).chain(lines).collect::<Vec<_>>()))?;
    Ok(Done::Finished)
}

#[derive(Serialize)]
struct PatchRow<'a> {
    channel: usize,
    input: &'a str,
    activation: f32,
    position: [usize; 2],
    /// The input pixels of the receptive field: top, left, bottom and right, the last two exclusive; not clipped.
    window: [i64; 4],
}

/// The patches that excite some channels most.
pub(super) fn patches(context: &Context<'_>, subjects: &Subjects) -> Result<Done, Failure> {
    let Context { arguments, model, options, .. } = *context;
    let layer = layer(context, &model.graph)?;
    let id = layer_node(&model.graph, layer)?;
    let node = model.graph.node(id).name.clone();
    let [height, width] = model.preprocessing.size;
    let Some(field) = model.graph.analyse(height, width)?.nodes[id.0].receptive_field else {
        return Err(Failure::usage(format!(
            "layer: expected a layer with a receptive field, got {layer}, which sees the whole image"
        )));
    };
    let mut extractor = FeatureExtractor::with_options(model.clone(), context.batch(), options)?;
    let shape = extractor.shapes(&[layer])?[0];
    let channels = channels(context, layer, shape.channels, PATCH_CHANNELS)?;
    let keep = arguments.top.map_or(PATCHES, |top| top.get().into());
    let mut search = PatchSearch::new(shape, &channels, keep);
    let whole = subjects.each(context, "patches", |indices, images| {
        let features = extractor.features_nhwc(images, &[layer])?;
        indices
            .iter()
            .zip(features[0].values.chunks_exact(shape.len()))
            .for_each(|(&index, map)| search.push(index, map));
        Ok(())
    })?;
    if !whole {
        return Ok(Done::Interrupted);
    }
    let found = search.finish();
    let window = |patch: &Patch| {
        let [y, x] = patch.position.map(|index| field.pixels(index));
        [y.start, x.start, y.end, x.end]
    };
    if let Some(path) = &arguments.output {
        write_picture(path, || {
            let mut tiles = Vec::new();
            for (channel, patches) in &found {
                let indices: Vec<usize> = patches.iter().map(|patch| patch.image).collect();
                for (patch, image) in patches.iter().zip(subjects.pictures(context, &indices)?) {
                    let crop = cropped(&image, window(patch));
                    let caption = vec![(format!("channel {channel}: {:.2}", patch.activation), Paint::Muted)];
                    let title =
                        format!("{} at {},{}", subjects.name(patch.image), patch.position[0], patch.position[1]);
                    tiles.push(Tile { picture: picture(&crop)?, caption, title });
                }
            }
            let title = format!("What excites {node} of {} most", model.graph.name);
            let columns = found.iter().map(|(_, patches)| patches.len()).max().unwrap_or(1);
            Ok(PictureGrid { title, tiles, columns, size: 80.0 }.draw())
        })?;
    }
    let rows: Vec<PatchRow<'_>> = found
        .iter()
        .flat_map(|(channel, patches)| patches.iter().map(move |patch| (*channel, patch)))
        .map(|(channel, patch)| PatchRow {
            channel,
            input: subjects.name(patch.image),
            activation: patch.activation,
            position: patch.position,
            window: window(patch),
        })
        .collect();
    let file = arguments.output.as_deref().map(path_text);
    if arguments.format.json {
        let document = serde_json::json!({
            "model": model.graph.name, "layer": layer, "node": node, "patches": rows, "file": file,
        });
        print_json(&document)?;
        return Ok(Done::Finished);
    }
    let head = ["channel", "image", "activation", "position", "rows", "columns"].map(String::from).to_vec();
    let line = |row: &PatchRow<'_>| {
        let [top, left, bottom, right] = row.window;
        vec![
            row.channel.to_string(),
            row.input.to_owned(),
            format!("{:.3}", row.activation),
            format!("{},{}", row.position[0], row.position[1]),
            format!("{top} to {}", bottom - 1),
            format!("{left} to {}", right - 1),
        ]
    };
    print(&table(&std::iter::once(head).chain(rows.iter().map(line)).collect::<Vec<_>>()))?;
    Ok(Done::Finished)
}

/// The part of a window that lies inside the image.
fn cropped(image: &Image, [top, left, bottom, right]: [i64; 4]) -> Image {
    let inside = |value: i64, side: usize| usize::try_from(value.max(0)).map_or(side, |value| value.min(side));
    let part = |start: i64, end: i64, side: usize| {
        let start = inside(start, side - 1);
        (start, inside(end, side).saturating_sub(start).max(1))
    };
    let ((top, height), (left, width)) = (part(top, bottom, image.height()), part(left, right, image.width()));
    image.crop(top, left, height, width)
}
