//! The recipe of a training run. In descending precedence: flags, recipe files, and the preset or the resumed run.

use crate::args::Train;
use crate::failure::Failure;
use crate::output::{complain, print, print_json};
use residual::data::{DATASETS, Source};
use residual::train::{Layer, Origin, PRESETS, Recipe, Resolved, RunFolder, SETTINGS};
use residual::zoo;
use std::collections::BTreeMap;
use std::path::Path;

/// The preset of data without a name in the registry.
const FOLDER: &str = "folder-quick";

/// The settings of the run, each with its source.
pub(super) fn resolve(arguments: &Train, run: Option<&RunFolder>) -> Result<Resolved, Failure> {
    let mut flags = arguments.settings.layer()?;
    if let Some(data) = &arguments.dataset {
        flags.set_text("data", data);
    }
    let mut layers = layers(&arguments.recipe, flags, run)?;
    if arguments.pretrained {
        let model = Recipe::resolve(&layers)?.recipe.model;
        let weights = published(&model)?;
        complain(&format!("--pretrained: --weights {weights}"));
        if let Some(flags) = layers.last_mut() {
            flags.set_text("weights", weights);
        }
    }
    Ok(Recipe::resolve(&layers)?)
}

/// The settings of `flags` over those of `recipes`, in order, over the resumed run's or the preset's for the data.
pub(in crate::commands) fn layers(
    recipes: &[String],
    mut flags: Layer,
    run: Option<&RunFolder>,
) -> Result<Vec<Layer>, Failure> {
    let mut layers = Vec::new();
    for name in recipes {
        layers.push(named(name)?);
    }
    let run = run.map(|run| Layer::run(&run.config())).transpose()?;
    let given = flags.text("data").or(layers.iter().rev().find_map(|layer| layer.text("data")));
    let mut data = given.map(str::to_owned);
    // Without a named dataset, whose files it could hold, the folder itself is the data.
    let holds_files = data.is_some() || run.as_ref().and_then(|run| run.text("data")).is_some_and(is_dataset);
    if let Some(folder) = flags.text("data_dir").filter(|_| !holds_files).map(str::to_owned) {
        if let Some(name) = named_dataset_in(Path::new(&folder)) {
            return Err(Failure::usage(format!("--data is required beside the files of {name}: write --data {name}")));
        }
        flags.remove("data_dir");
        flags.set_text("data", folder.as_str());
        data = Some(folder);
    }
    let base = match run {
        Some(run) => Some(run),
        None if recipes.iter().any(|name| is_preset(name)) => {
            if data.is_none() {
                return Err(Failure::usage("--data is required, as the recipe names no dataset"));
            }
            None
        }
        None => {
            let data = data.as_deref().unwrap_or(DATASETS[0].name);
            let named = DATASETS.iter().find(|set| set.name == data);
            Some(Layer::preset(named.map_or(FOLDER, |set| set.preset))?)
        }
    };
    Ok(base.into_iter().chain(layers).chain([flags]).collect())
}

/// The recipe that `--recipe` names: a preset or a file.
pub(in crate::commands) fn named(name: &str) -> Result<Layer, Failure> {
    let is_file = !is_preset(name) && (Path::new(name).exists() || name.ends_with(".toml"));
    Ok(if is_file { Layer::file(Path::new(name))? } else { Layer::preset(name)? })
}

/// The most common published weights of a network.
fn published(model: &str) -> Result<&'static str, Failure> {
    let weights = zoo::find(model).ok().and_then(|entry| entry.weights.first().copied());
    weights.ok_or_else(|| {
        Failure::usage(format!(
            "--pretrained: expected a network with published weights (residual models list), got {model}; name the weights: \
             --weights FILE|NAME"
        ))
    })
}

/// Prints the recipe: as a recipe file with the source of each setting, or as JSON with settings and origins.
pub(super) fn show(resolved: &Resolved, json: bool) -> Result<(), Failure> {
    let given = |name| resolved.origins.get(name).map_or_else(|| "default".to_owned(), Origin::to_string);
    let settings = SETTINGS.iter().filter(|setting| setting.applies.holds(&resolved.recipe));
    let settings = settings.filter_map(|setting| Some((setting.name, resolved.recipe.value(setting.name)?)));
    if json {
        let values: serde_json::Map<_, _> = settings
            .clone()
            .map(|(name, value)| (name.to_owned(), serde_json::to_value(value).expect("TOML of numbers and texts")))
            .collect();
        let origins: BTreeMap<_, _> = settings.map(|(name, _)| (name, given(name))).collect();
        return print_json(&serde_json::json!({ "settings": values, "origins": origins }));
    }
    let lines: Vec<(String, String)> =
        settings.map(|(name, value)| (format!("{name} = {value}"), given(name))).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|&width| width < 50).max().unwrap_or(0);
    let text: String = lines.iter().map(|(line, given)| format!("{line:width$}  # {given}\n")).collect();
    print(&text)
}

/// The named dataset whose files are in `folder`, if any.
fn named_dataset_in(folder: &Path) -> Option<&'static str> {
    let needs_folder = |name| Source::open(name, None).is_err();
    let names = DATASETS.iter().map(|set| set.name);
    names.filter(|name| needs_folder(name)).find(|name| Source::open(name, Some(folder)).is_ok())
}

fn is_preset(name: &str) -> bool {
    PRESETS.iter().any(|preset| preset.name == name)
}

fn is_dataset(name: &str) -> bool {
    DATASETS.iter().any(|set| set.name == name)
}
