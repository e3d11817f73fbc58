//! `residual prune`.

mod finetune;

use super::changed::{Images, Judgement, judge, output, rows, show_pruning};
use super::judged::Found;
use crate::args::Prune;
use crate::failure::Failure;
use crate::output::{count, facts, grouped, path_text, print, print_json};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::tuning::measurements;
use crate::{Done, machine, weights};
use finetune::Finetune;
use residual::compress::{
    Allocation, Goal, LatencySearch, Outcome, Pruned, Pruner, SelectOptions, Sparsity, TrainingImages, Tuned,
    compare_latency, recalibrate_batch_norms,
};
use residual::model::{Model, ModelError};
use residual::weights::{save, save_sparse};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

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
    let goal = goal(arguments);
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
    let measurements = measurements(&options, "latency");
    let pruner = Pruner {
        original: &model,
        goal,
        criterion: arguments.criterion,
        select: SelectOptions {
            allocation: if arguments.uniform { Allocation::Uniform } else { Allocation::Global },
            round: arguments.round.get().into(),
            blocks: arguments.blocks,
        },
        images: &training,
        seed: arguments.seed,
        measurements: measurements.as_deref(),
        repeats: None,
        options: &options,
    };
    let steps = usize::from(arguments.steps.get());
    let done = prune(&pruner, finetune.as_ref().map(|finetune| (finetune, steps)), recipe, stop, &mut progress);
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
    let judged = outcome(arguments, &pruner, &pruned, &file, &images, stop.listen(), &progress);
    let judged = judged.inspect_err(|_| progress.finish())?;
    progress.finish();
    let Some(outcome) = judged else { return Ok(Done::Interrupted) };
    show(arguments, &pruner, &outcome, &what, &pruned, finetune.as_ref())?;
    Ok(Done::Finished)
}

/// What was typed as the target.
fn goal(arguments: &Prune) -> Goal {
    let Prune { target_macs, target_latency, target_speedup, unstructured, .. } = arguments;
    let goals = [
        target_macs.map(Goal::Macs),
        target_latency.map(Goal::Latency),
        target_speedup.map(Goal::Speedup),
        unstructured.map(Goal::Unstructured),
    ];
    goals.into_iter().flatten().next().expect("one target is required")
}

/// The network of the last step, what was removed in all, and the recipe that belongs to it.
struct Last {
    model: Model,
    what: Pruned,
    recipe: Option<String>,
}

/// Prunes, and trains so many times or recalibrates. `None` if it was interrupted.
fn prune(
    pruner: &Pruner<'_>,
    finetune: Option<(&Finetune, usize)>,
    recipe: Option<String>,
    stop: &Stop,
    progress: &mut Progress,
) -> Result<Option<Last>, Failure> {
    let step = |model: &Model, step: [usize; 2], progress: &Progress| {
        let pruned = pruner.prune(model, step, stop.listen(), &mut |event| show_pruning(progress, event));
        pruned.map_err(|error| Failure::from(error).or_skip())
    };
    let Some((finetune, steps)) = finetune else {
        let Some((pruned, what)) = step(pruner.original, [1, 1], progress)? else { return Ok(None) };
        let show = &mut |done, total| progress.images("recalibrating batch norms", done as u64, total as u64);
        let model = recalibrate_batch_norms(&pruned, pruner.images, pruner.options, stop.listen(), show);
        let model = model.map_err(|error| Failure::from(error).or_skip())?;
        return Ok(model.map(|model| Last { model, what, recipe }));
    };
    let mut last = Last { model: pruner.original.clone(), what: Pruned::default(), recipe };
    for number in 1..=steps {
        let (pruned, what) = match finetune.pruned(number)? {
            Some(saved) => saved,
            None => match step(&last.model, [number, steps], progress)? {
                Some((pruned, what)) => {
                    let what = last.what.then(what);
                    finetune.keep(number, &pruned, &what)?;
                    (pruned, what)
                }
                None => return Ok(None),
            },
        };
        if steps > 1 {
            let macs = grouped(macs(&pruned)?);
            progress.line(&format!("step {number} of {steps}: {macs} multiply-accumulates"));
        }
        match finetune.trained(number, pruner.options, stop, progress)? {
            Some(Tuned { model, recipe }) => last = Last { model, what, recipe: Some(recipe) },
            None => return Ok(None),
        }
    }
    Ok(Some(last))
}

/// The judgement of the result. `None` if `stop` was set.
fn outcome(
    arguments: &Prune,
    pruner: &Pruner<'_>,
    pruned: &Model,
    file: &Path,
    images: &Images,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Option<Outcome>, Failure> {
    let size = std::fs::metadata(file).map_err(|error| Failure::at(file.display(), &error))?.len();
    let mut outcome = Outcome::new(path_text(file), size, pruned)?;
    let options = pruner.options;
    let pair = [(pruner.original, "the original"), (pruned, "the pruned network")];
    match judge(pair, &images.judged, EVALUATION_BATCH, arguments.reading, options, stop, progress)? {
        Judgement::Stopped => return Ok(None),
        Judgement::OtherClasses(why) => progress.line(&format!("note: accuracy not judged: {why}")),
        Judgement::Of(evaluations) => {
            let [before, after] = &*evaluations;
            outcome = outcome.judged(before, after, options);
        }
    }
    if !arguments.no_latency {
        outcome = outcome.timed(pruner.original, pruned, options)?;
        if let Some(batch) = pruner.goal.batch().filter(|batch| !outcome.latency.contains_key(batch)) {
            outcome.latency.insert(batch, compare_latency(pruner.original, pruned, batch, None, options)?);
        }
        let slower = outcome.latency.iter().find(|(_, change)| change.interval[1] < 1.0);
        if let (true, Some((batch, _))) = (pruner.goal.is_structured(), slower) {
            progress.line(&format!(
                "note: slower than the original in batches of {batch}: widths that do not fill vector registers miss the fast algorithms; \
                 --target-speedup 1.5x@{batch} --blocks removes what makes it faster"
            ));
        }
    }
    Ok(Some(outcome))
}

fn show(
    arguments: &Prune,
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
    if arguments.format.json {
        return print_json(&Document {
            outcome,
            target: pruner.goal.to_string(),
            criterion: is_structured.then(|| pruner.criterion.to_string()),
            scored_on: pruner.images.dataset.len(),
            pruned,
            sparsity_before,
            sparsity,
            steps,
        });
    }
    let mut rows = rows(outcome);
    let share = outcome.macs as f64 / macs(pruner.original)? as f64;
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
        let LatencySearch { goal, predicted, measured, rounds } = search;
        let networks = count(*rounds as u64, "network");
        rows.push(("target", format!("{goal:.3} of the original's latency: predicted {predicted:.3}, measured {measured:.3}, {networks} tried")));
    }
    rows.extend(steps.map(|folder| ("runs", folder)));
    print(&facts(&rows))
}

/// Multiply-accumulates of `model` for one image.
fn macs(model: &Model) -> Result<u64, Failure> {
    let [height, width] = model.preprocessing.size;
    Ok(model.graph.analyse(height, width)?.macs)
}
