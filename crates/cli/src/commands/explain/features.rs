//! Images in feature space: nearest neighbours, and points in the plane.

use super::Context;
use super::images::Subjects;
use super::output::{picture, short_name, write, write_picture};
use crate::Done;
use crate::args::{self, Embedding};
use crate::failure::Failure;
use crate::inputs::{Images, Inputs};
use crate::output::{path_text, print, print_json, table};
use crate::progress::Progress;
use residual::FeatureExtractor;
use residual::explain::{Neighbour, TsneOptions, nearest_neighbours, principal_components, tsne};
use residual::report::{Paint, PictureGrid, ScatterPoint, Tile, scatter};
use serde::Serialize;
use std::sync::atomic::Ordering;

/// Neighbours of an image, if no number was typed.
const NEIGHBOURS: usize = 8;

/// The features of images, a row for each.
struct Features {
    /// The images' indices.
    indices: Vec<usize>,
    dimensions: usize,
    values: Vec<f32>,
}

/// The layer that was typed, or the vector before the head.
fn layer<'a>(context: &'a Context<'_>) -> Result<&'a str, Failure> {
    match &context.arguments.layer[..] {
        [] => Ok("pooled"),
        [layer] => Ok(layer),
        layers => Err(Failure::usage(format!("layer: expected one, got {}", layers.len()))),
    }
}

/// The features of all images: the layer's value, of a feature map the mean of its pixels. `None` if a signal ended it.
fn features(context: &Context<'_>, subjects: &Subjects) -> Result<Option<Features>, Failure> {
    let layer = layer(context)?;
    let mut extractor = FeatureExtractor::with_options(context.model.clone(), context.batch(), context.options)?;
    let shape = extractor.shapes(&[layer])?[0];
    let pixels = (shape.height * shape.width).max(1);
    let mut features = Features { indices: Vec::new(), dimensions: shape.channels, values: Vec::new() };
    let whole = subjects.each(context, "features", |indices, images| {
        let found = extractor.features_nhwc(images, &[layer])?;
        features.indices.extend_from_slice(indices);
        for (value, &index) in found[0].values.chunks_exact(shape.len()).zip(indices) {
            if let Some(got) = value.iter().find(|value| !value.is_finite()) {
                let name = subjects.name(index);
                return Err(Failure::new(format!("{name}: expected finite values of \"{layer}\", got {got}")));
            }
            let mut mean = vec![0.0f32; shape.channels];
            for pixel in value.chunks_exact(shape.channels) {
                mean.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value / pixels as f32);
            }
            features.values.extend(mean);
        }
        Ok(())
    })?;
    Ok(whole.then_some(features))
}

#[derive(Serialize)]
struct NeighbourRow<'a> {
    input: &'a str,
    class: Option<&'a str>,
    neighbours: Vec<Found<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    input: &'a str,
    class: Option<&'a str>,
    similarity: f32,
}

