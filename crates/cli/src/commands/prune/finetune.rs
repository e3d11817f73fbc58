//! Training after pruning, in a folder that the same command resumes from: for each step the pruned network, its run, and the
//! trained network.

use super::super::changed::fine_tuning;
use super::super::judged::Found;
use crate::args::Prune;
use crate::failure::Failure;
use crate::output::path_text;
use crate::progress::Progress;
use crate::signals::Stop;
use residual::compress::{FineTuning, Goal, Pruned, Tuned};
use residual::data::Part;
use residual::engine::Options;
use residual::files::{atomic_write, read_text};
use residual::model::Model;
use residual::train::{Difference, Layer, Recipe};
use residual::weights::{load, save};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The largest of our own files that is read.
const MAX_BYTES: u64 = 1 << 20;

/// What a folder's steps depend on.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    weights: PathBuf,
    /// The resolved recipe, as TOML.
    finetune: String,
    target: String,
    criterion: String,
    uniform: bool,
    round: u16,
    blocks: bool,
    calib: u16,
    seed: u64,
    steps: u16,
}

/// The training and the folder.
pub(super) struct Finetune {
    folder: PathBuf,
    training: FineTuning,
}

impl Finetune {
    pub(super) fn new(
        recipe: &str,
        arguments: &Prune,
        goal: &Goal,
        found: &Found,
        judged: Part,
        model: &Model,
        file: &Path,
    ) -> Result<Self, Failure> {
        let folder = file.with_extension("steps");
        let own = if goal.is_structured() { "" } else { "keep_zeros = true\n" };
        let settings_of_training = (recipe, &arguments.settings);
        let training = fine_tuning(settings_of_training, found, judged, arguments.reading, arguments.seed, model, own)?;
        // What is wrong with the settings is said before the pruning, which takes minutes.
        let resolved = training.resolve(&weights(Path::new("pruned"))?)?;
        let settings = Settings {
            weights: std::fs::canonicalize(&arguments.weights.weights).unwrap_or(arguments.weights.weights.clone()),
            finetune: resolved.recipe.to_toml(),
            target: goal.to_string(),
            criterion: arguments.criterion.to_string(),
            uniform: arguments.uniform,
            round: arguments.round.get(),
            blocks: arguments.blocks,
            calib: arguments.calib.get(),
            seed: arguments.seed,
            steps: arguments.steps.get(),
        };
        begin(&folder, &settings)?;
        Ok(Self { folder, training })
    }

    /// The folder of the steps.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn step(&self, step: usize) -> PathBuf {
        self.folder.join(step.to_string())
    }

    /// The pruned network of a step, if it was kept, and what was removed.
    pub(super) fn pruned(&self, step: usize) -> Result<Option<(Model, Pruned)>, Failure> {
        let path = self.step(step).join("pruned.safetensors");
        if !path.exists() {
            return Ok(None);
        }
        let what = self.step(step).join("pruned.json");
        let what = serde_json::from_str(&read_text(&what, MAX_BYTES)?)
            .map_err(|error| Failure::new(format!("{}: {error}", path_text(&what))))?;
        Ok(Some((load(&path)?.model, what)))
    }

    /// Keeps the pruned network of a step.
    pub(super) fn keep(&self, step: usize, model: &Model, what: &Pruned) -> Result<(), Failure> {
        let folder = self.step(step);
        std::fs::create_dir_all(&folder).map_err(|error| Failure::at(folder.display(), &error))?;
        let text = serde_json::to_string_pretty(what)?;
        atomic_write(&folder.join("pruned.json"), |file| file.write_all(text.as_bytes()))?;
        Ok(save(&folder.join("pruned.safetensors"), model, None)?)
    }

    /// The network of a step after its training, which is done unless it was, and the recipe of it. `None` if it was interrupted.
    pub(super) fn trained(
        &self,
        step: usize,
        options: &Options,
        stop: &Stop,
        progress: &mut Progress,
    ) -> Result<Option<Tuned>, Failure> {
        let folder = self.step(step);
        let given = weights(&folder.join("pruned.safetensors"))?;
        let tuned = self.training.run(&folder, &given, options, stop.listen(), &mut |event| progress.show(event));
        tuned.map_err(|error| Failure::from(error).or_skip())
    }
}

/// The setting of the initial weights.
fn weights(path: &Path) -> Result<Layer, Failure> {
    let mut given = Layer::parse("prune", "")?;
    given.set_text("weights", path.to_string_lossy());
    Ok(given)
}

/// Makes the folder, or checks that its steps are of these settings.
fn begin(folder: &Path, settings: &Settings) -> Result<(), Failure> {
    let path = folder.join("settings.json");
    if path.exists() {
        let refused = |what: &str| {
            let folder = path_text(folder);
            Failure::usage(format!("{folder}: expected {what}; remove the folder or give another --output"))
        };
        let others = || refused("steps of the same command, got those of other settings (settings.json)");
        let begun: Settings = serde_json::from_str(&read_text(&path, MAX_BYTES)?).map_err(|_| others())?;
        let recipe = |text: &str| Ok::<_, Failure>(Recipe::resolve(&[Layer::parse("recipe", text)?])?.recipe);
        if let Some(difference) = recipe(&begun.finetune)?.difference_in_result(&recipe(&settings.finetune)?) {
            let Difference { setting, expected, got } = difference;
            return Err(refused(&format!(
                "steps of the same training, got other settings: {setting}: expected {expected}, got {got}"
            )));
        }
        let is_same = Settings { finetune: settings.finetune.clone(), ..begun } == *settings;
        return if is_same { Ok(()) } else { Err(others()) };
    }
    std::fs::create_dir_all(folder).map_err(|error| Failure::at(folder.display(), &error))?;
    let settings = serde_json::to_string_pretty(settings)?;
    Ok(atomic_write(&path, |file| file.write_all(settings.as_bytes()))?)
}
