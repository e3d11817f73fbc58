//! The folder of a run: `runs/<n>-<model>-<data>/` or `runs/<n>-<experiment>/`.

use crate::TrainError;
use residual_files::{atomic_write, read_text, sweep, try_lock};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A run's folder and the names of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

/// Characters of a run's name. Four bytes each and a number still fit the 255 bytes that file systems allow.
const MAX_NAME: usize = 60;

impl RunFolder {
    /// A new folder `<n>-<name>` under `root`, with n one above the highest existing number, and its subfolders. Characters
    /// of the name that folders may not have are replaced.
    ///
    /// # Errors
    /// If a folder cannot be made.
    pub fn create(root: &Path, name: &str) -> Result<Self, TrainError> {
        std::fs::create_dir_all(root).map_err(TrainError::io(root))?;
        let name: String = name.chars().map(|c| if plain(c) { c } else { '_' }).take(MAX_NAME).collect();
        let mut number = last_number(root)? + 1;
        loop {
            let path = root.join(format!("{number}-{name}"));
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    let run = Self { path };
                    for folder in [run.path.join("weights"), run.path.join("state")] {
                        std::fs::create_dir_all(&folder).map_err(TrainError::io(&folder))?;
                    }
                    return Ok(run);
                }
                // Another run took the number first.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(TrainError::io(&path)(error)),
            }
        }
    }

    /// The folder of an earlier run.
    ///
    /// # Errors
    /// If it has no `config.toml`.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let run = Self { path: path.to_path_buf() };
        if !run.config().is_file() {
            return Err(TrainError::NoRun { path: path.to_path_buf() });
        }
        Ok(run)
    }

    /// Locks the folder for this process, until the lock is dropped or the process ends.
    ///
    /// # Errors
    /// [`TrainError::Locked`] if another process trains in it.
    pub(crate) fn lock(&self) -> Result<RunLock, TrainError> {
        let path = self.path.join(".lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(TrainError::io(&path))?;
        match try_lock(&file).map_err(TrainError::io(&path))? {
            true => Ok(RunLock { _file: file }),
            false => Err(TrainError::Locked { run: self.path.clone() }),
        }
    }

    /// Removes temporary files that a killed process left in the folder.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub(crate) fn sweep(&self) -> Result<(), TrainError> {
        let written = [
            self.config(),
            self.tuning(),
            self.metrics(),
            self.events(),
            self.gradients(),
            self.report(),
            self.report_data(),
            self.best(),
            self.last(),
            self.state(),
        ];
        let unfinished = self.unfinished_epochs()?;
        let epochs = unfinished.into_iter().map(|number| self.epoch(number));
        written.into_iter().chain(epochs).try_for_each(|path| sweep(&path).map(drop)).map_err(TrainError::from)
    }

    /// Whether the run has a training state to resume from; without one it starts from the beginning.
    ///
    /// # Errors
    /// [`TrainError::NoState`] if it has none although it was trained: its weights alone cannot be resumed.
    pub(crate) fn has_state(&self) -> Result<bool, TrainError> {
        if self.state().exists() {
            return Ok(true);
        }
        match self.last().exists() {
            true => Err(TrainError::NoState { state: self.state(), weights: self.last() }),
            false => Ok(false),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved recipe.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// The algorithms that were measured for the run, if they were.
    pub fn tuning(&self) -> PathBuf {
        self.path.join("tuning.json")
    }

    /// One row per epoch.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.csv")
    }

    /// One object per logged step.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// One object per step whose gradients were recorded.
    pub fn gradients(&self) -> PathBuf {
        self.path.join("gradients.jsonl")
    }

    /// The page that describes the run.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The numbers of the page.
    pub fn report_data(&self) -> PathBuf {
        self.path.join("report.json")
    }

    /// The folder of the page's charts as PNG files.
    pub fn plots(&self) -> PathBuf {
        self.path.join("plots")
    }

    /// The TensorBoard event file.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard").join("events.out.tfevents.0.residual")
    }

    /// The model with the best metric (`eval_metric`) on the held-out images.
    pub fn best(&self) -> PathBuf {
        self.path.join("weights").join("best.safetensors")
    }

    /// The model of the last checkpoint.
    pub fn last(&self) -> PathBuf {
        self.path.join("weights").join("last.safetensors")
    }

    /// The model after `epoch`, from 1.
    pub fn epoch(&self, epoch: u64) -> PathBuf {
        self.path.join("weights").join(format!("epoch-{epoch}.safetensors"))
    }

    /// The epochs, from 1, whose models the folder holds beside the best and the last.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn epochs(&self) -> Result<Vec<u64>, TrainError> {
        let folder = self.path.join("weights");
        let mut epochs = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(TrainError::io(&folder))? {
            let name = entry.map_err(TrainError::io(&folder))?.file_name();
            let name = name.to_str().and_then(|name| name.strip_prefix("epoch-")?.strip_suffix(".safetensors"));
            epochs.extend(name.and_then(|number| number.parse::<u64>().ok()));
        }
        epochs.sort_unstable();
        Ok(epochs)
    }

    /// The epochs, from 1, of whose models the folder may hold temporary files.
    fn unfinished_epochs(&self) -> Result<Vec<u64>, TrainError> {
        let folder = self.path.join("weights");
        let mut epochs = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(TrainError::io(&folder))? {
            let name = entry.map_err(TrainError::io(&folder))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(".epoch-")?.split('.').next());
            epochs.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        Ok(epochs)
    }

    /// The training state for a resume.
    pub fn state(&self) -> PathBuf {
        self.path.join("state").join("last.safetensors")
    }
}

