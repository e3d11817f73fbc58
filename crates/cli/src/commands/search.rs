//! `residual search`.

use crate::args::Search;
use crate::commands::train::recipe;
use crate::commands::trials;
use crate::failure::Failure;
use crate::output::{complain, count, duration, facts, grouped, path_text, print, print_json, quoted_path, table};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::tuning::measurements;
use crate::{Done, commands, machine};
use residual::engine::Options;
use residual::files::atomic_write;
use residual::infer::LatencyTable;
use residual::report::html::{figures, paragraph};
use residual::report::{Candidate, TradeOff, architecture};
use residual::search::{
    CellTable, Cost, Found, LatencyCheck, LatencyPredictor, Length, Limits, Member, NetworkSpace, Outcome, Trials,
    measure_latency,
};
use residual::train::Recipe;
use residual::weights::load;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::Path;

/// Networks that predictions of the latency are fitted to.
const TIMED_NETWORKS: usize = 30;
/// Fewest of them.
const FEWEST_TIMED: usize = 5;
/// Trials of a search on a table.
const TABLE_TRIALS: usize = 300;

pub(crate) fn run(arguments: &Search, stop: &Stop) -> Result<Done, Failure> {
    match (&arguments.table, &arguments.space) {
        (Some(file), _) => on_table(arguments, file),
        (None, Some(space)) => on_space(arguments, space, stop),
        (None, None) => Err(Failure::usage("--space or --table is required")),
    }
}

/// Searches the cells of a table.
fn on_table(arguments: &Search, file: &Path) -> Result<Done, Failure> {
    if let Some(other) = arguments.settings.names().find(|name| *name != "seed") {
        let flag = other.replace('_', "-");
        return Err(Failure::usage(format!("--{flag}: expected none with --table, which trains nothing")));
    }
    if !arguments.recipe.is_empty() {
        return Err(Failure::usage("--recipe: expected none with --table, which trains nothing"));
    }
    let method = arguments.strategy;
    if method.halves() || method.shares_weights() {
        let expected = "evolution, random or tpe with --table, which has one accuracy for each cell";
        return Err(Failure::usage(format!("--strategy: expected {expected}, got {method}")));
    }
    let typed = arguments.settings.layer()?.value("seed").and_then(|seed| u64::try_from(seed.as_integer()?).ok());
    let seed = typed.unwrap_or(Recipe::default().seed);
    let trials = arguments.trials.map_or(TABLE_TRIALS, |trials| trials.get().into());
    let cells = CellTable::read(file)?;
    let history = cells.search(&*method.strategy(Some(trials)), trials, seed)?;
    let best = &history.trials()[history.best().expect("every cell of a table has an accuracy")];
    let row = cells.row(&best.candidate).expect("a cell that was tried is in the table");
    if arguments.format.json {
        print_json(&json!({
            "best": {
                "arch": row.arch,
                "cell": row.cell.to_string(),
                "cifar10_val": row.cifar10_val,
                "cifar10_test": row.cifar10_test,
            },
            "trials": trials,
            "strategy": method.name(),
            "seed": seed,
        }))?;
        return Ok(Done::Finished);
    }
    print(&facts(&[
        ("table", format!("{}, {}", path_text(file), count(cells.len() as u64, "cell"))),
        ("search", format!("{method}, {}, seed {seed}", count(trials as u64, "trial"))),
        ("best", format!("{} (number {})", row.cell, row.arch)),
        ("held out", format!("Acc@1 {:.2}, which chose it", row.cifar10_val)),
        ("test", format!("Acc@1 {:.2}", row.cifar10_test)),
    ]))?;
    Ok(Done::Finished)
}

