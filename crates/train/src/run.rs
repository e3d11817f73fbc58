//! The training loop: steps, evaluations, checkpoints, and going on where a run was interrupted.

use crate::event::EventLine;
use crate::prepare::{EVALUATION_BATCH, Job};
use crate::probe::{Cached, Probe};
use crate::run_folder::Lines;
use crate::state::{Best, DataShape, Held, Progress, State};
use crate::transfer::Transfer;
use crate::{EpochRow, Event, RunFolder, Schedule, Step, TrainError};
use residual_data::{Loader, LoaderOptions, Skipped};
use residual_engine::{Engine, Frozen, Memory, Options};
use residual_files::atomic_write;
use residual_infer::{EvaluateOptions, Metrics, read_tuning, write_tuning};
use residual_kernels::loss::{Targets, cross_entropy};
use residual_kernels::optim::{Sgd, sgd};
use residual_model::Model;
use residual_tensor::{AlignedBuffer, NamedTensors, Stream};
use residual_weights::save;
use serde::Serialize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Keeps the seeds of dropout masks apart from other random numbers.
const DROPOUT: u64 = u64::from_be_bytes(*b"dropout.");

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All its steps were taken.
    Finished(Summary),
    /// The stop flag was set; a checkpoint holds everything done so far.
    Interrupted(Summary),
}

/// What a run came to. Accuracies are in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The run's folder.
    pub run: PathBuf,
    /// Epochs that were finished.
    pub epochs: u64,
    /// Steps that were taken.
    pub steps: u64,
    /// Top-1 on the held-out images at the last evaluation; `None` before the first.
    pub top1: Option<f64>,
    /// Top-5 at the last evaluation.
    pub top5: Option<f64>,
    /// Mean loss at the last evaluation.
    pub loss: Option<f64>,
    /// The best top-1 of any epoch.
    pub best_top1: Option<f64>,
    /// The epoch of the best top-1, from 1.
    pub best_epoch: Option<u64>,
    /// Training images a second in this process, evaluations not counted.
    pub images_per_second: f64,
    /// Seconds of work, interruptions not counted.
    pub seconds: f64,
    /// Images that were left out, and why.
    pub skipped: Vec<String>,
}

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
    // Compiled first: what cannot be run leaves no folder behind.
    let start = Start::new(job, options, 0)?;
    let folder = RunFolder::create(runs, &job.model.graph.name, &job.recipe.data)?;
    let config = job.recipe.to_toml();
    if let Some(tuning) = &options.tuning {
        write_tuning(&folder.tuning(), tuning)?;
    }
    atomic_write(&folder.config(), |file| file.write_all(config.as_bytes()))?;
    start.go(job, folder, None, options, stop, on_event)
}

