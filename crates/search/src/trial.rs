//! The training of a trial: an ordinary run, which is resumed where it was interrupted or paused.

use residual_data::DataError;
use residual_engine::Options;
use residual_files::atomic_write;
use residual_infer::InferError;
use residual_train::{
    Companion, Event, Job, Layer, Outcome, Recipe, Record, Resolved, RunFolder, TrainError, resume_with, train_with,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A trial to be trained.
pub(crate) struct TrialRun<'a> {
    pub(crate) recipe: Resolved,
    /// The name of its run, without the number.
    pub(crate) name: String,
    /// The folder of all trials' runs.
    pub(crate) trials: PathBuf,
    /// Pauses after this epoch, from 1; trains to the end if `None`.
    pub(crate) pause_at: Option<u64>,
    /// Pauses after so many seconds.
    pub(crate) seconds: Option<f64>,
    /// Where the weights are kept that it was judged by after fewer epochs, if it was.
    pub(crate) judged: Option<PathBuf>,
    /// What is trained beside its network.
    pub(crate) companion: Option<&'a dyn Fn(&Job) -> Companion<'a>>,
}

/// How the training of a trial ended.
pub(crate) enum End {
    /// With a result.
    Scored {
        /// Top-1 on held-out images in percent, at the last evaluation.
        top1: f64,
        /// Seconds of training in all.
        seconds: f64,
    },
    /// Before that, after a checkpoint.
    Interrupted {
        /// Seconds of training in all.
        seconds: f64,
    },
}

impl TrialRun<'_> {
    /// Trains the trial, from its last checkpoint if it has one, until its end or until `stop` is set.
    pub(crate) fn train(
        &self,
        options: &Options,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<End, TrainError> {
        let run = find(&self.trials, &self.name)?;
        if let (Some(run), Some(judged)) = (&run, &self.judged)
            && !judged.exists()
        {
            // It was not resumed since.
            let weights = run.last();
            let bytes = std::fs::read(&weights).map_err(io(&weights))?;
            if let Some(folder) = judged.parent() {
                std::fs::create_dir_all(folder).map_err(io(folder))?;
            }
            atomic_write(judged, |file| file.write_all(&bytes))?;
        }
        let mut job = match &run {
            Some(run) => Job::resume(Recipe::resolve(&[Layer::run(&run.config())?])?, run)?,
            None => Job::prepare(self.recipe.clone())?,
        };
        // Trials are compared by held-out images; the test images are not looked at.
        job.test = None;
        if let (Some(run), Some(epoch)) = (&run, self.pause_at)
            && let Some(row) = Record::read(run.path())?.rows.iter().find(|row| row.epoch == epoch)
            && let Some(top1) = row.top1
        {
            // It was killed before its result was recorded, and maybe before the checkpoint of that epoch; the weights are those of the
            // checkpoint.
            let stop = Arc::new(AtomicBool::new(true));
            let outcome = resume_with(&job, run.clone(), options, &stop, None, &mut |_| {})?;
            if outcome.summary().epochs == epoch {
                return Ok(End::Scored { top1, seconds: row.seconds });
            }
        }
        let companion = self.companion.map(|companion| companion(&job));
        let began = Instant::now();
        let pause = Arc::new(AtomicBool::new(stop.load(Ordering::Relaxed)));
        let mut result = None;
        let mut watch = |event: &Event| {
            if let Event::Epoch(row) = event
                && self.pause_at == Some(row.epoch)
            {
                result = row.top1.map(|top1| End::Scored { top1, seconds: row.seconds });
                pause.store(true, Ordering::Relaxed);
            }
            let is_late = self.seconds.is_some_and(|seconds| began.elapsed().as_secs_f64() > seconds);
            if is_late || stop.load(Ordering::Relaxed) {
                pause.store(true, Ordering::Relaxed);
            }
            on_event(event);
        };
        let outcome = match run {
            Some(run) => resume_with(&job, run, options, &pause, companion, &mut watch)?,
            None => train_with(&job, &self.trials, options, &pause, companion, &mut watch)?,
        };
        let seconds = outcome.summary().seconds;
        Ok(match (result, &outcome) {
            (Some(end), _) => end,
            (None, Outcome::Finished(trained)) => {
                let top1 = trained.summary.top1.expect("images are held out, and evaluated at the end");
                End::Scored { top1, seconds }
            }
            (None, Outcome::Interrupted(_)) => End::Interrupted { seconds },
        })
    }
}

/// The run of this name in the folder of all trials' runs: the last one, if a killed process left an empty folder before it.
pub(crate) fn find(trials: &Path, name: &str) -> Result<Option<RunFolder>, TrainError> {
    let mut found: Option<(u64, PathBuf)> = None;
    for entry in std::fs::read_dir(trials).map_err(io(trials))? {
        let path = entry.map_err(io(trials))?.path();
        let number = path.file_name().and_then(|file| file.to_str()?.split_once('-')).and_then(|(number, rest)| {
            let number: u64 = number.parse().ok()?;
            (rest == name).then_some(number)
        });
        let Some(number) = number.filter(|_| path.join("config.toml").is_file()) else { continue };
        if found.as_ref().is_none_or(|(known, _)| *known < number) {
            found = Some((number, path));
        }
    }
    found.map(|(_, path)| RunFolder::open(&path)).transpose()
}

/// Whether an error is one of what a trial tries, so that others may do better; not one of the machine, or of files that all share.
pub(crate) fn is_of_trial(error: &TrainError) -> bool {
    use TrainError as E;
    match error {
        E::Recipe(_) | E::Graph(_) | E::Model(_) | E::Engine(_) | E::Diverged { .. } | E::Memory { .. } => true,
        E::TeacherWeights { .. } | E::TeacherClasses { .. } | E::Teacher { .. } => true,
        E::Infer(error) => !matches!(error, InferError::Data(_) | InferError::File(_)),
        E::Data(error) => {
            matches!(error, DataError::Invalid { .. } | DataError::Preprocessing(_) | DataError::Memory { .. })
        }
        _ => false,
    }
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> TrainError {
    move |source| TrainError::Io { path: path.to_path_buf(), source }
}
