//! `residual train`.

use crate::args::Train;
use crate::failure::Failure;
use crate::output::{facts, print, print_json};
use crate::progress::Progress;
use crate::tuning::tune;
use crate::{Done, commands, machine, weights};
use residual::data::DATASETS;
use residual::train::{Job, Layer, Outcome, PRESETS, Recipe, RunFolder, Summary};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(crate) fn run(arguments: &Train, stop: &Arc<AtomicBool>) -> Result<Done, Failure> {
    let mut options = machine::options(arguments.threads)?;
    let resumed = arguments.resume.as_deref().map(RunFolder::open).transpose()?;
    let recipe = recipe(arguments, resumed.as_ref())?;
    commands::data::check_name(&recipe.data, recipe.data_dir.as_deref())?;
    let mut progress = Progress::new();
    let mut show = |event: &residual::train::Event| progress.show(event);
    if let Some(weights) = recipe.weights.as_deref().filter(|_| resumed.is_none()) {
        weights::fetch(weights, arguments.download)?;
    }
    let (job, outcome) = match resumed {
        Some(run) => {
            let job = Job::resume(recipe, &run)?;
            let outcome = residual::train::resume(&job, run, &options, stop, &mut show);
            (job, outcome)
        }
        None => {
            let job = Job::prepare(recipe)?;
            arguments.settings.check_model(&job.recipe.model)?;
            if arguments.autotune {
                options = tune(options, &job.model, &job.plans(), job.model.preprocessing.size)?;
            }
            let outcome = residual::train::train(&job, &arguments.output, &options, stop, &mut show);
            (job, outcome)
        }
    };
    progress.finish();
    match outcome? {
        Outcome::Finished(summary) => {
            report(arguments, &job, &summary)?;
            Ok(Done::Finished)
        }
        Outcome::Interrupted(summary) => {
            let run = summary.run.display();
            progress.line(&format!(
                "interrupted at step {}, after a checkpoint; go on with: residual train --resume {run}",
                summary.steps
            ));
            Ok(Done::Interrupted)
        }
    }
}

fn report(arguments: &Train, job: &Job, summary: &Summary) -> Result<(), Failure> {
    if arguments.format.json {
        return print_json(summary);
    }
    let percent = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), |value| format!("{value:.2}"));
    let run = summary.run.display();
    let best = summary
        .best_epoch
        .map_or_else(String::new, |epoch| format!(" (best {} in epoch {epoch})", percent(summary.best_top1)));
    let mut rows = vec![
        ("run", run.to_string()),
        ("epochs", summary.epochs.to_string()),
        ("steps", summary.steps.to_string()),
        ("Acc@1", format!("{}{best}", percent(summary.top1))),
        ("Acc@5", percent(summary.top5)),
        ("images/s", format!("{:.0}", summary.images_per_second)),
        ("seconds", format!("{:.0}", summary.seconds)),
    ];
    if !summary.skipped.is_empty() {
        rows.push(("left out", summary.skipped.len().to_string()));
        rows.extend(summary.skipped.iter().map(|reason| ("", reason.clone())));
    }
    let data_dir =
        job.recipe.data_dir.as_ref().map_or_else(String::new, |dir| format!(" --data-dir {}", dir.display()));
    print(&facts(&rows))?;
    print(&format!(
        "\nNext:\n  residual eval --weights {run} --data {}{data_dir}\n  residual predict --weights {run} IMAGE\n",
        job.recipe.data
    ))
}

/// The recipe: flags over files over a preset; of a run that goes on, over the run's own.
fn recipe(arguments: &Train, run: Option<&RunFolder>) -> Result<Recipe, Failure> {
    let flags = Layer::settings("flags", &arguments.settings)?;
    let mut layers = Vec::new();
    for name in &arguments.recipe {
        let is_preset = PRESETS.iter().any(|preset| preset.name == name);
        let is_file = Path::new(name).exists() || name.ends_with(".toml");
        layers.push(if is_file && !is_preset { Layer::file(Path::new(name))? } else { Layer::preset(name)? });
    }
    let given = layers.iter().rev().find_map(|layer| layer.text("data"));
    let data = arguments.settings.data.as_deref().or(given).map(str::to_owned);
    let named = |name: &String| PRESETS.iter().any(|preset| preset.name == name);
    let base = match run {
        Some(run) => Some(Layer::file(&run.config())?),
        None if arguments.recipe.iter().any(named) => {
            if data.is_none() {
                return Err(Failure::usage("data: expected --data, as the recipe names no dataset, got none"));
            }
            None
        }
        None => {
            let data = data.as_deref().unwrap_or(DATASETS[0].name);
            let named = DATASETS.iter().find(|set| set.name == data);
            Some(Layer::preset(named.map_or("folder-quick", |set| set.preset))?)
        }
    };
    Ok(Recipe::resolve(&base.into_iter().chain(layers).chain([flags]).collect::<Vec<_>>())?)
}
