//! Averaged weights, the epochs that are evaluated and kept, and early stopping.

use crate::support;

use residual_tensor::Tensor;
use residual_train::{
    EpochRow, EvalMetric, Event, Job, Layer, Outcome, Recipe, RunFolder, Sched, Summary, resume, train,
};
use residual_weights::load_tensors;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use support::{assert_same_run, dataset, finished, interrupted, never, options, recipe, tensors};

/// Trains to the end: the folder, the summary and the rows.
fn run(recipe: Recipe, runs: &Path) -> (RunFolder, Summary, Vec<EpochRow>) {
    let mut rows = Vec::new();
    let job = Job::prepare(recipe).unwrap();
    let outcome = train(&job, runs, &options(2), &never(), &mut |event| {
        if let Event::Epoch(row) = event {
            rows.push(*row);
        }
    })
    .unwrap();
    (finished(&outcome), outcome.summary().clone(), rows)
}

/// The values of every float tensor of a file.
fn values(path: &Path) -> BTreeMap<String, Vec<f64>> {
    let (tensors, _) = load_tensors(path).unwrap();
    let wide = |tensor: &Tensor| Some(tensor.as_f32()?.iter().map(|&value| f64::from(value)).collect());
    tensors.iter().filter_map(|(key, tensor)| Some((key.clone(), wide(tensor)?))).collect()
}

/// The average of the weights after each of five steps, from runs of one to five steps, by the definition: the first copies
/// the weights, each later one is decay × average + (1 − decay) × weights.
#[test]
fn averaged_weights_follow_the_definition() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Recipe {
        sched: Sched::Constant,
        warmup_steps: None,
        epochs: None,
        max_steps: Some(5),
        ..recipe(&dataset(folder.path(), None))
    };
    let runs = folder.path().join("runs");
    let weights: Vec<_> =
        (1..=5).map(|steps| values(&run(Recipe { max_steps: Some(steps), ..plain.clone() }, &runs).0.last())).collect();
    let ema = Recipe { model_ema: true, model_ema_decay: 0.8, ..plain };
    for (recipe, decays) in [
        (ema.clone(), vec![0.0, 0.8, 0.8, 0.8, 0.8]),
        // timm's warm-up: 1 − (1 + n)^(−2/3), at most the decay.
        (
            Recipe { model_ema_warmup: true, ..ema.clone() },
            vec![
                0.0,
                1.0 - 2f64.powf(-2.0 / 3.0),
                1.0 - 3f64.powf(-2.0 / 3.0),
                1.0 - 4f64.powf(-2.0 / 3.0),
                1.0 - 5f64.powf(-2.0 / 3.0),
            ],
        ),
    ] {
        let (folder, summary, rows) = run(recipe, &runs);
        assert_ne!(rows[0].raw, None);
        assert_eq!(summary.top1, rows[0].top1);
        for (key, got) in values(&folder.last()) {
            let mut average = weights[0][&key].clone();
            for (step, decay) in decays.iter().enumerate() {
                let values = &weights[step][&key];
                average.iter_mut().zip(values).for_each(|(sum, value)| *sum = decay * *sum + (1.0 - decay) * value);
            }
            for (got, expected) in got.iter().zip(&average) {
                assert!(
                    (got - expected).abs() < 1e-6 * (1.0 + expected.abs()),
                    "{key}: expected {expected}, got {got}"
                );
            }
        }
    }
    // Every second step: the averages after steps 2 and 4.
    let (folder, ..) = run(Recipe { model_ema_steps: 2, ..ema }, &runs);
    for (key, got) in values(&folder.last()) {
        for ((got, two), four) in got.iter().zip(&weights[1][&key]).zip(&weights[3][&key]) {
            let expected = 0.8 * two + 0.2 * four;
            assert!((got - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{key}: expected {expected}, got {got}");
        }
    }
}

#[test]
fn every_second_epoch_and_the_last_one_are_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { val_interval: 2, epochs: Some(5), ..recipe(&dataset(folder.path(), None)) };
    let (run, summary, rows) = run(recipe, &folder.path().join("runs"));
    assert_eq!(rows.iter().map(|row| row.top1.is_some()).collect::<Vec<_>>(), [false, true, false, true, true]);
    assert_eq!(summary.top1, rows[4].top1);
    let text = std::fs::read_to_string(run.metrics()).unwrap();
    assert!(text.lines().nth(1).unwrap().contains(",,,,,,"), "{text}");
}

