//! What a run looks like while it goes on: a live bar on a terminal, plain lines elsewhere.

use crate::output::{bytes, complain};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use residual::train::{EpochRow, Event, NewHead, Step};
use std::io::IsTerminal;
use std::path::PathBuf;

/// Where the events of a run or an evaluation are shown, on stderr.
pub(crate) struct Progress {
    /// The bar; `None` where nobody sees it move.
    bar: Option<ProgressBar>,
    steps: u64,
    epochs: u64,
    /// Images a second, smoothed over some steps.
    speed: f64,
    run: Option<PathBuf>,
    skipped: u64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("{bar:16} {pos}/{len}  {wide_msg}  {eta} left");
            bar.set_style(style.expect("the template is well formed").progress_chars("█▉▊▋▌▍▎▏ "));
            bar
        });
        Self { bar, steps: 0, epochs: 0, speed: 0.0, run: None, skipped: 0 }
    }

    /// Shows one event.
    pub(crate) fn show(&mut self, event: &Event) {
        match event {
            Event::Started { run, step, steps, epoch_steps, memory } => {
                (self.steps, self.epochs) = (*steps, steps.div_ceil((*epoch_steps).max(1)));
                let from = if *step > 0 { format!(", from step {step}") } else { String::new() };
                self.line(&format!("run {}: {steps} steps, {} epochs{from}", run.display(), self.epochs));
                self.line(&format!("memory: up to {}, the dataset not counted", bytes(*memory)));
                self.run = Some(run.clone());
                if let Some(bar) = &self.bar {
                    bar.set_length(*steps);
                    bar.set_position(*step);
                    bar.reset_eta();
                }
            }
            Event::NewHead(NewHead { layer, old, new }) => {
                self.line(&format!("head {layer}: {new} outputs drawn anew, in place of {old} of other classes"));
            }
            Event::Features { done, total } => self.images("features", *done, *total),
            Event::Step(step) => self.step(step),
            Event::Evaluated { done, total } => self.images("evaluating", *done, *total),
            Event::Epoch(row) => self.epoch(row),
            Event::Checkpoint { .. } => {}
            Event::Skipped { reason } => {
                self.skipped += 1;
                self.line(&format!("left out: {reason}"));
            }
            Event::Note(text) => self.line(text),
        }
    }

    /// How many images were worked on, and for what.
    pub(crate) fn images(&self, what: &str, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            if self.run.is_none() {
                bar.set_length(total);
                bar.set_position(done);
            }
            bar.set_message(format!("{what}, {done} of {total} images"));
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// A line that stays, above the bar.
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
        let (steps, epochs, speed) = (self.steps, self.epochs, self.speed);
        match &self.bar {
            Some(bar) => {
                bar.set_position(step);
                // Short enough for a line of 80 characters with all that stands around it.
                bar.set_message(format!("epoch {epoch} loss {loss:.3} acc {top1:.1} % {speed:.0} images/s"));
            }
            None if logged => complain(&format!(
                "step {step}/{steps}  epoch {epoch}/{epochs}  loss {loss:.4}  acc {top1:.2} %  lr {lr:.4}  {speed:.0} images/s"
            )),
            None => {}
        }
    }

    fn epoch(&self, row: &EpochRow) {
        let EpochRow { epoch, train_loss, train_top1, loss, top1, top5, seconds, .. } = row;
        self.line(&format!(
            "epoch {epoch}/{}: train loss {train_loss:.4}, acc {train_top1:.2} %; held out loss {loss:.4}, \
             Acc@1 {top1:.2}, Acc@5 {top5:.2}; {seconds:.0} s",
            self.epochs
        ));
    }
}
