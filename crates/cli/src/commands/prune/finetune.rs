//! Training after pruning, in a folder that the same command resumes from: for each step the pruned network, its run, and the
//! trained network.

use super::super::judged::Found;
use super::super::train::named_recipe;
use super::step::{Goal, Pruned};
use crate::args::Prune;
use crate::failure::Failure;
use crate::output::path_text;
use crate::progress::Progress;
use crate::signals::Stop;
use residual::data::{HeldOut, Part, Split};
use residual::engine::Options;
use residual::files::{atomic_write, read_text};
use residual::model::Model;
use residual::train::{self, Job, Layer, Outcome, Recipe, RunFolder};
use residual::weights::{load, save};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The largest of our own files that is read.
const MAX_BYTES: u64 = 1 << 20;

/// What a folder's steps depend on, besides settings of training, which its runs compare.
#[derive(Serialize)]
struct Settings<'a> {
    weights: PathBuf,
    finetune: &'a str,
    target: String,
    criterion: String,
    uniform: bool,
    round: u16,
    blocks: bool,
    calib: u16,
    seed: u64,
    steps: u16,
}

/// The recipe and the folder.
pub(super) struct Finetune {
    folder: PathBuf,
    recipe: Layer,
    /// The data and the model's preprocessing.
    own: Layer,
    /// The typed settings.
    flags: Layer,
    /// Whether the recipe holds training images out, to be evaluated after every epoch.
    holds_out: bool,
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
        if judged == Part::Everything {
            let message = "--finetune: expected training images besides those that are judged on, got data without splits; \
                           --val-split holds some out";
            return Err(Failure::usage(message));
        }
        let folder = file.with_extension("steps");
        let settings = Settings {
            weights: std::fs::canonicalize(&arguments.weights.weights).unwrap_or(arguments.weights.weights.clone()),
            finetune: recipe,
            target: goal.to_string(),
            criterion: arguments.criterion.to_string(),
            uniform: arguments.uniform,
            round: arguments.round.get(),
            blocks: arguments.blocks,
            calib: arguments.calib.get(),
            seed: arguments.seed,
            steps: arguments.steps.get(),
        };
        // The images that the weights' run held out are not trained on, which its seed decides.
        let HeldOut { share, seed } = found.held_out.unwrap_or(HeldOut { share: 0.0, seed: arguments.seed });
        let preprocessing = &model.preprocessing;
        let mut text = format!(
            "seed = {seed}\nworkers = {}\nskip_bad_images = {}\nmean = {:?}\nstd = {:?}\ncrop_pct = {:?}\n",
            arguments.reading.workers,
            arguments.reading.skip_bad_images,
            preprocessing.mean,
            preprocessing.std,
            preprocessing.crop_pct,
        );
        if share > 0.0 {
            text += &format!("val_split = {share:?}\n");
        }
        if !goal.is_structured() {
            text += "keep_zeros = true\n";
        }
        if preprocessing.size[0] == preprocessing.size[1] {
            text += &format!("img_size = {}\n", preprocessing.size[0]);
        }
        let mut own = Layer::parse("prune", &text)?;
        let (data, data_dir) = &found.data;
        own.set_text("data", data.as_str());
        if let Some(folder) = data_dir {
            own.set_text("data_dir", folder.to_string_lossy());
        }
        let holds_out = share > 0.0 || found.source.splits().contains(&Split::Val);
        let [recipe, flags] = [named_recipe(recipe)?, arguments.settings.layer()?];
        // What is wrong with the settings is said before the pruning, which takes minutes.
        let mut given = own.clone();
        given.set_text("weights", arguments.weights.weights.to_string_lossy());
        Recipe::resolve(&[recipe.clone(), given, flags.clone()])?;
        begin(&folder, &serde_json::to_string_pretty(&settings)?)?;
        Ok(Self { folder, recipe, own, flags, holds_out })
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
    ) -> Result<Option<(Model, String)>, Failure> {
        let folder = self.step(step);
        let tuned = folder.join("tuned.safetensors");
        if tuned.exists() {
            let checkpoint = load(&tuned)?;
            return Ok(Some((checkpoint.model, checkpoint.recipe.unwrap_or_default())));
        }
        let run = begun(&folder)?;
        let mut job = match &run {
            Some(run) => Job::resume(Recipe::resolve(&[Layer::run(&run.config())?, self.flags.clone()])?, run)?,
            None => {
                let mut own = self.own.clone();
                own.set_text("weights", folder.join("pruned.safetensors").to_string_lossy());
                Job::prepare(Recipe::resolve(&[self.recipe.clone(), own, self.flags.clone()])?)?
            }
        };
        // Test images judge the result, once.
        job.test = None;
        if !self.holds_out {
            job.held_out = None;
        }
        let mut show = |event: &train::Event| progress.show(event);
        let outcome = match run {
            Some(run) => train::resume(&job, run, options, stop.listen(), &mut show),
            None => train::train(&job, &folder, options, stop.listen(), &mut show),
        };
        match outcome.map_err(|error| Failure::from(error).or_skip())? {
            Outcome::Interrupted(_) => Ok(None),
            Outcome::Finished(trained) => {
                let recipe = read_text(&RunFolder::open(&trained.summary.run)?.config(), MAX_BYTES)?;
                save(&tuned, &trained.model, Some(&recipe))?;
                Ok(Some((trained.model, recipe)))
            }
        }
    }
}

/// Makes the folder, or checks that its steps are of these settings.
fn begin(folder: &Path, settings: &str) -> Result<(), Failure> {
    let path = folder.join("settings.json");
    if path.exists() {
        return match read_text(&path, MAX_BYTES)? == settings {
            true => Ok(()),
            false => Err(Failure::usage(format!(
                "{}: expected steps of the same command, got those of other settings (settings.json); remove the folder or give \
                 another --output",
                path_text(folder)
            ))),
        };
    }
    std::fs::create_dir_all(folder).map_err(|error| Failure::at(folder.display(), &error))?;
    Ok(atomic_write(&path, |file| file.write_all(settings.as_bytes()))?)
}

/// The run of a step, if it was begun.
fn begun(folder: &Path) -> Result<Option<RunFolder>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| Failure::at(folder.display(), &error))?;
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(folders.filter_map(|folder| RunFolder::open(&folder).ok()).max_by_key(|run| run.path().to_path_buf()))
}
