//! The report of a run: collected from its folder and its model, written as a page, its numbers, and its charts.

use crate::facts::Facts;
use crate::held_out::{HeldOut, evaluation_options, judge};
use crate::samples::from_values;
use crate::{Picture, ReportError, Svg, run_page};
use residual_engine::Options;
use residual_files::{atomic_write, sweep};
use residual_preprocess::Preprocessing;
use residual_train::{GradientRow, Job, Record, RunFolder, StepRow};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The version of the form of `report.json`.
pub const SCHEMA: u32 = 1;
/// Augmented training images on a page.
const AUGMENTED: usize = 16;
/// Pixels of a PNG file for each of its picture's.
const PNG_SCALE: f32 = 2.0;

/// A run and what became of it.
pub struct RunReport {
    pub(crate) record: Record,
    pub(crate) steps: Vec<StepRow>,
    pub(crate) gradients: Vec<GradientRow>,
    pub(crate) facts: Facts,
    /// Parameters of the network.
    pub(crate) parameters: u64,
    /// Channels, height and width of its input.
    pub(crate) input: [usize; 3],
    pub(crate) classes: Vec<String>,
    /// Description of the training images.
    pub(crate) train: String,
    /// The weights that were judged: `best` or `last`.
    pub(crate) weights: &'static str,
    /// Bytes of them.
    pub(crate) weights_bytes: u64,
    /// `None` if all images were trained on.
    pub(crate) held_out: Option<HeldOut>,
    /// A line for the images that are not those of the run's start.
    pub(crate) changed: Vec<String>,
    /// Augmented training images with their classes.
    pub(crate) augmented: Vec<(Picture, String)>,
}

impl RunReport {
    /// Reads the run in `folder`, which `job` trained, and judges its best model on its held-out images; `None` if `stop` was set
    /// before the end. This takes one evaluation, and another one of at most 1000 images for the map of embeddings.
    ///
    /// # Errors
    /// If a file of the run cannot be read, or the model cannot be evaluated.
    pub fn collect(
        job: &Job,
        folder: &RunFolder,
        mut facts: Facts,
        options: &Options,
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<Self>, ReportError> {
        let record = Record::read(folder.path())?;
        facts.update(record.last().map_or(0, |row| row.step));
        let changed = job.changed_images(folder)?;
        let (weights, path) = match folder.best() {
            best if best.exists() => ("best", best),
            _ => ("last", folder.last()),
        };
        let model = residual_weights::load(&path)?.model;
        let recipe = &job.recipe;
        let mut evaluation = evaluation_options(options, recipe.workers, recipe.skip_bad_images);
        evaluation.views = recipe.tta.views();
        let held_out = match &job.held_out {
            None => None,
            Some(images) => match judge(&model, images, &evaluation, stop, on_progress)? {
                Some(held_out) => Some(held_out),
                None => return Ok(None),
            },
        };
        let size = job.train_size(0);
        let preprocessing = Preprocessing { size, ..model.preprocessing.clone() };
        let class = |label: u32| job.train.class_names().get(label as usize).cloned().unwrap_or_default();
        let augmented = job.augmented(AUGMENTED)?.into_iter();
        let augmented = augmented
            .filter_map(|(values, label)| Some((from_values(&values, size, &preprocessing).ok()?, class(label))));
        let [height, width] = model.preprocessing.size;
        let parameters = model.graph.parameters().filter(|(_, spec)| spec.role.is_parameter());
        Ok(Some(Self {
            steps: record.steps()?,
            gradients: record.gradients()?,
            facts,
            parameters: parameters.map(|(_, spec)| spec.shape.iter().product::<usize>() as u64).sum(),
            input: [model.preprocessing.channels(), height, width],
            classes: model.labels.clone(),
            train: job.train.describe_set(),
            weights,
            weights_bytes: std::fs::metadata(&path).map_or(0, |metadata| metadata.len()),
            held_out,
            changed,
            augmented: augmented.collect(),
            record,
        }))
    }

    /// A line for the training and for the held-out images each, if their files or labels have changed since the start of the run.
    pub fn changed_images(&self) -> &[String] {
        &self.changed
    }

    /// The page: one file that loads nothing.
    pub fn html(&self) -> String {
        run_page::page(self)
    }

    /// The main charts, by the names of their files.
    pub fn plots(&self) -> Vec<(&'static str, Svg)> {
        run_page::plots(self)
    }

    /// The numbers of the page. `schema` is its version; only `facts.wall_clock` and the throughput differ between equal runs.
    pub fn json(&self) -> Value {
        let recipe = &self.record.recipe;
        let held_out = self.held_out.as_ref().map(|held_out| {
            let HeldOut { evaluation, .. } = held_out;
            let mut evaluation = json!(evaluation);
            // How long the report's own evaluation took is not of interest.
            if let Some(fields) = evaluation.as_object_mut() {
                fields.remove("images_per_second");
            }
            json!({
                "data": held_out.data,
                "evaluation": evaluation,
                "confusion": held_out.evaluation.confusion(),
                "reliability": held_out.reliability,
                "worst_mistakes": held_out.worst,
                "confident_errors": held_out.confident,
                "label_issues": { "count": held_out.issue_count, "images": held_out.issues },
                "slices": { "images": held_out.sliced, "slices": held_out.slices },
                "embedding": held_out.embedding,
            })
        });
        let rows = self.record.rows.iter().map(|row| {
            json!({
                "epoch": row.epoch, "step": row.step, "train_loss": row.train_loss, "train_top1": row.train_top1,
                "loss": row.loss, "top1": row.top1, "raw_top1": row.raw_top1,
            })
        });
        json!({
            "schema": SCHEMA,
            "facts": self.facts,
            "network": {
                "model": recipe.model, "parameters": self.parameters, "input": self.input, "classes": self.classes,
            },
            "data": { "name": recipe.data, "train": self.train, "changed": self.changed },
            "weights": self.weights,
            "epochs": rows.collect::<Vec<_>>(),
            "steps": self.steps.iter().map(|step| (step.step, step.loss, step.lr)).collect::<Vec<_>>(),
            "held_out": held_out,
        })
    }

    /// Writes `report.json`, the charts as PNG files, and `report.html` into the run's folder.
    ///
    /// # Errors
    /// If a chart cannot be rendered or a file cannot be written.
    pub fn write(&self) -> Result<(), ReportError> {
        let folder = &self.record.folder;
        write(
            &folder.report_data(),
            serde_json::to_string(&self.json()).expect("numbers have a JSON form").as_bytes(),
        )?;
        let plots = folder.plots();
        std::fs::create_dir_all(&plots).map_err(|source| ReportError::Folder { path: plots.clone(), source })?;
        for (name, svg) in self.plots() {
            write(&plots.join(format!("{name}.png")), &svg.to_png(PNG_SCALE)?)?;
        }
        write(&folder.report(), self.html().as_bytes())
    }
}

/// Writes the facts of a run that has just ended, so that a report that is interrupted can be completed later.
///
/// # Errors
/// If the file cannot be written.
pub fn begin_report(folder: &RunFolder, facts: &Facts) -> Result<(), ReportError> {
    let document = json!({ "schema": SCHEMA, "facts": facts });
    write(&folder.report_data(), document.to_string().as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    // What a killed process left.
    sweep(path)?;
    Ok(atomic_write(path, |file| file.write_all(bytes))?)
}
