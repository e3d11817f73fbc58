//! Runs on a tiny dataset: the files of a run, and bit-identical results after a resume.

use crate::support;

use residual_train::{Event, Job, Opt, Outcome, Recipe, RunFolder, TrainError, resume, train};
use residual_weights::{load_tensors, save_tensors};
use support::{assert_same_run, dataset, finished, interrupted, logs, never, options, recipe, tensors};

#[test]
fn a_run_folder_has_the_recipe_a_row_per_epoch_and_the_models() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::prepare(recipe(&dataset(folder.path(), None))).unwrap();
    assert_eq!((job.train.len(), job.held_out.as_ref().unwrap().len(), job.recipe.num_classes), (44, 6, Some(3)));
    let mut rows = Vec::new();
    let outcome = train(&job, &folder.path().join("runs"), &options(1), &never(), &mut |event| {
        if let Event::Epoch(row) = event {
            rows.push(*row);
        }
    });
    let run = finished(&outcome.unwrap());
    assert!(run.path().ends_with("runs/1-resnet20-tiny"));
    let config = residual_train::Layer::file(&run.config()).unwrap();
    assert_eq!(Recipe::resolve(&[config]).unwrap().recipe, job.recipe);
    let (metrics, events) = logs(&run);
    assert_eq!(metrics.len(), 5, "a header and four epochs");
    assert_eq!(metrics[0], "epoch,step,lr,train_loss,train_top1,loss,top1,top5,raw_loss,raw_top1,raw_top5");
    assert_eq!(rows.iter().map(|row| row.step).collect::<Vec<_>>(), [6, 12, 18, 24]);
    let steps: Vec<_> = events.iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 3, 6, 9, 12, 15, 18, 21, 24]);
    assert!(events.iter().all(|event| event["loss"].is_f64() && event["lr"].is_f64() && event["epoch"].is_u64()));

    let last = residual_weights::load(&run.last()).unwrap();
    assert_eq!(last.model.labels, ["0", "1", "2"]);
    assert_eq!(last.recipe.as_deref(), Some(job.recipe.to_toml().as_str()));
    let best = rows.iter().map(|row| row.top1.unwrap()).fold(0.0, f64::max);
    let model = residual_weights::load(run.path()).unwrap().model;
    let evaluate = residual_infer::EvaluateOptions { engine: options(1), batch_size: 4, ..Default::default() };
    let evaluation =
        residual_infer::evaluate(&model, job.held_out.as_ref().unwrap(), &evaluate, &never(), &mut |_, _| {})
            .unwrap()
            .unwrap();
    assert_eq!((evaluation.top1, evaluation.images), (best, 6));
}

#[test]
fn threads_and_workers_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { max_steps: Some(20), ..recipe(&dataset(folder.path(), None)) };
    let run = |threads, workers| {
        let job = Job::prepare(Recipe { workers, ..recipe.clone() }).unwrap();
        let outcome = train(&job, &folder.path().join("runs"), &options(threads), &never(), &mut |_| {});
        finished(&outcome.unwrap())
    };
    let reference = run(1, 1);
    assert_same_run(&reference, &run(2, 3));
    assert_same_run(&reference, &run(3, 2));
}

#[test]
fn gradient_checkpointing_takes_less_memory_and_changes_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { epochs: Some(2), ..recipe(&dataset(folder.path(), None)) };
    let run = |grad_checkpointing| {
        let job = Job::prepare(Recipe { grad_checkpointing, ..recipe.clone() }).unwrap();
        let mut bytes = 0;
        let outcome = train(&job, &folder.path().join("runs"), &options(2), &never(), &mut |event| {
            if let Event::Started(info) = event {
                bytes = info.memory;
            }
        });
        (finished(&outcome.unwrap()), bytes)
    };
    let ((usual, most), (again, least)) = (run(false), run(true));
    assert_same_run(&usual, &again);
    assert!(least < most, "{least} of {most}");
}

#[test]
fn a_resumed_run_is_bit_identical_to_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::prepare(recipe(&dataset(folder.path(), None))).unwrap();
    let runs = folder.path().join("runs");
    let reference = finished(&train(&job, &runs, &options(2), &never(), &mut |_| {}).unwrap());

    // Stopped in mid-epoch, at an epoch's last step (before its evaluation), and again after each resume.
    let (interruptions, outcome) = interrupted(&job, &runs, &[3], &[6, 7, 12, 23, 24]);
    assert_eq!(interruptions, 6);
    assert_same_run(&reference, &finished(&outcome));

    // A finished run has nothing left to do.
    let again = resume(&job, reference.clone(), &options(2), &never(), &mut |event| {
        assert!(!matches!(event, Event::Step(_)));
    });
    assert_same_run(&reference, &finished(&again.unwrap()));
}

