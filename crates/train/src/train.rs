//! Starts a new run or resumes an interrupted one.

use crate::budget;
use crate::companion::Companion;
use crate::distill::Distillation;
use crate::objective::{Objective, class_weights};
use crate::prepare::Job;
use crate::probe::{Cached, Probe};
use crate::run::Run;
use crate::state::State;
use crate::step::TrainStep;
use crate::{Event, Outcome, Recipe, RunFolder, Summary, TrainError};
use residual_engine::{Elements, Engine, Frozen, GradientOptions, Options};
use residual_files::atomic_write;
use residual_infer::{read_tuning, write_tuning};
use residual_model::Model;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Trains `job` in a new folder under `runs`, until its last step or until `stop` is set.
///
/// # Errors
/// If the folder cannot be made or as [`resume`].
pub fn train(
    job: &Job,
    runs: &Path,
    options: &Options,
    stop: &Arc<AtomicBool>,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Outcome, TrainError> {
    train_with(job, runs, options, stop, None, on_event)
}

/// As [`train`], with a companion. A time budget does not count its time.
///
/// # Errors
/// As [`train`], and the companion's.
pub fn train_with(
    job: &Job,
    runs: &Path,
    options: &Options,
    stop: &Arc<AtomicBool>,
    companion: Option<Companion<'_>>,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Outcome, TrainError> {
    // Compiled first, so that a run that cannot start creates no folder.
    let mut start = Start::new(job, options, companion, 0, job.train_size(0))?;
    let planned = match &mut start.compiled {
        Compiled::Network(step) => budget::plan(job, step, options)?,
        // A recipe with cached features has no time budget.
        Compiled::Probe(_) => None,
    };
    let job = planned.as_ref().unwrap_or(job);
    let folder = RunFolder::create(runs, &folder_name(job))?;
    let _lock = folder.lock()?;
    let config = job.recipe.to_toml();
    if let Some(tuning) = &options.tuning {
        write_tuning(&folder.tuning(), tuning)?;
    }
    atomic_write(&folder.config(), |file| file.write_all(config.as_bytes()))?;
    start.run(job, folder, None, options, stop, on_event)
}

/// Resumes the run in `folder` from its last checkpoint, or from the beginning if it has none. With the same instruction
/// set the result is bit-identical to that of a run that was never interrupted: the measured algorithms are those of the
/// start of the run, not those of `options`.
///
/// # Errors
/// If the checkpoint is not one of this job, or the run began with a companion, another process trains in the folder, an image cannot be read, the loss is
/// not finite, or a file cannot be written.
pub fn resume(
    job: &Job,
    folder: RunFolder,
    options: &Options,
    stop: &Arc<AtomicBool>,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Outcome, TrainError> {
    resume_with(job, folder, options, stop, None, on_event)
}

/// As [`resume`], with the companion that the run began with.
///
/// # Errors
/// As [`resume`], and the companion's; [`TrainError::OtherRun`] if the run began with another companion, or with none.
pub fn resume_with(
    job: &Job,
    folder: RunFolder,
    options: &Options,
    stop: &Arc<AtomicBool>,
    companion: Option<Companion<'_>>,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Outcome, TrainError> {
    let _lock = folder.lock()?;
    folder.sweep()?;
    let state = if folder.has_state()? { Some(State::load(&folder.state())?) } else { None };
    if let Some(state) = &state {
        state.check_companion(companion.as_ref().map(Companion::name), &folder)?;
    }
    let tuned = folder.tuning();
    let tuning = if tuned.exists() { Some(Arc::new(read_tuning(&tuned)?)) } else { None };
    let options = &Options { tuning, ..options.clone() };
    let (epoch, sized_for) = state.as_ref().map_or((0, 0), |state| (state.progress.epoch, state.progress.size_epoch()));
    let start = Start::new(job, options, companion, epoch, job.train_size(sized_for))?;
    start.run(job, folder, state, options, stop, on_event)
}

/// The name of a run's folder after its number.
fn folder_name(job: &Job) -> String {
    job.recipe.experiment.clone().unwrap_or_else(|| {
        let data = Path::new(&job.recipe.data).file_stem().map_or_else(|| "data".into(), |name| name.to_string_lossy());
        format!("{}-{data}", job.model.graph.name)
    })
}

/// What a run needs before it starts.
struct Start<'a> {
    compiled: Compiled<'a>,
    companion: Option<Companion<'a>>,
}

/// The engine that a run compiles before it starts.
enum Compiled<'a> {
    /// The network, to be trained on images.
    Network(Box<TrainStep>),
    /// The frozen backbone, on whose features a head is trained.
    Probe(Box<Probe<'a>>),
}

impl<'a> Start<'a> {
    fn new(
        job: &'a Job,
        options: &Options,
        companion: Option<Companion<'a>>,
        epoch: u64,
        size: [usize; 2],
    ) -> Result<Self, TrainError> {
        let compiled = if job.recipe.cache_features {
            Compiled::Probe(Box::new(Probe::new(job, options)?))
        } else {
            let step = train_step(job, &job.model, options, job.transfer.frozen(epoch), size)?;
            Compiled::Network(Box::new(step.with_distillation(Distillation::new(job, options, size)?)))
        };
        Ok(Self { compiled, companion })
    }

    fn run(
        self,
        job: &Job,
        folder: RunFolder,
        state: Option<State>,
        options: &Options,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<Outcome, TrainError> {
        let Self { compiled, companion } = self;
        let probe = match compiled {
            Compiled::Network(step) => {
                let run = Run::new(job, None, folder, *step, state, options, stop)?;
                return run.with_companion(companion).run(on_event);
            }
            Compiled::Probe(probe) => probe,
        };
        let Some(Cached { job: cached, skipped, bytes }) = probe.run(stop, on_event)? else {
            let summary = Summary { run: folder.path().to_path_buf(), ..Summary::default() };
            return Ok(Outcome::Interrupted(Box::new(summary)));
        };
        let step = train_step(&cached, &cached.model, options, Frozen::default(), cached.train_size(0))?;
        let run = Run::new(&cached, Some(&job.model), folder, step, state, options, stop)?;
        run.with_cached_features(skipped, bytes).with_companion(companion).run(on_event)
    }
}

/// The step that trains `model` except for `frozen`, on images of `size`, without teachers.
pub(crate) fn train_step(
    job: &Job,
    model: &Model,
    options: &Options,
    frozen: Frozen,
    size: [usize; 2],
) -> Result<TrainStep, TrainError> {
    let (mode, batch) = job.train_plan();
    let engine =
        Engine::new(model, mode, batch, size, &job.kept_nodes()?, &training_options(&job.recipe, options, frozen))?;
    let classes = model.graph.output_channels()?;
    let objective = Objective::new(&job.recipe, class_weights(&job.recipe, &*job.train, classes));
    TrainStep::with_multipliers(&job.recipe, objective, engine, options, |entry| {
        job.transfer.multipliers(&job.recipe, entry)
    })
}

pub(crate) fn training_options(recipe: &Recipe, options: &Options, frozen: Frozen) -> Options {
    let gradients = GradientOptions {
        checkpointing: recipe.grad_checkpointing,
        frozen: Arc::new(frozen),
        elements: if recipe.amp { Elements::Bf16 } else { Elements::F32 },
    };
    Options { gradients, ..options.clone() }
}
