//! Image sizes that change during training.

use crate::support;

use residual_train::{Augment, Event, Job, Layer, Outcome, Recipe, RunFolder, resume, train};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{logs, never, options, tensors};

/// 30 images of 12×12 bytes, of three classes.
fn dataset(folder: &Path) -> PathBuf {
    let pixels: Vec<u8> = (0..30 * 3 * 12 * 12usize)
        .map(|at| {
            let (image, channel) = (at / (3 * 12 * 12), at / (12 * 12) % 3);
            (at * 2_654_435_761 % 97 + if image % 3 == channel { 120 } else { 20 }) as u8
        })
        .collect();
    let labels: Vec<u8> = (0..30i64).flat_map(|image| (image % 3).to_le_bytes()).collect();
    let end = pixels.len() + labels.len();
    let header = format!(
        r#"{{"images":{{"dtype":"U8","shape":[30,3,12,12],"data_offsets":[0,{}]}},"labels":{{"dtype":"I64","shape":[30],"data_offsets":[{0},{end}]}}}}"#,
        pixels.len()
    );
    let path = folder.join("bytes.safetensors");
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &pixels, &labels].concat();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn recipe(folder: &Path) -> Recipe {
    Recipe {
        data: dataset(folder).display().to_string(),
        batch_size: 9,
        epochs: Some(5),
        lr: 0.05,
        augment: Augment::Crop,
        aa: Some("rand-m9-mstd0.5-inc1".into()),
        reprob: 0.3,
        train_img_sizes: Some(vec![8, 10, 16]),
        bn_recalibration: 2,
        checkpoint_every: Some(2),
        log_every: 1,
        seed: 5,
        ..Recipe::default()
    }
}

#[test]
fn sizes_take_equal_parts_of_the_epochs_and_a_resumed_run_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let job = Job::prepare(recipe(folder.path())).unwrap();
    let mut notes = Vec::new();
    let outcome = train(&job, &runs, &options(2), &never(), &mut |event| {
        if let Event::Note(text) = event {
            notes.push(text.clone());
        }
    });
    let Outcome::Finished(trained) = outcome.unwrap() else { panic!("interrupted") };
    let reference = RunFolder::open(&trained.summary.run).unwrap();
    notes.retain(|note| note.contains("training images of"));
    assert_eq!(notes, ["epoch 3: training images of 10x10", "epoch 5: training images of 16x16"]);
    assert_eq!(trained.model.preprocessing.size, [12, 12], "evaluation keeps the size of the dataset");

    // Stopped before, at and after the changes: 3 steps an epoch.
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = |at: &'static [u64]| {
        let stop = stop.clone();
        move |event: &Event| match event {
            Event::Step(step) if at.contains(&step.step) => stop.store(true, Ordering::Relaxed),
            // Between the end of an epoch and the first step of the next.
            Event::Checkpoint { step: 6 } => stop.store(true, Ordering::Relaxed),
            _ => {}
        }
    };
    let mut outcome = train(&job, &runs, &options(2), &stop, &mut stopping(&[5])).unwrap();
    let mut interruptions = 0;
    while let Outcome::Interrupted(summary) = &outcome {
        interruptions += 1;
        stop.store(false, Ordering::Relaxed);
        let run = RunFolder::open(&summary.run).unwrap();
        let recipe = Recipe::resolve(&[Layer::run(&run.config()).unwrap()]).unwrap().recipe;
        let job = Job::resume(recipe, &run).unwrap();
        let at: &'static [u64] = if interruptions > 6 { &[] } else { &[6, 7, 12, 13] };
        outcome = resume(&job, run, &options(2), &stop, &mut stopping(at)).unwrap();
    }
    assert!(interruptions > 3, "{interruptions}");
    let Outcome::Finished(trained) = outcome else { unreachable!() };
    let whole = RunFolder::open(&trained.summary.run).unwrap();
    assert!(tensors(&reference.last()) == tensors(&whole.last()));
    assert!(tensors(&reference.state()) == tensors(&whole.state()));
    assert_eq!(logs(&reference), logs(&whole));
}

#[test]
fn one_size_trains_at_another_than_it_evaluates_at() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let run = |sizes| {
        let recipe = Recipe { train_img_sizes: sizes, epochs: Some(1), ..recipe(folder.path()) };
        let job = Job::prepare(recipe).unwrap();
        let Outcome::Finished(trained) = train(&job, &runs, &options(1), &never(), &mut |_| {}).unwrap() else {
            panic!("interrupted")
        };
        assert_eq!(trained.model.preprocessing.size, [12, 12]);
        tensors(&RunFolder::open(&trained.summary.run).unwrap().last())
    };
    assert!(run(None) == run(Some(vec![12])), "the same size is the same run");
    assert!(run(None) != run(Some(vec![8])));
}

#[test]
fn sizes_that_cannot_be_are_refused_before_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |recipe: Recipe| Job::prepare(recipe).err().unwrap().to_string();
    let values = Recipe { data: support::dataset(folder.path(), None).display().to_string(), ..recipe(folder.path()) };
    let message = refused(Recipe { aa: None, ..values });
    assert!(message.starts_with("dataset: expected images of 8x8 with 3 channels, got 12x12"), "{message}");
    let falling = refused(Recipe { train_img_sizes: Some(vec![16, 8]), ..recipe(folder.path()) });
    assert!(falling.starts_with("train_img_sizes: "), "{falling}");
    let budget = Recipe { time_budget: Some("1m".into()), epochs: None, ..recipe(folder.path()) };
    assert!(refused(budget).starts_with("train_img_sizes: expected one size with time_budget"));
}
