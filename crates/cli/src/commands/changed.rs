//! What the commands that change a network share: the images it is calibrated and judged on, the judgement, and the result as text.

use super::judged::Found;
use super::train::named_recipe;
use crate::args::{FinetuneSettings, Reading};
use crate::failure::Failure;
use crate::output::{bytes, complain, grouped, path_text};
use crate::progress::Progress;
use residual::compress::{FineTuning, LatencyChange, Outcome, PruneEvent, choose_images};
use residual::data::{Dataset, HeldOut, Part, Selection, Split};
use residual::engine::Options;
use residual::infer::{self, EvaluateOptions, Evaluation, InferError};
use residual::model::Model;
use residual::train::Layer;
use residual::weights::weights_file;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The images of such a command.
pub(super) struct Images {
    /// Training images that the network is calibrated on.
    pub(super) calibration: Arc<dyn Dataset>,
    /// What they were chosen from.
    pub(super) calibrated: String,
    /// The images that it is judged on.
    pub(super) judged: Arc<dyn Dataset>,
    /// Which part of the data these are.
    pub(super) part: Part,
}

impl Images {
    /// Calibration images from the training split; of data without one, from those that would be judged on, which then are the others.
    pub(super) fn find(found: &Found, wanted: usize, seed: u64, limit: Option<usize>) -> Result<Self, Failure> {
        let Selection { dataset: judged, part } = found.selection()?;
        let has_train = found.source.splits().contains(&Split::Train);
        let chosen = |whole: &Arc<dyn Dataset>, count| choose_images(whole, count, seed);
        let (calibration, calibrated, judged): (Arc<dyn Dataset>, _, Arc<dyn Dataset>) = match part {
            Part::Split(Split::Train) => {
                let message = "--split: expected val or test, got train, which the network is calibrated on";
                return Err(Failure::usage(message));
            }
            Part::Split(_) if has_train => {
                let train = found.source.split(Split::Train)?;
                let [calibration, _] = chosen(&train, wanted);
                (Arc::new(calibration), train.describe_set(), judged)
            }
            Part::HeldOut(held_out) => {
                let whole = found.source.split(Split::Train)?;
                let (train, _) = residual::data::stratified_split(&whole, held_out)?;
                let train: Arc<dyn Dataset> = Arc::new(train);
                let [calibration, _] = chosen(&train, wanted);
                (Arc::new(calibration), train.describe_set(), judged)
            }
            Part::Split(_) | Part::Everything => {
                let [calibration, others] = chosen(&judged, wanted.min(judged.len() / 2));
                (Arc::new(calibration), judged.describe_set(), Arc::new(others))
            }
        };
        let judged: Arc<dyn Dataset> = match limit {
            Some(limit) if limit < judged.len() => {
                let [some, _] = choose_images(&judged, limit, seed);
                Arc::new(some)
            }
            _ => judged,
        };
        Ok(Self { calibration, calibrated, judged, part })
    }
}

/// Where the result goes, by default `<network>-<suffix>.safetensors`; not where the weights are read from.
pub(super) fn output(typed: Option<&Path>, model: &Model, suffix: &str, weights: &Path) -> Result<PathBuf, Failure> {
    let name = || PathBuf::from(format!("{}-{suffix}.safetensors", model.graph.name));
    let file = typed.map_or_else(name, Path::to_path_buf);
    let real = |path: &Path| path.canonicalize().ok();
    if real(&file).is_some_and(|file| real(&weights_file(weights)) == Some(file)) {
        let file = path_text(&file);
        return Err(Failure::usage(format!("output: expected another file than the weights', got {file}")));
    }
    // Before minutes of work.
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            Err(Failure::new(format!("{}: expected a folder for the output, got none", path_text(folder))))
        }
        _ => Ok(file),
    }
}

