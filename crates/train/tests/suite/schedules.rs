//! Learning rates of every schedule are torch's and timm's. `golden/make_schedules.py` states the cases and made the file.

use crate::support;

use residual_train::{EvalMetric, Job, Layer, Plateau, Recipe, Sched, Schedule, train};
use serde_json::Value;
use support::{assert_same_run, dataset, finished, interrupted, logs, never, options, recipe};

fn layer(text: &str) -> Layer {
    Layer::parse("mine", text).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn rates_are_those_of_torch_and_timm() {
    let cases: Value = serde_json::from_str(include_str!("../golden/schedules.json")).unwrap();
    for (name, case) in cases.as_object().unwrap() {
        let recipe = Recipe::resolve(&[layer(case["recipe"].as_str().unwrap())]).unwrap().recipe;
        let epoch_steps = case["epoch_steps"].as_u64().unwrap();
        let schedule = Schedule::new(&recipe, epoch_steps);
        let metrics = case.get("metrics").map(numbers).unwrap_or_default();
        let mut plateau = Plateau::default();
        for (step, expected) in (0..).zip(numbers(&case["lr"])) {
            if step % epoch_steps == 0 && step > 0 && !metrics.is_empty() {
                let epochs = step / epoch_steps;
                let higher = recipe.eval_metric != EvalMetric::Loss;
                schedule.observe(&mut plateau, epochs, metrics[epochs as usize - 1], higher);
                // As a checkpoint keeps it.
                plateau = serde_json::from_str(&serde_json::to_string(&plateau).unwrap()).unwrap();
            }
            let lr = schedule.lr_after(step, &plateau);
            assert!((lr - expected).abs() <= 1e-9 * recipe.lr, "{name}: step {step}: expected {expected}, got {lr}");
        }
    }
}

/// timm's rule: in proportion to the images of an update, or with the root for optimisers of Adam's kin.
#[test]
fn the_base_rate_is_scaled_to_the_images_of_an_update() {
    for (text, expected) in [
        ("lr = 0.3", 0.3),
        ("lr_base = 0.1\nbatch_size = 128", 0.05),
        ("lr_base = 0.1\nbatch_size = 128\ngrad_accum_steps = 8", 0.4),
        ("lr_base = 0.1\nlr_base_size = 64\nbatch_size = 128", 0.2),
        ("lr_base = 0.1\nlr_base_scale = \"sqrt\"\nbatch_size = 1024", 0.2),
        ("opt = \"lamb\"\nlr_base = 0.005\nbatch_size = 1024", 0.01),
        ("opt = \"adamw\"\nlr_base = 0.005\nlr_base_scale = \"linear\"\nbatch_size = 1024", 0.02),
        ("opt = \"lion\"\nlr_base = 0.005\nbatch_size = 1024", 0.02),
    ] {
        let recipe = Recipe::resolve(&[layer("lr = 7\nepochs = 1"), layer(text)]).unwrap().recipe;
        assert!((recipe.peak_lr() - expected).abs() < 1e-12, "{text}: {}", recipe.peak_lr());
        assert_eq!(Schedule::new(&recipe, 10).lr(0), recipe.peak_lr());
    }
}

#[test]
fn what_a_schedule_needs_or_has_no_use_for_is_told() {
    let refused = |text: &str| Recipe::resolve(&[layer(&format!("epochs = 4\n{text}"))]).unwrap_err().to_string();
    for (text, expected) in [
        ("sched = \"step\"", "decay_epochs or decay_steps is required for sched = \"step\""),
        (
            "sched = \"step\"\ndecay_epochs = 1\ndecay_steps = 4",
            "mine: decay_steps: expected a decay in epochs or in steps, got both",
        ),
        ("lr = 0.3\nlr_base = 0.1", "mine: lr has no effect with lr_base"),
        ("sched = \"one-cycle\"\nwarmup_epochs = 1", "mine: warmup_epochs has no effect with sched = \"one-cycle\""),
        ("sched = \"plateau\"\nval_split = 0", "mine: sched: expected held-out images for plateau, got val_split 0"),
        ("lr_base = 0.1\nmin_lr = 0.2\nsched = \"cosine\"", "mine: min_lr: expected at most lr, 0.05, got 0.2"),
    ] {
        assert_eq!(refused(text), expected);
    }
}

/// Top-1 does not improve in every epoch of a tiny run; a resume continues with the reduced rate.
#[test]
fn a_plateau_is_part_of_the_training_state() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), None);
    let recipe = Recipe {
        sched: Sched::Plateau,
        patience_epochs: 0,
        gamma: Some(0.5),
        warmup_steps: None,
        epochs: Some(6),
        log_every: 1,
        ..recipe(&data)
    };
    let job = Job::prepare(recipe).unwrap();
    let runs = folder.path().join("runs");
    let reference = finished(&train(&job, &runs, &options(1), &never(), &mut |_| {}).unwrap());
    let (_, events) = logs(&reference);
    let last = events.last().unwrap()["lr"].as_f64().unwrap();
    assert!(last < 0.05, "the rate is reduced: {last}");
    let steps = events.len() as u64;
    let (interruptions, outcome) = interrupted(&job, &runs, &[steps / 2], &[steps - 1]);
    assert_eq!(interruptions, 2);
    assert_same_run(&reference, &finished(&outcome));
}
