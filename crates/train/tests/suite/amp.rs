//! Mixed precision: the same bits on any number of threads and after a resume, less memory, and what f32 learns.

use crate::support;

use residual_train::{Event, Job, KdLoss, Opt, Outcome, Recipe, Sched, TrainError, train};
use support::{assert_same_run, dataset, finished, interrupted, never, options, recipe, tensors};

fn amp(recipe: Recipe) -> Recipe {
    Recipe { amp: true, ..recipe }
}

#[test]
fn threads_workers_and_checkpointing_change_no_bit_and_precision_does() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { max_steps: Some(12), ..amp(recipe(&dataset(folder.path(), None))) };
    let run = |threads, recipe: Recipe| {
        let job = Job::prepare(recipe).unwrap();
        let mut memory = None;
        let outcome = train(&job, &folder.path().join("runs"), &options(threads), &never(), &mut |event| {
            if let Event::Started(info) = event {
                memory = Some((info.memory, info.memory_in_floats));
            }
        });
        (finished(&outcome.unwrap()), memory.unwrap())
    };
    let (reference, (bytes, in_floats)) = run(1, Recipe { workers: 1, ..recipe.clone() });
    assert_same_run(&reference, &run(3, Recipe { workers: 3, ..recipe.clone() }).0);
    assert_same_run(&reference, &run(2, Recipe { grad_checkpointing: true, ..recipe.clone() }).0);
    let (floats, (most, none)) = run(1, Recipe { amp: false, workers: 1, ..recipe });
    assert_ne!(tensors(&reference.last()), tensors(&floats.last()));
    assert!(bytes < most && in_floats == Some(most) && none.is_none(), "{bytes}, {in_floats:?}, {most}");
}

/// AdamW's moments, gradients accumulated over two batches, clipped gradients and averaged weights.
#[test]
fn a_resumed_run_is_bit_identical_to_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        opt: Opt::AdamW,
        lr: 0.01,
        nesterov: None,
        grad_accum_steps: 2,
        clip_grad: Some(0.5),
        model_ema: true,
        model_ema_decay: 0.9,
        ..amp(recipe(&dataset(folder.path(), None)))
    };
    let job = Job::prepare(recipe).unwrap();
    let runs = folder.path().join("runs");
    let reference = finished(&train(&job, &runs, &options(2), &never(), &mut |_| {}).unwrap());
    let (interruptions, outcome) = interrupted(&job, &runs, &[2], &[3, 5]);
    assert_eq!(interruptions, 3);
    assert_same_run(&reference, &finished(&outcome));
}

/// A teacher's feature maps are compared with those of the student, which are floats with gradients of their own.
#[test]
fn distillation_and_fine_tuning_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), None);
    let (runs, short) = (folder.path().join("runs"), |recipe: Recipe| Recipe { max_steps: Some(3), ..recipe });
    let run = |recipe| {
        let job = Job::prepare(recipe).unwrap();
        finished(&train(&job, &runs, &options(2), &never(), &mut |_| {}).unwrap())
    };
    let teacher = run(short(amp(recipe(&data))));
    let weights = teacher.path().to_path_buf();
    let student = run(short(Recipe {
        teacher: Some(vec![weights.display().to_string()]),
        kd_loss: KdLoss::At,
        ..amp(recipe(&data))
    }));
    let tuned = run(short(Recipe { weights: Some(weights), freeze: Some("backbone".into()), ..amp(recipe(&data)) }));
    for run in [student, tuned] {
        let finite = |bits: &u32| f32::from_bits(*bits).is_finite();
        assert!(tensors(&run.last()).iter().all(|(_, values)| values.iter().all(finite)));
    }
}

#[test]
fn what_is_not_finite_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::prepare(amp(recipe(&dataset(folder.path(), Some(4))))).unwrap();
    let error = train(&job, &folder.path().join("runs"), &options(2), &never(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
}

#[test]
fn a_short_training_reaches_what_f32_reaches() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("resnet8.toml");
    std::fs::write(&model, "family = \"cifar_resnet\"\ndepths = [1, 1, 1]\nnum_classes = 10\nimage_size = 32\n")
        .unwrap();
    let top1 = |amp| {
        let recipe = Recipe {
            model: model.display().to_string(),
            amp,
            batch_size: 64,
            max_steps: Some(100),
            lr: 0.1,
            warmup_steps: Some(10),
            sched: Sched::Cosine,
            bn_recalibration: 8,
            ..Recipe::default()
        };
        let job = Job::prepare(recipe).unwrap();
        let outcome = train(&job, &folder.path().join("runs"), &options(2), &never(), &mut |_| {}).unwrap();
        let Outcome::Finished(trained) = outcome else { panic!("nothing stopped it") };
        trained.summary.top1.unwrap()
    };
    let (floats, halves) = (top1(false), top1(true));
    // By chance one in ten.
    assert!(floats > 20.0 && halves > 20.0 && (floats - halves).abs() < 8.0, "{floats} in f32, {halves}");
}
