//! The training loop: epochs, steps, evaluations and checkpoints, reported as events.

use crate::companion::{Companion, Pass};
use crate::distill::{self, Distillation};
use crate::event::{EpochRow, Event, EventLine, RawMetrics, RunInfo, Step};
use crate::gradients::GradientRow;
use crate::memory::{forecast, forecast_in_floats};
use crate::prepare::Job;
use crate::recipe::EvalMetric;
use crate::run_folder::Lines;
use crate::snapshot::{Snapshot, Snapshots};
use crate::state::{Best, DataShape, Progress, State, fingerprints};
use crate::step::TrainStep;
use crate::tensorboard::EventFile;
use crate::train::train_step;
use crate::{Judged, Outcome, RunFolder, Schedule, Summary, Test, TrainError, Trained};
use residual_data::{Batch, Dataset, Loader, Skipped, Targets};
use residual_engine::Options;
use residual_files::atomic_write;
use residual_infer::{Evaluator, Metrics, recalibrate_batch_norms};
use residual_model::Model;
use residual_tensor::Stream;
use residual_weights::save;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Keeps the seeds of dropout masks apart from other random numbers.
const DROPOUT: u64 = u64::from_be_bytes(*b"dropout.");

/// A run in progress.
pub(crate) struct Run<'a> {
    job: &'a Job,
    /// The whole model, if the job's model is only its head (cached features).
    whole: Option<&'a Model>,
    folder: RunFolder,
    step: TrainStep,
    /// The epoch whose trainable layers the step is compiled for.
    trains: u64,
    /// Height and width of the images that the engine is compiled for.
    size: [usize; 2],
    progress: Progress,
    schedule: Schedule,
    metrics: Lines,
    events: Lines,
    /// Lines about the gradients, if they are recorded.
    gradients: Option<Lines>,
    tensorboard: Option<EventFile>,
    options: &'a Options,
    evaluator: Evaluator,
    stop: &'a AtomicBool,
    clock: Clock,
    /// The step of the last checkpoint.
    saved: Option<u64>,
    /// Images that were skipped before the first step.
    skipped: Vec<Skipped>,
    /// Bytes of cached features and of the plan that computed them.
    cached_bytes: [usize; 2],
    companion: Option<Companion<'a>>,
}

/// Time spent by this process and by earlier processes of the run.
struct Clock {
    began: Instant,
    /// Seconds of work of earlier processes.
    earlier: f64,
    /// Images trained on by this process, and the seconds that took.
    images: u64,
    training: f64,
}

