//! `residual eval`.

use crate::args::{Eval, Split};
use crate::failure::Failure;
use crate::output::{bytes, count, facts, grouped, path_text, print, print_json};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::tuning::tune;
use crate::{Done, commands, machine, weights};
use residual::data::{self, HeldOut, Part, Selection};
use residual::engine::{Mode, Options, PlanSummary};
use residual::infer::{self, ClassList, EvaluateOptions, Evaluation};
use residual::model::Model;
use residual::train::{Layer, Recipe};
use std::path::PathBuf;

/// With so many classes or fewer, top-5 accuracy is always 100 %.
const FIVE: usize = 5;

pub(crate) fn run(arguments: &Eval, stop: &Stop) -> Result<Done, Failure> {
    let mut options = machine::compute_options(arguments.compute)?;
    let opened = weights::open(&arguments.weights)?;
    let recipe = opened.recipe().and_then(|text| Recipe::resolve(&[Layer::parse("recipe", text).ok()?]).ok());
    let recipe = recipe.map(|resolved| resolved.recipe);
    let (name, data_dir) = data_of(arguments, recipe.as_ref())?;
    let source = commands::data::open(&name, data_dir.as_deref())?;
    let split = arguments.split.map(|split| match split {
        Split::Train => data::Split::Train,
        Split::Val => data::Split::Val,
        Split::Test => data::Split::Test,
    });
    let Selection { dataset, part } = source.evaluation(split, held_out(arguments, recipe.as_ref()))?;
    let model = weights::resolve(&arguments.weights.weights, opened, Some(dataset.format()))?;
    let model = arguments.image.apply(model)?;

    let batch_size = usize::from(arguments.batch_size.get()).clamp(1, dataset.len().max(1));
    if arguments.compute.autotune {
        options = tune(options, &model, &[(Mode::Infer, batch_size)], model.preprocessing.size)?;
    }

    let progress = Progress::new();
    let images = match part {
        // The description of the set says which split it is.
        Part::Split(_) | Part::HeldOut(_) => dataset.describe_set(),
        Part::Everything => format!("{} ({part})", dataset.describe_set()),
    };
    facts(&header(arguments, &model, images, batch_size, &options)?).lines().for_each(|line| progress.line(line));
    dataset.notes().iter().for_each(|note| progress.line(&format!("note: {note}")));
    let options = EvaluateOptions {
        engine: options,
        batch_size,
        workers: arguments.reading.workers.into(),
        skip_bad_images: arguments.reading.skip_bad_images,
        class_map: arguments.class_map.as_deref().map(ClassList::read).transpose()?,
    };
    let result = infer::evaluate(&model, &dataset, &options, stop.listen(), &mut |done, total| {
        progress.images("evaluating", done, total)
    });
    progress.finish();
    let Some(evaluation) = result.map_err(|error| Failure::from(error).or_skip())? else {
        return Ok(Done::Interrupted);
    };
    let evaluation = Evaluation { data: source.name().to_owned(), split: part.name().to_owned(), ..evaluation };
    evaluation.skipped.iter().for_each(|reason| progress.line(&format!("skipped: {reason}")));
    if arguments.format.json {
        print_json(&evaluation)?
    } else {
        print(&facts(&rows(&evaluation, model.graph.output_channels()?)))?
    }
    Ok(Done::Finished)
}

/// The lines before the evaluation: model, data, input and engine.
fn header(
    arguments: &Eval,
    model: &Model,
    images: String,
    batch_size: usize,
    options: &Options,
) -> Result<[(&'static str, String); 4], Failure> {
    let ([height, width], channels) = (model.preprocessing.size, model.preprocessing.channels());
    let parameters = model.graph.analyse(height, width)?.parameters;
    let plan = PlanSummary::new(model, Mode::Infer, batch_size, [height, width], &[], options)?;
    let (name, weights) = (&model.graph.name, path_text(&arguments.weights.weights));
    let (threads, memory) = (count(options.pool.threads() as u64, "thread"), bytes(plan.memory().total() as u64));
    Ok([
        ("network", format!("{name}, {} parameters, of {weights}", grouped(parameters as u64))),
        ("data", images),
        ("input", format!("{channels}×{height}×{width}, batch size {batch_size}")),
        ("compute", format!("{threads}, {}, {memory} of memory without the dataset", options.isa.name())),
    ])
}

fn rows(evaluation: &Evaluation, outputs: usize) -> Vec<(&'static str, String)> {
    let Evaluation { data, split, images, top1, top5, loss, .. } = evaluation;
    let Evaluation { images_per_second, skipped, non_finite, absent_classes, .. } = evaluation;
    let mut rows =
        vec![("data", format!("{data}, {split}")), ("images", images.to_string()), ("Acc@1", format!("{top1:.2}"))];
    if outputs > FIVE {
        rows.push(("Acc@5", format!("{top5:.2}")));
    }
    rows.extend([("loss", format!("{loss:.4}")), ("images/s", format!("{images_per_second:.0}"))]);
    if *non_finite > 0 {
        let images = count(*non_finite, "image");
        rows.push(("not finite", format!("logits of {images}, counted as misclassified")));
    }
    if !absent_classes.is_empty() {
        let classes = count(absent_classes.len() as u64, "class");
        rows.push(("absent", format!("{classes} of the model: {}", first(absent_classes))));
    }
    if !skipped.is_empty() {
        rows.push(("skipped", count(skipped.len() as u64, "image")));
    }
    rows
}

/// The first few of some names.
fn first(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..SHOWN.min(names.len())].join(", ");
    if names.len() > SHOWN { format!("{shown}, …") } else { shown }
}

/// The dataset that was typed, or the one that a checkpoint says it was trained on.
fn data_of(arguments: &Eval, recipe: Option<&Recipe>) -> Result<(String, Option<PathBuf>), Failure> {
    if let Some(name) = &arguments.data {
        return Ok((name.clone(), arguments.data_dir.clone()));
    }
    let Some(recipe) = recipe else {
        let path = path_text(&arguments.weights.weights);
        return Err(Failure::usage(format!(
            "--data is required for {path}, which does not say what it was trained on"
        )));
    };
    Ok((recipe.data.clone(), arguments.data_dir.clone().or_else(|| recipe.data_dir.clone())))
}

/// The fraction that the weights' run held out of the evaluated data.
fn held_out(arguments: &Eval, recipe: Option<&Recipe>) -> Option<HeldOut> {
    let seed = recipe.map_or(0, |recipe| recipe.seed);
    if let Some(share) = arguments.val_split {
        return Some(HeldOut { share, seed });
    }
    let same = |recipe: &&Recipe| arguments.data.as_ref().is_none_or(|data| same_data(data, &recipe.data));
    let share = recipe.filter(same)?.val_split.filter(|&share| share > 0.0)?;
    Some(HeldOut { share: share as f32, seed })
}

/// Whether two names of data are one, or paths to one folder or file.
fn same_data(a: &str, b: &str) -> bool {
    let path = |name: &str| std::fs::canonicalize(name).ok();
    a == b || path(a).is_some_and(|a| path(b) == Some(a))
}
