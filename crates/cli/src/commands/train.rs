//! `residual train`.

mod recipe;

use crate::args::Train;
use crate::failure::Failure;
use crate::output::{count, duration, facts, path_text, print, print_json, quoted_path};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::tuning::tune;
use crate::{Done, commands, machine, weights};
use residual::train::{Job, Outcome, RunFolder, Summary, Test};

pub(crate) fn run(arguments: &Train, stop: &Stop) -> Result<Done, Failure> {
    stop.handle_warnings()?;
    let mut options = machine::options(arguments.threads)?;
    let resumed = arguments.resume.as_deref().map(RunFolder::open).transpose()?;
    let resolved = recipe::resolve(arguments, resumed.as_ref())?;
    if arguments.show_config {
        recipe::show(&resolved, arguments.format.json)?;
        return Ok(Done::Finished);
    }
    let recipe = &resolved.recipe;
    commands::data::check_name(&recipe.data, recipe.data_dir.as_deref())?;
    let mut progress = Progress::new();
    let mut show = |event: &residual::train::Event| progress.show(event);
    if let Some(weights) = recipe.weights.as_deref().filter(|_| resumed.is_none()) {
        weights::fetch(weights, arguments.download)?;
    }
    let outcome = match resumed {
        Some(run) => {
            let job = Job::resume(resolved, &run)?;
            residual::train::resume(&job, run, &options, stop.listen(), &mut show)
        }
        None => {
            let job = Job::prepare(resolved)?;
            arguments.settings.check_model(&job.recipe.model)?;
            if arguments.autotune {
                options = tune(options, &job.model, &job.plans(), job.model.preprocessing.size)?;
            }
            residual::train::train(&job, &arguments.output, &options, stop.listen(), &mut show)
        }
    };
    progress.finish();
    match outcome.map_err(|error| Failure::from(error).or_skip())? {
        Outcome::Finished(trained) => {
            report(arguments, &trained.summary)?;
            Ok(Done::Finished)
        }
        Outcome::Interrupted(summary) => {
            let run = quoted_path(&summary.run);
            progress.line(&format!(
                "interrupted at step {}, after a checkpoint; resume with: residual train --resume {run}",
                summary.steps
            ));
            Ok(Done::Interrupted)
        }
    }
}

fn report(arguments: &Train, summary: &Summary) -> Result<(), Failure> {
    if arguments.format.json {
        return print_json(summary);
    }
    let mut rows = vec![
        ("run", path_text(&summary.run)),
        ("epochs", summary.epochs.to_string()),
        ("steps", summary.steps.to_string()),
    ];
    let last = summary.top1.map(|top1| format!("last {top1:.2}"));
    let best = summary.best_top1.zip(summary.best_epoch);
    let metric = summary.metric;
    let best =
        best.map(|(top1, epoch)| format!("best {top1:.2} (epoch {epoch}, by {metric}, weights/best.safetensors)"));
    let accuracies: Vec<String> = best.into_iter().chain(last).collect();
    if !accuracies.is_empty() {
        rows.push(("Acc@1", accuracies.join(" · ")));
    }
    if let Some(Test { weights, data, top1, .. }) = &summary.test {
        rows.push(("test", format!("Acc@1 {top1:.2} of the {weights} weights on {data}")));
    }
    if summary.images_per_second > 0.0 {
        rows.push(("images/s", format!("{:.0}", summary.images_per_second)));
    }
    rows.push(("time", duration(summary.seconds)));
    if !summary.skipped.is_empty() {
        rows.push(("skipped", count(summary.skipped.len() as u64, "image")));
        rows.extend(summary.skipped.iter().map(|reason| ("", reason.clone())));
    }
    print(&facts(&rows))?;
    let run = quoted_path(&summary.run);
    print(&format!("\nNext:\n  residual eval --weights {run}\n  residual predict --weights {run} IMAGE\n"))
}
