//! The training of a network in a folder of its own, where an interrupted one goes on.

use crate::CompressError;
use residual_engine::Options;
use residual_files::read_text;
use residual_model::Model;
use residual_train::{Event, Job, Layer, Outcome, Recipe, Resolved, RunFolder, resume, train};
use residual_weights::{load, save};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The longest recipe that is read.
const MAX_RECIPE: u64 = 1 << 20;

/// How networks are trained.
#[derive(Clone, Debug)]
pub struct FineTuning {
    /// The recipe.
    pub recipe: Layer,
    /// The data, and how its images are prepared.
    pub own: Layer,
    /// Typed settings, which override all others.
    pub flags: Layer,
    /// Whether the images that the recipe holds out are evaluated after every epoch.
    pub evaluates: bool,
}

/// A network after its training.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// The last weights.
    pub model: Model,
    /// The recipe of its training, as TOML.
    pub recipe: String,
}

impl FineTuning {
    /// The recipe with what is `given` for one network: its weights or its name, and its teacher.
    ///
    /// # Errors
    /// If settings do not go together.
    pub fn resolve(&self, given: &Layer) -> Result<Resolved, CompressError> {
        Ok(Recipe::resolve(&[self.recipe.clone(), self.own.clone(), given.clone(), self.flags.clone()])?)
    }

    /// Trains in `folder`: begins a run there, or goes on with it; a finished one is in `tuned.safetensors`. Test images are not read.
    /// `None` if `stop` was set.
    ///
    /// # Errors
    /// If the network cannot be trained, the run was begun with other settings, or a file cannot be read or written.
    pub fn run(
        &self,
        folder: &Path,
        given: &Layer,
        options: &Options,
        stop: &Arc<AtomicBool>,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<Option<Tuned>, CompressError> {
        let tuned = folder.join("tuned.safetensors");
        if tuned.exists() {
            let checkpoint = load(&tuned)?;
            return Ok(Some(Tuned { model: checkpoint.model, recipe: checkpoint.recipe.unwrap_or_default() }));
        }
        let run = begun(folder)?;
        let mut job = match &run {
            Some(run) => Job::resume(Recipe::resolve(&[Layer::run(&run.config())?, self.flags.clone()])?, run)?,
            None => Job::prepare(self.resolve(given)?)?,
        };
        // Test images judge the result, once.
        job.test = None;
        if !self.evaluates {
            job.held_out = None;
        }
        let outcome = match run {
            Some(run) => resume(&job, run, options, stop, on_event)?,
            None => train(&job, folder, options, stop, on_event)?,
        };
        let trained = match outcome {
            Outcome::Interrupted(_) => return Ok(None),
            Outcome::Finished(trained) => trained,
        };
        let recipe = read_text(&RunFolder::open(&trained.summary.run)?.config(), MAX_RECIPE)?;
        save(&tuned, &trained.model, Some(&recipe))?;
        Ok(Some(Tuned { model: trained.model, recipe }))
    }
}

/// The run that was begun in `folder`: the last one, if a killed process left an empty one before it.
fn begun(folder: &Path) -> Result<Option<RunFolder>, CompressError> {
    let entries = std::fs::read_dir(folder).map_err(CompressError::io(folder))?;
    let paths = entries.map(|entry| Ok(entry.map_err(CompressError::io(folder))?.path()));
    let paths: Vec<PathBuf> = paths.collect::<Result<_, CompressError>>()?;
    Ok(paths.iter().filter_map(|path| RunFolder::open(path).ok()).max_by_key(|run| number(run.path())))
}

/// The number that the name of a run's folder begins with.
fn number(run: &Path) -> u64 {
    let name = run.file_name().and_then(|name| name.to_str()?.split_once('-')?.0.parse().ok());
    name.unwrap_or(0)
}