/// AdamW's moments and step count, gradients accumulated over two batches of which the last step of an epoch has one,
/// clipped gradients, averaged weights, the best epochs' weights, and batches mixed by a stream of their own.
#[test]
fn a_resumed_run_with_adamw_accumulation_clipping_averaging_and_mixing_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        opt: Opt::AdamW,
        lr: 0.01,
        nesterov: None,
        grad_accum_steps: 2,
        clip_grad: Some(0.5),
        mixup: 0.4,
        cutmix: 1.0,
        model_ema: true,
        model_ema_decay: 0.9,
        checkpoint_hist: Some(2),
        batch_size: 9,
        ..recipe(&dataset(folder.path(), None))
    };
    let job = Job::prepare(recipe).unwrap();
    let runs = folder.path().join("runs");
    let reference = finished(&train(&job, &runs, &options(2), &never(), &mut |_| {}).unwrap());
    let (interruptions, outcome) = interrupted(&job, &runs, &[2], &[3, 5, 11]);
    assert_eq!((interruptions, outcome.summary().steps), (4, 12));
    let resumed = finished(&outcome);
    assert_same_run(&reference, &resumed);
    let epochs = reference.epochs().unwrap();
    assert_eq!(epochs, resumed.epochs().unwrap());
    for epoch in epochs {
        assert_eq!(tensors(&reference.epoch(epoch)), tensors(&resumed.epoch(epoch)));
    }
}

#[test]
fn two_processes_never_train_in_one_run_folder() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::prepare(Recipe { max_steps: Some(2), ..recipe(&dataset(folder.path(), None)) }).unwrap();
    let mut refused = 0;
    let outcome = train(&job, &folder.path().join("runs"), &options(1), &never(), &mut |event| {
        if let Event::Started(info) = event {
            let run = RunFolder::open(&info.run).unwrap();
            let error = resume(&job, run, &options(1), &never(), &mut |_| {}).unwrap_err();
            assert!(matches!(error, TrainError::Locked { .. }), "{error}");
            refused += 1;
        }
    });
    assert_eq!(refused, 1);
    // The lock ends with the run.
    resume(&job, finished(&outcome.unwrap()), &options(1), &never(), &mut |_| {}).unwrap();
}

#[test]
fn a_run_whose_training_state_is_gone_is_refused_and_keeps_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::prepare(Recipe { max_steps: Some(2), ..recipe(&dataset(folder.path(), None)) }).unwrap();
    let run = finished(&train(&job, &folder.path().join("runs"), &options(1), &never(), &mut |_| {}).unwrap());
    std::fs::remove_file(run.state()).unwrap();
    let before = (tensors(&run.last()), logs(&run));
    let error = resume(&job, run.clone(), &options(1), &never(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, TrainError::NoState { .. }), "{error}");
    assert!(Job::resume(job.recipe.clone(), &run).is_err());
    assert!(before == (tensors(&run.last()), logs(&run)));
}

#[test]
fn a_training_state_with_missing_or_other_tensors_of_the_optimizer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::prepare(Recipe { max_steps: Some(2), ..recipe(&dataset(folder.path(), None)) }).unwrap();
    let run = finished(&train(&job, &folder.path().join("runs"), &options(1), &never(), &mut |_| {}).unwrap());
    let (whole, metadata) = load_tensors(&run.state()).unwrap();
    let [momentum, step] = ["optimizer.momentum_buffer.fc.weight", "optimizer.step.fc.weight"];
    let other = "optimizer.exp_avg.fc.weight";
    for (removed, added, expected) in [
        (momentum, None, "expected \"momentum_buffer.fc.weight\", got none"),
        (step, None, "expected \"step.fc.weight\", got none"),
        ("", Some(other), "expected momentum_buffer and step of trained parameters, got \"exp_avg.fc.weight\""),
    ] {
        let mut tensors = whole.clone();
        tensors.shift_remove(removed);
        tensors.extend(added.map(|key| (key.to_owned(), whole[momentum].clone())));
        save_tensors(&run.state(), &tensors, &metadata).unwrap();
        let error = resume(&job, run.clone(), &options(1), &never(), &mut |_| {}).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(error.to_string(), run.state().display().to_string());
        assert_eq!(source, format!("optimizer state: {expected}"));
    }
    // Without any of them, the parameter was frozen: its state starts at zero.
    let mut tensors = whole.clone();
    tensors.retain(|key, _| key != momentum && key != step);
    save_tensors(&run.state(), &tensors, &metadata).unwrap();
    resume(&job, run, &options(1), &never(), &mut |_| {}).unwrap();
}