/// The training of changed networks on the images that the weights' run did not hold out, by a recipe and typed settings; `more` are
/// settings beside those of the data.
pub(super) fn fine_tuning(
    (recipe, typed): (&str, &FinetuneSettings),
    found: &Found,
    judged: Part,
    reading: Reading,
    seed: u64,
    model: &Model,
    more: &str,
) -> Result<FineTuning, Failure> {
    if judged == Part::Everything {
        let message = "--finetune: expected training images besides those that are judged on, got data without splits; \
                       --val-split holds some out";
        return Err(Failure::usage(message));
    }
    // The seed of a training determines the held-out images.
    let typed_seed = seed;
    let HeldOut { share, seed } = found.held_out.unwrap_or(HeldOut { share: 0.0, seed });
    if typed_seed != seed && typed_seed != 0 {
        complain(&format!(
            "note: fine-tuning has seed {seed}, by which images are held out; --seed {typed_seed} is of scores and calibration"
        ));
    }
    let preprocessing = &model.preprocessing;
    let mut text = format!(
        "{more}seed = {seed}\nworkers = {}\nskip_bad_images = {}\nmean = {:?}\nstd = {:?}\ncrop_pct = {:?}\n",
        reading.workers, reading.skip_bad_images, preprocessing.mean, preprocessing.std, preprocessing.crop_pct,
    );
    if share > 0.0 {
        text += &format!("val_split = {share:?}\n");
    }
    if preprocessing.size[0] == preprocessing.size[1] {
        text += &format!("img_size = {}\n", preprocessing.size[0]);
    }
    let mut own = Layer::parse("fine-tuning", &text)?;
    let (data, data_dir) = &found.data;
    own.set_text("data", data.as_str());
    if let Some(folder) = data_dir {
        own.set_text("data_dir", folder.to_string_lossy());
    }
    let evaluates = share > 0.0 || found.source.splits().contains(&Split::Val);
    Ok(FineTuning { recipe: named_recipe(recipe)?, own, flags: typed.layer()?, evaluates })
}

/// Shows an event of pruning.
pub(super) fn show_pruning(progress: &Progress, event: &PruneEvent) {
    match event {
        PruneEvent::Scored { done, total } => progress.images("scoring channels", *done as u64, *total as u64),
        PruneEvent::Timed(layers) => progress.images("measuring layers", *layers as u64, *layers as u64),
        PruneEvent::Measured { batch, change, goal } => progress.line(&format!(
            "measured: {:.2} ms -> {:.2} ms at batch size {batch}, {:.3} of the latency for a target of {goal:.3}",
            change.before_ms,
            change.after_ms,
            1.0 / change.ratio
        )),
        PruneEvent::Missed { measured, goal } => progress.line(&format!(
            "note: the nearest network takes {measured:.3} of the latency, not {goal:.3}; finer steps of widths or another target \
             may come nearer"
        )),
        PruneEvent::NotKept(why) => complain(&format!("warning: {why}")),
    }
}

/// How two networks compare.
pub(super) enum Judgement {
    Of(Box<[Evaluation; 2]>),
    /// The images have other classes than the network.
    OtherClasses(String),
    Stopped,
}

/// Evaluates a network before and after the change, which progress calls so.
pub(super) fn judge(
    [before, after]: [(&Model, &str); 2],
    judged: &Arc<dyn Dataset>,
    batch_size: usize,
    reading: Reading,
    options: &Options,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Judgement, Failure> {
    let options = EvaluateOptions {
        engine: options.clone(),
        batch_size: batch_size.clamp(1, judged.len().max(1)),
        workers: reading.workers.into(),
        skip_bad_images: reading.skip_bad_images,
        ..EvaluateOptions::default()
    };
    let mut evaluations = Vec::new();
    for (model, name) in [before, after] {
        let show = &mut |done, total| progress.images(&format!("evaluating {name}"), done, total);
        match infer::evaluate(model, judged, &options, stop, show) {
            Ok(Some(evaluation)) => evaluations.push(evaluation),
            Ok(None) => return Ok(Judgement::Stopped),
            Err(error @ (InferError::Classes(_) | InferError::ClassCount { .. })) => {
                return Ok(Judgement::OtherClasses(error.to_string()));
            }
            Err(error) => return Err(Failure::from(error).or_skip()),
        }
    }
    let evaluations = evaluations.try_into().expect("two models were evaluated");
    Ok(Judgement::Of(Box::new(evaluations)))
}

/// The result as rows of text.
pub(super) fn rows(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let Outcome { file, images, parameters, macs, bytes: size, latency, .. } = outcome;
    let mut rows = vec![("file", format!("{file}, {}", bytes(*size)))];
    if let (Some(before), Some(after), Some([low, high])) = (outcome.top1_before, outcome.top1, outcome.interval) {
        let change = after - before;
        let interval = format!("{change:+.2} points, 95 % interval {low:+.2} to {high:+.2}");
        rows.push(("top-1", format!("{before:.2} % -> {after:.2} % of {} images ({interval})", grouped(*images))));
    }
    let parameters = grouped(*parameters as u64);
    rows.push(("size", format!("{parameters} parameters, {} multiply-accumulates", grouped(*macs))));
    for (batch, LatencyChange { before_ms, after_ms, ratio, interval: [low, high] }) in latency {
        let times = format!("{before_ms:.2} ms -> {after_ms:.2} ms at batch size {batch}");
        rows.push(("latency", format!("{times}: {ratio:.2} times as fast (95 % interval {low:.2} to {high:.2})")));
    }
    rows
}
