//! `residual train`.

pub(super) mod recipe;

pub(super) use recipe::named as named_recipe;

use super::runs::{spread, spread_document};
use crate::args::Train;
use crate::failure::Failure;
use crate::output::{count, duration, facts, path_text, print, print_json, quoted_path};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::tuning::tune;
use crate::{Done, commands, machine, weights};
use residual::engine::Options;
use residual::report::range_test;
use residual::train::{Job, Judged, Outcome, Recipe, RunFolder, Spread, Summary, Test};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) fn run(arguments: &Train, stop: &Stop) -> Result<Done, Failure> {
    run_checked(arguments, stop, |_| Ok(()))
}

/// Trains, if `check` accepts the recipe.
pub(super) fn run_checked(
    arguments: &Train,
    stop: &Stop,
    check: impl Fn(&Recipe) -> Result<(), Failure>,
) -> Result<Done, Failure> {
    stop.handle_warnings()?;
    let mut options = machine::options(arguments.threads)?;
    let resumed = arguments.resume.as_deref().map(RunFolder::open).transpose()?;
    let resolved = recipe::resolve(arguments, resumed.as_ref())?;
    check(&resolved.recipe)?;
    if arguments.show_config {
        recipe::show(&resolved, arguments.format.json)?;
        return Ok(Done::Finished);
    }
    let recipe = &resolved.recipe;
    commands::data::check_name(&recipe.data, recipe.data_dir.as_deref())?;
    let mut progress = Progress::new();
    if let Some(weights) = recipe.weights.as_deref().filter(|_| resumed.is_none()) {
        weights::fetch(weights, arguments.download)?;
    }
    for teacher in recipe.teachers() {
        weights::fetch(Path::new(&teacher), arguments.download)?;
    }
    if let Some(picture) = &arguments.find_lr {
        let job = Job::prepare(resolved)?;
        return find_lr(arguments, picture, &job, &options, stop, progress);
    }
    let mut summaries: Vec<Finished> = Vec::new();
    for seed in (0..u64::from(arguments.seeds.get())).map(|index| recipe.seed + index) {
        let mut resolved = resolved.clone();
        resolved.recipe.seed = seed;
        let job = match &resumed {
            Some(run) => Job::resume(resolved, run)?,
            None => Job::prepare(resolved)?,
        };
        let mut show = |event: &residual::train::Event| progress.show(event);
        let outcome = match &resumed {
            Some(run) => residual::train::resume(&job, run.clone(), &options, stop.listen(), &mut show),
            None => {
                arguments.settings.check_model(&job.recipe.model)?;
                if arguments.autotune && recipe.amp {
                    return Err(Failure::usage(
                        "--autotune: expected training in f32, whose algorithms it measures, got amp = true; leave one out",
                    ));
                }
                if arguments.autotune {
                    options = tune(options, &job.model, &job.plans(), job.train_size(0))?;
                }
                residual::train::train(&job, &arguments.output, &options, stop.listen(), &mut show)
            }
        };
        match outcome.map_err(|error| Failure::from(error).or_skip())? {
            Outcome::Finished(trained) => {
                let summary = trained.summary;
                let report = if arguments.no_report {
                    None
                } else {
                    write_report(&job, &summary, &options, stop.listen(), &progress)
                };
                summaries.push(Finished { summary, report });
            }
            Outcome::Interrupted(summary) => {
                progress.finish();
                progress.line(&interrupted(&summary, recipe.seed + u64::from(arguments.seeds.get()) - 1 - seed));
                return Ok(Done::Interrupted);
            }
        }
        // The run is finished even if its report was interrupted; runs that were to follow are not started.
        if stop.listen().load(Ordering::Relaxed) {
            break;
        }
    }
    progress.finish();
    match &summaries[..] {
        [finished] => report(arguments, finished)?,
        summaries => report_seeds(arguments, summaries)?,
    }
    Ok(if stop.listen().load(Ordering::Relaxed) { Done::Interrupted } else { Done::Finished })
}

/// A finished run, and its report if one was written.
struct Finished {
    summary: Summary,
    report: Option<PathBuf>,
}

/// Writes the report of a finished run. What prevents that does not undo the run, and is told.
fn write_report(
    job: &Job,
    summary: &Summary,
    options: &Options,
    stop: &AtomicBool,
    progress: &Progress,
) -> Option<PathBuf> {
    let reason = match commands::report::of_run(job, summary, options, stop, progress) {
        Ok(Some(report)) => return Some(report),
        Ok(None) => "it was interrupted".to_owned(),
        Err(error) => error.to_string(),
    };
    progress.line(&format!("note: the run is finished, but has no report: {reason}"));
    progress.line(&format!("residual report {} writes it", quoted_path(&summary.run)));
    None
}

