//! The grid of images with their true and predicted classes.

use super::Context;
use super::class::ranked;
use super::images::Subjects;
use super::output::{picture, write_picture};
use crate::Done;
use crate::commands::predict::picture::of_input;
use crate::failure::Failure;
use crate::output::{path_text, print, print_json, table};
use residual::Classifier;
use residual::report::{Paint, PictureGrid, Tile};
use serde::Serialize;

#[derive(Serialize)]
struct Predicted<'a> {
    input: &'a str,
    predicted: String,
    probability: f32,
    #[serde(rename = "true")]
    truth: Option<&'a str>,
    correct: Option<bool>,
}

pub(super) fn run(context: &Context<'_>, subjects: &Subjects) -> Result<Done, Failure> {
    let Context { arguments, model, options, .. } = *context;
    let Some(loaded) = subjects.load(context)? else { return Ok(Done::Interrupted) };
    let mut classifier = Classifier::with_options(model.clone(), context.batch(), options)?;
    let outputs = classifier.classify_nhwc(&loaded.values)?;
    let rows: Vec<Predicted<'_>> = loaded
        .indices
        .iter()
        .zip(&outputs)
        .map(|(&index, output)| {
            let class = ranked(output.logits())[0];
            Predicted {
                input: subjects.name(index),
                predicted: model.labels.get(class).cloned().unwrap_or_else(|| class.to_string()),
                probability: output.probabilities()[class],
                truth: subjects.class(index),
                correct: subjects.output(index).map(|output| output == class),
            }
        })
        .collect();
    if let Some(path) = &arguments.output {
        write_picture(path, || {
            let mut tiles = Vec::with_capacity(rows.len());
            for (place, row) in rows.iter().enumerate() {
                let paint = match row.correct {
                    Some(true) => Paint::Good,
                    Some(false) => Paint::Bad,
                    None => Paint::Ink,
                };
                let predicted = format!("{} {:.0} %", row.predicted, 100.0 * row.probability);
                let mut caption = vec![(predicted.clone(), paint)];
                caption.extend(row.truth.map(|truth| (format!("true: {truth}"), Paint::Muted)));
                let image = picture(&of_input(loaded.image(place), &model.preprocessing)?)?;
                tiles.push(Tile { picture: image, caption, title: format!("{}: {predicted}", row.input) });
            }
            let columns = (tiles.len() as f64).sqrt().ceil() as usize;
            Ok(PictureGrid { title: format!("Predictions of {}", model.graph.name), tiles, columns, size: 96.0 }.draw())
        })?;
    }
    let known = rows.iter().filter(|row| row.correct.is_some()).count();
    let correct = rows.iter().filter(|row| row.correct == Some(true)).count();
    if arguments.format.json {
        let top1 = (known > 0).then(|| 100.0 * correct as f64 / known as f64);
        let file = arguments.output.as_deref().map(path_text);
        print_json(
            &serde_json::json!({ "model": model.graph.name, "images": rows.len(), "top1": top1, "predictions": rows, "file": file }),
        )?;
        return Ok(Done::Finished);
    }
    let head = ["image", "predicted", "probability", "true"].map(String::from).to_vec();
    let line = |row: &Predicted<'_>| {
        let truth = row.truth.unwrap_or("-").to_owned();
        vec![row.input.to_owned(), row.predicted.clone(), format!("{:.1} %", 100.0 * row.probability), truth]
    };
    let lines: Vec<_> = std::iter::once(head).chain(rows.iter().map(line)).collect();
    print(&table(&lines))?;
    if known > 0 {
        print(&format!("{correct} of {known} correct\n"))?;
    }
    Ok(Done::Finished)
}