/// The lock on a run's folder. The system releases it when the process ends for any reason.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: File,
}

fn plain(c: char) -> bool {
    c.is_alphanumeric() || "-_.".contains(c)
}

fn last_number(root: &Path) -> Result<u64, TrainError> {
    let mut last = 0;
    for entry in std::fs::read_dir(root).map_err(TrainError::io(root))? {
        let name = entry.map_err(TrainError::io(root))?.file_name();
        let number = name.to_str().and_then(|name| name.split_once('-')).and_then(|(number, _)| number.parse().ok());
        last = last.max(number.unwrap_or(0));
    }
    Ok(last)
}

/// Maximum size of such a file in bytes: some ten million lines.
const MAX_LINES: u64 = 4 << 30;

/// A text file that grows line by line, each written at once.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    file: File,
    count: u64,
}

impl Lines {
    /// Opens the file with its first `keep` lines (after the `header`, if it has one) and truncates the rest,
    /// which was written after the checkpoint.
    pub(crate) fn open(path: PathBuf, header: &str, keep: u64) -> Result<Self, TrainError> {
        let old = if path.try_exists().map_err(TrainError::io(&path))? {
            read_text(&path, MAX_LINES)?
        } else {
            String::new()
        };
        let skip = usize::from(!header.is_empty());
        let kept: String = old.split_inclusive('\n').skip(skip).take(keep as usize).collect();
        let text = if header.is_empty() { kept } else { format!("{header}\n{kept}") };
        if text != old || text.is_empty() {
            atomic_write(&path, |file| file.write_all(text.as_bytes()))?;
        }
        let file = OpenOptions::new().append(true).open(&path).map_err(TrainError::io(&path))?;
        Ok(Self { path, file, count: keep })
    }

    pub(crate) fn push(&mut self, line: &str) -> Result<(), TrainError> {
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(TrainError::io(&self.path))?;
        self.count += 1;
        Ok(())
    }

    /// Lines after the header.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Syncs all lines to disk.
    pub(crate) fn sync(&self) -> Result<(), TrainError> {
        self.file.sync_data().map_err(TrainError::io(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered_and_named() {
        let root = tempfile::tempdir().unwrap();
        let name = |name| {
            let run = RunFolder::create(&root.path().join("runs"), name).unwrap();
            run.path().file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(name("resnet20-shapes10"), "1-resnet20-shapes10");
        assert_eq!(name("my/run: two"), "2-my_run__two");
        std::fs::create_dir(root.path().join("runs/41-other")).unwrap();
        assert_eq!(name("resnet20-shapes10"), "42-resnet20-shapes10");
    }

    #[test]
    fn lines_past_the_checkpoint_are_dropped_even_a_torn_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        std::fs::write(&path, "a,b\n1,2\n3,4\n5").unwrap();
        let mut lines = Lines::open(path.clone(), "a,b", 1).unwrap();
        lines.push("7,8").unwrap();
        lines.sync().unwrap();
        assert_eq!(lines.count(), 2);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a,b\n1,2\n7,8\n");
    }

    #[test]
    fn a_folder_that_is_no_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = RunFolder::open(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("expected a run folder, got one without config.toml"), "{error}");
    }
}