#[test]
fn the_weights_of_regular_and_of_the_best_epochs_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let base = Recipe { epochs: Some(5), ..recipe(&dataset(folder.path(), None)) };
    let runs = folder.path().join("runs");
    let (regular, ..) = run(Recipe { keep_every: Some(2), ..base.clone() }, &runs);
    assert_eq!(regular.epochs().unwrap(), [2, 4]);

    let best = Recipe { checkpoint_hist: Some(2), eval_metric: EvalMetric::Loss, ..base.clone() };
    let (kept, summary, rows) = run(best, &runs);
    let mut by_loss: Vec<_> = rows.iter().map(|row| (row.loss.unwrap(), row.epoch)).collect();
    by_loss.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let mut expected = [by_loss[0].1, by_loss[1].1];
    assert_eq!((summary.best_epoch, summary.metric), (Some(expected[0]), "loss"));
    assert_eq!(tensors(&kept.best()), tensors(&kept.epoch(expected[0])));
    expected.sort_unstable();
    assert_eq!(kept.epochs().unwrap(), expected);

    // Without held-out images, those of the last epochs.
    let blind = Recipe { checkpoint_hist: Some(2), val_split: Some(0.0), keep_every: Some(3), ..base };
    let (kept, ..) = run(blind, &runs);
    assert_eq!(kept.epochs().unwrap(), [3, 4, 5]);
    assert_eq!(tensors(&kept.last()), tensors(&kept.epoch(5)));
}

#[test]
fn a_run_without_progress_stops_early_and_does_not_go_on() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing changes but the running statistics: with momentum 0 and a learning rate of 0 the accuracy of a network whose
    // head is zero cannot rise.
    let recipe = Recipe { lr: 0.0, patience: Some(2), epochs: Some(9), ..recipe(&dataset(folder.path(), None)) };
    let job = Job::prepare(recipe).unwrap();
    let (mut notes, mut losses) = (Vec::new(), Vec::new());
    let outcome = train(&job, &folder.path().join("runs"), &options(2), &never(), &mut |event| match event {
        Event::Note(note) => notes.push(note.clone()),
        Event::Epoch(row) => losses.push((row.top1.unwrap(), -row.loss.unwrap())),
        _ => {}
    })
    .unwrap();
    let best = losses.iter().copied().fold((0.0, f64::MIN), |best, new| if new > best { new } else { best });
    let best = losses.iter().position(|&metrics| metrics == best).unwrap() + 1;
    assert_eq!(losses.len(), best + 2, "{losses:?}");
    assert!(losses.len() < 9);
    assert_eq!(notes.last().unwrap(), "stopped early: no better top1 for 2 epochs");
    let Outcome::Finished(trained) = &outcome else { panic!("interrupted") };
    assert_eq!(trained.summary.best_epoch, Some(best as u64));
    let run = finished(&outcome);
    let before = tensors(&run.state());
    resume(&job, run.clone(), &options(1), &never(), &mut |event| assert!(!matches!(event, Event::Step(_)))).unwrap();
    assert_eq!(tensors(&run.state()), before);
}

#[test]
fn a_finished_run_goes_on_where_its_rates_do_not_depend_on_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let base =
        Recipe { sched: Sched::Multistep, milestone_epochs: Some(vec![1, 3]), ..recipe(&dataset(folder.path(), None)) };
    let (reference, ..) = run(Recipe { epochs: Some(4), ..base.clone() }, &runs);
    let (short, ..) = run(Recipe { epochs: Some(2), ..base }, &runs);
    let longer = |run: &RunFolder| {
        let began = Layer::run(&run.config()).unwrap();
        let longer = Recipe::resolve(&[began, Layer::parse("longer", "epochs = 4").unwrap()]).unwrap();
        resume(&Job::resume(longer, run)?, run.clone(), &options(1), &never(), &mut |_| {})
    };
    longer(&short).unwrap();
    assert_same_run(&reference, &short);
    assert_eq!(std::fs::read(short.config()).unwrap(), std::fs::read(reference.config()).unwrap());

    let (cosine, ..) = run(Recipe { epochs: Some(2), ..recipe(&dataset(folder.path(), None)) }, &runs);
    let error = longer(&cosine).unwrap_err().to_string();
    let expected = "epochs: expected 2, got 4: the learning rates of sched \"cosine\" depend on the length of the run; start a new \
                    one from its weights";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn a_time_budget_plans_the_steps_and_changes_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let base = Recipe { warmup_steps: None, model_ema: true, ..recipe(&dataset(folder.path(), None)) };
    // More than enough: the run is the one without a budget.
    let (plain, ..) = run(base.clone(), &runs);
    let (budgeted, ..) = run(Recipe { time_budget: Some("10h".into()), ..base.clone() }, &runs);
    assert_same_run(&plain, &budgeted);
    // The number of steps is recorded, and what they compute is a run of that length.
    let short = Recipe { time_budget: Some("1s".into()), epochs: None, max_steps: Some(60), ..base };
    let (cut, summary, _) = run(short.clone(), &runs);
    let config = Recipe::resolve(&[Layer::run(&cut.config()).unwrap()]).unwrap().recipe;
    assert_eq!(config.max_steps, Some(summary.steps));
    let (again, ..) = run(Recipe { time_budget: None, max_steps: config.max_steps, ..short }, &runs);
    assert_same_run(&again, &cut);
    let error = Job::prepare(Recipe { time_budget: Some("1.5h".into()), ..recipe(&runs) }).err().unwrap().to_string();
    assert_eq!(error, "time_budget: expected a time of at most 1000 hours: 90s, 30m, 1h30m, got \"1.5h\"");
}