#[test]
fn with_nothing_held_out_everything_is_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { val_split: Some(0.0), epochs: Some(2), ..recipe(&dataset(folder.path(), None)) };
    let job = Job::prepare(recipe).unwrap();
    assert!(job.train.len() == 50 && job.held_out.is_none());
    let outcome = train(&job, &folder.path().join("runs"), &options(1), &never(), &mut |_| {}).unwrap();
    let Outcome::Finished(trained) = &outcome else { panic!("interrupted") };
    assert_eq!((trained.summary.top1, trained.summary.best_epoch), (None, None));
    let run = finished(&outcome);
    assert!(logs(&run).0[1].ends_with(",,,,,,"), "{:?}", logs(&run).0);
    // A run folder without best weights is read as its last ones.
    assert_eq!(residual_weights::load(run.path()).unwrap().model, trained.model);
    assert_eq!(trained.best_model().unwrap(), trained.model);
}

#[test]
fn the_trained_model_is_returned() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::prepare(Recipe { epochs: Some(3), ..recipe(&dataset(folder.path(), None)) }).unwrap();
    let outcome = train(&job, &folder.path().join("runs"), &options(1), &never(), &mut |_| {}).unwrap();
    let run = finished(&outcome);
    let Outcome::Finished(trained) = outcome else { panic!("interrupted") };
    assert_eq!(trained.model, residual_weights::load(&run.last()).unwrap().model);
    assert_eq!(trained.best_model().unwrap(), residual_weights::load(&run.best()).unwrap().model);
}

#[test]
fn a_run_name_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::create(folder.path(), &format!("resnet20-{}", "é".repeat(250))).unwrap();
    assert!(run.path().file_name().unwrap().len() < 255);
}

#[test]
fn a_run_without_a_checkpoint_is_started_again_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { max_steps: Some(3), ..recipe(&dataset(folder.path(), None)) };
    let job = Job::prepare(recipe).unwrap();
    let run = finished(&train(&job, &folder.path().join("a"), &options(1), &never(), &mut |_| {}).unwrap());
    let torn = RunFolder::create(&folder.path().join("b"), "resnet20-tiny").unwrap();
    std::fs::write(torn.config(), job.recipe.to_toml()).unwrap();
    std::fs::write(torn.events(), "{\"step\":1}\n").unwrap();
    let outcome = resume(&job, torn, &options(1), &never(), &mut |_| {});
    assert_same_run(&run, &finished(&outcome.unwrap()));
}

#[test]
fn a_resume_of_another_recipe_or_other_data_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { max_steps: Some(2), ..recipe(&dataset(folder.path(), None)) };
    let job = Job::prepare(recipe.clone()).unwrap();
    let run = finished(&train(&job, &folder.path().join("runs"), &options(1), &never(), &mut |_| {}).unwrap());
    let refused = |job: &Job| resume(job, run.clone(), &options(1), &never(), &mut |_| {}).unwrap_err().to_string();

    let other = Job::prepare(Recipe { model: "resnet32".into(), ..recipe.clone() }).unwrap();
    let expected = ": model: expected \"resnet20\", as the run began, got \"resnet32\" (a resumed run keeps its model, \
                    data and recipe)";
    assert!(refused(&other).ends_with(expected), "{}", refused(&other));
    let other = Job::prepare(Recipe { lr: 0.1, ..recipe.clone() }).unwrap();
    assert!(refused(&other).contains(": lr: expected 0.05, as the run began, got 0.1 ("), "{}", refused(&other));

    let mut other = job.clone();
    other.train = job.held_out.clone().unwrap();
    assert!(refused(&other).contains(": data: expected 44 + 6 images of 3 classes"), "{}", refused(&other));
    let mut other = job.clone();
    other.recipe = Recipe { workers: 7, log_every: 1, ..job.recipe.clone() };
    assert_eq!(notes_about_images(&other, &run), [""; 0]);
}