/// The images whose features are most similar.
pub(super) fn neighbours(context: &Context<'_>, subjects: &Subjects) -> Result<Done, Failure> {
    let arguments = context.arguments;
    let gallery = match &arguments.gallery {
        None => None,
        Some(name) => {
            let args::Images { data, data_dir, split, limit } = &arguments.images;
            let (split, limit) = if data.is_none() { (*split, *limit) } else { (None, None) };
            let images = args::Images { data: Some(name.clone()), data_dir: data_dir.clone(), split, limit };
            let images = Images::open(&images, Some(super::COMPUTED))?.expect("a dataset was typed");
            Some(Subjects::of(Inputs::of_dataset(images), context.model)?)
        }
    };
    let Some(queries) = features(context, subjects)? else { return Ok(Done::Interrupted) };
    let others = match &gallery {
        None => None,
        Some(gallery) => match features(context, gallery)? {
            None => return Ok(Done::Interrupted),
            found => found,
        },
    };
    let (place, found_in) = (gallery.as_ref().unwrap_or(subjects), others.as_ref().unwrap_or(&queries));
    let count = arguments.top.map_or(NEIGHBOURS, |top| top.get().into());
    let (progress, stop, same) = (Progress::new(), context.stop.listen(), gallery.is_none());
    let (dimensions, total) = (queries.dimensions, queries.indices.len() as u64);
    let found =
        nearest_neighbours(&queries.values, &found_in.values, dimensions, count, same, context.options, |done| {
            progress.images("comparing", done as u64, total);
            !stop.load(Ordering::Relaxed)
        });
    progress.finish();
    let Some(found) = found else { return Ok(Done::Interrupted) };
    // A picture has room for a few images.
    let shown = found.len().min(super::SHOWN);
    if let Some(path) = &arguments.output {
        write_picture(path, || {
            let mut tiles = Vec::new();
            for (neighbours, &index) in found[..shown].iter().zip(&queries.indices) {
                let tile = |image: &residual::Image, name: &str, class: Option<&str>, text: String, paint: Paint| {
                    let caption = vec![
                        (class.map_or_else(|| short_name(name).to_owned(), str::to_owned), paint),
                        (text, Paint::Muted),
                    ];
                    Ok::<Tile, Failure>(Tile { picture: picture(image)?, caption, title: name.to_owned() })
                };
                let query = subjects.pictures(context, &[index])?;
                let (name, class) = (subjects.name(index), subjects.class(index));
                tiles.push(tile(&query[0], name, class, "query".to_owned(), Paint::Ink)?);
                let indices: Vec<usize> = neighbours.iter().map(|found| found_in.indices[found.index]).collect();
                let images = place.pictures(context, &indices)?;
                for ((Neighbour { similarity, .. }, index), image) in neighbours.iter().zip(indices).zip(&images) {
                    let other = place.class(index);
                    let paint = match (class, other) {
                        (Some(a), Some(b)) if a == b => Paint::Good,
                        (Some(_), Some(_)) => Paint::Bad,
                        _ => Paint::Ink,
                    };
                    tiles.push(tile(image, place.name(index), other, format!("{similarity:.3}"), paint)?);
                }
            }
            let title = format!("Nearest neighbours in {} of {}", layer(context)?, context.model.graph.name);
            let columns = found.iter().map(Vec::len).max().unwrap_or(0) + 1;
            Ok(PictureGrid { title, tiles, columns, size: 80.0 }.draw())
        })?;
    }
    let rows: Vec<NeighbourRow<'_>> = found
        .iter()
        .zip(&queries.indices)
        .map(|(neighbours, &index)| NeighbourRow {
            input: subjects.name(index),
            class: subjects.class(index),
            neighbours: neighbours
                .iter()
                .map(|&Neighbour { index, similarity }| {
                    let index = found_in.indices[index];
                    Found { input: place.name(index), class: place.class(index), similarity }
                })
                .collect(),
        })
        .collect();
    let file = arguments.output.as_deref().map(path_text);
    if arguments.format.json {
        let document = serde_json::json!({
            "model": context.model.graph.name, "layer": layer(context)?, "images": rows, "file": file,
        });
        print_json(&document)?;
        return Ok(Done::Finished);
    }
    let head = ["image", "neighbour", "class", "similarity"].map(String::from).to_vec();
    let lines = rows.iter().flat_map(|row| {
        row.neighbours.iter().map(|found| {
            let class = found.class.unwrap_or("-").to_owned();
            vec![row.input.to_owned(), found.input.to_owned(), class, format!("{:.4}", found.similarity)]
        })
    });
    print(&table(&std::iter::once(head).chain(lines).collect::<Vec<_>>()))?;
    Ok(Done::Finished)
}

#[derive(Serialize)]
struct PointRow<'a> {
    input: &'a str,
    class: Option<&'a str>,
    x: f32,
    y: f32,
}

