//! Trainings that survive an interruption: each has a run folder of its own, which is resumed, or read if it is finished.

use crate::{Context, Progress, ReproduceError};
use residual_train::{Event, Job, Layer, Outcome, Recipe, Record, Resolved, Schedule, resume, train};

impl Context<'_> {
    /// The run of these settings, over those of a built-in recipe, under the name `reproduce-NAME`: trained now, resumed, or
    /// read if it is finished.
    ///
    /// # Errors
    /// If a setting is invalid or the training fails; [`ReproduceError::Interrupted`] if the stop flag was set.
    pub(crate) fn train(&mut self, name: &str, preset: Option<&str>, settings: &str) -> Result<Record, ReproduceError> {
        let experiment = format!("reproduce-{name}");
        let mut layers = Vec::new();
        layers.extend(preset.map(Layer::preset).transpose()?);
        layers.push(Layer::parse(&experiment, &format!("{settings}\nexperiment = \"{experiment}\"\n"))?);
        let resolved = Recipe::resolve(&layers)?;
        let earlier = if self.runs.is_dir() { Record::list(self.runs)? } else { Vec::new() };
        let earlier = earlier.into_iter().rev().find(|run| run.recipe.experiment.as_deref() == Some(&*experiment));
        let outcome = match earlier {
            Some(run) if is_finished(&run) => {
                check_same(&run, resolved)?;
                return Ok(run);
            }
            Some(run) => {
                let of_run = Recipe::resolve(&[Layer::run(&run.folder.config())?])?;
                check_same(&run, resolved)?;
                let job = Job::resume(of_run, &run.folder)?;
                resume(&job, run.folder, self.options, self.stop, &mut shown(name, self.on_progress))?
            }
            None => {
                let job = Job::prepare(resolved)?;
                train(&job, self.runs, self.options, self.stop, &mut shown(name, self.on_progress))?
            }
        };
        match outcome {
            Outcome::Finished(trained) => Ok(Record::read(&trained.summary.run)?),
            Outcome::Interrupted(summary) => Err(ReproduceError::Interrupted { training: Some(summary.run) }),
        }
    }
}

/// Reports the steps of a training.
fn shown<'a>(name: &'a str, on_progress: &'a mut dyn FnMut(&Progress<'_>)) -> impl FnMut(&Event) + 'a {
    let mut total = 0;
    move |event| match event {
        Event::Started(info) => total = info.steps,
        Event::Step(step) => on_progress(&Progress { what: name, done: step.step, total }),
        _ => {}
    }
}

/// Whether all planned steps were taken.
fn is_finished(run: &Record) -> bool {
    let planned = run.rows.first().map(|first| Schedule::new(&run.recipe, first.step.max(1)).total_steps());
    run.last().zip(planned).is_some_and(|(last, planned)| last.step >= planned)
}

/// A run with this name that was trained with other settings is no answer.
fn check_same(run: &Record, resolved: Resolved) -> Result<(), ReproduceError> {
    // Prepared, so that what depends on the data is resolved in both.
    let prepared = Job::prepare(resolved)?;
    match run.recipe.difference(&prepared.recipe) {
        None => Ok(()),
        Some(difference) => Err(ReproduceError::Run {
            run: run.folder.path().to_path_buf(),
            expected: format!("{} = {}", difference.setting, difference.got),
            got: format!("{} (move the run away to train again)", difference.expected),
        }),
    }
}

/// The training error in percent after each epoch, from the run's table.
pub(crate) fn training_errors(run: &Record) -> Vec<(f64, f64)> {
    run.rows.iter().map(|row| (row.epoch as f64, 100.0 - row.train_top1)).collect()
}

/// The recipe's whole training on `name`'s settings would take so many hours, by the time of `run`'s steps.
pub(crate) fn hours_in_full(run: &Record, preset: &str, settings: &str) -> Result<f64, ReproduceError> {
    let full = Recipe::resolve(&[Layer::preset(preset)?, Layer::parse(preset, settings)?])?.recipe;
    let Some(last) = run.last() else { return Ok(f64::NAN) };
    let images = |recipe: &Recipe, steps: u64| steps as f64 * (recipe.batch_size * recipe.grad_accum_steps) as f64;
    let per_image = last.seconds / images(&run.recipe, last.step);
    let batch = (full.batch_size * full.grad_accum_steps) as u64;
    let total = Schedule::new(&full, 50_000_u64.div_ceil(batch)).total_steps();
    Ok(images(&full, total) * per_image / 3600.0)
}
