//! Distillations on a tiny dataset: classes, resumes, threads, cached outputs, and what is refused.

use crate::support;

use residual_model::{Initialisation, Model, initialise, reorder_head};
use residual_preprocess::Preprocessing;
use residual_train::{Event, Job, KdLoss, Layer, Outcome, Recipe, RunFolder, resume, train};
use residual_weights::save;
use std::path::{Path, PathBuf};
use support::{assert_same_run, dataset, finished, interrupted, never, options, recipe};

/// A network with new weights for images of 12×12, normalised with ImageNet's statistics.
fn network(name: &str, labels: &[&str], seed: u64) -> Model {
    let graph = residual_zoo::build(name, labels.len()).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, seed);
    let preprocessing = Preprocessing::unscaled([12, 12], &Preprocessing::IMAGENET_MEAN, &Preprocessing::IMAGENET_STD);
    Model::new(graph, tensors, preprocessing, labels.iter().map(ToString::to_string).collect()).unwrap()
}

/// The path of `model` as a checkpoint in `folder`.
fn saved(folder: &Path, name: &str, model: &Model) -> String {
    let path = folder.join(name);
    save(&path, model, None).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The run of `recipe` with two threads, and its notes.
fn run(recipe: &Recipe, runs: &Path) -> (RunFolder, Vec<String>) {
    let job = Job::prepare(recipe.clone()).unwrap();
    let mut notes = Vec::new();
    let outcome = train(&job, runs, &options(2), &never(), &mut |event| {
        if let Event::Note(note) = event {
            notes.push(note.clone());
        }
    });
    (finished(&outcome.unwrap()), notes)
}

fn error(recipe: &Recipe, runs: &Path) -> String {
    let prepared = Job::prepare(recipe.clone());
    let outcome = prepared.and_then(|job| train(&job, runs, &options(1), &never(), &mut |_| {}));
    residual_files::one_line(&outcome.unwrap_err())
}

/// Two teachers of other networks, augmented and mixed images, accumulated gradients.
#[test]
fn a_resumed_distillation_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["0", "1", "2"];
    let teachers = [network("resnet32", &names, 1), network("wrn16_4", &names, 2)];
    let teachers =
        teachers.iter().enumerate().map(|(at, model)| saved(folder.path(), &format!("{at}.safetensors"), model));
    let recipe = Recipe {
        teacher: Some(vec![teachers.collect::<Vec<_>>().join(",")]),
        mixup: 0.4,
        grad_accum_steps: 2,
        batch_size: 9,
        ..recipe(&dataset(folder.path(), None))
    };
    let job = Job::prepare(recipe).unwrap();
    assert_eq!(job.recipe.teacher.as_ref().map(Vec::len), Some(2));
    let runs = folder.path().join("runs");
    let reference = finished(&train(&job, &runs, &options(2), &never(), &mut |_| {}).unwrap());
    let (interruptions, outcome) = interrupted(&job, &runs, &[2], &[3, 5, 11]);
    assert_eq!(interruptions, 4);
    assert_same_run(&reference, &finished(&outcome));
}

/// The warm-up counts epochs across resumes, and what was cached is computed again.
#[test]
fn a_resumed_decoupled_distillation_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = saved(folder.path(), "t.safetensors", &network("resnet20", &["0", "1", "2"], 1));
    let recipe = Recipe {
        teacher: Some(vec![teacher]),
        kd_loss: KdLoss::Dkd,
        kd_warmup_epochs: 3,
        augment: residual_train::Augment::None,
        hflip: 0.0,
        crop_padding: 4,
        ..recipe(&dataset(folder.path(), None))
    };
    let job = Job::prepare(recipe.clone()).unwrap();
    let runs = folder.path().join("runs");
    let (reference, notes) = run(&recipe, &runs);
    assert!(notes.iter().any(|note| note.contains("computed once for each of the 44 images")), "{notes:?}");
    let (interruptions, outcome) = interrupted(&job, &runs, &[3], &[7, 12, 20]);
    assert_eq!(interruptions, 4);
    assert_same_run(&reference, &finished(&outcome));
    let (computed, notes) = run(&Recipe { kd_cache: false, ..recipe }, &runs);
    assert!(notes.iter().all(|note| !note.contains("computed once")), "{notes:?}");
    assert_same_run(&reference, &computed);
}