/// Searches a space by training its networks.
fn on_space(arguments: &Search, space: &str, stop: &Stop) -> Result<Done, Failure> {
    stop.handle_warnings()?;
    if arguments.trials.is_none() && arguments.budget.is_none() {
        return Err(Failure::usage("--trials or --budget is required: how long to search"));
    }
    let space = NetworkSpace::open(space)?;
    let layers = recipe::layers(&arguments.recipe, arguments.settings.layer()?, None)?;
    let recipe = Recipe::resolve(&layers)?;
    commands::data::check_name(&recipe.recipe.data, recipe.recipe.data_dir.as_deref())?;
    let options = machine::options(arguments.threads)?;
    let limits = Limits {
        macs: arguments.max_macs,
        parameters: arguments.max_params.map(|most| most as usize),
        latency: arguments.target_latency,
    };
    let length = Length { trials: arguments.trials.map(|trials| trials.get().into()), budget: arguments.budget };
    // It is fitted to networks of the space, which the search makes fit the images.
    let predictor: RefCell<Option<LatencyPredictor>> = RefCell::new(None);
    let latency = |graph: &residual::graph::Graph, batch| match (&mut *predictor.borrow_mut(), limits.latency) {
        (Some(predictor), Some(limit)) => predictor.seconds(graph, limit.seconds),
        _ => measure_latency(graph, batch, &options),
    };
    let search = residual::search::Search::new(space, limits, &latency, arguments.strategy, recipe, length)?;
    let mut search = search.with_screen(arguments.screen.get().into());
    if let Some(epochs) = arguments.finetune_epochs {
        search = search.with_finetune_epochs(epochs)?;
    }
    let extremes = search.trials().space().extremes()?;
    let size = search.trials().space().size();
    let [smallest, largest] = extremes.each_ref().map(|Member { parameters, macs, .. }| {
        format!("{} parameters and {} MACs", grouped(*parameters as u64), grouped(*macs))
    });
    complain(&format!("space   {}: {}", search.trials().space().name(), networks(size)));
    complain(&format!("        from {smallest} to {largest}"));
    if let Some(one_shot) = search.trials().one_shot() {
        complain(&format!("        {}", count(one_shot.supernets().all().len() as u64, "supernet")));
    }

    if let Some(limit) = limits.latency {
        let fitted = latency_predictor(search.trials().space(), limit.batch, &options)?;
        predictor.replace(fitted);
    }
    let Some(outcome) = trials::run(&search, &arguments.output, &options, stop, &describe)? else {
        return Ok(Done::Interrupted);
    };
    trials::note_exhausted(&outcome, arguments.trials, arguments.budget, "network of the space within the limits was");
    let command = full_training(arguments, &outcome.description);
    let page = arguments.output.join("report.html");
    let text = html(arguments, &outcome, search.trials().space().name(), &command)?;
    atomic_write(&page, |file| file.write_all(text.as_bytes()))?;
    if arguments.format.json {
        let member = |member: &Member| json!({ "parameters": member.parameters, "macs": member.macs });
        let [smallest, largest] = extremes.each_ref().map(member);
        let space = json!({ "name": search.trials().space().name(), "size": size as f64, "smallest": smallest, "largest": largest });
        let check = predictor.borrow().as_ref().map(|predictor| *predictor.check());
        print_json(&document(&outcome, &space, check, &command, &page))?;
    } else {
        report(&outcome, &command, &page)?;
    }
    Ok(Done::Finished)
}

/// Predicts latencies of the space's networks from the times of their layers, which are cached. `None` for a space with few networks.
fn latency_predictor(
    space: &NetworkSpace,
    batch: usize,
    options: &Options,
) -> Result<Option<LatencyPredictor>, Failure> {
    let members = space.sample(TIMED_NETWORKS, 0);
    if members.len() < FEWEST_TIMED {
        return Ok(None);
    }
    let path = measurements(options, "latency");
    let warn = |reason| complain(&format!("warning: {reason}"));
    let known = LatencyTable::open(path.as_deref(), options, warn);
    let before = known.len();
    let graphs: Vec<_> = members.into_iter().map(|member| member.graph).collect();
    let progress = Progress::new();
    let on_progress = &mut |done| progress.steps("measuring networks and their layers", done, graphs.len());
    let fitted = LatencyPredictor::new(&graphs, batch, known, options, on_progress);
    progress.finish();
    let fitted = fitted?;
    if fitted.table().len() > before {
        fitted.table().keep(path.as_deref(), warn);
    }
    let LatencyCheck { networks, rank_correlation, median_error, greatest_error } = fitted.check();
    let percent = |error: &f64| 100.0 * error;
    complain(&format!(
        "latency predicted from {}; of {networks} networks the rank correlation with measurements is {rank_correlation:.3}, the error {:.0} % in the median and {:.0} % at most",
        count(fitted.table().len() as u64, "measured layer"),
        percent(median_error),
        percent(greatest_error)
    ));
    Ok(Some(fitted))
}

/// The settings that say how long a trial is trained, and those of no other run.
const OF_TRIALS: [&str; 5] = ["epochs", "max_steps", "time_budget", "checkpoint_every", "experiment"];

/// The command that trains a network in full: with the search's recipes and settings, but for the length.
fn full_training(arguments: &Search, network: &Path) -> String {
    let words = trials::typed(&arguments.recipe, &arguments.settings, &OF_TRIALS);
    format!("residual train --model {}{words}", quoted_path(network))
}

/// A number of networks, rounded where it is large.
fn networks(size: u128) -> String {
    match u64::try_from(size) {
        Ok(size) if size < 1_000_000 => count(size, "network"),
        _ => format!("{:.1e} networks", size as f64),
    }
}

/// The cost of a network in a line.
fn describe(cost: &Cost) -> String {
    let latency = cost.latency.map_or(String::new(), |seconds| format!(", {:.3} ms", 1e3 * seconds));
    format!("{} parameters, {} MACs{latency}", grouped(cost.parameters as u64), grouped(cost.macs))
}