/// The images as points in the plane.
pub(super) fn embedding(context: &Context<'_>, subjects: &Subjects, kind: Embedding) -> Result<Done, Failure> {
    let Context { arguments, model, stop, .. } = *context;
    let usual = TsneOptions::default();
    let perplexity = arguments.perplexity.unwrap_or(usual.perplexity);
    let options = TsneOptions { perplexity, seed: arguments.seed, ..usual };
    if kind == Embedding::Tsne {
        options.check(subjects.len())?;
    }
    let Some(found) = features(context, subjects)? else { return Ok(Done::Interrupted) };
    let mut facts = serde_json::Map::new();
    let (points, axes) = match kind {
        Embedding::Pca => {
            let components = principal_components(&found.values, found.dimensions, 2, arguments.seed);
            let scores = components.scores.chunks_exact(components.count.max(1));
            let points: Vec<[f32; 2]> =
                scores.map(|row| [row[0] as f32, row.get(1).copied().unwrap_or(0.0) as f32]).collect();
            let share = |variance: &f64| variance / components.total_variance.max(f64::MIN_POSITIVE);
            let shares: Vec<f64> = components.variances.iter().map(share).collect();
            let axis = |index: usize| {
                let share = shares.get(index).copied().unwrap_or(0.0);
                format!("component {} ({:.1} % of the variance)", index + 1, 100.0 * share)
            };
            facts.insert("variance".into(), serde_json::json!(shares));
            (points, [axis(0), axis(1)])
        }
        Embedding::Tsne => {
            let (progress, stop) = (Progress::new(), stop.listen());
            let embedded = tsne(&found.values, found.dimensions, options, |step| {
                progress.steps("t-SNE", step, options.steps);
                !stop.load(Ordering::Relaxed)
            })?;
            progress.finish();
            if stop.load(Ordering::Relaxed) {
                return Ok(Done::Interrupted);
            }
            facts.insert("divergence".into(), serde_json::json!(embedded.divergence));
            facts.insert("perplexity".into(), serde_json::json!(embedded.perplexity));
            (embedded.points, ["t-SNE 1".to_owned(), "t-SNE 2".to_owned()])
        }
    };
    let row = |(&index, &[x, y]): (&usize, &[f32; 2])| PointRow {
        input: subjects.name(index),
        class: subjects.class(index),
        x,
        y,
    };
    let rows: Vec<PointRow<'_>> = found.indices.iter().zip(&points).map(row).collect();
    if let Some(path) = &arguments.output {
        let draw = || {
            let point = |row: &PointRow<'_>| ScatterPoint {
                place: [row.x.into(), row.y.into()],
                class: row.class.map(str::to_owned),
                title: row.input.to_owned(),
            };
            let points: Vec<ScatterPoint> = rows.iter().map(point).collect();
            let name = if kind == Embedding::Pca { "Principal components" } else { "t-SNE" };
            let title = format!("{name} of {}, {}", layer(context)?, model.graph.name);
            Ok(scatter(&title, axes, &points)?)
        };
        write(path, draw, || Ok((vec![points.len(), 2], points.concat())))?;
    }
    let file = arguments.output.as_deref().map(path_text);
    if arguments.format.json {
        let kind = if kind == Embedding::Pca { "pca" } else { "tsne" };
        facts.insert("model".into(), model.graph.name.as_str().into());
        facts.insert("layer".into(), layer(context)?.into());
        facts.insert("embedding".into(), kind.into());
        facts.insert("points".into(), serde_json::json!(rows));
        facts.insert("file".into(), serde_json::json!(file));
        print_json(&facts)?;
        return Ok(Done::Finished);
    }
    let number = |(name, value): (&String, &serde_json::Value)| (name.clone(), value.to_string());
    let mut lines = vec![("images".to_owned(), rows.len().to_string())];
    lines.extend(facts.iter().map(number));
    lines.extend(file.map(|file| ("file".to_owned(), file)));
    let lines: Vec<(&str, String)> = lines.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    print(&crate::output::facts(&lines))?;
    Ok(Done::Finished)
}