/// The records of an event file: their length and checksums are checked by TensorBoard itself in docs/training.md's recorded
/// check; here a resumed run has the same ones but for their times.
#[test]
fn the_event_file_of_a_resumed_run_is_that_of_an_uninterrupted_one() {
    fn messages(run: &RunFolder) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(run.tensorboard()).unwrap();
        let (mut rest, mut messages) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let len = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            // The time is the first field, and the speed the last scalar of a step.
            let message = &rest[12..12 + len];
            assert_eq!(message[0], 9);
            let speed = message.windows(22).position(|part| part == b"time/images_per_second");
            messages.push(message[9..speed.unwrap_or(len)].to_vec());
            rest = &rest[16 + len..];
        }
        messages
    }
    let folder = tempfile::tempdir().unwrap();
    let job = Job::prepare(Recipe { tensorboard: true, ..recipe(&dataset(folder.path(), None)) }).unwrap();
    let runs = folder.path().join("runs");
    let reference = finished(&train(&job, &runs, &options(2), &never(), &mut |_| {}).unwrap());
    let (interruptions, outcome) = interrupted(&job, &runs, &[5], &[9, 20]);
    assert_eq!(interruptions, 3);
    let (expected, got) = (messages(&reference), messages(&finished(&outcome)));
    // The version, nine logged steps, four epochs.
    assert_eq!(expected.len(), 14);
    assert_eq!(got, expected);
}

/// Recalibrated statistics by the definition: what running averages over the same batches have without their old part, from a
/// second run that goes through them with a learning rate of 0.
#[test]
fn recalibrated_statistics_are_those_of_the_evaluated_weights_and_change_no_training_step() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let base = Recipe { epochs: Some(1), warmup_steps: None, ..recipe(&dataset(folder.path(), None)) };
    let (plain, ..) = run(base.clone(), &runs);
    let (recalibrated, ..) = run(Recipe { bn_recalibration: 100, ..base.clone() }, &runs);
    // The training state is the same to the bit, the saved model has other statistics.
    assert_eq!(tensors(&plain.state()), tensors(&recalibrated.state()));
    let still = Recipe { weights: Some(plain.last()), lr: 0.0, weight_decay: 0.0, ..base.clone() };
    let (old, new) = (values(&plain.last()), values(&recalibrated.last()));
    let passed = values(&run(still, &runs).0.last());
    let mut statistics = 0;
    for (key, new) in &new {
        if !key.contains("running_") {
            assert_eq!(new, &old[key], "{key}");
            continue;
        }
        // Six batches, with torch's momentum.
        let kept = 0.9_f64.powi(6);
        for ((new, old), passed) in new.iter().zip(&old[key]).zip(&passed[key]) {
            let expected = (passed - kept * old) / (1.0 - kept);
            assert!((new - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{key}: expected {expected}, got {new}");
        }
        statistics += 1;
    }
    assert_eq!(statistics, 2 * 21);

    // A resume, also of the finished run, writes the same weights.
    let job = Job::prepare(Recipe { model_ema: true, bn_recalibration: 4, epochs: Some(3), ..base }).unwrap();
    let reference = finished(&train(&job, &runs, &options(2), &never(), &mut |_| {}).unwrap());
    let (interruptions, outcome) = interrupted(&job, &runs, &[4], &[8, 12, 18]);
    assert!(interruptions >= 3);
    let resumed = finished(&outcome);
    assert_same_run(&reference, &resumed);
    resume(&job, resumed.clone(), &options(1), &never(), &mut |_| {}).unwrap();
    assert_same_run(&reference, &resumed);
}

#[test]
fn an_interruption_after_an_epoch_leaves_the_weights_as_they_were_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let (base, runs) = (recipe(&dataset(folder.path(), None)), folder.path().join("runs"));
    let job = Job::prepare(Recipe { model_ema: true, bn_recalibration: 4, epochs: Some(3), ..base }).unwrap();
    let stop = never();
    let outcome = train(&job, &runs, &options(1), &stop, &mut |event| {
        stop.fetch_or(matches!(event, Event::Epoch(row) if row.epoch == 1), Ordering::Relaxed);
    });
    let Outcome::Interrupted(summary) = outcome.unwrap() else { panic!("the run was stopped") };
    let run = RunFolder::open(&summary.run).unwrap();
    // The first epoch is the best so far.
    assert_eq!((summary.epochs, summary.best_epoch), (1, Some(1)));
    assert_eq!(tensors(&run.last()), tensors(&run.best()));
}
