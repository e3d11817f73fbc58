//! `residual recipes list` and `residual recipes show`.

use crate::Done;
use crate::args::Format;
use crate::failure::Failure;
use crate::output::{print, print_json};
use residual::train::{About, Layer, PRESETS};
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
    // The error for an unknown name suggests the nearest one.
    Layer::preset(name)?;
    let preset = PRESETS.iter().find(|preset| preset.name == name);
    print(preset.map_or("", |preset| preset.text))?;
    Ok(Done::Finished)
}