/// Goes on with the run in `folder` from its last checkpoint, or from the beginning if it has none. With the same
/// instruction set the result is bit-identical to that of a run that was never interrupted: algorithms that were measured
/// are those that the run began with, whatever `options` say.
///
/// # Errors
/// If the checkpoint is not one of this job, an image cannot be read, the loss is no longer a number, or a file
/// cannot be written.
pub fn resume(
    job: &Job,
    folder: RunFolder,
    options: &Options,
    stop: &Arc<AtomicBool>,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Outcome, TrainError> {
    let state = if folder.state().exists() { Some(State::load(&folder.state())?) } else { None };
    let tuned = folder.tuning();
    let tuning = if tuned.exists() { Some(Arc::new(read_tuning(&tuned)?)) } else { None };
    let options = &Options { tuning, ..options.clone() };
    let epoch = state.as_ref().map_or(0, |state| state.progress.epoch);
    Start::new(job, options, epoch)?.go(job, folder, state, options, stop, on_event)
}

/// What a run compiles before it begins.
enum Start<'a> {
    /// The network, to be trained on images.
    Network(Box<Engine>),
    /// The frozen backbone, whose features a head is trained on.
    Probe(Box<Probe<'a>>),
}

impl<'a> Start<'a> {
    fn new(job: &'a Job, options: &Options, epoch: u64) -> Result<Self, TrainError> {
        if job.recipe.cache_features {
            return Ok(Self::Probe(Box::new(Probe::new(job, options)?)));
        }
        let frozen = Transfer::new(&job.recipe, &job.model.graph)?.frozen(epoch);
        Ok(Self::Network(Box::new(engine(job, &job.model, options, frozen)?)))
    }

    fn go(
        self,
        job: &Job,
        folder: RunFolder,
        state: Option<State>,
        options: &Options,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<Outcome, TrainError> {
        let transfer = Transfer::new(&job.recipe, &job.model.graph)?;
        let probe = match self {
            Self::Network(engine) => {
                return Run::new(job, None, folder, *engine, transfer, state, options, stop)?.go(on_event);
            }
            Self::Probe(probe) => probe,
        };
        let Some(Cached { job: cached, skipped, bytes }) = probe.run(stop, on_event)? else {
            return Ok(Outcome::Interrupted(Summary::none(&folder)));
        };
        let engine = engine(&cached, &cached.model, options, Frozen::default())?;
        let mut run = Run::new(&cached, Some(&job.model), folder, engine, transfer, state, options, stop)?;
        (run.left_out, run.cached_bytes) = (skipped, bytes);
        run.go(on_event)
    }
}

fn engine(job: &Job, model: &Model, options: &Options, frozen: Frozen) -> Result<Engine, TrainError> {
    let [(mode, batch), _] = job.plans();
    Ok(Engine::new(model, mode, batch, model.preprocessing.size, &[], &training(job, options, frozen))?)
}

fn training(job: &Job, options: &Options, frozen: Frozen) -> Options {
    let grad_checkpointing = job.recipe.grad_checkpointing;
    Options { grad_checkpointing, frozen: Arc::new(frozen), ..options.clone() }
}

struct Run<'a> {
    job: &'a Job,
    /// The model that the job's is a part of, if it is.
    whole: Option<&'a Model>,
    folder: RunFolder,
    engine: Engine,
    velocity: AlignedBuffer,
    transfer: Transfer,
    /// The epoch whose layers the engine trains.
    trains: u64,
    /// The stretches of the bucket with a learning rate of their own, over the schedule's.
    rates: Vec<(Range<usize>, f64)>,
    progress: Progress,
    schedule: Schedule,
    epoch_steps: u64,
    drop_last: bool,
    metrics: Lines,
    events: Lines,
    options: &'a Options,
    stop: &'a AtomicBool,
    /// When this process began, less the seconds that an earlier one worked.
    earlier_seconds: f64,
    began: Instant,
    /// Images trained on by this process and the seconds that took.
    trained: (u64, f64),
    /// The step of the last checkpoint.
    saved: Option<u64>,
    /// Images that were left out before the first step.
    left_out: Vec<Skipped>,
    /// Bytes of features that are kept, and of the plan that computed them.
    cached_bytes: [usize; 2],
}

impl<'a> Run<'a> {
    fn new(
        job: &'a Job,
        whole: Option<&'a Model>,
        folder: RunFolder,
        mut engine: Engine,
        transfer: Transfer,
        state: Option<State>,
        options: &'a Options,
        stop: &'a AtomicBool,
    ) -> Result<Self, TrainError> {
        let data = DataShape {
            train_images: job.train.len(),
            held_out_images: job.held_out.len(),
            classes: job.train.class_names().to_vec(),
        };
        let (progress, velocity, saved) = match state {
            None => {
                (Progress { data, ..Progress::default() }, AlignedBuffer::zeros(engine.flat_mut().values.len()), None)
            }
            Some(state) => {
                state.check(&job.recipe, &data, &folder)?;
                engine.load_state_dict(&state.model)?;
                let velocity = match transfer.thawed(state.progress.epoch).is_empty() {
                    true => engine.from_torch(&state.velocity)?,
                    false => thawed_velocity(&engine, &state.velocity)?,
                };
                let saved = state.progress.step;
                (state.progress, velocity, Some(saved))
            }
        };
        let (epoch_steps, drop_last) = job.batches();
        Ok(Self {
            metrics: Lines::open(folder.metrics(), EpochRow::HEADER, progress.metrics_rows)?,
            events: Lines::open(folder.events(), "", progress.event_lines)?,
            schedule: Schedule::new(&job.recipe, epoch_steps),
            earlier_seconds: progress.seconds,
            trains: progress.epoch,
            rates: rates(&transfer, &mut engine),
            job,
            whole,
            folder,
            engine,
            velocity,
            transfer,
            progress,
            epoch_steps,
            drop_last,
            options,
            stop,
            began: Instant::now(),
            trained: (0, 0.0),
            saved,
            left_out: Vec::new(),
            cached_bytes: [0; 2],
        })
    }

    fn go(mut self, on_event: &mut dyn FnMut(&Event)) -> Result<Outcome, TrainError> {
        let steps = self.schedule.total_steps();
        on_event(&Event::Started {
            run: self.folder.path().to_path_buf(),
            step: self.progress.step,
            steps,
            epoch_steps: self.epoch_steps,
            memory: self.memory()?,
        });
        if let (0, Some(head)) = (self.progress.step, &self.job.new_head) {
            on_event(&Event::NewHead(head.clone()));
        }
        let notes = self.job.train.notes();
        let others = self.job.held_out.notes().iter().filter(|note| !notes.contains(note));
        notes.iter().chain(others).for_each(|note| on_event(&Event::Note(note.clone())));
        let left_out = std::mem::take(&mut self.left_out);
        self.skip(&left_out, on_event);
        if self.saved.is_some() {
            self.save_weights()?;
        }
        while self.progress.step < steps || self.progress.batch > 0 {
            if !self.epoch(on_event)? {
                self.checkpoint(on_event)?;
                return Ok(Outcome::Interrupted(self.summary()));
            }
        }
        Ok(Outcome::Finished(self.summary()))
    }

    /// The bytes that the run will hold at most, without those of the dataset: while it takes steps, or while it evaluates
    /// and so has a second engine beside the one that it trains.
    fn memory(&self) -> Result<u64, TrainError> {
        let Job { recipe, model, .. } = self.job;
        let bucket = 4 * self.velocity.len();
        let image = 4 * model.graph.input_size()[0] * model.preprocessing.size.iter().product::<usize>();
        // The loader's threads are at most two batches further than there are threads, beside the batch in use.
        let batches = |batch: usize| (recipe.workers + 3) * batch * image;
        let [_, (mode, batch)] = self.job.plans();
        let plan = Engine::required_memory(model, mode, batch, model.preprocessing.size, &[], self.options)?;
        // Weights go through a state dict into the second engine, where they stand in their usual layout until packed.
        let evaluation = plan.total() + 2 * bucket + batches(batch);
        // When layers thaw, the next engine is made beside the last.
        let [(mode, batch), _] = self.job.plans();
        let bytes = |&epoch: &u64| {
            let options = training(self.job, self.options, self.transfer.frozen(epoch));
            Engine::required_memory(model, mode, batch, model.preprocessing.size, &[], &options)
        };
        let thaws = self.transfer.thaws();
        let later: Vec<Memory> = thaws.range(self.progress.epoch + 1..).map(bytes).collect::<Result<_, _>>()?;
        let most = later.iter().map(Memory::total).max().unwrap_or(0);
        let before = if later.len() > 1 { most } else { self.engine.bytes() };
        let engine = self.engine.bytes().max(before + most);
        // Beside the engine: the momentum, and the model as it was in the beginning.
        let training = engine + 2 * bucket + evaluation.max(batches(recipe.batch_size));
        let [features, backbone] = self.cached_bytes;
        Ok((features + training.max(backbone)) as u64)
    }

    /// Trains the layers that thaw in this epoch too, from its first step on.
    fn thaw(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<(), TrainError> {
        let epoch = self.progress.epoch;
        if std::mem::replace(&mut self.trains, epoch) == epoch || self.transfer.thawed(epoch).is_empty() {
            return Ok(());
        }
        let velocity = self.engine.to_torch(&self.velocity);
        self.engine = engine(self.job, &self.current()?, self.options, self.transfer.frozen(epoch))?;
        self.velocity = thawed_velocity(&self.engine, &velocity)?;
        self.rates = rates(&self.transfer, &mut self.engine);
        let (count, layers) = (self.transfer.thawed(epoch).len(), self.transfer.thawed(epoch).join(", "));
        on_event(&Event::Note(format!("epoch {}: {count} more layers are trained: {layers}", epoch + 1)));
        Ok(())
    }

    /// Trains to the end of the epoch, or of the run, and evaluates. False if the stop flag was set before.
    fn epoch(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<bool, TrainError> {
        let steps = self.schedule.total_steps();
        let began = Instant::now();
        let mut images = 0;
        self.thaw(on_event)?;
        if self.progress.step < steps && self.progress.batch < self.epoch_steps {
            let mut loader = self.loader()?;
            while self.progress.step < steps && self.progress.batch < self.epoch_steps {
                if self.stopped() {
                    return Ok(false);
                }
                images += self.step(&mut loader, on_event)?;
                let at_end = self.progress.step == steps || self.progress.batch == self.epoch_steps;
                let due = self.job.recipe.checkpoint_every.is_some_and(|n| self.progress.step.is_multiple_of(n));
                if due && !at_end {
                    self.checkpoint(on_event)?;
                }
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        self.trained = (self.trained.0 + images, self.trained.1 + seconds);
        let Some((model, held)) = self.evaluate(on_event)? else { return Ok(false) };
        let row = self.row(&held, images as f64 / seconds.max(1e-9));
        self.metrics.push(&row.to_csv())?;
        self.progress.metrics_rows = self.metrics.count();
        if self.progress.best.is_none_or(|best| held.top1 > best.held.0.top1) {
            self.progress.best = Some(Best { epoch: self.progress.epoch, held: Held(held) });
            save_model(&self.folder.best(), &model, &self.job.recipe.to_toml())?;
        }
        self.progress.last = Some(Held(held));
        self.progress.epoch += 1;
        self.progress.batch = 0;
        self.progress.tally = Metrics::default();
        on_event(&Event::Epoch(row));
        self.checkpoint(on_event)?;
        Ok(true)
    }

    fn loader(&self) -> Result<Loader, TrainError> {
        let recipe = &self.job.recipe;
        let options = LoaderOptions {
            batch_size: recipe.batch_size,
            shuffle: recipe.shuffle,
            drop_last: self.drop_last,
            seed: recipe.seed,
            epoch: self.progress.epoch,
            start_batch: self.progress.batch as usize,
            workers: recipe.workers,
            skip_bad_images: recipe.skip_bad_images,
        };
        Ok(Loader::new(self.job.train.clone(), self.job.transform()?, options)?)
    }

    /// Takes one step; returns the number of its images.
    fn step(&mut self, loader: &mut Loader, on_event: &mut dyn FnMut(&Event)) -> Result<u64, TrainError> {
        let began = Instant::now();
        let known = loader.skipped().len();
        let batch = loader.next().expect("an epoch has as many batches as it was planned with")?;
        self.skip(&loader.skipped()[known..], on_event);
        let lr = self.schedule.lr(self.progress.step);
        let mut loss = 0.0;
        // If every image of the batch was left out there is nothing to learn, and the step passes.
        if !batch.is_empty() {
            loss = self.learn(batch.images(), batch.labels(), lr)?;
        }
        self.progress.step += 1;
        self.progress.batch += 1;
        let recipe = &self.job.recipe;
        let step = Step {
            step: self.progress.step,
            epoch: self.progress.epoch + 1,
            loss,
            lr,
            top1: self.progress.tally.top1_percent(),
            images_per_second: batch.len() as f64 / began.elapsed().as_secs_f64().max(1e-9),
            logged: self.progress.step.is_multiple_of(recipe.log_every) || self.progress.step == 1,
        };
        if step.logged {
            let Step { step, epoch, loss, lr, images_per_second, .. } = step;
            let line = EventLine { step, epoch, loss, lr, images_per_second };
            self.events.push(&serde_json::to_string(&line).expect("numbers have a JSON form"))?;
            self.progress.event_lines = self.events.count();
        }
        on_event(&Event::Step(step));
        Ok(batch.len() as u64)
    }

    /// Forward, loss, backward, update; returns the mean loss.
    fn learn(&mut self, images: &[f32], labels: &[u32], lr: f64) -> Result<f64, TrainError> {
        let recipe = &self.job.recipe;
        let step = self.progress.step;
        self.engine.set_seed(Stream::new(recipe.seed, &[DROPOUT, step]).next_u64());
        self.engine.forward(images)?;
        let logits = self.engine.output();
        let classes = logits.len() / labels.len();
        let mut gradient = vec![0.0; logits.len()];
        let loss = cross_entropy(logits, Targets::Hard(labels), classes, recipe.smoothing as f32, Some(&mut gradient));
        if !loss.is_finite() {
            return Err(self.diverged(step + 1, format!("a loss of {loss}")));
        }
        self.progress.tally.add(logits, labels, classes, loss * labels.len() as f64);
        let output = self.engine.output_name().to_owned();
        self.engine.backward(&[(&output, &gradient)])?;
        let flat = self.engine.flat_mut();
        for (range, rate) in &self.rates {
            let rule = Sgd {
                lr: (lr * rate) as f32,
                momentum: recipe.momentum as f32,
                weight_decay: recipe.weight_decay as f32,
                nesterov: recipe.nesterov,
            };
            let (values, gradients) = (&mut flat.values[range.clone()], &flat.gradients[range.clone()]);
            let velocity = &mut self.velocity[range.clone()];
            sgd(self.options.isa, &self.options.pool, values, gradients, velocity, &rule);
        }
        Ok(loss)
    }

    /// Notes which images were left out, each once.
    fn skip(&mut self, skipped: &[Skipped], on_event: &mut dyn FnMut(&Event)) {
        for Skipped { reason, .. } in skipped {
            if self.progress.skipped.insert(reason.clone()) {
                on_event(&Event::Skipped { reason: reason.clone() });
            }
        }
    }

    fn evaluate(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<Option<(Model, Metrics)>, TrainError> {
        let model = self.current()?;
        let options = EvaluateOptions {
            engine: self.options.clone(),
            batch_size: EVALUATION_BATCH,
            workers: self.job.recipe.workers,
            skip_bad_images: self.job.recipe.skip_bad_images,
            class_map: None,
        };
        let mut on_progress = |done, total| on_event(&Event::Evaluated { done, total });
        let counted = residual_infer::count(&model, &self.job.held_out, &options, self.stop, &mut on_progress)?;
        let Some((metrics, skipped)) = counted else { return Ok(None) };
        self.skip(&skipped, on_event);
        Ok(Some((self.model()?, metrics)))
    }

    fn row(&self, held: &Metrics, images_per_second: f64) -> EpochRow {
        EpochRow {
            epoch: self.progress.epoch + 1,
            step: self.progress.step,
            lr: self.schedule.lr(self.progress.step.saturating_sub(1)),
            train_loss: self.progress.tally.mean_loss(),
            train_top1: self.progress.tally.top1_percent(),
            loss: held.mean_loss(),
            top1: held.top1_percent(),
            top5: held.top5_percent(),
            images_per_second,
            seconds: self.seconds(),
        }
    }

    /// The model that is trained, as it is now.
    fn current(&self) -> Result<Model, TrainError> {
        let Model { graph, preprocessing, labels, .. } = self.job.model.clone();
        Ok(Model::new(graph, self.engine.state_dict(), preprocessing, labels)?)
    }

    /// The whole model as it is now.
    fn model(&self) -> Result<Model, TrainError> {
        let Some(whole) = self.whole else { return self.current() };
        let Model { graph, mut tensors, preprocessing, labels } = whole.clone();
        tensors.extend(self.engine.state_dict());
        Ok(Model::new(graph, tensors, preprocessing, labels)?)
    }

    /// Writes the state, which is what a resume reads, and then the weights, which are what it holds.
    fn checkpoint(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<(), TrainError> {
        let model = self.engine.state_dict();
        let broken = |(_, tensor): &(&String, &residual_tensor::Tensor)| {
            tensor.as_f32().is_some_and(|values| values.iter().any(|value| !value.is_finite()))
        };
        if let Some((key, _)) = model.iter().find(broken) {
            return Err(self.diverged(self.progress.step, format!("a tensor \"{key}\" that is not finite")));
        }
        self.metrics.sync()?;
        self.events.sync()?;
        self.progress.seconds = self.seconds();
        let state = State {
            progress: self.progress.clone(),
            recipe: self.job.recipe.to_toml(),
            model,
            velocity: self.engine.to_torch(&self.velocity),
        };
        state.save(&self.folder.state())?;
        self.saved = Some(self.progress.step);
        self.save_weights()?;
        on_event(&Event::Checkpoint { step: self.progress.step });
        Ok(())
    }

    fn save_weights(&self) -> Result<(), TrainError> {
        save_model(&self.folder.last(), &self.model()?, &self.job.recipe.to_toml())
    }

    fn diverged(&self, step: u64, got: String) -> TrainError {
        TrainError::Diverged { step, got, good: self.saved.map(|step| (self.folder.last(), step)) }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn seconds(&self) -> f64 {
        self.earlier_seconds + self.began.elapsed().as_secs_f64()
    }

    fn summary(&self) -> Summary {
        let last = self.progress.last.map(|held| held.0);
        let best = self.progress.best;
        let (images, seconds) = self.trained;
        Summary {
            run: self.folder.path().to_path_buf(),
            epochs: self.progress.epoch,
            steps: self.progress.step,
            top1: last.map(|tally| tally.top1_percent()),
            top5: last.map(|tally| tally.top5_percent()),
            loss: last.map(|tally| tally.mean_loss()),
            best_top1: best.map(|best| best.held.0.top1_percent()),
            best_epoch: best.map(|best| best.epoch + 1),
            images_per_second: if seconds > 0.0 { images as f64 / seconds } else { 0.0 },
            seconds: self.seconds(),
            skipped: self.progress.skipped.iter().cloned().collect(),
        }
    }
}

impl Summary {
    /// Of a run that took no step.
    fn none(folder: &RunFolder) -> Self {
        Self {
            run: folder.path().to_path_buf(),
            epochs: 0,
            steps: 0,
            top1: None,
            top5: None,
            loss: None,
            best_top1: None,
            best_epoch: None,
            images_per_second: 0.0,
            seconds: 0.0,
            skipped: Vec::new(),
        }
    }
}

/// The momentum of an engine of which some layers have just thawed: theirs begins at zero.
fn thawed_velocity(engine: &Engine, before: &NamedTensors) -> Result<AlignedBuffer, TrainError> {
    // Nothing has gone back through it: all gradients are zero.
    let mut velocity = engine.gradients();
    velocity.extend(before.iter().map(|(key, tensor)| (key.clone(), tensor.clone())));
    Ok(engine.from_torch(&velocity)?)
}

fn rates(transfer: &Transfer, engine: &mut Engine) -> Vec<(Range<usize>, f64)> {
    let flat = engine.flat_mut();
    transfer.rates(flat.entries, flat.values.len())
}

fn save_model(path: &Path, model: &Model, recipe: &str) -> Result<(), TrainError> {
    Ok(save(path, model, Some(recipe))?)
}
