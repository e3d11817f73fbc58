//! Progress of a run or an evaluation: a live bar on a terminal, plain lines elsewhere.

use crate::output::{bytes, complain, count, duration, facts, grouped, has_bar, path_text, quoted_path};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use residual::train::{EpochRow, Event, NewHead, RunInfo, Step};
use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Steps after which the time of a run is estimated.
const ESTIMATE_AFTER: u64 = 20;
/// Time between two lines about images where there is no bar.
const LINES_EVERY: Duration = Duration::from_secs(10);

/// Shows the events of a run or an evaluation on stderr.
pub(crate) struct Progress {
    /// The bar, on a terminal.
    bar: Option<ProgressBar>,
    /// When the last line about images was printed; `None` if none are.
    last_line: Option<Cell<Instant>>,
    steps: u64,
    epochs: u64,
    /// Images per second, a running average over steps.
    speed: f64,
    run: Option<PathBuf>,
    /// When the epoch began.
    epoch_start: Instant,
    /// Whether the heading of the epochs' table was shown.
    headed: bool,
    /// Whether top-5 accuracy is shown: of five classes or fewer it is always 100 %.
    has_top5: bool,
    /// Whether the accuracy of the weights without averaging is shown.
    has_raw: bool,
    /// Seconds and epochs since the run was started or resumed.
    trained: (f64, u32),
    /// The first step of this process and when it ended, until the time of the run is estimated.
    first_step: Option<(u64, Instant)>,
    is_estimated: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = has_bar().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("{bar:16} {pos}/{len}  {wide_msg}  {eta} left");
            bar.set_style(style.expect("the template is well formed").progress_chars("█▉▊▋▌▍▎▏ "));
            bar
        });
        Self { last_line: bar.is_none().then(|| Cell::new(Instant::now())), bar, ..Self::hidden() }
    }

    /// One without a bar and without lines about images.
    pub(crate) fn hidden() -> Self {
        Self {
            bar: None,
            last_line: None,
            steps: 0,
            epochs: 0,
            speed: 0.0,
            run: None,
            epoch_start: Instant::now(),
            headed: false,
            has_top5: true,
            has_raw: false,
            trained: (0.0, 0),
            first_step: None,
            is_estimated: false,
        }
    }

    /// Shows one event.
    pub(crate) fn show(&mut self, event: &Event) {
        match event {
            Event::Started(info) => self.started(info),
            Event::NewHead(NewHead { layer, old, new, kept }) => {
                let how = match kept {
                    0 => "randomly initialised".to_owned(),
                    kept if kept == new => "trained outputs matched by class name".to_owned(),
                    kept => format!("{kept} trained outputs matched by class name, the others randomly initialised"),
                };
                self.line(&format!("new head {layer}: {old} → {}, {how}", count(*new as u64, "class")));
            }
            Event::Features { done, total } => self.images("features", *done, *total),
            Event::Step(step) => self.step(step),
            Event::Evaluated { done, total } => self.images("evaluating", *done, *total),
            Event::Epoch(row) => self.epoch(row),
            Event::Checkpoint { .. } => {}
            Event::Skipped { reason } => self.line(&format!("skipped: {reason}")),
            Event::Note(text) => self.line(text),
        }
    }

    /// The configuration of the run, before its first step.
    fn started(&mut self, info: &RunInfo) {
        let RunInfo { run, step, steps, model, input: [channels, height, width], classes, .. } = info;
        (self.steps, self.epochs) = (*steps, steps.div_ceil(info.epoch_steps.max(1)));
        (self.has_top5, self.has_raw) = (classes.len() > 5, info.model_ema);
        let names = if classes.len() <= 5 { format!(" ({})", classes.join(", ")) } else { String::new() };
        let batch = match info.grad_accum_steps {
            1 => format!("batch size {}", info.batch_size),
            steps => format!("batch size {} × {steps}", info.batch_size),
        };
        let from = if *step > 0 { format!(", resumed at step {step}") } else { String::new() };
        let (all, epochs) = (count(*steps, "step"), count(self.epochs, "epoch"));
        let (parameters, classes) = (grouped(info.parameters), count(classes.len() as u64, "class"));
        let held_out = info.held_out.as_deref().unwrap_or("nothing: no evaluation, no best epoch");
        let (threads, memory) = (count(info.threads as u64, "thread"), bytes(info.memory));
        let input = format!("input {channels}×{height}×{width}");
        let mut rows = vec![
            ("run", path_text(run)),
            ("network", format!("{model}, {parameters} parameters, {input}, {classes}{names}")),
            ("training", info.train.clone()),
            ("held out", held_out.to_owned()),
        ];
        rows.extend(info.test.clone().map(|test| ("test", format!("{test}, judged once, at the end"))));
        let precision = match info.memory_in_floats {
            Some(floats) => format!(", bf16; peak memory about {memory} without the dataset, {} in f32", bytes(floats)),
            None => format!(", peak memory about {memory} without the dataset"),
        };
        rows.extend([
            ("recipe", format!("{epochs}, {all}{from}; {batch}, {}, lr {}, {}", info.opt, info.lr, info.sched)),
            ("compute", format!("{threads}, {}{precision}", info.isa)),
        ]);
        facts(&rows).lines().for_each(|row| self.line(row));
        self.run = Some(run.clone());
        self.epoch_start = Instant::now();
        if *step == *steps && *step > 0 {
            let run = quoted_path(run);
            self.line(&format!(
                "this run is finished; to train further, start a new one from its weights: residual train --weights {run}"
            ));
        }
        if let Some(bar) = &self.bar {
            bar.set_length(self.steps);
            bar.set_position(*step);
            bar.reset_eta();
        }
    }

    /// The number of images done so far; `what` names the work, such as "evaluating".
    pub(crate) fn images(&self, what: &str, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            if self.run.is_none() {
                bar.set_length(total);
                bar.set_position(done);
            }
            bar.set_message(format!("{what}, {done} of {total} images"));
        }
        if let Some(last) = &self.last_line
            && last.get().elapsed() >= LINES_EVERY
        {
            last.set(Instant::now());
            complain(&format!("{what}, {done} of {total} images"));
        }
    }

    /// The number of steps done so far of something that is no run.
    pub(crate) fn steps(&self, what: &str, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            bar.set_message(what.to_owned());
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| complain(text)),
            None => complain(text),
        }
    }

    fn step(&mut self, step: &Step) {
        self.speed =
            if self.speed == 0.0 { step.images_per_second } else { 0.9 * self.speed + 0.1 * step.images_per_second };
        let Step { step, epoch, loss, lr, top1, logged, .. } = *step;
        let (first, began) = *self.first_step.get_or_insert_with(|| (step, Instant::now()));
        if !self.is_estimated && step >= first + ESTIMATE_AFTER {
            let per_step = began.elapsed().as_secs_f64() / (step - first) as f64;
            let left = duration(per_step * self.steps.saturating_sub(step) as f64);
            self.line(&format!("estimate  {left} to go, without evaluations"));
            self.is_estimated = true;
        }
        let (steps, epochs, speed) = (self.steps, self.epochs, self.speed);
        match &self.bar {
            Some(bar) => {
                bar.set_position(step);
                // With the rest of the template it fits a terminal of 80 columns.
                bar.set_message(format!("epoch {epoch} loss {loss:.3} acc {top1:.1} % {speed:.0} images/s"));
            }
            None if logged => complain(&format!(
                "step {step}/{steps}  epoch {epoch}/{epochs}  loss {loss:.4}  acc {top1:.2} %  lr {lr:.4}  {speed:.0} images/s"
            )),
            None => {}
        }
    }

    /// A row of the table of epochs, and before the first row the heading.
    fn epoch(&mut self, row: &EpochRow) {
        let EpochRow { epoch, lr, train_loss, train_top1, .. } = *row;
        let cell =
            |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        let (loss, top1) = (cell(row.loss, 4), cell(row.top1, 2));
        let top5 = |text: String| if self.has_top5 { format!("  {text:>7}") } else { String::new() };
        let raw = |text: String| if self.has_raw { format!("  {text:>7}") } else { String::new() };
        if !self.headed {
            let (top5, raw) = (top5("val@5".to_owned()), raw("raw acc".to_owned()));
            self.line(&format!(
                "{:>9}  {:>10}  {:>9}  {:>8}  {:>7}{top5}{raw}  {:>8}  {:>6}  {:>8}",
                "epoch", "train loss", "train acc", "val loss", "val acc", "lr", "time", "left"
            ));
            self.headed = true;
        }
        let seconds = self.epoch_start.elapsed().as_secs_f64();
        self.epoch_start = Instant::now();
        self.trained = (self.trained.0 + seconds, self.trained.1 + 1);
        let left = self.trained.0 / f64::from(self.trained.1) * self.epochs.saturating_sub(epoch) as f64;
        let (time, left) = (duration(seconds), duration(left));
        let (top5, raw) = (top5(cell(row.top5, 2)), raw(cell(row.raw.map(|raw| raw.top1), 2)));
        let best = if row.is_best { "  best" } else { "" };
        let epoch = format!("{epoch}/{}", self.epochs);
        self.line(&format!(
            "{epoch:>9}  {train_loss:>10.4}  {train_top1:>9.2}  {loss:>8}  {top1:>7}{top5}{raw}  {lr:>8.5}  {time:>6}  {left:>8}{best}"
        ));
    }
}
