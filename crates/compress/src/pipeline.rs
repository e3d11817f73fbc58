//! Distil, prune, fine-tune and quantise: several smaller networks beside the original, each a checkpoint with its accuracy, size and
//! latency, of which one is chosen within a budget.
//!
//! All work is in one folder: `points/` has the networks, `stages/` the pruned networks and training runs that they come from, and
//! `journal.json` what is finished, with all measurements; `chosen.safetensors` is a copy of the chosen one. A killed pipeline goes on
//! where it was, and ends with the same files.

mod budget;
mod journal;
mod point;
mod targets;
mod work;

pub use budget::Budget;
pub use journal::{ImageSet, Settings};
pub use point::Point;
pub use targets::{PruningTarget, PruningTargets};

use crate::{CompressError, Criterion, FineTuning, PruneEvent, TrainingImages};
use journal::Journal;
use residual_data::{Dataset, Transform};
use residual_engine::Options;
use residual_files::try_lock;
use residual_model::Model;
use residual_preprocess::Preprocessing;
use residual_train::{Event as TrainEvent, Layer};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use work::{Halt, Work};

/// The name of the first point.
const ORIGINAL: &str = "original";

/// What is done with a network.
pub struct Pipeline<'a> {
    /// The network.
    pub original: &'a Model,
    /// The recipe of its training, as TOML, if it is known.
    pub recipe: Option<&'a str>,
    /// The choice.
    pub budget: Budget,
    /// What scores a channel.
    pub criterion: Criterion,
    /// Training images for the scores of channels and for calibration.
    pub calibration: TrainingImages,
    /// The images that networks are judged on and chosen by.
    pub judged: Arc<dyn Dataset>,
    /// The images that the original and the chosen network are judged on at the end.
    pub test: Option<Arc<dyn Dataset>>,
    /// How pruned networks are trained.
    pub finetune: FineTuning,
    /// The student, which takes the original's place in pruning.
    pub student: Option<Student>,
    /// What decides the points, for the journal.
    pub settings: Settings,
    /// The file that keeps the times of single layers, if one does.
    pub measurements: Option<PathBuf>,
    /// Timed passes of each network in a comparison of latencies; by default as many as fit two seconds.
    pub repeats: Option<usize>,
    /// Instruction set and threads.
    pub options: &'a Options,
}

/// A network that learns from the original.
pub struct Student {
    /// Its name or description.
    pub network: String,
    /// How it is trained.
    pub training: FineTuning,
}

/// An event of a pipeline.
pub enum Event<'a> {
    /// Work on a network begins: its name.
    Begins(&'a str),
    /// Something is done with images: what, of how many images, of how many in all.
    Images(&'a str, usize, usize),
    /// Something happened in pruning.
    Pruning(&'a PruneEvent),
    /// Something happened in training.
    Training(&'a TrainEvent),
    /// A network is finished.
    Finished {
        /// The network.
        point: &'a Point,
        /// The original.
        original: &'a Point,
    },
    /// A line for the user.
    Note(String),
}

/// The end of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Compressed {
    /// The networks, the original first.
    pub points: Vec<Point>,
    /// The place of the chosen one; an error is that of the one nearest to the budget, if none is within it.
    pub choice: Result<usize, usize>,
    /// Top-1 on the test images in percent: of the original and of the chosen network.
    pub tests: Option<[f64; 2]>,
    /// Networks that there are not, by name, and why.
    pub skipped: BTreeMap<String, String>,
}

impl Pipeline<'_> {
    /// Does what is not done yet in `folder`, and chooses. `None` if `stop` was set.
    ///
    /// # Errors
    /// If images cannot have one of the sizes; if the folder holds the work of other settings, or another process works in it; if a network cannot be trained, judged or run;
    /// or if a file cannot be read or written. A size that pruning cannot reach is no error, but skipped.
    pub fn run(
        &self,
        folder: &Path,
        stop: &Arc<AtomicBool>,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<Option<Compressed>, CompressError> {
        for &side in &self.settings.image_sizes {
            let preprocessing = Preprocessing { size: [side; 2], ..self.original.preprocessing.clone() };
            Transform::evaluation(preprocessing)?.check(&*self.judged)?;
        }
        std::fs::create_dir_all(folder).map_err(CompressError::io(folder))?;
        // Runs keep the paths of their weights.
        let folder = &folder.canonicalize().map_err(CompressError::io(folder))?;
        let _lock = lock(folder)?;
        for part in ["points", "stages"].map(|name| folder.join(name)) {
            std::fs::create_dir_all(&part).map_err(CompressError::io(&part))?;
        }
        let journal = Journal::begin(folder, &self.settings)?;
        match Work::new(self, folder, journal, stop, on_event).run() {
            Ok(compressed) => Ok(Some(compressed)),
            Err(Halt::Stopped) => Ok(None),
            Err(Halt::Failed(error)) => Err(error),
        }
    }

    /// The settings of one training: the teacher is the original, `start` the weights or the network.
    ///
    /// # Errors
    /// If the paths have no text.
    pub fn given(folder: &Path, start: Start<'_>) -> Result<Layer, CompressError> {
        let text = |path: &Path| serde_json::to_string(path).map_err(|error| CompressError::io(path)(error.into()));
        let teacher = format!("teacher = [{}]\n", text(&folder.join(Point::file(ORIGINAL)))?);
        let start = match start {
            Start::Weights(path) => format!("weights = {}\n", text(path)?),
            Start::Network(name) => format!("model = {}\n", text(name.as_ref())?),
        };
        Ok(Layer::parse("compress", &(teacher + &start))?)
    }
}

/// What a training starts from.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// The weights of a file.
    Weights(&'a Path),
    /// A network of this name or description, with new weights.
    Network(&'a str),
}

/// Locks `folder` for this process, until the lock is dropped or the process ends.
fn lock(folder: &Path) -> Result<File, CompressError> {
    let path = folder.join(".lock");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(CompressError::io(&path))?;
    match try_lock(&file).map_err(CompressError::io(&path))? {
        true => Ok(file),
        false => Err(CompressError::Locked { folder: folder.to_path_buf() }),
    }
}