/// Regressors, their AdamW, gradients accumulated and clipped, and layers that are unfrozen in the middle.
#[test]
fn a_resumed_distillation_of_feature_maps_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = saved(folder.path(), "t.safetensors", &network("wrn16_4", &["0", "1", "2"], 1));
    let recipe = Recipe {
        teacher: Some(vec![teacher]),
        kd_loss: KdLoss::FitNet,
        kd_beta: Some(1.0),
        opt: residual_train::Opt::AdamW,
        lr: 0.01,
        nesterov: None,
        clip_grad: Some(0.5),
        grad_accum_steps: 2,
        batch_size: 9,
        freeze: Some("2".into()),
        unfreeze_at: Some(vec!["3:layer1".into()]),
        ..recipe(&dataset(folder.path(), None))
    };
    let job = Job::prepare(recipe.clone()).unwrap();
    let runs = folder.path().join("runs");
    let (reference, notes) = run(&recipe, &runs);
    let pairs = notes.iter().find(|note| note.starts_with("feature maps: ")).unwrap();
    assert_eq!(pairs.matches(" from ").count(), 3, "{pairs}");
    let state = support::tensors(&reference.state());
    let of_regressors =
        state.iter().filter(|(key, _)| key.starts_with("distillation.") && key.ends_with("regressor.weight"));
    // The weight, two moments and a step count of each.
    assert_eq!(of_regressors.count(), 3 * 4, "{:?}", state.iter().map(|(key, _)| key).collect::<Vec<_>>());
    let (interruptions, outcome) = interrupted(&job, &runs, &[2], &[5, 7, 11]);
    assert_eq!(interruptions, 4);
    assert_same_run(&reference, &finished(&outcome));
}

#[test]
fn a_teacher_without_weight_and_a_teacher_twice_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let teacher = saved(folder.path(), "t.safetensors", &network("resnet20", &["0", "1", "2"], 1));
    let alone = Recipe { epochs: Some(2), ..recipe(&dataset(folder.path(), None)) };
    let taught = |teachers: usize, alpha| Recipe {
        teacher: Some(vec![teacher.clone(); teachers]),
        kd_alpha: alpha,
        ..alone.clone()
    };
    assert_same_run(&run(&alone, &runs).0, &run(&taught(1, Some(0.0)), &runs).0);
    let (once, _) = run(&taught(1, None), &runs);
    assert_same_run(&once, &run(&taught(2, None), &runs).0);
    assert!(support::tensors(&once.last()) != support::tensors(&run(&alone, &runs).0.last()), "a teacher matters");
}

/// A folder of photos of three classes, in greys that differ.
fn photos(root: &Path) -> PathBuf {
    for (class, name) in ["ant", "bee", "cat"].iter().enumerate() {
        let folder = root.join("photos").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for image in 0..4u8 {
            let sizes = [[54u32 + 432, 0, 54, 40, 12], [12, 1 | 24 << 16, 0, 432, 0]].concat();
            let header: Vec<u8> = sizes.iter().chain(&[0, 0, 0]).flat_map(|value| value.to_le_bytes()).collect();
            let grey = 60 * class as u8 + 7 * image;
            std::fs::write(folder.join(format!("{image}.bmp")), [b"BM", &header[..], &[grey; 432]].concat()).unwrap();
        }
    }
    root.join("photos")
}

fn photo_recipe(root: &Path, teacher: &str) -> Recipe {
    Recipe {
        data: photos(root).display().to_string(),
        teacher: Some(vec![teacher.to_owned()]),
        img_size: Some(12),
        val_split: Some(0.25),
        batch_size: 4,
        epochs: Some(2),
        lr: 0.05,
        log_every: 1,
        ..Recipe::default()
    }
}

fn losses(run: &RunFolder) -> Vec<f64> {
    support::logs(run).1.iter().map(|event| event["loss"].as_f64().unwrap()).collect()
}