/// The notes of a resume about images that changed.
fn notes_about_images(job: &Job, run: &RunFolder) -> Vec<String> {
    let mut notes = Vec::new();
    resume(job, run.clone(), &options(1), &never(), &mut |event| {
        if let Event::Note(text) = event {
            notes.push(text.clone());
        }
    })
    .unwrap();
    notes.retain(|note| note.contains(" images are not those that the run was started with"));
    notes
}

#[test]
fn a_resume_on_changed_images_is_told_and_one_on_moved_images_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), None);
    let job = Job::prepare(Recipe { max_steps: Some(2), ..recipe(&data) }).unwrap();
    let run = finished(&train(&job, &folder.path().join("runs"), &options(1), &never(), &mut |_| {}).unwrap());

    let moved = elsewhere.path().join("moved.safetensors");
    std::fs::rename(&data, &moved).unwrap();
    let recipe = Recipe { data: moved.display().to_string(), ..job.recipe.clone() };
    assert_eq!(notes_about_images(&Job::resume(recipe.clone(), &run).unwrap(), &run), [""; 0]);

    // Of the first image another value, which no step will see: the run is finished.
    let (mut tensors, metadata) = load_tensors(&moved).unwrap();
    tensors["images"].as_f32_mut().unwrap()[0] += 1.0;
    save_tensors(&moved, &tensors, &metadata).unwrap();
    let job = Job::resume(recipe, &run).unwrap();
    let notes = notes_about_images(&job, &run);
    assert!(matches!(&notes[..], [note] if note.ends_with("their files or labels have changed")), "{notes:?}");
    // It is told at every resume.
    assert_eq!(notes_about_images(&job, &run), notes);
}

#[test]
fn a_loss_that_is_not_a_number_ends_the_run_and_names_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    // The position of the spoilt image in the epoch decides how many checkpoints are written before it.
    let recipe = Recipe { checkpoint_every: Some(1), ..recipe(&dataset(folder.path(), Some(7))) };
    let job = Job::prepare(recipe).unwrap();
    let mut steps = 0;
    let error = train(&job, &folder.path().join("runs"), &options(1), &never(), &mut |event| {
        steps += u64::from(matches!(event, Event::Step(_)));
    })
    .unwrap_err();
    let TrainError::Diverged { step, good, .. } = &error else { panic!("{error}") };
    assert_eq!(*step, steps + 1);
    let text = error.to_string();
    assert!(text.starts_with(&format!("step {step}: expected a finite loss and finite weights, got a loss of NaN; ")));
    match good {
        Some((path, step)) => {
            assert_eq!(*step, steps);
            residual_weights::load(path).unwrap();
            assert!(text.ends_with(&format!("the last good checkpoint is {} (step {step})", path.display())), "{text}");
        }
        None => assert_eq!(steps, 0),
    }
}

#[test]
fn class_weights_have_one_value_per_class() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&dataset(folder.path(), None));
    let error = Job::prepare(Recipe { class_weight_values: Some(vec![1.0; 4]), ..recipe.clone() }).err().unwrap();
    assert_eq!(error.to_string(), "class_weight_values: expected 3 weights, one for each class, got 4");
    Job::prepare(Recipe { class_weight_values: Some(vec![1.0; 3]), ..recipe }).unwrap();
}

#[test]
fn a_label_beyond_the_networks_outputs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { num_classes: Some(2), ..recipe(&dataset(folder.path(), None)) };
    let error = Job::prepare(recipe).err().unwrap().to_string();
    assert!(
        error.contains("tiny.safetensors") && error.ends_with("expected a label below num_classes (2), got 2"),
        "{error}"
    );
}

#[test]
fn training_starts_from_given_weights_with_a_new_head() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), None);
    let first = Job::prepare(Recipe { num_classes: Some(5), ..recipe(&data) }).unwrap();
    let path = folder.path().join("start.safetensors");
    residual_weights::save(&path, &first.model, None).unwrap();
    let second = Job::prepare(Recipe { weights: Some(path), ..recipe(&data) }).unwrap();
    assert_eq!(second.model.tensors["fc.weight"].shape(), [3, 64]);
    assert_eq!(second.model.tensors["conv1.weight"], first.model.tensors["conv1.weight"]);
    assert_eq!(second.train.class_names().len(), 3);
}