/// The page of a search: every finished trial, and the best network.
fn html(arguments: &Search, outcome: &Outcome<Cost>, space: &str, command: &str) -> Result<String, Failure> {
    let batch = arguments.target_latency.map_or(1, |limit| limit.batch);
    let shares_weights = arguments.strategy.shares_weights();
    let candidate = |found: &Found<Cost>| Candidate {
        name: match (shares_weights, found.epochs) {
            (false, _) => format!("trial {}", found.trial),
            (true, 0) => format!("trial {}, shared weights", found.trial),
            (true, _) => format!("trial {}, fine-tuned", found.trial),
        },
        file: None,
        top1: found.top1,
        interval: None,
        latency_ms: found.tried.latency.map(|seconds| (batch, 1e3 * seconds)).into_iter().collect(),
        parameters: found.tried.parameters as u64,
        macs: found.tried.macs,
    };
    let best = &outcome.best;
    // Accuracies after fewer epochs are no comparison; those of shared weights are called so.
    let is_shown = |found: &&Found<Cost>| shares_weights || found.epochs == best.epochs;
    let finished: Vec<&Found<Cost>> = outcome.scored.iter().filter(is_shown).collect();
    let page = TradeOff {
        title: format!("Search of {space}"),
        notes: vec![
            format!(
                "{}, {} finished, by {}; {} of training.",
                count(outcome.trials as u64, "trial"),
                finished.len(),
                arguments.strategy,
                duration(outcome.seconds)
            ),
            format!("Judged on held-out training images {}.", trials::trained(best.epochs)),
        ],
        candidates: finished.iter().copied().map(candidate).collect(),
        original: None,
        chosen: finished.iter().position(|found| found.trial == best.trial),
        latency_limit: arguments.target_latency.map(|limit| (1e3 * limit.seconds, limit.batch)),
        ..TradeOff::default()
    };
    let model = load(&outcome.weights)?.model;
    let diagram = architecture(&model.graph, model.preprocessing.size)?.to_html();
    let text = format!("Trial {}: {}. To train it in full:", best.trial, describe(&best.tried));
    let body = paragraph(&text) + &paragraph(command) + &figures(&[diagram]);
    Ok(page.html(&[("best", "Best network", body)]))
}

fn document(outcome: &Outcome<Cost>, space: &Value, check: Option<LatencyCheck>, command: &str, page: &Path) -> Value {
    let found = |found: &Found<Cost>| {
        json!({
            "trial": found.trial,
            "epochs": found.epochs,
            "top1": found.top1,
            "parameters": found.tried.parameters,
            "macs": found.tried.macs,
            "latency_ms": found.tried.latency.map(|seconds| 1e3 * seconds),
        })
    };
    let mut best = found(&outcome.best);
    best["network"] = json!(path_text(&outcome.description));
    best["weights"] = json!(path_text(&outcome.weights));
    json!({
        "best": best,
        "trials": outcome.trials,
        "failed": outcome.failed,
        "seconds": outcome.seconds,
        "front": outcome.front.iter().map(found).collect::<Vec<_>>(),
        "space": space,
        "latency_predictions": check.map(|check| json!({
            "networks": check.networks,
            "rank_correlation": check.rank_correlation,
            "median_error": check.median_error,
            "greatest_error": check.greatest_error,
        })),
        "command": command,
        "report": path_text(page),
    })
}

fn report(outcome: &Outcome<Cost>, command: &str, page: &Path) -> Result<(), Failure> {
    let mut rows = vec![["trial", "parameters", "MACs", "ms", "Acc@1"].map(str::to_owned).to_vec()];
    for Found { trial, top1, tried: cost, .. } in &outcome.front {
        let latency = cost.latency.map_or("-".to_owned(), |seconds| format!("{:.3}", 1e3 * seconds));
        let sizes = [grouped(cost.parameters as u64), grouped(cost.macs)];
        rows.push([&[trial.to_string()], &sizes[..], &[latency, format!("{top1:.2}")]].concat());
    }
    print(&format!("No other network is cheaper and better than one of these:\n\n{}\n", table(&rows)))?;
    let Outcome { best, trials, failed, seconds, .. } = outcome;
    let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
    print(&facts(&[
        ("trials", format!("{trials}{failed}; {} of training", duration(*seconds))),
        (
            "best",
            format!("trial {}: Acc@1 {:.2} on held-out images {}", best.trial, best.top1, trials::trained(best.epochs)),
        ),
        ("network", format!("{} ({})", path_text(&outcome.description), describe(&best.tried))),
        ("weights", path_text(&outcome.weights)),
        ("report", path_text(page)),
    ]))?;
    print(&format!("\nNext:\n  {command}\n"))
}