#[test]
fn a_teachers_classes_are_matched_by_name_and_it_is_judged_by_them() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let model = network("resnet20", &["ant", "bee", "cat"], 3);
    // The same, with its outputs in another order, and one more that the student does not have.
    let other = reorder_head(&model, &[Some(2), None, Some(0), Some(1)], 9).unwrap();
    let other = other.with_labels(["cat", "dog", "ant", "bee"].map(str::to_owned).to_vec()).unwrap();
    let [first, second] = [("a.safetensors", &model), ("b.safetensors", &other)].map(|(name, model)| {
        let recipe = photo_recipe(folder.path(), &saved(folder.path(), name, model));
        let (run, notes) = run(&recipe, &runs);
        (losses(&run), notes)
    });
    assert_eq!(first.0.len(), 4);
    for (a, b) in first.0.iter().zip(&second.0) {
        assert!((a - b).abs() <= 1e-5 * a, "{:?} against {:?}", first.0, second.0);
    }
    assert!(
        first.1.iter().any(|note| note.ends_with("a.safetensors: resnet20, 3 classes matched by name")),
        "{first:?}"
    );
    assert!(second.1.iter().any(|note| note.ends_with("3 classes of its 4 matched by name")), "{second:?}");

    let recipe = photo_recipe(folder.path(), &saved(folder.path(), "a.safetensors", &model));
    let job = Job::prepare(recipe).unwrap();
    let mut memory = 0;
    let outcome = train(&job, &runs, &options(1), &never(), &mut |event| {
        if let Event::Started(info) = event {
            memory = info.memory;
        }
    });
    let Outcome::Finished(trained) = outcome.unwrap() else { panic!("nobody stops this run") };
    let evaluate = residual_infer::EvaluateOptions { engine: options(1), ..Default::default() };
    let held_out = job.held_out.as_ref().unwrap();
    let expected =
        residual_infer::evaluate(&model, held_out, &evaluate, &never(), &mut |_, _| {}).unwrap().unwrap().top1;
    let [judged] = &trained.summary.teachers[..] else { panic!("one teacher") };
    assert_eq!((judged.top1, judged.test_top1, &*judged.network), (Some(expected), None, "resnet20"));
    let alone = Job::prepare(Recipe { teacher: None, ..job.recipe.clone() }).unwrap();
    train(&alone, &runs, &options(1), &never(), &mut |event| {
        if let Event::Started(info) = event {
            assert!(info.memory + 1_000_000 < memory, "{} without the teacher, {memory} with it", info.memory);
        }
    })
    .unwrap();
}

/// A student whose outputs are always equal: its divergence from the teacher depends on the teacher alone.
#[test]
fn a_teacher_sees_images_normalised_as_it_was_trained() {
    let folder = tempfile::tempdir().unwrap();
    let (path, runs) = (folder.path(), folder.path().join("runs"));
    let labels = ["ant", "bee", "cat"];
    let teacher = network("resnet20", &labels, 3);
    let mut student = network("resnet20", &labels, 4);
    for key in ["fc.weight", "fc.bias"] {
        student.tensors[key].as_f32_mut().unwrap().fill(0.0);
    }
    let weights = Some(PathBuf::from(saved(path, "student.safetensors", &student)));
    let taught = |mean: f64, teacher: &str| {
        let (mean, std) = (Some(vec![mean; 3]), Some(vec![0.5; 3]));
        let recipe = photo_recipe(path, teacher);
        run(&Recipe { weights: weights.clone(), mean, std, lr: 0.0, kd_alpha: Some(1.0), ..recipe }, &runs)
    };
    let own = |mean, name| {
        let preprocessing = Preprocessing::unscaled([12, 12], &[mean; 3], &[0.5; 3]);
        saved(path, name, &teacher.clone().with_preprocessing(preprocessing).unwrap())
    };
    let [first, second] = [own(0.25, "first.safetensors"), own(0.75, "second.safetensors")];
    let (expected, notes) = taught(0.25, &first);
    assert!(notes.iter().all(|note| !note.contains("normalised again")), "{notes:?}");
    let (got, notes) = taught(0.75, &first);
    assert!(notes.iter().any(|note| note.contains("images are normalised again for it")), "{notes:?}");
    let differ = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs() / a).fold(0.0, f64::max);
    let [expected, got, other] = [expected, got, taught(0.75, &second).0].map(|run| losses(&run));
    assert!(differ(&expected, &got) < 1e-4, "{expected:?} and {got:?}");
    assert!(differ(&expected, &other) > 1e-3, "{expected:?} and {other:?}");
}

