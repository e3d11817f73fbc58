//! What `search` and `tune` share: trials that are shown while they are trained, and the command that trains the best one in full.

use crate::args::Settings;
use crate::failure::Failure;
use crate::output::{complain, count, grouped, quoted_path};
use crate::progress::Progress;
use crate::signals::Stop;
use residual::engine::Options;
use residual::search::{Event, Outcome, Search, SearchError, Trials};
use residual::train::Event as TrainEvent;
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Searches in `folder`; `describe` says in a line what a trial tries. `None` if a signal ended the search.
pub(super) fn run<T: Trials>(
    search: &Search<T>,
    folder: &Path,
    options: &Options,
    stop: &Stop,
    describe: &dyn Fn(&T::Tried) -> String,
) -> Result<Option<Outcome<T::Tried>>, Failure> {
    let progress = Progress::new();
    let mut steps = 0;
    let result = search.run(folder, options, stop.listen(), &mut |event| show(event, &progress, &mut steps, describe));
    progress.finish();
    if stop.listen().load(Ordering::Relaxed) {
        // There may be no result yet.
        if !matches!(result, Ok(_) | Err(SearchError::NoResult { .. })) {
            result?;
        }
        complain("interrupted, after a checkpoint; the same command resumes the search");
        return Ok(None);
    }
    Ok(Some(result?))
}

/// Says that a search ended before all of its trials, as it found no other `what` to try.
pub(super) fn note_exhausted<T>(outcome: &Outcome<T>, asked: Option<NonZeroU16>, budget: Option<Duration>, what: &str) {
    if let (Some(asked), None) = (asked, budget)
        && outcome.trials < asked.get().into()
    {
        complain(&format!("ended after {} of {asked} trials: no other {what} found", outcome.trials));
    }
}

/// Shows an event: a bar of the trial in progress, which has `steps`, and a line for each one's beginning and result.
fn show<T>(event: &Event<'_, T>, progress: &Progress, steps: &mut u64, describe: &dyn Fn(&T) -> String) {
    match event {
        Event::Supernet { supernet, epochs, network } => {
            let (parameters, macs) = (grouped(network.parameters as u64), grouped(network.macs));
            let epochs = count(*epochs, "epoch");
            progress.line(&format!("supernet {supernet}: {parameters} parameters, {macs} MACs, {epochs}"));
        }
        Event::Waiting { supernets } => {
            progress.line(&format!("waiting for {} that other processes train", count(*supernets as u64, "supernet")));
        }
        Event::WaitingForTrials { trials } => {
            progress.line(&format!("waiting for {} that other processes train", count(*trials as u64, "trial")));
        }
        Event::Trial { trial, epochs, tried } => {
            let epochs = if *epochs > 0 { format!(", {}", count(*epochs, "epoch")) } else { String::new() };
            progress.line(&format!("trial {trial}: {}{epochs}", describe(tried)));
        }
        Event::Training(TrainEvent::Started(info)) => *steps = info.steps,
        Event::Training(TrainEvent::Step(step)) => progress.steps("training", step.step as usize, *steps as usize),
        Event::Training(TrainEvent::Skipped { reason }) => progress.line(&format!("skipped: {reason}")),
        Event::Training(_) => {}
        Event::Scored { trial, epochs, top1 } => {
            progress.line(&format!("trial {trial}: Acc@1 {top1:.2} {}", trained(*epochs)));
        }
        Event::Failed { trial, reason } => progress.line(&format!("trial {trial}: failed: {reason}")),
    }
}

/// How a trial of so many epochs was trained.
pub(super) fn trained(epochs: u64) -> String {
    if epochs > 0 { format!("after {}", count(epochs, "epoch")) } else { "with shared weights".into() }
}

/// The words of flags with the typed recipes and settings, but for those named in `without`.
pub(super) fn typed(recipes: &[String], settings: &Settings, without: &[&str]) -> String {
    let recipes = recipes.iter().map(|name| format!("--recipe {}", quoted_path(name.as_ref())));
    recipes.chain(settings.words(without)).map(|word| format!(" {word}")).collect()
}