impl Clock {
    fn seconds(&self) -> f64 {
        self.earlier + self.began.elapsed().as_secs_f64()
    }
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        job: &'a Job,
        whole: Option<&'a Model>,
        folder: RunFolder,
        mut step: TrainStep,
        state: Option<State>,
        options: &'a Options,
        stop: &'a AtomicBool,
    ) -> Result<Self, TrainError> {
        let data = DataShape::of(job);
        let isa = options.isa.name().to_owned();
        let (progress, saved) = match state {
            None => {
                let (fingerprints, teachers) = (fingerprints(job), distill::fingerprints(job)?);
                (Progress { data, fingerprints, teachers, isa, ..Progress::default() }, None)
            }
            Some(state) => {
                state.check(&job.recipe, &data, &folder)?;
                distill::check(job, &state.progress.teachers, &folder)?;
                // A run may be prolonged.
                let config = job.recipe.to_toml();
                if state.recipe != config {
                    atomic_write(&folder.config(), |file| file.write_all(config.as_bytes()))?;
                }
                let other = |error| TrainError::OtherState { path: folder.state(), source: Box::new(error) };
                let saved = state.progress.step;
                step.load(&state.model, &state.optimizer, state.averaged.as_ref(), saved)
                    .and_then(|()| step.load_distillation(&state.distillation))
                    .and_then(|()| step.load_zeros(&state.zeros))
                    .map_err(other)?;
                (state.progress, Some(saved))
            }
        };
        let clock = Clock { began: Instant::now(), earlier: progress.seconds, images: 0, training: 0.0 };
        Ok(Self {
            metrics: Lines::open(folder.metrics(), EpochRow::HEADER, progress.metrics_rows)?,
            events: Lines::open(folder.events(), "", progress.event_lines)?,
            gradients: match job.recipe.log_gradients {
                Some(_) => Some(Lines::open(folder.gradients(), "", progress.gradient_lines)?),
                None => None,
            },
            tensorboard: match job.recipe.tensorboard {
                true => Some(EventFile::open(&folder, progress.tensorboard_bytes)?),
                false => None,
            },
            schedule: Schedule::new(&job.recipe, job.epoch_steps()),
            trains: progress.epoch,
            size: job.train_size(progress.size_epoch()),
            job,
            whole,
            folder,
            step,
            progress,
            options,
            evaluator: job.evaluator(options),
            stop,
            clock,
            saved,
            skipped: Vec::new(),
            cached_bytes: [0; 2],
            companion: None,
        })
    }

    /// A run on cached features: images that were skipped while they were computed, and the bytes of the features and of
    /// the plan that computed them.
    pub(crate) fn with_cached_features(self, skipped: Vec<Skipped>, cached_bytes: [usize; 2]) -> Self {
        Self { skipped, cached_bytes, ..self }
    }

    /// With what adds to the gradients of every backward pass; of a resumed run the companion that it began with.
    pub(crate) fn with_companion(self, companion: Option<Companion<'a>>) -> Self {
        let progress = Progress { companion: companion.as_ref().map(|with| with.name().to_owned()), ..self.progress };
        Self { companion, progress, ..self }
    }

    pub(crate) fn run(mut self, on_event: &mut dyn FnMut(&Event)) -> Result<Outcome, TrainError> {
        self.start(on_event)?;
        while !self.is_done() {
            if !self.epoch(on_event)? {
                // The checkpoint at the end of an epoch has the weights as they were evaluated.
                if self.saved != Some(self.progress.step) {
                    let snapshots = self.snapshots()?;
                    self.checkpoint(&snapshots, &snapshots, on_event)?;
                }
                return Ok(Outcome::Interrupted(Box::new(self.summary(None))));
            }
        }
        if let (true, Some(epochs)) = (self.is_out_of_patience(), self.job.recipe.patience) {
            let metric = self.job.recipe.eval_metric.name();
            on_event(&Event::Note(format!("stopped early: no better {metric} for {epochs} epochs")));
        }
        // The last checkpoint has the model that was evaluated.
        let model = residual_weights::load(&self.folder.last())?.model;
        let Some(test) = self.test(&model, on_event)? else {
            return Ok(Outcome::Interrupted(Box::new(self.summary(None))));
        };
        let Some(teachers) = self.judge_teachers(on_event)? else {
            return Ok(Outcome::Interrupted(Box::new(self.summary(test))));
        };
        let summary = Summary { teachers, ..self.summary(test) };
        Ok(Outcome::Finished(Box::new(Trained { summary, model })))
    }

    /// Whether the run has ended: after its last step, or by early stopping.
    fn is_done(&self) -> bool {
        self.progress.epoch_step == 0
            && (self.progress.step >= self.schedule.total_steps() || self.is_out_of_patience())
    }

    fn is_out_of_patience(&self) -> bool {
        let (Some(patience), Some(best)) = (self.job.recipe.patience, self.progress.best) else { return false };
        self.progress.epoch > best.epoch + patience
    }

    /// Reports the start of the run.
    fn start(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<(), TrainError> {
        let (epoch, cached) = (self.progress.epoch, self.cached_bytes);
        let memory = forecast(self.job, self.options, epoch, cached)?;
        let in_floats = forecast_in_floats(self.job, self.options, epoch, cached)?;
        let model = self.whole.unwrap_or(&self.job.model);
        let info = RunInfo {
            memory_in_floats: in_floats,
            ..RunInfo::new(self.job, model, &self.folder, &self.schedule, &self.progress, self.options, memory)
        };
        on_event(&Event::Started(Box::new(info)));
        if let (0, Some(head)) = (self.progress.step, &self.job.new_head) {
            on_event(&Event::NewHead(head.clone()));
        }
        let isa = self.options.isa.name();
        if self.progress.isa != isa {
            let began = &self.progress.isa;
            on_event(&Event::Note(format!(
                "the run was started with {began} and is resumed with {isa}: its results differ by rounding from here on"
            )));
        }
        if self.saved.is_some() {
            self.progress.changed_images(self.job).into_iter().for_each(|note| on_event(&Event::Note(note)));
        }
        self.job.notes()?.into_iter().for_each(|note| on_event(&Event::Note(note)));
        let skipped = std::mem::take(&mut self.skipped);
        self.note_skipped(&skipped, on_event);
        // Of the two files, the state is written first: a killed process may have left older weights.
        if self.saved.is_some() {
            let snapshots = self.snapshots()?;
            let evaluated = self.evaluated(snapshots)?;
            self.save(&self.folder.last(), evaluated.result())?;
            self.remove_other_epochs()?;
        }
        Ok(())
    }

    /// Trains to the end of the epoch, or of the run, and evaluates. False if the stop flag was set before.
    fn epoch(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<bool, TrainError> {
        let began = Instant::now();
        let before = self.clock.images;
        self.begin_epoch(on_event)?;
        if !self.is_epoch_done() {
            let mut loader = self.job.loader(self.progress.epoch, self.progress.epoch_step, self.size)?;
            while !self.is_epoch_done() {
                if self.is_stopped() {
                    return Ok(false);
                }
                self.update(&mut loader, on_event)?;
                let is_due =
                    self.job.recipe.checkpoint_every.is_some_and(|steps| self.progress.step.is_multiple_of(steps));
                if is_due && !self.is_epoch_done() {
                    let snapshots = self.snapshots()?;
                    self.checkpoint(&snapshots, &snapshots, on_event)?;
                }
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        self.clock.training += seconds;
        let trained = self.snapshots()?;
        let epoch = self.progress.epoch;
        let recalibrated = self.recalibrated(&trained, epoch)?;
        let snapshots = recalibrated.as_ref().unwrap_or(&trained);
        let (mut metrics, mut raw) = (None, None);
        if self.is_evaluated() {
            let Some(counted) = self.evaluate(snapshots.result(), on_event)? else { return Ok(false) };
            metrics = counted;
            if snapshots.averaged.is_some() {
                let Some(counted) = self.evaluate(&snapshots.raw, on_event)? else { return Ok(false) };
                raw = counted;
            }
        }
        let images_per_second = (self.clock.images - before) as f64 / seconds.max(1e-9);
        let mut row = self.row(metrics.as_ref(), raw.as_ref(), images_per_second);
        if let Some(metrics) = metrics {
            row.is_best = self.progress.best.is_none_or(|best| self.is_better(&metrics, &best.metrics));
            if row.is_best {
                self.progress.best = Some(Best { epoch, metrics });
                self.save(&self.folder.best(), snapshots.result())?;
            }
            self.progress.last = Some(metrics);
            let (metric, higher) = value(self.job.recipe.eval_metric, &metrics);
            self.schedule.observe(&mut self.progress.plateau, epoch + 1, metric, higher);
        }
        self.keep(Best { epoch, metrics: metrics.unwrap_or_default() }, snapshots.result())?;
        self.metrics.push(&row.to_csv())?;
        self.progress.metrics_rows = self.metrics.count();
        self.tensorboard.iter_mut().try_for_each(|file| file.epoch(&row))?;
        self.progress.epoch += 1;
        self.progress.epoch_step = 0;
        self.progress.train_metrics = Metrics::default();
        on_event(&Event::Epoch(row));
        let shortage = self.job.image_memory.as_ref().and_then(|memory| memory.shortage());
        if let (Some(shortage), 0) = (shortage, before) {
            on_event(&Event::Note(format!("cache_mb: {shortage}")));
        }
        self.checkpoint(&trained, snapshots, on_event)?;
        self.remove_other_epochs()?;
        Ok(true)
    }

    /// Whether the model is evaluated after this epoch.
    fn is_evaluated(&self) -> bool {
        let is_last = self.progress.step >= self.schedule.total_steps();
        is_last || (self.progress.epoch + 1).is_multiple_of(self.job.recipe.val_interval)
    }

    /// Saves the weights of an epoch, if they are kept.
    fn keep(&mut self, epoch: Best, model: &Snapshot) -> Result<(), TrainError> {
        let number = epoch.epoch + 1;
        let is_regular = self.job.recipe.keep_every.is_some_and(|every| number.is_multiple_of(every));
        if let Some(count) = self.job.recipe.checkpoint_hist
            && (epoch.metrics.images > 0 || self.job.held_out.is_none())
        {
            // Without held-out images, a later epoch is a better one.
            let worse = |kept: &Best| epoch.metrics.images == 0 || self.is_better(&epoch.metrics, &kept.metrics);
            let place = self.progress.kept.iter().position(worse).unwrap_or(self.progress.kept.len());
            self.progress.kept.insert(place, epoch);
            self.progress.kept.truncate(count);
        }
        if is_regular || self.progress.kept.iter().any(|kept| kept.epoch == epoch.epoch) {
            self.save(&self.folder.epoch(number), model)?;
        }
        Ok(())
    }

    /// Removes the weights of epochs that are not among the best any more, after a checkpoint that says so, or that a killed
    /// process saved after its last checkpoint.
    fn remove_other_epochs(&self) -> Result<(), TrainError> {
        for number in self.folder.epochs()? {
            let is_regular = self.job.recipe.keep_every.is_some_and(|every| number.is_multiple_of(every));
            let is_kept = self.progress.kept.iter().any(|kept| kept.epoch + 1 == number);
            let is_future = number > self.progress.epoch;
            if is_future || !(is_regular || is_kept) {
                let path = self.folder.epoch(number);
                std::fs::remove_file(&path).map_err(TrainError::io(&path))?;
            }
        }
        Ok(())
    }

    fn is_better(&self, new: &Metrics, old: &Metrics) -> bool {
        is_better(self.job.recipe.eval_metric, new, old)
    }

    fn is_epoch_done(&self) -> bool {
        self.progress.step >= self.schedule.total_steps() || self.progress.epoch_step >= self.job.epoch_steps()
    }

    /// At the first step of an epoch, unfreezes the layers that are trained from it on, and compiles the engine for the size of
    /// its images.
    fn begin_epoch(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<(), TrainError> {
        let epoch = self.progress.epoch;
        self.step.begin_epoch(epoch);
        let mut layers = self.job.transfer.unfrozen(epoch);
        if std::mem::replace(&mut self.trains, epoch) == epoch {
            layers.clear();
        }
        let size = self.job.train_size(epoch);
        if layers.is_empty() && size == self.size {
            return Ok(());
        }
        let (optimizer, averaged) = (self.step.optimizer_state(), self.step.averaged());
        let (taught, zeros) = (self.step.distillation_state(), self.step.zeros());
        let mut distillation = self.step.take_distillation();
        if size != self.size && distillation.is_some() {
            // The old one's memory is free before the new one needs some.
            drop(distillation);
            distillation = Distillation::new(self.job, self.options, size)?;
        }
        let model = self.snapshots()?.raw.trained;
        let step = train_step(self.job, &model, self.options, self.job.transfer.frozen(epoch), size)?;
        self.step = step.with_distillation(distillation);
        self.step.load(&model.tensors, &optimizer, averaged.as_ref(), self.progress.step)?;
        self.step.load_distillation(&taught)?;
        self.step.load_zeros(&zeros)?;
        self.step.begin_epoch(epoch);
        if !layers.is_empty() {
            let (count, layers) = (layers.len(), layers.join(", "));
            on_event(&Event::Note(format!("epoch {}: {count} more layers are trained: {layers}", epoch + 1)));
        }
        if std::mem::replace(&mut self.size, size) != size {
            on_event(&Event::Note(format!("epoch {}: training images of {}x{}", epoch + 1, size[0], size[1])));
        }
        Ok(())
    }

    /// Takes one step: the forward and backward passes of its batches, and one update.
    fn update(&mut self, loader: &mut Loader, on_event: &mut dyn FnMut(&Event)) -> Result<(), TrainError> {
        let began = Instant::now();
        let recipe = &self.job.recipe;
        let left = self.job.batches() - self.progress.epoch_step as usize * recipe.grad_accum_steps;
        let batches = recipe.grad_accum_steps.min(left);
        let lr = self.schedule.lr_after(self.progress.step, &self.progress.plateau);
        let (mut images, mut loss) = (0, 0.0);
        for index in 0..batches {
            let known = loader.skipped().len();
            let batch = loader.next().expect("an epoch has as many batches as it was planned with")?;
            self.note_skipped(&loader.skipped()[known..], on_event);
            // If every image of the batch was skipped, the batch has no gradient.
            if !batch.is_empty() {
                loss += batch.len() as f64 * self.backward(&batch, index, batches)?;
                images += batch.len() as u64;
            }
        }
        self.progress.step += 1;
        self.progress.epoch_step += 1;
        if images == 0 {
            return Ok(());
        }
        self.step_weights(lr)?;
        self.clock.images += images;
        let recipe = &self.job.recipe;
        let step = Step {
            step: self.progress.step,
            epoch: self.progress.epoch + 1,
            loss: loss / images as f64,
            lr,
            top1: self.progress.train_metrics.top1_percent(),
            images_per_second: images as f64 / began.elapsed().as_secs_f64().max(1e-9),
            logged: self.progress.step.is_multiple_of(recipe.log_every) || self.progress.step == 1,
        };
        if step.logged {
            let line = serde_json::to_string(&EventLine::from(step)).expect("numbers have a JSON form");
            self.events.push(&line)?;
            self.progress.event_lines = self.events.count();
            self.tensorboard.iter_mut().try_for_each(|file| file.step(&step))?;
        }
        on_event(&Event::Step(step));
        Ok(())
    }

    /// Updates the weights, and records the gradients if this step's are.
    fn step_weights(&mut self, lr: f64) -> Result<(), TrainError> {
        let Progress { step, epoch, .. } = self.progress;
        let every = self.job.recipe.log_gradients.filter(|&every| step == 1 || step.is_multiple_of(every));
        let (Some(_), Some(lines)) = (every, &mut self.gradients) else {
            self.step.update(lr);
            return Ok(());
        };
        let row = GradientRow { step, epoch: epoch + 1, layers: self.step.update_recorded(lr)? };
        lines.push(&serde_json::to_string(&row).expect("numbers have a JSON form"))?;
        self.progress.gradient_lines = lines.count();
        Ok(())
    }

    /// Forward and backward pass of the step's batch `index` of `batches`; returns its mean loss.
    fn backward(&mut self, batch: &Batch, index: usize, batches: usize) -> Result<f64, TrainError> {
        let step = self.progress.step;
        let counters: &[u64] = if index == 0 { &[DROPOUT, step] } else { &[DROPOUT, step, index as u64] };
        self.step.engine_mut().set_seed(Stream::new(self.job.recipe.seed, counters).next_u64());
        let loss = self.step.backward_pass(batch.images(), batch.targets(), batch.indices(), batches)?;
        if !loss.is_finite() {
            return Err(self.diverged(step + 1, format!("a loss of {loss}")));
        }
        if let Some(companion) = &mut self.companion {
            let pass = Pass { batch, size: self.size, step, index, batches };
            companion.add(self.step.engine_mut(), &pass)?;
        }
        self.step.after_backward();
        let logits = self.step.logits();
        // For mixed images, the label with the larger weight counts as correct.
        let labels = match batch.targets() {
            Targets::Mixed { b, lambda, .. } if lambda < 0.5 => b,
            _ => batch.labels(),
        };
        let classes = logits.len() / batch.len();
        self.progress.train_metrics.add(logits, labels, classes, loss * batch.len() as f64);
        Ok(loss)
    }

    /// Records skipped images, each once.
    fn note_skipped(&mut self, skipped: &[Skipped], on_event: &mut dyn FnMut(&Event)) {
        for Skipped { reason, .. } in skipped {
            if self.progress.skipped.insert(reason.clone()) {
                on_event(&Event::Skipped { reason: reason.clone() });
            }
        }
    }

    /// Evaluates on the held-out images, if there are any. The outer `None` means that the stop flag was set.
    #[expect(
        clippy::option_option,
        reason = "an evaluation may be interrupted, or there may be nothing to evaluate on"
    )]
    fn evaluate(
        &mut self,
        snapshot: &Snapshot,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<Option<Option<Metrics>>, TrainError> {
        let Some(held_out) = &self.job.held_out else { return Ok(Some(None)) };
        Ok(self.count(&snapshot.trained, &held_out.clone(), on_event)?.map(Some))
    }

    /// The metrics of `model` on `images`; `None` if the stop flag was set.
    fn count(
        &mut self,
        model: &Model,
        images: &Arc<dyn Dataset>,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<Option<Metrics>, TrainError> {
        let mut on_progress = |done, total| on_event(&Event::Evaluated { done, total });
        let counted = self.evaluator.count(model, images, self.stop, &mut on_progress)?;
        let Some((metrics, skipped)) = counted else { return Ok(None) };
        self.note_skipped(&skipped, on_event);
        Ok(Some(metrics))
    }

    /// Evaluates the best model, or else `last`, on the test images, if there are any. The outer `None` means that the stop
    /// flag was set.
    #[expect(clippy::option_option, reason = "as in `evaluate`")]
    fn test(&mut self, last: &Model, on_event: &mut dyn FnMut(&Event)) -> Result<Option<Option<Test>>, TrainError> {
        let Some(images) = self.job.test.clone() else { return Ok(Some(None)) };
        let (weights, metrics) = match self.progress.best {
            Some(_) => ("best", self.count(&residual_weights::load(&self.folder.best())?.model, &images, on_event)?),
            None => ("last", self.count(last, &images, on_event)?),
        };
        Ok(metrics.map(|metrics| {
            Some(Test {
                weights,
                data: images.describe_set(),
                images: metrics.images,
                top1: metrics.top1_percent(),
                top5: metrics.top5_percent(),
                loss: metrics.mean_loss(),
            })
        }))
    }

    /// Evaluates the teachers on the images that the student was judged on. `None` if the stop flag was set.
    fn judge_teachers(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<Option<Vec<Judged>>, TrainError> {
        let mut judged = Vec::new();
        for teacher in self.job.teachers()? {
            let mut top1 = [None; 2];
            let images = match self.job.recipe.learns_probabilities() {
                true => [&self.job.held_out, &self.job.test],
                // Its classes were not matched.
                false => [&None, &None],
            };
            // The memory of the network before it is free first.
            self.evaluator = self.job.evaluator(self.options);
            for (top1, images) in top1.iter_mut().zip(images) {
                let Some(images) = images else { continue };
                let mut on_progress = |done, total| on_event(&Event::Evaluated { done, total });
                let counted = self.evaluator.count(&teacher.model, images, self.stop, &mut on_progress)?;
                let Some((metrics, _)) = counted else { return Ok(None) };
                *top1 = Some(metrics.top1_percent());
            }
            let [top1, test_top1] = top1;
            let network = teacher.model.graph.name.clone();
            judged.push(Judged { weights: teacher.name.clone(), network, top1, test_top1 });
        }
        Ok(Some(judged))
    }

    fn row(&self, held_out: Option<&Metrics>, raw: Option<&Metrics>, images_per_second: f64) -> EpochRow {
        EpochRow {
            epoch: self.progress.epoch + 1,
            step: self.progress.step,
            lr: self.schedule.lr_after(self.progress.step.saturating_sub(1), &self.progress.plateau),
            train_loss: self.progress.train_metrics.mean_loss(),
            train_top1: self.progress.train_metrics.top1_percent(),
            loss: held_out.map(Metrics::mean_loss),
            top1: held_out.map(Metrics::top1_percent),
            top5: held_out.map(Metrics::top5_percent),
            raw: raw.map(|raw| RawMetrics {
                loss: raw.mean_loss(),
                top1: raw.top1_percent(),
                top5: raw.top5_percent(),
            }),
            images_per_second,
            seconds: self.clock.seconds(),
            is_best: false,
        }
    }

    /// The model as it is now.
    fn snapshots(&self) -> Result<Snapshots, TrainError> {
        let new = |tensors| Snapshot::new(tensors, &self.job.model, self.whole);
        let raw = new(self.step.engine().state_dict())?;
        if let Some(key) = raw.not_finite() {
            return Err(self.diverged(self.progress.step, format!("a tensor \"{key}\" that is not finite")));
        }
        Ok(Snapshots { raw, averaged: self.step.averaged().map(new).transpose()? })
    }

    /// The models of `snapshots` with the statistics of their own weights, if the recipe asks for that: computed from the first
    /// images of `epoch`.
    fn recalibrated(&mut self, snapshots: &Snapshots, epoch: u64) -> Result<Option<Snapshots>, TrainError> {
        let recipe = &self.job.recipe;
        if recipe.bn_recalibration == 0 {
            return Ok(None);
        }
        let size = self.size;
        let mut new = |snapshot: &Snapshot| {
            let loader = self.job.loader(epoch, 0, size)?.take(recipe.bn_recalibration);
            let (engine, tensors) = (self.step.engine_mut(), snapshot.trained.tensors.clone());
            let batches = loader.map(|batch| batch.map_err(TrainError::from));
            let tensors = recalibrate_batch_norms(engine, &self.job.model.graph, tensors, batches, recipe.seed)?;
            Snapshot::new(tensors, &self.job.model, self.whole)
        };
        Ok(Some(Snapshots {
            raw: new(&snapshots.raw)?,
            averaged: snapshots.averaged.as_ref().map(&mut new).transpose()?,
        }))
    }

    /// `snapshots` as they were evaluated after the last epoch; as they are in the middle of one.
    fn evaluated(&mut self, snapshots: Snapshots) -> Result<Snapshots, TrainError> {
        let recalibrated = match self.progress.epoch.checked_sub(1) {
            Some(epoch) if self.progress.epoch_step == 0 => self.recalibrated(&snapshots, epoch)?,
            _ => None,
        };
        Ok(recalibrated.unwrap_or(snapshots))
    }

    /// Writes the training state, from which a run is resumed, and then the weights: those of `evaluated`.
    fn checkpoint(
        &mut self,
        trained: &Snapshots,
        evaluated: &Snapshots,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<(), TrainError> {
        self.metrics.sync()?;
        self.events.sync()?;
        self.gradients.iter().try_for_each(Lines::sync)?;
        self.progress.tensorboard_bytes = self.tensorboard.as_ref().map_or(Ok(0), EventFile::sync)?;
        self.progress.seconds = self.clock.seconds();
        let state = State {
            progress: self.progress.clone(),
            recipe: self.job.recipe.to_toml(),
            model: trained.raw.trained.tensors.clone(),
            optimizer: self.step.optimizer_state(),
            averaged: trained.averaged.as_ref().map(|averaged| averaged.trained.tensors.clone()),
            distillation: self.step.distillation_state(),
            zeros: self.step.zeros(),
        };
        state.save(&self.folder.state())?;
        self.saved = Some(self.progress.step);
        self.save(&self.folder.last(), evaluated.result())?;
        on_event(&Event::Checkpoint { step: self.progress.step });
        Ok(())
    }

    fn save(&self, path: &Path, snapshot: &Snapshot) -> Result<(), TrainError> {
        Ok(save(path, snapshot.model(), Some(&self.job.recipe.to_toml()))?)
    }

    fn diverged(&self, step: u64, got: String) -> TrainError {
        TrainError::Diverged { step, got, good: self.saved.map(|step| (self.folder.last(), step)) }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn summary(&self, test: Option<Test>) -> Summary {
        let Progress { last, best, .. } = &self.progress;
        let Clock { images, training, .. } = self.clock;
        Summary {
            run: self.folder.path().to_path_buf(),
            epochs: self.progress.epoch,
            steps: self.progress.step,
            top1: last.map(|metrics| metrics.top1_percent()),
            top5: last.map(|metrics| metrics.top5_percent()),
            loss: last.map(|metrics| metrics.mean_loss()),
            best_top1: best.map(|best| best.metrics.top1_percent()),
            best_epoch: best.map(|best| best.epoch + 1),
            metric: self.job.recipe.eval_metric.name(),
            test,
            images_per_second: if training > 0.0 { images as f64 / training } else { 0.0 },
            seconds: self.clock.seconds(),
            skipped: self.progress.skipped.iter().cloned().collect(),
            teachers: Vec::new(),
        }
    }
}

/// The value of a metric, and whether a higher one is better.
fn value(metric: EvalMetric, metrics: &Metrics) -> (f64, bool) {
    match metric {
        EvalMetric::Top1 => (metrics.top1_percent(), true),
        EvalMetric::Top5 => (metrics.top5_percent(), true),
        EvalMetric::Loss => (metrics.mean_loss(), false),
    }
}

/// Whether `new` is better than `old`; of equal accuracies, the one with the lower loss. A loss that is not a number is the
/// worst.
fn is_better(metric: EvalMetric, new: &Metrics, old: &Metrics) -> bool {
    let is_lower = new.mean_loss() < old.mean_loss() || old.mean_loss().is_nan() && !new.mean_loss().is_nan();
    let by =
        |accuracy: fn(&Metrics) -> f64| accuracy(new) > accuracy(old) || accuracy(new) == accuracy(old) && is_lower;
    match metric {
        EvalMetric::Top1 => by(Metrics::top1_percent),
        EvalMetric::Top5 => by(Metrics::top5_percent),
        EvalMetric::Loss => is_lower,
    }
}
