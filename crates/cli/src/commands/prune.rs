//! `residual prune`.

mod finetune;
mod step;

use super::changed::{Images, Judgement, judge, output, rows};
use super::judged::Found;
use crate::args::Prune;
use crate::failure::Failure;
use crate::output::{count, facts, grouped, path_text, print, print_json};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::{Done, machine, weights};
use finetune::Finetune;
use residual::compress::{Outcome, Sparsity, TrainingImages, compare_latency, recalibrate_batch_norms};
use residual::engine::Options;
use residual::model::{Model, ModelError};
use residual::weights::{save, save_sparse};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use step::{Goal, Pruned, Pruner, Search};

/// Batch size of evaluations.
const EVALUATION_BATCH: usize = 100;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    target: String,
    criterion: Option<String>,
    /// Images that channels were scored and batch norms recalibrated on.
    scored_on: usize,
    #[serde(flatten)]
    pruned: &'a Pruned,
    #[serde(skip_serializing_if = "Option::is_none")]
    sparsity_before: Option<Sparsity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sparsity: Option<Sparsity>,
    /// The folder of the fine-tuning.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<String>,
}

pub(crate) fn run(arguments: &Prune, stop: &Stop) -> Result<Done, Failure> {
    if let (None, Some(flag)) = (&arguments.finetune, arguments.settings.typed()) {
        return Err(Failure::usage(format!("{flag}: expected --finetune RECIPE beside it, got none")));
    }
    stop.handle_warnings()?;
    let options = machine::options(arguments.threads)?;
    let opened = weights::open(&arguments.weights)?;
    let recipe = opened.recipe().map(str::to_owned);
    let found = Found::new(&arguments.judged, &arguments.weights.weights, recipe.as_deref())?;
    let images = Images::find(&found, arguments.calib.get().into(), arguments.seed, arguments.limit)?;
    if arguments.finetune.is_none() {
        found.check_val_split(images.part)?;
    }
    let model = weights::resolve(&arguments.weights.weights, opened, Some(images.judged.format()))?;
    let model = arguments.image.apply(model)?;
    if model.graph.is_quantized() {
        return Err(ModelError::Quantized.into());
    }
    let file = output(arguments.output.as_deref(), &model, "pruned", &arguments.weights.weights)?;
    let goal = Goal::of(arguments);
    let finetune = match &arguments.finetune {
        Some(recipe) => Some(Finetune::new(recipe, arguments, &goal, &found, images.part, &model, &file)?),
        None => None,
    };
    let mut progress = Progress::new();
    let scores = if goal.is_structured() { format!(", scored by {}", arguments.criterion) } else { String::new() };
    facts(&[
        ("network", format!("{} of {}", model.graph.name, path_text(&arguments.weights.weights))),
        ("target", format!("{goal}{scores}")),
        ("training", format!("{} of {}", images.calibration.len(), images.calibrated)),
        ("judged on", images.judged.describe_set()),
        ("compute", format!("{}, {}", count(options.pool.threads() as u64, "thread"), options.isa.name())),
    ])
    .lines()
    .for_each(|line| progress.line(line));
    let training = TrainingImages {
        dataset: Arc::clone(&images.calibration),
        workers: arguments.reading.workers.into(),
        skip_bad_images: arguments.reading.skip_bad_images,
    };
    let pruner = Pruner { arguments, goal, original: &model, images: training, options: &options };
    let done = prune(&pruner, finetune.as_ref(), recipe, stop, &mut progress);
    let done = done.inspect_err(|_| progress.finish())?;
    let Some(Last { model: pruned, what, recipe }) = done else {
        progress.finish();
        if let Some(finetune) = &finetune {
            progress.line(&format!("interrupted; the same command resumes from {}", path_text(finetune.folder())));
        }
        return Ok(Done::Interrupted);
    };
    let save = if arguments.sparse { save_sparse } else { save };
    save(&file, &pruned, recipe.as_deref())?;
    let judged = outcome(&pruner, &pruned, &file, &images, &options, stop.listen(), &progress);
    let judged = judged.inspect_err(|_| progress.finish())?;
    progress.finish();
    let Some(outcome) = judged else { return Ok(Done::Interrupted) };
    show(&pruner, &outcome, &what, &pruned, finetune.as_ref())?;
    Ok(Done::Finished)
}

/// The network of the last step, what was removed in all, and the recipe that belongs to it.
struct Last {
    model: Model,
    what: Pruned,
    recipe: Option<String>,
}

