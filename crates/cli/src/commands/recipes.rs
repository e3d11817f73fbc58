//! `residual recipes list`, `residual recipes show` and `residual recipes verify`.

use crate::args::{Format, VerifyRecipes};
use crate::failure::Failure;
use crate::output::{line, path_text, print, print_json};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::{Done, machine};
use residual::train::{
    About, Check, Job, Layer, Outcome, PRESETS, Preset, Resolved, Summary, check_results, check_trace, short_form,
};
use serde_json::json;

pub(crate) fn list(format: Format) -> Result<Done, Failure> {
    let recipes = PRESETS.iter().map(|preset| (preset.name, preset.about()));
    if format.json {
        let recipes = recipes.map(|(name, about)| {
            let mut document = json!(about);
            document["name"] = json!(name);
            document
        });
        print_json(&json!({ "recipes": recipes.collect::<Vec<_>>() }))?;
        return Ok(Done::Finished);
    }
    for (name, About { title, source, published, ours }) in recipes {
        print(&format!("{name}\n  {title}\n  source     {source}\n"))?;
        if published != "none" {
            print(&format!("  published  {published}\n"))?;
        }
        print(&format!("  here       {ours}\n"))?;
    }
    print("\nresidual train --recipe NAME --show-config prints the settings of a run, each with its source.\n")?;
    Ok(Done::Finished)
}

pub(crate) fn show(name: &str) -> Result<Done, Failure> {
    print(find(name)?.text)?;
    Ok(Done::Finished)
}

/// The built-in recipe called `name`; the error suggests the nearest one.
fn find(name: &str) -> Result<&'static Preset, Failure> {
    Layer::preset(name)?;
    Ok(PRESETS.iter().find(|preset| preset.name == name).expect("a built-in recipe"))
}

pub(crate) fn verify(arguments: &VerifyRecipes, stop: &Stop) -> Result<Done, Failure> {
    stop.handle_warnings()?;
    let presets = arguments.names.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
    let (mut documents, mut broken) = (Vec::new(), 0);
    for preset in presets {
        let mut checks = check_trace(preset)?;
        if !arguments.format.json {
            print(&rows(preset.name, &checks))?;
        }
        let mut runs = Vec::new();
        for seed in (0..u64::from(arguments.seeds.get())).map(|index| arguments.seed + index) {
            let Some(short) = short_form(preset, seed)?.filter(|_| !arguments.trace) else { break };
            let Some(summary) = train(arguments, short, stop)? else { return Ok(Done::Interrupted) };
            let results = check_results(preset, &summary);
            if !arguments.format.json {
                print(&rows(&format!("short training, seed {seed}: {}", path_text(&summary.run)), &results))?;
            }
            checks.extend(results);
            runs.push(summary);
        }
        broken += checks.iter().filter(|check| !check.holds).count();
        documents.push(json!({ "name": preset.name, "checks": checks, "runs": runs }));
    }
    if arguments.format.json {
        print_json(&json!({ "recipes": documents, "broken": broken }))?;
    }
    match broken {
        0 => Ok(Done::Finished),
        broken => Err(Failure::new(format!("expected all checks to hold, got {broken} that do not"))),
    }
}

/// Trains the short form of a recipe; `None` if it was interrupted.
fn train(arguments: &VerifyRecipes, short: Resolved, stop: &Stop) -> Result<Option<Summary>, Failure> {
    let options = machine::options(arguments.threads)?;
    let job = Job::prepare(short)?;
    let mut progress = Progress::new();
    let mut show = |event: &residual::train::Event| progress.show(event);
    let outcome = residual::train::train(&job, &arguments.output, &options, stop.listen(), &mut show)?;
    progress.finish();
    Ok(match outcome {
        Outcome::Finished(trained) => Some(trained.summary),
        Outcome::Interrupted(_) => None,
    })
}

/// The checks as lines below `title`.
fn rows(title: &str, checks: &[Check]) -> String {
    let row = |Check { what, expected, got, holds }: &Check| {
        let verdict = if *holds { "ok     " } else { "DIFFERS" };
        let expected = if got == expected { String::new() } else { format!(" (expected {expected})") };
        line(&format!("  {verdict}  {what}: {got}{expected}")) + "\n"
    };
    format!("{title}\n{}", checks.iter().map(row).collect::<String>())
}