#[test]
fn what_does_not_go_with_a_teacher_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (path, runs) = (folder.path(), folder.path().join("runs"));
    let teacher = saved(path, "t.safetensors", &network("resnet20", &["0", "1", "2"], 1));
    let base = Recipe { teacher: Some(vec![teacher.clone()]), ..recipe(&dataset(path, None)) };
    for (recipe, expected) in [
        (
            Recipe { kd_loss: KdLoss::Dkd, mixup: 0.2, ..base.clone() },
            "kd_loss: expected kd with mixup or cutmix, as dkd needs one class for each image, got dkd",
        ),
        (
            Recipe { bce_loss: true, ..base.clone() },
            "teacher: expected no bce_loss, as a teacher's softened probabilities are those of a softmax, got both",
        ),
        (Recipe { kd_alpha: Some(1.5), ..base.clone() }, "kd_alpha: expected at most 1 with kd, got 1.5"),
        (Recipe { teacher: None, kd_temperature: 2.0, ..base.clone() }, "kd_temperature requires teacher"),
    ] {
        assert_eq!(error(&recipe, &runs), expected);
    }
    let deeper = saved(path, "deeper.safetensors", &network("resnet32", &["0", "1", "2"], 1));
    let hints = Recipe { kd_loss: KdLoss::At, ..base.clone() };
    for (recipe, expected) in [
        (
            Recipe { hint_layers: Some(vec!["layer9:layer1".into()]), ..hints.clone() },
            "hint_layers: expected a layer of the student, resnet20 (residual inspect lists them), got \"layer9\"",
        ),
        (
            Recipe { hint_layers: Some(vec!["layer1,layer1:layer2".into()]), ..hints.clone() },
            "hint_layers: expected each layer of the student before its output once, got \"layer1:layer2\"",
        ),
        (
            Recipe { teacher: Some(vec![teacher.clone(), deeper]), ..hints.clone() },
            "teacher: expected one with at, got 2",
        ),
        (
            Recipe { hint_layers: Some(vec!["layer1".into()]), ..base.clone() },
            "hint_layers requires kd_loss = \"fitnet\" or \"at\" (is \"kd\")",
        ),
    ] {
        assert_eq!(error(&recipe, &runs), expected);
    }
    let four = saved(path, "four.safetensors", &network("resnet18", &["0", "1", "2"], 1));
    let message = error(&Recipe { teacher: Some(vec![four]), ..hints }, &runs);
    assert!(message.contains("stages: expected as many stages of blocks as the student's 3 (layer1.2."), "{message}");
    let grey =
        Recipe { in_chans: Some(1), data: photos(path).display().to_string(), img_size: Some(12), ..base.clone() };
    assert_eq!(
        error(&grey, &runs),
        format!("teacher {teacher}: input: expected images of 1 channels, the student's, got a network for 3")
    );
    let unnamed = saved(path, "five.safetensors", &network("resnet20", &["0", "1", "2", "3", "4"], 1));
    let unnamed = Recipe { teacher: Some(vec![unnamed]), ..photo_recipe(path, "") };
    assert!(
        error(&unnamed, &runs)
            .ends_with("expected 3 outputs, as classes without names are matched by their numbers, got 5")
    );
    let strange = saved(path, "strange.safetensors", &network("resnet20", &["ant", "bee", "dog"], 1));
    assert!(
        error(&photo_recipe(path, &strange), &runs)
            .ends_with("strange.safetensors: classes: expected classes among \"ant\", \"bee\", \"dog\", got \"cat\"")
    );
    let missing = path.join("none.safetensors").display().to_string();
    assert!(error(&photo_recipe(path, &missing), &runs).starts_with("teacher: "), "{missing}");
    assert!(!runs.exists(), "a run that cannot start creates no folder");
}

#[test]
fn a_run_is_not_resumed_with_a_teacher_that_has_changed_but_with_one_that_was_moved() {
    let folder = tempfile::tempdir().unwrap();
    let model = network("resnet20", &["0", "1", "2"], 1);
    let teacher = saved(folder.path(), "t.safetensors", &model);
    let recipe =
        Recipe { teacher: Some(vec![teacher.clone()]), epochs: Some(1), ..recipe(&dataset(folder.path(), None)) };
    let (run, _) = run(&recipe, &folder.path().join("runs"));
    let began = Recipe::resolve(&[Layer::run(&run.config()).unwrap()]).unwrap().recipe;
    let with = |teachers: &[&str]| Recipe {
        teacher: Some(teachers.iter().map(ToString::to_string).collect()),
        ..began.clone()
    };
    let again = |teacher: &str| {
        let job = Job::resume(with(&[teacher]), &run)?;
        resume(&job, run.clone(), &options(1), &never(), &mut |_| {})
    };
    let moved = saved(folder.path(), "moved.safetensors", &model);
    again(&moved).unwrap();
    saved(folder.path(), "t.safetensors", &network("resnet20", &["0", "1", "2"], 2));
    let error = again(&teacher).unwrap_err().to_string();
    assert!(error.contains(&format!("teacher {teacher}: expected weights with the checksum ")), "{error}");
    let job = Job::resume(with(&[&teacher, &moved]), &run).unwrap();
    let error = resume(&job, run.clone(), &options(1), &never(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("number of teachers: expected 1, as the run began, got 2"), "{error}");
}
