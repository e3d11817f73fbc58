//! The stages of a pipeline, each of which adds a point to the journal.

use super::journal::Journal;
use super::{Compressed, Event, ImageSet, ORIGINAL, Pipeline, Point, PruningTarget, Start, Student};
use crate::outcome::BATCHES;
use crate::{
    Allocation, Calibration, CalibrationEvent, CalibrationImages, CompressError, FineTuning, LatencyChange, Outcome,
    Pruner, QuantizeOptions, RangeMethod, Rounding, Scheme, SelectOptions, compare_latency,
};
use residual_data::Dataset;
use residual_files::{atomic_write, sweep};
use residual_infer::{EvaluateOptions, Evaluation, evaluate};
use residual_model::Model;
use residual_preprocess::Preprocessing;
use residual_train::Layer;
use residual_weights::{Checkpoint, load, save};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The name of the student.
const STUDENT: &str = "student";
/// Widths of pruned layers are multiples of this.
const ROUND: usize = 8;
/// Batch size of evaluations.
const EVALUATION_BATCH: usize = 100;

/// Why work ends before it is done.
pub(super) enum Halt {
    /// The stop flag is set.
    Stopped,
    /// An error.
    Failed(CompressError),
}

impl<E: Into<CompressError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A pipeline at work in a folder.
pub(super) struct Work<'a> {
    pipeline: &'a Pipeline<'a>,
    folder: &'a Path,
    journal: Journal,
    stop: &'a Arc<AtomicBool>,
    on_event: &'a mut dyn FnMut(&Event<'_>),
    /// The judgement of the original, once it is needed.
    original: Option<Evaluation>,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        pipeline: &'a Pipeline<'a>,
        folder: &'a Path,
        journal: Journal,
        stop: &'a Arc<AtomicBool>,
        on_event: &'a mut dyn FnMut(&Event<'_>),
    ) -> Self {
        Self { pipeline, folder, journal, stop, on_event, original: None }
    }

    /// All stages, and the choice.
    pub(super) fn run(mut self) -> Result<Compressed, Halt> {
        let pipeline = self.pipeline;
        self.original()?;
        let sizes = match self.journal.sizes() {
            Some(sizes) => sizes.to_vec(),
            None => {
                let sizes = pipeline.settings.sizes.resolve(&pipeline.budget, &self.journal.points()[0]);
                self.journal.set_sizes(sizes.clone())?;
                sizes
            }
        };
        let mut names = vec![ORIGINAL.to_owned()];
        if let Some(student) = &pipeline.student {
            self.point(STUDENT, |work| work.distilled(student))?;
            names.push(STUDENT.to_owned());
        }
        let base = names[names.len() - 1].clone();
        for size in sizes {
            let name = if base == ORIGINAL { format!("pruned {size}") } else { format!("{base} pruned {size}") };
            if self.pruned(&name, size, &base)? {
                names.push(name);
            }
        }
        for index in 0..names.len() {
            let float = names[index].clone();
            let name = format!("{float}, int8");
            self.point(&name, |work| work.quantized(&float))?;
            names.push(name);
        }
        for name in &names {
            for &side in &pipeline.settings.image_sizes {
                self.resized(name, side)?;
            }
        }
        self.time_at_limit()?;
        self.choose()
    }

    /// The first point, which must be the network that the work was begun with.
    fn original(&mut self) -> Result<(), Halt> {
        let Pipeline { original, recipe, .. } = *self.pipeline;
        let path = self.folder.join(Point::file(ORIGINAL));
        if path.exists() && load(&path)?.model != *original {
            let (what, expected) = ("weights".into(), "those of this file".into());
            return Err(Halt::Failed(CompressError::OtherWork { path, what, expected, got: "others".into() }));
        }
        let checkpoint = || Checkpoint { model: original.clone(), recipe: recipe.map(str::to_owned) };
        self.point(ORIGINAL, |_| Ok(checkpoint()))
    }

    /// Makes a network, unless its file is there, judges and times it, unless that is in the journal.
    fn point(&mut self, name: &str, make: impl FnOnce(&mut Self) -> Result<Checkpoint, Halt>) -> Result<(), Halt> {
        if self.journal.point(name).is_some() {
            return Ok(());
        }
        (self.on_event)(&Event::Begins(name));
        let path = self.folder.join(Point::file(name));
        if !path.exists() {
            let Checkpoint { model, recipe } = make(self)?;
            sweep(&path)?;
            save(&path, &model, recipe.as_deref())?;
        }
        let point = self.judge(name, &path)?;
        self.journal.add(point.clone())?;
        let original = &self.journal.points()[0];
        (self.on_event)(&Event::Finished { point: &point, original });
        Ok(())
    }

    /// A network's accuracy, size and latency.
    fn judge(&mut self, name: &str, path: &Path) -> Result<Point, Halt> {
        let pipeline = self.pipeline;
        let model = load(path)?.model;
        let bytes = std::fs::metadata(path).map_err(CompressError::io(path))?.len();
        let mut outcome = Outcome::new(Point::file(name), bytes, &model)?;
        let original = match self.original.take() {
            Some(evaluation) => evaluation,
            None => self.evaluate(pipeline.original, &pipeline.judged, ORIGINAL)?,
        };
        outcome = match name {
            ORIGINAL => outcome.judged(&original, &original, pipeline.options),
            _ => outcome.judged(&original, &self.evaluate(&model, &pipeline.judged, name)?, pipeline.options),
        };
        self.original = Some(original);
        let batches: BTreeSet<usize> = BATCHES.into_iter().chain([pipeline.budget.batch()]).collect();
        for batch in batches {
            outcome.latency.insert(batch, self.latency(name, &model, batch)?);
        }
        Ok(Point { name: name.to_owned(), image_size: model.preprocessing.size, outcome })
    }

    fn evaluate(&mut self, model: &Model, images: &Arc<dyn Dataset>, name: &str) -> Result<Evaluation, Halt> {
        let Pipeline { calibration, options, .. } = self.pipeline;
        let options = EvaluateOptions {
            engine: (*options).clone(),
            batch_size: EVALUATION_BATCH.clamp(1, images.len().max(1)),
            workers: calibration.workers,
            skip_bad_images: calibration.skip_bad_images,
            ..EvaluateOptions::default()
        };
        let what = format!("evaluating {name}");
        let show = &mut |done, total| (self.on_event)(&Event::Images(&what, done as usize, total as usize));
        evaluate(model, images, &options, self.stop, show)?.ok_or(Halt::Stopped)
    }

    /// The latency of a network in turns with the original. That of the original itself is what it is compared with.
    fn latency(&self, name: &str, model: &Model, batch: usize) -> Result<LatencyChange, Halt> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Halt::Stopped);
        }
        let change =
            compare_latency(self.pipeline.original, model, batch, self.pipeline.repeats, self.pipeline.options)?;
        Ok(match name {
            ORIGINAL => LatencyChange { after_ms: change.before_ms, ratio: 1.0, interval: [1.0; 2], ..change },
            _ => change,
        })
    }

    /// The student after its training.
    fn distilled(&mut self, student: &Student) -> Result<Checkpoint, Halt> {
        let folder = self.stage(STUDENT)?;
        let given = Pipeline::given(self.folder, Start::Network(&student.network))?;
        self.trained(&folder, &student.training, &given)
    }

    /// `base`, pruned to `size` and trained: whether there is such a network.
    fn pruned(&mut self, name: &str, size: PruningTarget, base: &str) -> Result<bool, Halt> {
        if self.journal.skipped().contains_key(name) {
            return Ok(false);
        }
        let points = self.journal.points();
        if self.journal.point(base).is_some_and(|base| size.is_met(base, &points[0])) {
            return self.skip(name, format!("{base} is as small already"));
        }
        match self.point(name, |work| work.pruned_and_trained(name, size, base)) {
            Err(Halt::Failed(error @ CompressError::Budget { .. })) => self.skip(name, error.to_string()),
            made => made.map(|()| true),
        }
    }

    fn skip(&mut self, name: &str, reason: String) -> Result<bool, Halt> {
        (self.on_event)(&Event::Note(format!("{name}: skipped: {reason}")));
        self.journal.skip(name, reason)?;
        Ok(false)
    }

    fn pruned_and_trained(&mut self, name: &str, size: PruningTarget, base: &str) -> Result<Checkpoint, Halt> {
        let folder = self.stage(name)?;
        let [file, what] = ["pruned.safetensors", "pruned.json"].map(|name| folder.join(name));
        // Latencies are never measured twice alike, so that what was pruned by them is kept.
        if !file.exists() {
            let pipeline = self.pipeline;
            let pruner = Pruner {
                original: pipeline.original,
                goal: size.goal(),
                criterion: pipeline.criterion,
                select: SelectOptions { allocation: Allocation::Global, round: ROUND, blocks: true },
                images: &pipeline.calibration,
                seed: pipeline.settings.seed,
                measurements: pipeline.measurements.as_deref(),
                repeats: pipeline.repeats,
                options: pipeline.options,
            };
            let model = self.load(base)?.model;
            let show = &mut |event: &_| (self.on_event)(&Event::Pruning(event));
            let (model, pruned) = pruner.prune(&model, [1, 1], self.stop, show)?.ok_or(Halt::Stopped)?;
            let text = serde_json::to_string_pretty(&pruned).expect("what was pruned has a JSON form");
            sweep(&what)?;
            atomic_write(&what, |file| file.write_all(text.as_bytes()))?;
            sweep(&file)?;
            save(&file, &model, None)?;
        }
        let given = Pipeline::given(self.folder, Start::Weights(&file))?;
        self.trained(&folder, &self.pipeline.finetune, &given)
    }

    fn trained(&mut self, folder: &Path, training: &FineTuning, given: &Layer) -> Result<Checkpoint, Halt> {
        let show = &mut |event: &_| (self.on_event)(&Event::Training(event));
        let tuned = training.run(folder, given, self.pipeline.options, self.stop, show)?.ok_or(Halt::Stopped)?;
        Ok(Checkpoint { model: tuned.model, recipe: Some(tuned.recipe) })
    }

    /// The network of a point in 8 bits.
    fn quantized(&mut self, name: &str) -> Result<Checkpoint, Halt> {
        let Checkpoint { model, recipe } = self.load(name)?;
        let (stop, images) = (self.stop, &self.pipeline.calibration);
        let (workers, skips) = (images.workers, images.skip_bad_images);
        let read = &mut |done, total| (self.on_event)(&Event::Images("reading", done, total));
        let loaded = CalibrationImages::load(&model, &images.dataset, workers, skips, stop, read)?;
        let loaded = loaded.ok_or(Halt::Stopped)?;
        let options = QuantizeOptions {
            scheme: Scheme::Static,
            rounding: Rounding::Nearest,
            seed: 0,
            method: RangeMethod::Mse,
            bias_correction: false,
            equalize: false,
            engine: self.pipeline.options.clone(),
        };
        let show = &mut |event| {
            if let CalibrationEvent::Images(_, done, total) = event {
                (self.on_event)(&Event::Images("calibrating", done, total));
            }
        };
        let calibration = Calibration::new(&model, &loaded, &options, stop, show)?.ok_or(Halt::Stopped)?;
        Ok(Checkpoint { model: calibration.model(&[])?, recipe })
    }

    /// The network of a point on images of another size, where it takes them.
    fn resized(&mut self, name: &str, side: usize) -> Result<(), Halt> {
        let resized = format!("{name}, {side} px");
        let is_own = self.journal.point(name).is_some_and(|point| point.image_size == [side; 2]);
        if is_own || self.journal.point(&resized).is_some() || self.journal.skipped().contains_key(&resized) {
            return Ok(());
        }
        let Checkpoint { model, recipe } = self.load(name)?;
        if let Err(error) = model.graph.shapes(side, side) {
            return self.skip(&resized, error.to_string()).map(drop);
        }
        let preprocessing = Preprocessing { size: [side; 2], ..model.preprocessing.clone() };
        let model = model.with_preprocessing(preprocessing)?;
        self.point(&resized, |_| Ok(Checkpoint { model, recipe }))
    }

    /// Times the networks at the batch size of the budget, which may be another one than when they were made.
    fn time_at_limit(&mut self) -> Result<(), Halt> {
        let batch = self.pipeline.budget.batch();
        for mut point in self.journal.points().to_vec() {
            if !point.outcome.latency.contains_key(&batch) {
                let model = self.load(&point.name)?.model;
                point.outcome.latency.insert(batch, self.latency(&point.name, &model, batch)?);
                self.journal.add(point)?;
            }
        }
        Ok(())
    }

    /// The choice, a copy of the chosen network, and its test.
    fn choose(mut self) -> Result<Compressed, Halt> {
        let points = self.journal.points().to_vec();
        let choice = self.pipeline.budget.choose(&points);
        let copy = self.folder.join("chosen.safetensors");
        let mut tests = None;
        match choice {
            Ok(place) => {
                let Checkpoint { model, recipe } = self.load(&points[place].name)?;
                sweep(&copy)?;
                save(&copy, &model, recipe.as_deref())?;
                if let Some(images) = &self.pipeline.test {
                    tests = Some([self.test(ORIGINAL, images)?, self.test(&points[place].name, images)?]);
                }
            }
            // What was chosen within another budget is not what was asked for now.
            Err(_) => match std::fs::remove_file(&copy) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(CompressError::io(&copy)(error).into()),
                _ => {}
            },
        }
        Ok(Compressed { points, choice, tests, skipped: self.journal.skipped().clone() })
    }

    /// Top-1 on the test images in percent, which are read once for each network.
    fn test(&mut self, name: &str, images: &Arc<dyn Dataset>) -> Result<f64, Halt> {
        let set = ImageSet::of(&**images);
        if let Some(top1) = self.journal.test(name, set) {
            return Ok(top1);
        }
        let model = self.load(name)?.model;
        let top1 = self.evaluate(&model, images, name)?.top1;
        self.journal.add_test(name, set, top1)?;
        Ok(top1)
    }

    /// The network of a point.
    fn load(&self, name: &str) -> Result<Checkpoint, Halt> {
        Ok(load(&self.folder.join(Point::file(name)))?)
    }

    /// The folder of what a point is made of.
    fn stage(&self, name: &str) -> Result<PathBuf, Halt> {
        let folder = self.folder.join("stages").join(Point::slug(name));
        std::fs::create_dir_all(&folder).map_err(CompressError::io(&folder))?;
        Ok(folder)
    }
}
