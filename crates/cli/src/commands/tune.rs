//! `residual tune`.

use crate::args::Tune;
use crate::commands::train::recipe;
use crate::commands::trials;
use crate::failure::Failure;
use crate::output::{complain, count, duration, facts, path_text, print, print_json, quoted_path, table};
use crate::signals::Stop;
use crate::{Done, commands, machine};
use residual::files::atomic_write;
use residual::report::html::paragraph;
use residual::report::{Searched, Trial, Tuning};
use residual::search::{Dimension, Found, Length, Outcome, Recipes, Search, SettingSpace, Trials};
use residual::train::Setting;
use serde_json::{Value, json};
use std::path::Path;
use toml::Table;

/// The best trials that a table lists.
const LISTED: usize = 10;

pub(crate) fn run(arguments: &Tune, stop: &Stop) -> Result<Done, Failure> {
    stop.handle_warnings()?;
    if arguments.trials.is_none() && arguments.budget.is_none() {
        return Err(Failure::usage("--trials or --budget is required: how long to search"));
    }
    let space = SettingSpace::open(arguments.space.iter().map(String::as_str))?;
    check_flags(arguments, &space)?;
    let layers = recipe::layers(&arguments.recipe, arguments.settings.layer()?, None)?;
    let recipes = Recipes::new(space, layers)?;
    commands::data::check_name(&recipes.recipe().data, recipes.recipe().data_dir.as_deref())?;
    let options = machine::options(arguments.threads)?;
    let length = Length { trials: arguments.trials.map(|trials| trials.get().into()), budget: arguments.budget };
    let search = Search::of_recipes(recipes, arguments.strategy, length)?;
    let space = search.trials().space();
    let names: Vec<&str> = space.dimensions().iter().map(|dimension| dimension.setting).collect();
    complain(&format!("space   {}, {} combinations", names.join(", "), space.size()));

    let Some(outcome) = trials::run(&search, &arguments.output, &options, stop, &describe)? else {
        return Ok(Done::Interrupted);
    };
    trials::note_exhausted(&outcome, arguments.trials, arguments.budget, "settings of the space were");
    let command = format!("residual train --recipe {}", quoted_path(&outcome.description));
    let page = arguments.output.join("report.html");
    let text = html(arguments, &outcome, space, &command)?;
    atomic_write(&page, |file| file.write_all(text.as_bytes()))?;
    match arguments.format.json {
        true => print_json(&document(&outcome, &names, &command, &page))?,
        false => report(&outcome, &names, &command, &page)?,
    }
    Ok(Done::Finished)
}

/// Refuses a flag for a setting that the space chooses, or has an alternative to: every trial would ignore it.
fn check_flags(arguments: &Tune, space: &SettingSpace) -> Result<(), Failure> {
    for name in arguments.settings.names() {
        let chooses = |dimension: &&Dimension| {
            dimension.setting == name
                || Setting::find(dimension.setting).is_some_and(|setting| setting.replaces.contains(&name))
        };
        if let Some(Dimension { setting, .. }) = space.dimensions().iter().find(chooses) {
            let flag = name.replace('_', "-");
            return Err(Failure::usage(format!("--{flag}: expected none, as --space chooses {setting}, got one")));
        }
    }
    Ok(())
}

/// Settings in a line.
fn describe(settings: &Table) -> String {
    let parts = settings.iter().map(|(name, value)| format!("{name} {}", text(value)));
    parts.collect::<Vec<_>>().join(", ")
}

