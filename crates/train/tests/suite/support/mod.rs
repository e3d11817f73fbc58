//! A tiny dataset, a recipe for it, and what a run leaves in its folder.
#![allow(dead_code, reason = "each test file uses a part of it")]

use residual_engine::Options;
use residual_kernels::Isa;
use residual_tensor::{NamedTensors, Stream, Tensor};
use residual_threads::Pool;
use residual_train::{Augment, Event, Job, Outcome, Recipe, RunFolder, Sched, resume, train};
use residual_weights::{load_tensors, save_tensors};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// 50 images of 12×12, normalised, of three classes; a value in the middle of image `spoilt` is not a number.
pub(crate) fn dataset(folder: &Path, spoilt: Option<usize>) -> PathBuf {
    let (n, side) = (50, 12);
    let mut random = Stream::new(3, &[]);
    let labels: Vec<i64> = (0..n).map(|index| index % 3).collect();
    let mut images = Vec::new();
    for &label in &labels {
        for channel in 0..3 {
            images.extend((0..side * side).map(|_| random.normal() + if channel == label { 1.0 } else { 0.0 }));
        }
    }
    if let Some(index) = spoilt {
        images[index * 3 * side * side + side * side / 2] = f32::NAN;
    }
    let tensors = NamedTensors::from_iter([
        ("images".to_owned(), Tensor::f32(&[n as usize, 3, side, side], images)),
        ("labels".to_owned(), Tensor::i64(&[n as usize], labels)),
    ]);
    let path = folder.join("tiny.safetensors");
    save_tensors(&path, &tensors, &Default::default()).unwrap();
    path
}

pub(crate) fn recipe(data: &Path) -> Recipe {
    Recipe {
        data: data.display().to_string(),
        batch_size: 8,
        epochs: Some(4),
        lr: 0.05,
        nesterov: Some(true),
        weight_decay: 1e-3,
        smoothing: 0.1,
        sched: Sched::Cosine,
        warmup_steps: Some(3),
        augment: Augment::Crop,
        crop_padding: 2,
        hflip: 0.5,
        seed: 5,
        log_every: 3,
        checkpoint_every: Some(4),
        ..Recipe::default()
    }
}

pub(crate) fn options(threads: usize) -> Options {
    Options::new(Isa::detect(), Arc::new(Pool::new(threads)))
}

pub(crate) fn never() -> Arc<AtomicBool> {
    Arc::default()
}

pub(crate) fn tensors(path: &Path) -> Vec<(String, Vec<u32>)> {
    let (tensors, _) = load_tensors(path).unwrap();
    let bits = |tensor: &Tensor| match tensor.as_f32() {
        Some(values) => values.iter().map(|value| value.to_bits()).collect(),
        None => tensor.as_i64().unwrap().iter().map(|&value| value as u32).collect(),
    };
    tensors.iter().map(|(key, tensor)| (key.clone(), bits(tensor))).collect()
}

/// The rows of `metrics.csv` and the lines of `events.jsonl` without the fields that say how long something took.
pub(crate) fn logs(run: &RunFolder) -> (Vec<String>, Vec<serde_json::Value>) {
    let metrics = std::fs::read_to_string(run.metrics()).unwrap();
    let rows = metrics.lines().map(|row| row.split(',').take(11).collect::<Vec<_>>().join(",")).collect();
    let events = std::fs::read_to_string(run.events()).unwrap();
    let event = |line: &str| {
        let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
        event.as_object_mut().unwrap().remove("images_per_second").unwrap();
        event
    };
    (rows, events.lines().map(event).collect())
}

pub(crate) fn assert_same_run(a: &RunFolder, b: &RunFolder) {
    for (a, b) in [(a.best(), b.best()), (a.last(), b.last()), (a.state(), b.state())] {
        assert!(tensors(&a) == tensors(&b), "{} and {} differ", a.display(), b.display());
    }
    assert_eq!(logs(a), logs(b));
}

pub(crate) fn finished(outcome: &Outcome) -> RunFolder {
    match outcome {
        Outcome::Finished(trained) => RunFolder::open(&trained.summary.run).unwrap(),
        Outcome::Interrupted(_) => panic!("the run was interrupted"),
    }
}

/// Trains `job`, stopped after the steps `first`, and resumes it until it is finished, stopped after the steps `later`;
/// the number of interruptions and the last outcome.
pub(crate) fn interrupted(job: &Job, runs: &Path, first: &[u64], later: &[u64]) -> (usize, Outcome) {
    let stop = never();
    let stop_at = |at: &[u64]| {
        let (stop, at) = (stop.clone(), at.to_vec());
        move |event: &Event| {
            if matches!(event, Event::Step(step) if at.contains(&step.step)) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    let mut outcome = train(job, runs, &options(2), &stop, &mut stop_at(first)).unwrap();
    let mut interruptions = 0;
    while let Outcome::Interrupted(summary) = &outcome {
        interruptions += 1;
        stop.store(false, Ordering::Relaxed);
        let run = RunFolder::open(&summary.run).unwrap();
        // What a process that was killed leaves after its checkpoint: rows that the resume will write again.
        for (path, text) in [(run.metrics(), "9,99,"), (run.events(), "{\"step\":99}\n{\"ste")] {
            std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + text).unwrap();
        }
        let recipe = Recipe::resolve(&[residual_train::Layer::run(&run.config()).unwrap()]).unwrap().recipe;
        let job = Job::resume(recipe, &run).unwrap();
        outcome = resume(&job, run, &options(1), &stop, &mut stop_at(later)).unwrap();
    }
    (interruptions, outcome)
}