/// Prunes, and trains or recalibrates. `None` if it was interrupted.
fn prune(
    pruner: &Pruner<'_>,
    finetune: Option<&Finetune>,
    recipe: Option<String>,
    stop: &Stop,
    progress: &mut Progress,
) -> Result<Option<Last>, Failure> {
    let Some(finetune) = finetune else {
        let Some((pruned, what)) = pruner.prune(pruner.original, 1, 1, stop.listen(), progress)? else {
            return Ok(None);
        };
        let show = &mut |done, total| progress.images("recalibrating batch norms", done as u64, total as u64);
        let model = recalibrate_batch_norms(&pruned, &pruner.images, pruner.options, stop.listen(), show);
        let model = model.map_err(|error| Failure::from(error).or_skip())?;
        return Ok(model.map(|model| Last { model, what, recipe }));
    };
    let steps = usize::from(pruner.arguments.steps.get());
    let mut last = Last { model: pruner.original.clone(), what: Pruned::default(), recipe };
    for step in 1..=steps {
        let (pruned, what) = match finetune.pruned(step)? {
            Some(saved) => saved,
            None => match pruner.prune(&last.model, step, steps, stop.listen(), progress)? {
                Some((pruned, what)) => {
                    let what = last.what.then(what);
                    finetune.keep(step, &pruned, &what)?;
                    (pruned, what)
                }
                None => return Ok(None),
            },
        };
        if steps > 1 {
            let macs = grouped(pruner.macs(&pruned)? as u64);
            progress.line(&format!("step {step} of {steps}: {macs} multiply-accumulates"));
        }
        match finetune.trained(step, pruner.options, stop, progress)? {
            Some((model, recipe)) => last = Last { model, what, recipe: Some(recipe) },
            None => return Ok(None),
        }
    }
    Ok(Some(last))
}

/// The judgement of the result. `None` if `stop` was set.
fn outcome(
    pruner: &Pruner<'_>,
    pruned: &Model,
    file: &Path,
    images: &Images,
    options: &Options,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Option<Outcome>, Failure> {
    let size = std::fs::metadata(file).map_err(|error| Failure::at(file.display(), &error))?.len();
    let mut outcome = Outcome::new(path_text(file), size, pruned)?;
    let pair = [(pruner.original, "the original"), (pruned, "the pruned network")];
    match judge(pair, &images.judged, EVALUATION_BATCH, pruner.arguments.reading, options, stop, progress)? {
        Judgement::Stopped => return Ok(None),
        Judgement::OtherClasses(why) => progress.line(&format!("note: accuracy not judged: {why}")),
        Judgement::Of(evaluations) => {
            let [before, after] = &*evaluations;
            outcome = outcome.judged(before, after, options);
        }
    }
    if !pruner.arguments.no_latency {
        outcome = outcome.timed(pruner.original, pruned, options)?;
        if let Some(batch) = pruner.goal.batch().filter(|batch| !outcome.latency.contains_key(batch)) {
            outcome.latency.insert(batch, compare_latency(pruner.original, pruned, batch, options)?);
        }
    }
    Ok(Some(outcome))
}

fn show(
    pruner: &Pruner<'_>,
    outcome: &Outcome,
    pruned: &Pruned,
    model: &Model,
    finetune: Option<&Finetune>,
) -> Result<(), Failure> {
    let is_structured = pruner.goal.is_structured();
    let [sparsity_before, sparsity] =
        [pruner.original, model].map(|model| (!is_structured).then(|| Sparsity::of(model)));
    let steps = finetune.map(|finetune| path_text(finetune.folder()));
    if pruner.arguments.format.json {
        return print_json(&Document {
            outcome,
            target: pruner.goal.to_string(),
            criterion: is_structured.then(|| pruner.arguments.criterion.to_string()),
            scored_on: pruner.images.dataset.len(),
            pruned,
            sparsity_before,
            sparsity,
            steps,
        });
    }
    let mut rows = rows(outcome);
    let share = outcome.macs as f64 / pruner.macs(pruner.original)?;
    match sparsity_before.zip(sparsity) {
        Some((before, after)) => {
            let [zeros, weights] = [after.zeros, after.weights].map(|number| grouped(number as u64));
            let [before, after] = [before, after].map(|sparsity| sparsity.percent());
            rows.push(("sparsity", format!("{before:.2} % -> {after:.2} %: {zeros} of {weights} weights are zero")));
        }
        None => rows.push(("left", format!("{:.1} % of the multiply-accumulates", 100.0 * share))),
    }
    if !pruned.blocks.is_empty() {
        rows.push(("removed", pruned.blocks.join(", ")));
    }
    if let Some(search) = &pruned.search {
        let Search { goal, predicted, measured, rounds } = search;
        let networks = count(*rounds as u64, "network");
        rows.push(("target", format!("{goal:.3} of the original's latency: predicted {predicted:.3}, measured {measured:.3}, {networks} tried")));
    }
    rows.extend(steps.map(|folder| ("runs", folder)));
    print(&facts(&rows))
}