/// A value as it is typed.
fn text(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn html(arguments: &Tune, outcome: &Outcome<Table>, space: &SettingSpace, command: &str) -> Result<String, Failure> {
    let dimensions = space.dimensions();
    let trial = |found: &Found<Table>| Trial {
        number: found.trial,
        epochs: found.epochs,
        top1: found.top1,
        values: dimensions.iter().map(|dimension| found.tried.get(dimension.setting).map(text)).collect(),
    };
    let searched = dimensions.iter().enumerate().map(|(index, dimension)| Searched {
        name: dimension.setting.into(),
        is_logarithmic: dimension.is_logarithmic,
        importance: outcome.importance.as_ref().map(|shares| shares[index]),
    });
    let best = &outcome.best;
    let tuning = Tuning {
        title: "Search of settings".into(),
        notes: vec![
            format!(
                "{} by {}; {} of training.",
                count(outcome.trials as u64, "trial"),
                arguments.strategy,
                duration(outcome.seconds)
            ),
            "Judged on held-out training images.".into(),
        ],
        settings: searched.collect(),
        trials: outcome.scored.iter().map(trial).collect(),
        best: best.trial,
    };
    let line = format!(
        "Trial {}, {:.2} % after {}: {}. To train it again:",
        best.trial,
        best.top1,
        count(best.epochs, "epoch"),
        describe(&best.tried)
    );
    Ok(tuning.html(&[("best", "Best settings", paragraph(&line) + &paragraph(command))])?)
}

fn document(outcome: &Outcome<Table>, names: &[&str], command: &str, page: &Path) -> Value {
    let found = |found: &Found<Table>| json!({ "trial": found.trial, "epochs": found.epochs, "top1": found.top1, "settings": found.tried });
    let mut best = found(&outcome.best);
    best["recipe"] = json!(path_text(&outcome.description));
    best["weights"] = json!(path_text(&outcome.weights));
    let importance = outcome.importance.as_ref().map(|shares| {
        names
            .iter()
            .zip(shares)
            .map(|(name, share)| ((*name).to_owned(), json!(share)))
            .collect::<serde_json::Map<_, _>>()
    });
    json!({
        "best": best,
        "trials": outcome.trials,
        "failed": outcome.failed,
        "seconds": outcome.seconds,
        "scored": outcome.scored.iter().map(found).collect::<Vec<_>>(),
        "importance": importance,
        "command": command,
        "report": path_text(page),
    })
}

fn report(outcome: &Outcome<Table>, names: &[&str], command: &str, page: &Path) -> Result<(), Failure> {
    let mut ranked: Vec<&Found<Table>> = outcome.scored.iter().collect();
    ranked.sort_by(|a, b| (b.epochs, b.top1).partial_cmp(&(a.epochs, a.top1)).expect("accuracies are numbers"));
    let head = ["trial", "epochs", "Acc@1"].into_iter().chain(names.iter().copied()).map(str::to_owned);
    let mut rows: Vec<Vec<String>> = vec![head.collect()];
    for Found { trial, epochs, top1, tried } in ranked.iter().take(LISTED) {
        let values = names.iter().map(|name| tried.get(*name).map_or_else(|| "-".to_owned(), text));
        rows.push([trial.to_string(), epochs.to_string(), format!("{top1:.2}")].into_iter().chain(values).collect());
    }
    print(&format!("{}\n", table(&rows)))?;
    let Outcome { best, trials, failed, seconds, .. } = outcome;
    let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
    let mut lines = vec![
        ("trials", format!("{trials}{failed}; {} of training", duration(*seconds))),
        ("best", format!("trial {}: {}", best.trial, describe(&best.tried))),
        ("held out", format!("Acc@1 {:.2} after {}", best.top1, count(best.epochs, "epoch"))),
    ];
    if let Some(shares) = &outcome.importance {
        let mut shares: Vec<(&str, f64)> = names.iter().copied().zip(shares.iter().copied()).collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        let shares = shares.iter().map(|(name, share)| format!("{name} {:.0} %", 100.0 * share));
        lines.push(("importance", shares.collect::<Vec<_>>().join(", ")));
    }
    lines.extend([
        ("recipe", path_text(&outcome.description)),
        ("weights", path_text(&outcome.weights)),
        ("report", path_text(page)),
    ]);
    print(&facts(&lines))?;
    print(&format!("\nNext:\n  {command}\n"))
}
