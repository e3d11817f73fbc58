//! `residual report`, and the report at the end of `residual train`.

use crate::Done;
use crate::args::Report;
use crate::failure::Failure;
use crate::machine;
use crate::output::{bytes, complain, facts, path_text, print, print_json};
use crate::progress::Progress;
use crate::signals::Stop;
use residual::engine::Options;
use residual::report::{Environment, Facts, RunComparison, RunReport, begin_report};
use residual::train::{Job, Layer, Recipe, Record, RunFolder, Summary};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

pub(crate) fn run(arguments: &Report, stop: &Stop) -> Result<Done, Failure> {
    match &arguments.runs[..] {
        [run] => one(arguments, run, stop),
        runs => compare(arguments, runs),
    }
}

/// Rebuilds the report of a run.
fn one(arguments: &Report, run: &Path, stop: &Stop) -> Result<Done, Failure> {
    let options = machine::options(arguments.threads)?;
    let folder = RunFolder::open(run)?;
    let recipe = Recipe::resolve(&[Layer::run(&folder.config())?])?;
    let job = Job::resume(recipe, &folder)?;
    let mut known = Facts::read(&folder)?.unwrap_or_default();
    known.wall_clock.folder = run.display().to_string();
    let progress = Progress::new();
    let mut show = |done, total| progress.images("judging the held-out images", done, total);
    let collected = RunReport::collect(&job, &folder, known, &options, stop.listen(), &mut show);
    progress.finish();
    let Some(report) = collected? else { return Ok(Done::Interrupted) };
    report.changed_images().iter().for_each(|note| complain(&format!("note: {note}")));
    let page = match &arguments.output {
        None => {
            report.write()?;
            folder.report()
        }
        Some(output) => write(output, &report.html())?,
    };
    result(arguments, &page, || report.json())
}

fn compare(arguments: &Report, runs: &[PathBuf]) -> Result<Done, Failure> {
    let records = runs.iter().map(|run| Record::read(run)).collect::<Result<Vec<_>, _>>()?;
    let comparison = RunComparison::new(records)?;
    let output = arguments.output.clone().unwrap_or_else(|| "comparison.html".into());
    let page = write(&output, &comparison.html())?;
    result(arguments, &page, || comparison.json())
}

fn result(arguments: &Report, page: &Path, numbers: impl Fn() -> serde_json::Value) -> Result<Done, Failure> {
    if arguments.format.json {
        print_json(&numbers())?;
    } else {
        let size = std::fs::metadata(page).map_or(0, |metadata| metadata.len());
        print(&facts(&[("report", path_text(page)), ("size", bytes(size))]))?;
    }
    Ok(Done::Finished)
}

fn write(path: &Path, page: &str) -> Result<PathBuf, Failure> {
    residual::files::atomic_write(path, |file| file.write_all(page.as_bytes()))?;
    Ok(path.to_path_buf())
}

/// Writes the report of a run that has just ended; `None` if `stop` was set before that.
pub(crate) fn of_run(
    job: &Job,
    summary: &Summary,
    options: &Options,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Option<PathBuf>, Failure> {
    let folder = RunFolder::open(&summary.run)?;
    let environment = Environment {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        isa: options.isa.name().to_owned(),
        threads: options.pool.threads(),
        processor: machine::processor(),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
    };
    let mut facts = Facts::of(summary, job.settings(), environment);
    (facts.wall_clock.cpu_seconds, facts.wall_clock.peak_memory) = (machine::cpu_seconds(), machine::peak_memory());
    begin_report(&folder, &facts)?;
    let mut show = |done, total| progress.images("writing the report", done, total);
    match RunReport::collect(job, &folder, facts, options, stop, &mut show)? {
        Some(report) => {
            report.write()?;
            Ok(Some(folder.report()))
        }
        None => Ok(None),
    }
}
