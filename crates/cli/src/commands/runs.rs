//! `residual runs list` and `residual runs compare`.

use crate::Done;
use crate::args::{CompareRuns, ListRuns};
use crate::failure::Failure;
use crate::output::{cell, duration, facts, path_text, print, print_json, table};
use residual::train::{Paired, Record, Spread, differences, paired};
use serde_json::{Value, json};

pub(crate) fn list(arguments: &ListRuns) -> Result<Done, Failure> {
    let runs = Record::list(&arguments.folder)?;
    if arguments.format.json {
        print_json(&json!({ "runs": runs.iter().map(document).collect::<Vec<_>>() }))?;
        return Ok(Done::Finished);
    }
    if runs.is_empty() {
        print(&format!("no runs in {}\n", path_text(&arguments.folder)))?;
        return Ok(Done::Finished);
    }
    print(&table(&rows(&runs)))?;
    Ok(Done::Finished)
}

pub(crate) fn compare(arguments: &CompareRuns) -> Result<Done, Failure> {
    let runs = arguments.runs.iter().map(|run| Record::read(run)).collect::<Result<Vec<_>, _>>()?;
    let differences = differences(&runs);
    let paired = paired(&runs);
    if arguments.format.json {
        let settings: serde_json::Map<String, Value> =
            differences.into_iter().map(|(name, values)| (name.to_owned(), json!(values))).collect();
        print_json(&json!({
            "runs": runs.iter().map(document).collect::<Vec<_>>(),
            "differences": settings,
            "paired": paired.map(|paired| json!({
                "seeds": paired.seeds,
                "top1": paired.top1.map(spread_document),
                "difference": spread_document(paired.difference),
            })),
        }))?;
        return Ok(Done::Finished);
    }
    print(&table(&rows(&runs)))?;
    if differences.is_empty() {
        print("\nTheir settings are equal.\n")?;
    } else {
        let mut lines = vec![std::iter::once("setting".to_owned()).chain(runs.iter().map(number)).collect::<Vec<_>>()];
        lines.extend(differences.into_iter().map(|(name, values)| {
            let values = values.into_iter().map(|value| cell(&value.unwrap_or_else(|| "-".into())));
            std::iter::once(name.to_owned()).chain(values).collect()
        }));
        print(&format!("\n{}", table(&lines)))?;
    }
    if let Some(paired) = paired {
        print(&format!("\n{}", facts(&paired_rows(&paired))))?;
    }
    Ok(Done::Finished)
}

fn paired_rows(paired: &Paired) -> Vec<(&'static str, String)> {
    let seeds: Vec<String> = paired.seeds.iter().map(u64::to_string).collect();
    let Spread { mean, .. } = paired.difference;
    let half = paired.difference.half_width().unwrap_or(f64::INFINITY);
    let verdict = if mean.abs() > half { "the second recipe differs" } else { "no difference is shown" };
    vec![
        ("seeds", seeds.join(", ")),
        ("first", format!("Acc@1 {}", spread(&paired.top1[0]))),
        ("second", format!("Acc@1 {}", spread(&paired.top1[1]))),
        ("second − first", format!("{mean:+.2}, 95 % interval {:+.2} to {:+.2}: {verdict}", mean - half, mean + half)),
    ]
}

/// A mean with its standard deviation.
pub(super) fn spread(spread: &Spread) -> String {
    match spread.sd {
        Some(sd) => format!("{:.2} ± {sd:.2} (mean ± sd of {})", spread.mean, spread.count),
        None => format!("{:.2}", spread.mean),
    }
}

pub(super) fn spread_document(spread: Spread) -> Value {
    json!({ "mean": spread.mean, "sd": spread.sd, "half_width_95": spread.half_width(), "count": spread.count })
}

/// The number of a run, or its folder's name.
fn number(run: &Record) -> String {
    let name = run.folder.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.split_once('-').map_or(name.clone(), |(number, _)| number.to_owned())
}

fn rows(runs: &[Record]) -> Vec<Vec<String>> {
    let head = ["run", "network", "data", "seed", "epochs", "last acc", "best acc", "epoch", "val loss", "time"];
    let mut lines = vec![head.map(String::from).to_vec()];
    lines.extend(runs.iter().map(|run| {
        let number_or =
            |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
        let (last, best) = (run.last(), run.best());
        let epochs = last.map_or(0, |row| row.epoch);
        let planned = run.planned_epochs().map_or("?".into(), |epochs| epochs.to_string());
        vec![
            number(run),
            cell(&run.recipe.model),
            cell(run.recipe.data.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default()),
            run.recipe.seed.to_string(),
            format!("{epochs}/{planned}"),
            number_or(last.and_then(|row| row.top1), 2),
            number_or(best.and_then(|row| row.top1), 2),
            best.map_or("-".into(), |row| row.epoch.to_string()),
            number_or(last.and_then(|row| row.loss), 4),
            duration(last.map_or(0.0, |row| row.seconds)),
        ]
    }));
    lines
}

fn document(run: &Record) -> Value {
    let (last, best) = (run.last(), run.best());
    json!({
        "run": path_text(run.folder.path()),
        "model": run.recipe.model,
        "data": run.recipe.data,
        "seed": run.recipe.seed,
        "epochs": last.map_or(0, |row| row.epoch),
        "planned_epochs": run.planned_epochs(),
        "steps": last.map_or(0, |row| row.step),
        "top1": last.and_then(|row| row.top1),
        "loss": last.and_then(|row| row.loss),
        "best_top1": best.and_then(|row| row.top1),
        "best_epoch": best.map(|row| row.epoch),
        "seconds": last.map(|row| row.seconds),
    })
}
