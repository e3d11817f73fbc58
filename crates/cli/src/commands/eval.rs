//! `residual eval`.

mod report;

use super::judged::Found;
use crate::args::Eval;
use crate::failure::Failure;
use crate::output::{bytes, count, facts, grouped, path_text};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::tuning::tune;
use crate::{Done, machine, weights};
use report::{Compared, Fit, print_report};
use residual::data::{self, Dataset, HeldOut, Part, Selection, stratified_split};
use residual::engine::{Elements, Mode, Options, PlanSummary};
use residual::infer::{self, ClassList, EvaluateOptions, Evaluation, ModelRequest, PredictionFileFormat};
use residual::model::Model;
use residual::preprocess::Views;
use residual::weights::{save, weights_file};
use std::path::Path;
use std::sync::Arc;

pub(crate) fn run(arguments: &Eval, stop: &Stop) -> Result<Done, Failure> {
    check(arguments)?;
    let mut options = machine::compute_options(arguments.compute)?;
    options.inference.elements = arguments.precision.precision;
    let opened = weights::open(&arguments.weights)?;
    let recipe_text = opened.recipe().map(str::to_owned);
    let found = Found::new(&arguments.judged, &arguments.weights.weights, recipe_text.as_deref())?;
    let Selection { mut dataset, part } = found.selection()?;
    if !arguments.fit_temperature {
        found.check_val_split(part)?;
    }
    let model = weights::resolve(&arguments.weights.weights, opened, Some(dataset.format()))?;
    let mut model = arguments.image.apply(model)?;
    let mut split = part.name().to_owned();
    let mut fitting = None;
    if arguments.fit_temperature {
        fitting = match validation(&found, part)? {
            Some(images) => Some(images),
            None => {
                split = format!("half of {split}");
                let (evaluated, images) = stratified_split(&dataset, HeldOut { share: 0.5, seed: 0 })?;
                dataset = Arc::new(evaluated);
                Some(Arc::new(images) as Arc<dyn Dataset>)
            }
        };
    }

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
    let mut header = header(arguments, &model, images, batch_size, &options)?;
    if let Some(images) = &fitting {
        header.push(("fitting", format!("the temperature, on {}", images.describe_set())));
    } else if model.temperature != 1.0 {
        header.push(("temperature", format!("{}, which divides the logits", model.temperature)));
    }
    facts(&header).lines().for_each(|line| progress.line(line));
    dataset.notes().iter().for_each(|note| progress.line(&format!("note: {note}")));
    let options = EvaluateOptions {
        engine: options,
        batch_size,
        workers: arguments.reading.workers.into(),
        skip_bad_images: arguments.reading.skip_bad_images,
        views: arguments.test_time.tta,
        class_map: arguments.class_map.as_deref().map(ClassList::read).transpose()?,
    };
    let stop = stop.listen();
    let mut fitted = None;
    if let Some(images) = &fitting {
        let show = &mut |done, total| progress.images("fitting the temperature", done, total);
        let result = infer::calibrate(&model, images, &options, stop, show);
        let result = result.inspect_err(|_| progress.finish()).map_err(|error| Failure::from(error).or_skip())?;
        let Some(temperature) = result else {
            progress.finish();
            return Ok(Done::Interrupted);
        };
        model = model.with_temperature(temperature)?;
        fitted = Some(Fit { temperature, images: images.len() as u64, data: images.place() });
    }
    let result = infer::evaluate(&model, &dataset, &options, stop, &mut |done, total| {
        progress.images("evaluating", done, total)
    });
    progress.finish();
    let Some(evaluation) = result.map_err(|error| Failure::from(error).or_skip())? else {
        return Ok(Done::Interrupted);
    };
    let elements = arguments.precision.precision;
    let other = match &arguments.vs {
        Some(path) => {
            weights::fetch(path, arguments.weights.download)?;
            let opened = ModelRequest::new(path).open()?;
            let other = arguments.image.apply(weights::resolve(path, opened, Some(dataset.format()))?)?;
            Some((path_text(path), other, options.clone()))
        }
        None if elements != Elements::F32 => {
            let mut options = options.clone();
            options.engine.inference.elements = Elements::F32;
            Some((format!("{}, in f32", path_text(&arguments.weights.weights)), model.clone(), options))
        }
        None => None,
    };
    let mut compared = None;
    if let Some((weights, other, options)) = other {
        let result = infer::evaluate(&other, &dataset, &options, stop, &mut |done, total| {
            progress.images("evaluating the other weights", done, total)
        });
        progress.finish();
        let Some(other) = result.map_err(|error| Failure::from(error).or_skip())? else {
            return Ok(Done::Interrupted);
        };
        let comparison = evaluation.compare(&other, &options.engine);
        compared = Some(Compared { weights, top1: other.top1, comparison });
    }
    let evaluation = Evaluation { data: found.source.name().to_owned(), split, ..evaluation };
    evaluation.skipped.iter().for_each(|reason| progress.line(&format!("skipped: {reason}")));
    if let Some(path) = &arguments.predictions {
        infer::write_predictions(path, &evaluation, &*dataset)?;
    }
    if let Some(path) = &arguments.output {
        save(path, &model, recipe_text.as_deref())?;
    }
    print_report(arguments, &evaluation, &*dataset, fitted, compared)?;
    Ok(Done::Finished)
}