/// Runs a learning-rate range test, writes its picture and prints its suggestion.
fn find_lr(
    arguments: &Train,
    picture: &Path,
    job: &Job,
    options: &Options,
    stop: &Stop,
    progress: Progress,
) -> Result<Done, Failure> {
    let mut on_step = |done, all| progress.steps("range test", done, all);
    let tested = residual::train::find_lr(job, options, stop.listen(), &mut on_step)?;
    progress.finish();
    let Some(test) = tested else { return Ok(Done::Interrupted) };
    let svg = range_test(&test).map_err(|error| Failure::new(error.to_string()))?;
    let bytes = match picture.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("png") => {
            svg.to_png(2.0).map_err(|error| Failure::new(error.to_string()))?
        }
        _ => svg.to_svg().into_bytes(),
    };
    residual::files::atomic_write(picture, |file| file.write_all(&bytes))?;
    if arguments.format.json {
        print_json(
            &serde_json::json!({ "points": test.points, "suggestion": test.suggestion, "file": path_text(picture) }),
        )?;
        return Ok(Done::Finished);
    }
    let suggestion = match test.suggestion {
        Some(lr) => format!("--lr {lr:.2e}"),
        None => "none: the loss exploded too soon".into(),
    };
    let steps = test.points.len().to_string();
    print(&facts(&[("steps", steps), ("suggestion", suggestion), ("picture", path_text(picture))]))?;
    Ok(Done::Finished)
}

/// What to do after an interruption; `left` more seeds were to follow.
fn interrupted(summary: &Summary, left: u64) -> String {
    let (run, steps) = (quoted_path(&summary.run), summary.steps);
    let more = if left > 0 { format!("; {} not started", count(left, "more run")) } else { String::new() };
    format!("interrupted at step {steps}, after a checkpoint; resume with: residual train --resume {run}{more}")
}

/// Several runs that differ by their seeds.
fn report_seeds(arguments: &Train, finished: &[Finished]) -> Result<(), Failure> {
    let summaries: Vec<&Summary> = finished.iter().map(|finished| &finished.summary).collect();
    let of = |value: fn(&Summary) -> Option<f64>| {
        Spread::of(&summaries.iter().copied().filter_map(value).collect::<Vec<_>>())
    };
    let test = of(|summary| Some(summary.test.as_ref()?.top1));
    let (last, best) = (of(|summary| summary.top1), of(|summary| summary.best_top1));
    if arguments.format.json {
        return print_json(&serde_json::json!({
            "runs": finished.iter().map(document).collect::<Result<Vec<_>, _>>()?,
            "top1": last.map(spread_document),
            "best_top1": best.map(spread_document),
            "test_top1": test.map(spread_document),
        }));
    }
    let mut rows: Vec<(&str, String)> = summaries.iter().map(|summary| ("run", path_text(&summary.run))).collect();
    rows.extend(last.map(|last| ("last Acc@1", spread(&last))));
    rows.extend(best.map(|best| ("best Acc@1", spread(&best))));
    rows.extend(test.map(|test| ("test Acc@1", spread(&test))));
    rows.push(("time", duration(summaries.iter().map(|summary| summary.seconds).sum())));
    print(&facts(&rows))?;
    let runs: Vec<String> = summaries.iter().map(|summary| quoted_path(&summary.run)).collect();
    print(&format!("\nNext:\n  residual runs compare {}\n", runs.join(" ")))
}

/// A run's results with the path of its report.
fn document(finished: &Finished) -> Result<serde_json::Value, Failure> {
    let mut document = serde_json::to_value(&finished.summary)?;
    document["report"] = serde_json::json!(finished.report.as_deref().map(path_text));
    Ok(document)
}

fn report(arguments: &Train, finished: &Finished) -> Result<(), Failure> {
    if arguments.format.json {
        return print_json(&document(finished)?);
    }
    let Finished { summary, report } = finished;
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
    for Judged { weights, network, top1, test_top1 } in &summary.teachers {
        let of = |what: &str, top1: &Option<f64>| top1.map(|top1| format!("{what} {top1:.2}"));
        let judged: Vec<String> = [of("held out", top1), of("test", test_top1)].into_iter().flatten().collect();
        let judged = if judged.is_empty() { String::new() } else { format!(": Acc@1 {}", judged.join(" · ")) };
        rows.push(("teacher", format!("{network} of {weights}{judged}")));
    }
    if summary.images_per_second > 0.0 {
        rows.push(("images/s", format!("{:.0}", summary.images_per_second)));
    }
    rows.push(("time", duration(summary.seconds)));
    rows.extend(report.iter().map(|report| ("report", path_text(report))));
    if !summary.skipped.is_empty() {
        rows.push(("skipped", count(summary.skipped.len() as u64, "image")));
        rows.extend(summary.skipped.iter().map(|reason| ("", reason.clone())));
    }
    print(&facts(&rows))?;
    let run = quoted_path(&summary.run);
    print(&format!("\nNext:\n  residual eval --weights {run}\n  residual predict --weights {run} IMAGE\n"))
}
