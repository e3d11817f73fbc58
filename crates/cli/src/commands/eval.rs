//! `residual eval`.

use crate::args::{Eval, Split};
use crate::failure::Failure;
use crate::output::{facts, print, print_json};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::tuning::tune;
use crate::{Done, commands, machine, weights};
use residual::data::{self, HeldOut, Selection};
use residual::engine::Mode;
use residual::infer::{self, EvaluateOptions, Evaluation};
use residual::model::Model;
use residual::train;
use std::path::PathBuf;

pub(crate) fn run(arguments: &Eval, stop: &Stop) -> Result<Done, Failure> {
    let mut options = machine::compute_options(arguments.compute)?;
    weights::fetch(&arguments.weights.weights, arguments.weights.download)?;
    let opened = weights::request(&arguments.weights).open()?;
    let (name, data_dir, held_out) = data_of(arguments, opened.recipe())?;
    let source = commands::data::open(&name, data_dir.as_deref())?;
    let split = arguments.split.map(|split| match split {
        Split::Train => data::Split::Train,
        Split::Val => data::Split::Val,
        Split::Test => data::Split::Test,
    });
    let Selection { dataset, part } = source.evaluation(split, held_out)?;
    let Model { graph, tensors, preprocessing, labels } =
        weights::resolve(&arguments.weights.weights, opened, Some(dataset.format()))?;
    let model = Model::new(graph, tensors, arguments.image.apply(preprocessing), labels)?;

    let batch_size = usize::from(arguments.batch_size.get()).clamp(1, dataset.len().max(1));
    if arguments.compute.autotune {
        options = tune(options, &model, &[(Mode::Infer, batch_size)], model.preprocessing.size)?;
    }

    let progress = Progress::new();
    progress.line(&format!("{}: {}", part.name(), dataset.describe_set()));
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
    let evaluation = Evaluation { data: name, split: part.name().into(), ..evaluation };
    evaluation.skipped.iter().for_each(|reason| progress.line(&format!("skipped: {reason}")));
    if arguments.format.json {
        print_json(&evaluation)?
    } else {
        print(&facts(&rows(&evaluation)))?
    }
    Ok(Done::Finished)
}

fn rows(evaluation: &Evaluation) -> Vec<(&'static str, String)> {
    let Evaluation { data, split, images, top1, top5, loss, images_per_second, skipped, .. } = evaluation;
    let Evaluation { non_finite, absent_classes, .. } = evaluation;
    let mut rows = vec![
        ("data", data.clone()),
        ("split", split.clone()),
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

/// The dataset that was typed, or the one that a checkpoint says it was trained on, and where it lies; if it is the latter,
/// also what its run held out.
fn data_of(arguments: &Eval, recipe: Option<&str>) -> Result<(String, Option<PathBuf>, Option<HeldOut>), Failure> {
    let recipe = recipe.and_then(|text| train::Layer::parse("recipe", text).ok());
    let text = |key| recipe.as_ref().and_then(|recipe| recipe.text(key)).map(str::to_owned);
    let own = text("data");
    let name = arguments.data.clone().or_else(|| own.clone()).ok_or_else(|| {
        let path = arguments.weights.weights.display();
        Failure::usage(format!("data: expected --data, as {path} does not say what it was trained on, got none"))
    })?;
    let own_dir = text("data_dir").map(PathBuf::from).filter(|_| arguments.data.is_none());
    let data_dir = arguments.data_dir.clone().or(own_dir);
    let recipe = recipe.filter(|_| own.is_some_and(|own| same_data(&own, &name)));
    let resolved = recipe.and_then(|recipe| train::Recipe::resolve(&[recipe]).ok()).map(|resolved| resolved.recipe);
    let held_out = resolved.and_then(|recipe| {
        let share = recipe.val_split.filter(|&share| share > 0.0)? as f32;
        Some(HeldOut { share, seed: recipe.seed })
    });
    Ok((name, data_dir, held_out))
}

/// Whether two names of data are one, or paths to one folder or file.
fn same_data(a: &str, b: &str) -> bool {
    let path = |name: &str| std::fs::canonicalize(name).ok();
    a == b || path(a).is_some_and(|a| path(b) == Some(a))
}
