//! `residual eval`.

use crate::args::{Eval, Split};
use crate::failure::Failure;
use crate::output::{facts, print, print_json};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::tuning::tune;
use crate::{Done, commands, machine, weights};
use residual::engine::Mode;
use residual::infer::{self, EvaluateOptions, Evaluation};
use residual::train;
use residual::{data, model::Model};
use std::path::PathBuf;

pub(crate) fn run(arguments: &Eval, stop: &Stop) -> Result<Done, Failure> {
    let mut options = machine::compute_options(arguments.compute)?;
    weights::fetch(&arguments.weights.weights, arguments.weights.download)?;
    let opened = weights::request(&arguments.weights).open()?;
    let (name, data_dir) = data_of(arguments, opened.recipe())?;
    let source = commands::data::open(&name, data_dir.as_deref())?;
    let split = match arguments.split {
        Split::Train => data::Split::Train,
        Split::Val => data::Split::Val,
        Split::Test => data::Split::Test,
    };
    let dataset = source.evaluation(split)?;
    let Model { graph, tensors, preprocessing, labels } =
        weights::resolve(&arguments.weights.weights, opened, Some(dataset.format()))?;
    let model = Model::new(graph, tensors, arguments.image.apply(preprocessing), labels)?;

    let batch_size = usize::from(arguments.batch_size.get()).clamp(1, dataset.len().max(1));
    if arguments.compute.autotune {
        options = tune(options, &model, &[(Mode::Infer, batch_size)], model.preprocessing.size)?;
    }

    let progress = Progress::new();
    dataset.notes().iter().for_each(|note| progress.line(note));
    let options = EvaluateOptions {
        engine: options,
        batch_size,
        workers: arguments.reading.workers.into(),
        skip_bad_images: arguments.reading.skip_bad_images,
        class_map: None,
    };
    let result = infer::evaluate(&model, &dataset, &options, stop.listen(), &mut |done, total| {
        progress.images("evaluating", done, total)
    });
    progress.finish();
    let Some(evaluation) = result.map_err(|error| Failure::from(error).or_skip())? else {
        return Ok(Done::Interrupted);
    };
    evaluation.skipped.iter().for_each(|reason| progress.line(&format!("skipped: {reason}")));
    if arguments.format.json {
        print_json(&evaluation)?
    } else {
        print(&facts(&rows(&evaluation)))?
    }
    Ok(Done::Finished)
}

fn rows(evaluation: &Evaluation) -> Vec<(&'static str, String)> {
    let Evaluation { images, top1, top5, loss, images_per_second, skipped, non_finite, absent_classes, .. } =
        evaluation;
    let mut rows = vec![
        ("images", images.to_string()),
        ("Acc@1", format!("{top1:.2}")),
        ("Acc@5", format!("{top5:.2}")),
        ("loss", format!("{loss:.4}")),
        ("images/s", format!("{images_per_second:.0}")),
    ];
    if *non_finite > 0 {
        rows.push(("not finite", format!("logits of {non_finite} images, counted as mistakes")));
    }
    if !absent_classes.is_empty() {
        rows.push(("absent", format!("{} classes of the model: {}", absent_classes.len(), first(absent_classes))));
    }
    if !skipped.is_empty() {
        rows.push(("skipped", skipped.len().to_string()));
    }
    rows
}

/// The first few of some names.
fn first(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| name.escape_debug().to_string()).collect();
    format!("{}{}", shown.join(", "), if names.len() > SHOWN { ", …" } else { "" })
}

/// The dataset that was typed, or the one that a checkpoint says it was trained on.
fn data_of(arguments: &Eval, recipe: Option<&str>) -> Result<(String, Option<PathBuf>), Failure> {
    if let Some(name) = &arguments.data {
        return Ok((name.clone(), arguments.data_dir.clone()));
    }
    let layer = recipe.and_then(|text| train::Layer::parse("recipe", text).ok());
    let text = |key| layer.as_ref().and_then(|layer| layer.text(key)).map(str::to_owned);
    let name = text("data").ok_or_else(|| {
        let path = arguments.weights.weights.display();
        Failure::usage(format!("data: expected --data, as {path} does not say what it was trained on, got none"))
    })?;
    Ok((name, arguments.data_dir.clone().or_else(|| text("data_dir").map(PathBuf::from))))
}
