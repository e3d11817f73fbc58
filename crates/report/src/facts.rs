//! What a run's folder does not say, and its report keeps: how it was started, on what machine, and what it took.

use crate::ReportError;
use residual_files::read_text;
use residual_train::{GivenSetting, RunFolder, Summary};
use serde::{Deserialize, Serialize};

/// The largest `report.json` that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Program and machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of the program.
    pub version: String,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Compute threads.
    pub threads: usize,
    /// The processor's name.
    pub processor: String,
    /// Operating system and architecture.
    pub system: String,
}

/// The evaluation on the test images. Accuracies are in percent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// The weights that were judged: `best` or `last`.
    pub weights: String,
    /// Description of the images.
    pub data: String,
    /// Number of images.
    pub images: u64,
    /// Top-1.
    pub top1: f64,
    /// Top-5.
    pub top5: f64,
    /// Mean loss; `None` if it is not a number.
    pub loss: Option<f64>,
}

/// A setting with its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value, in TOML.
    pub value: String,
    /// A preset, a file, the command line, or `default`.
    pub origin: String,
}

/// What may differ between equal runs: times, and the folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WallClock {
    /// The run's folder.
    pub folder: String,
    /// Seconds of work, without interruptions.
    pub seconds: f64,
    /// Training images per second, without evaluations.
    pub images_per_second: f64,
    /// Seconds of processor time of the process that ended the run.
    pub cpu_seconds: Option<f64>,
    /// The most memory that this process had, in bytes.
    pub peak_memory: Option<u64>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The run's steps at that time; `None` in a file of an earlier version.
    #[serde(default)]
    pub step: Option<u64>,
    /// Program and machine of the run's end; `None` if no report was begun then.
    pub environment: Option<Environment>,
    /// The evaluation on the test images, which a report does not repeat.
    pub test: Option<TestResult>,
    /// The settings.
    pub settings: Vec<Setting>,
    /// Images that were skipped, and their errors.
    pub skipped: Vec<String>,
    /// Times.
    pub wall_clock: WallClock,
}

impl Facts {
    /// The facts of a run that has just ended.
    pub fn of(summary: &Summary, settings: Vec<GivenSetting>, environment: Environment) -> Self {
        let setting = |GivenSetting { name, value, origin }| Setting { name: String::from(name), value, origin };
        let test = summary.test.as_ref().map(|test| TestResult {
            weights: test.weights.to_owned(),
            data: test.data.clone(),
            images: test.images,
            top1: test.top1,
            top5: test.top5,
            loss: Some(test.loss).filter(|loss| loss.is_finite()),
        });
        Self {
            step: Some(summary.steps),
            environment: Some(environment),
            test,
            settings: settings.into_iter().map(setting).collect(),
            skipped: summary.skipped.clone(),
            wall_clock: WallClock {
                folder: summary.run.display().to_string(),
                seconds: summary.seconds,
                images_per_second: summary.images_per_second,
                ..WallClock::default()
            },
        }
    }

    /// Drops what is not true any more after `step` steps of a run that was prolonged: its settings and times. The evaluation on
    /// the test images stays, with the step that it was made at.
    pub(crate) fn update(&mut self, step: u64) {
        if self.step.is_some_and(|known| known != step) {
            self.settings.clear();
            self.wall_clock = WallClock { folder: std::mem::take(&mut self.wall_clock.folder), ..WallClock::default() };
        }
    }

    /// The facts that an earlier report of the run kept; `None` if there is none.
    ///
    /// # Errors
    /// If `report.json` cannot be read, or is no report's.
    pub fn read(folder: &RunFolder) -> Result<Option<Self>, ReportError> {
        let path = folder.report_data();
        if !path.exists() {
            return Ok(None);
        }
        let document = read_text(&path, MAX_BYTES)?;
        #[derive(Deserialize)]
        struct Document {
            facts: Facts,
        }
        let document: Document = serde_json::from_str(&document)
            .map_err(|error| ReportError::Data { path: path.clone(), got: error.to_string() })?;
        Ok(Some(document.facts))
    }
}
