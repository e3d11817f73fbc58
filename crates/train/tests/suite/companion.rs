//! Companions of a training: what they add is part of the update, also of a resumed run.

use crate::support;

use residual_train::{
    ClipMode, Companion, Event, Job, Outcome, Recipe, RunFolder, Sched, TrainError, resume_with, train, train_with,
};
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use support::{dataset, finished, never, options, recipe, tensors};

/// SGD without weight decay is linear in the gradient, and a factor of two rounds nothing.
fn linear(data: &std::path::Path, lr: f64) -> Recipe {
    Recipe { lr, weight_decay: 0.0, sched: Sched::Constant, grad_accum_steps: 2, batch_size: 4, ..recipe(data) }
}

#[test]
fn gradients_that_are_doubled_before_accumulation_are_a_doubled_learning_rate() {
    let place = tempfile::tempdir().unwrap();
    let (data, runs) = (dataset(place.path(), None), place.path().join("runs"));
    let job = Job::prepare(linear(&data, 0.02)).unwrap();
    let seen = RefCell::new(Vec::new());
    let companion = || {
        Companion::new("doubles gradients", |engine, pass| {
            assert_eq!(pass.size, [12; 2]);
            assert_eq!(engine.output().len(), 3 * pass.batch.len());
            seen.borrow_mut().push((pass.step, pass.index, pass.batches));
            engine.flat_mut().gradients.iter_mut().for_each(|gradient| *gradient *= 2.0);
            Ok(())
        })
    };
    let outcome = train_with(&job, &runs, &options(1), &never(), Some(companion()), &mut |_| {}).unwrap();
    let doubled = finished(&outcome);
    // 44 images make 11 batches and 6 steps of an epoch, the last one with a single batch.
    let passes = seen.take();
    assert_eq!((passes.len(), passes[1], passes[10]), (44, (0, 1, 2), (5, 0, 1)));
    let outcome =
        train(&Job::prepare(linear(&data, 0.04)).unwrap(), &runs, &options(1), &never(), &mut |_| {}).unwrap();
    assert_eq!(tensors(&doubled.last()), tensors(&finished(&outcome).last()));

    // Interrupted in the middle of an epoch, and resumed.
    let stop = never();
    let outcome = train_with(&job, &runs, &options(1), &stop, Some(companion()), &mut |event| {
        if let Event::Step(step) = event {
            stop.fetch_or(step.step == 8, Ordering::Relaxed);
        }
    });
    let Outcome::Interrupted(summary) = outcome.unwrap() else { panic!("the run was stopped") };
    let folder = RunFolder::open(&summary.run).unwrap();
    let job = Job::resume(job.recipe.clone(), &folder).unwrap();
    resume_with(&job, folder, &options(1), &never(), Some(companion()), &mut |_| {}).unwrap();
    assert_eq!(seen.take(), passes);
    assert_eq!(
        tensors(&doubled.last()),
        tensors(&RunFolder::open(&summary.run).unwrap().last()),
        "a resumed run has the same companion"
    );
}

#[test]
fn clipping_comes_after_the_companion_whose_error_ends_the_run() {
    let place = tempfile::tempdir().unwrap();
    let (data, runs) = (dataset(place.path(), None), place.path().join("runs"));
    let clipped = Recipe { clip_grad: Some(1e-3), clip_mode: ClipMode::Norm, ..linear(&data, 0.02) };
    let job = Job::prepare(Recipe { max_steps: Some(3), ..clipped }).unwrap();
    // A norm of at most 1e-3, however large the gradient was.
    let companion = Companion::new("grows gradients", |engine, _| {
        engine.flat_mut().gradients.iter_mut().for_each(|gradient| *gradient *= 1024.0);
        Ok(())
    });
    let outcome = train_with(&job, &runs, &options(1), &never(), Some(companion), &mut |_| {}).unwrap();
    let usual = train(&job, &runs, &options(1), &never(), &mut |_| {}).unwrap();
    let [a, b] = [outcome, usual].map(|outcome| residual_weights::load(&finished(&outcome).last()).unwrap().model);
    for ((key, a), (_, b)) in a.tensors.iter().zip(&b.tensors) {
        let (Some(a), Some(b)) = (a.as_f32(), b.as_f32()) else { continue };
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{key}");
    }
    let companion = Companion::new("fails", |_, _| Err(TrainError::NoImages { what: "companion".into() }));
    let error = train_with(&job, &runs, &options(1), &never(), Some(companion), &mut |_| {}).unwrap_err();
    assert!(error.to_string().starts_with("companion: "), "{error}");
}

#[test]
fn a_run_is_resumed_with_its_own_companion_only() {
    let place = tempfile::tempdir().unwrap();
    let (data, runs) = (dataset(place.path(), None), place.path().join("runs"));
    let job = Job::prepare(linear(&data, 0.02)).unwrap();
    let interrupted = |name: Option<&'static str>| {
        let stop = never();
        let companion = name.map(|name| Companion::new(name, |_, _| Ok(())));
        let outcome = train_with(&job, &runs, &options(1), &stop, companion, &mut |event| {
            if let Event::Step(_) = event {
                stop.store(true, Ordering::Relaxed);
            }
        });
        let Outcome::Interrupted(summary) = outcome.unwrap() else { panic!("the run was stopped") };
        summary.run
    };
    let resumed = |run: &std::path::Path, name: Option<&'static str>| {
        let folder = RunFolder::open(run).unwrap();
        let job = Job::resume(job.recipe.clone(), &folder).unwrap();
        let companion = name.map(|name| Companion::new(name, |_, _| Ok(())));
        resume_with(&job, folder, &options(1), &never(), companion, &mut |_| {}).map(drop)
    };
    let refused = |run: &std::path::Path, name| match resumed(run, name).unwrap_err() {
        TrainError::OtherRun { path, what, expected, got } => {
            assert_eq!((&*path, &*what), (run, "companion"));
            (expected, got)
        }
        error => panic!("{error}"),
    };
    let [with, without] = [Some("a"), None].map(interrupted);
    assert_eq!(refused(&with, None), ("\"a\"".into(), "none".into()));
    assert_eq!(refused(&with, Some("b")), ("\"a\"".into(), "\"b\"".into()));
    assert_eq!(refused(&without, Some("a")), ("none".into(), "\"a\"".into()));
    resumed(&with, Some("a")).unwrap();
    resumed(&without, None).unwrap();
    // Also after its end.
    refused(&with, None);
}