/// Refuses output files that cannot be written before anything is computed.
fn check(arguments: &Eval) -> Result<(), Failure> {
    arguments.predictions.as_deref().map(PredictionFileFormat::of).transpose()?;
    let real = |path: &Path| path.canonicalize().ok();
    let read = weights_file(&arguments.weights.weights);
    match &arguments.output {
        Some(output) if real(output).is_some_and(|output| real(&read) == Some(output)) => {
            let output = path_text(output);
            Err(Failure::usage(format!("output: expected another file than the weights', got {output}")))
        }
        _ => Ok(()),
    }
}

/// The validation images, for a temperature that is judged on others: `None` if there are none or `part` is these.
fn validation(found: &Found, part: Part) -> Result<Option<Arc<dyn Dataset>>, Failure> {
    let Found { source, held_out, .. } = found;
    if !source.splits().contains(&data::Split::Val) && held_out.is_none() {
        return Ok(None);
    }
    let validation = source.evaluation(Some(data::Split::Val), *held_out)?;
    Ok((validation.part != part).then_some(validation.dataset))
}

/// The lines before the evaluation: model, data, input and engine.
fn header(
    arguments: &Eval,
    model: &Model,
    images: String,
    batch_size: usize,
    options: &Options,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let ([height, width], channels) = (model.preprocessing.size, model.preprocessing.channels());
    let parameters = model.graph.analyse(height, width)?.parameters;
    let plan = PlanSummary::new(model, Mode::Infer, batch_size, [height, width], &[], options)?;
    let views = match arguments.test_time.tta {
        Views::Single => "",
        Views::Flip => "; logits are the mean of an image's and its mirror image's",
        Views::FiveCrop => "; logits are the mean of five crops'",
        Views::TenCrop => "; logits are the mean of ten crops'",
    };
    let (name, weights) = (&model.graph.name, path_text(&arguments.weights.weights));
    let (threads, memory) = (count(options.pool.threads() as u64, "thread"), bytes(plan.memory().total() as u64));
    let elements = options.inference.elements.name();
    Ok(vec![
        ("network", format!("{name}, {} parameters, of {weights}", grouped(parameters as u64))),
        ("data", images),
        ("input", format!("{channels}×{height}×{width}, batch size {batch_size}{views}")),
        ("compute", format!("{threads}, {}, {elements}, {memory} of memory without the dataset", options.isa.name())),
    ])
}
