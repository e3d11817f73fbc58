//! Fine-tuning as a few typed calls.

use residual_engine::Options;
use residual_model::Model;
use residual_train::{Event, Job, Layer, Outcome, Recipe, Summary, TrainError, train};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use toml::{Table, Value};

/// Trains a pretrained model on other data: the head is replaced if the classes differ. Settings that are not given are
/// those of the preset `folder-quick`.
///
/// ```no_run
/// use residual::{Classifier, FineTune, train::Event};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tuned = FineTune::new("resnet50.safetensors", "photos").epochs(10).freeze("backbone").run(|event| {
///     if let Event::Epoch(row) = event {
///         println!("epoch {}: {:?} % of the held-out images", row.epoch, row.top1);
///     }
/// })?;
/// println!("best accuracy {:?} %, in {}", tuned.summary.best_top1, tuned.summary.run.display());
/// let mut classifier = Classifier::new(tuned.model)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FineTune {
    settings: Table,
    runs: PathBuf,
    options: Options,
    stop: Arc<AtomicBool>,
}

/// A model that was fine-tuned.
#[derive(Clone, Debug)]
pub struct FineTuned {
    /// The model of the epoch with the best accuracy on the held-out images.
    pub model: Model,
    /// The results of the run, and its folder.
    pub summary: Summary,
    /// Whether it was stopped before its last step. Then its folder can be resumed.
    pub interrupted: bool,
}

impl FineTune {
    /// Starts from `weights` (as in [`load`](crate::load)), and trains on `data`: a folder of class folders, or another
    /// source of [`Source::open`](residual_data::Source::open).
    pub fn new(weights: impl AsRef<Path>, data: impl AsRef<Path>) -> Self {
        let text = |path: &Path| Value::String(path.to_string_lossy().into_owned());
        let settings = Table::from_iter([
            ("weights".to_owned(), text(weights.as_ref())),
            ("data".to_owned(), text(data.as_ref())),
        ]);
        Self { settings, runs: "runs".into(), options: Options::default(), stop: Arc::default() }
    }

    /// Number of epochs.
    pub fn epochs(self, epochs: u64) -> Self {
        self.set("epochs", integer(epochs))
    }

    /// Batch size.
    pub fn batch_size(self, images: usize) -> Self {
        self.set("batch_size", integer(images as u64))
    }

    /// The initial learning rate.
    pub fn lr(self, rate: f64) -> Self {
        self.set("lr", rate)
    }

    /// The fraction of the training images held out for validation, from 0 to 1, instead of the data's own split.
    pub fn val_split(self, share: f64) -> Self {
        self.set("val_split", share)
    }

    /// Side of the network's input in pixels.
    pub fn img_size(self, pixels: usize) -> Self {
        self.set("img_size", integer(pixels as u64))
    }

    /// Freezes `backbone` (all but the head) or modules, separated by commas. Their batch norms keep their running
    /// statistics too.
    pub fn freeze(self, modules: &str) -> Self {
        self.set("freeze", modules).set("freeze_bn", true)
    }

    /// Unfreezes `modules` at `epoch` (the first is 1).
    pub fn unfreeze_at(mut self, epoch: u64, modules: &str) -> Self {
        let entry = Value::String(format!("{epoch}:{modules}"));
        let list = self.settings.entry("unfreeze_at").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(entries) = list {
            entries.push(entry);
        }
        self
    }

    /// Skips images that cannot be read, instead of ending; the summary lists them.
    pub fn skip_bad_images(self) -> Self {
        self.set("skip_bad_images", true)
    }

    /// The random seed.
    pub fn seed(self, seed: u64) -> Self {
        self.set("seed", integer(seed))
    }

    /// Any setting by its key in a recipe (see the recipes' documentation). Unknown keys and invalid values are errors of
    /// [`run`](Self::run).
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// The folder for run folders, instead of `runs`.
    pub fn runs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.runs = folder.into();
        self
    }

    /// Instruction set and threads, instead of the widest and all cores.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// A flag that another thread sets to stop training after the step that it is in.
    pub fn stop_by(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// Trains, and returns the model.
    ///
    /// # Errors
    /// If a setting is out of range, weights or data cannot be read or do not fit, or the loss is no longer finite.
    pub fn run(self, mut on_event: impl FnMut(&Event)) -> Result<FineTuned, TrainError> {
        let own = self.settings.to_string();
        let recipe = Recipe::resolve(&[Layer::preset("folder-quick")?, Layer::parse("fine-tuning", &own)?])?;
        let job = Job::prepare(recipe)?;
        let outcome = train(&job, &self.runs, &self.options, &self.stop, &mut on_event)?;
        match outcome {
            Outcome::Finished(trained) => {
                Ok(FineTuned { model: trained.best_model()?, summary: trained.summary, interrupted: false })
            }
            Outcome::Interrupted(summary) => {
                let best = summary.run.join("weights/best.safetensors");
                let model = if best.exists() { residual_weights::load(&best)?.model } else { job.model };
                Ok(FineTuned { model, summary: *summary, interrupted: true })
            }
        }
    }
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
