//! Transfers on a tiny dataset: frozen and unfrozen layers, cached features, new heads, and resumed runs.

use residual_engine::Options;
use residual_kernels::Isa;
use residual_tensor::{NamedTensors, Stream, Tensor};
use residual_threads::Pool;
use residual_train::{Event, Job, Layer, NewHead, Outcome, Recipe, RunFolder, resume, train};
use residual_weights::{load_tensors, save_tensors};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// 30 normalised images of 12×12, of three classes.
fn dataset(folder: &Path) -> PathBuf {
    let (n, side) = (30, 12);
    let mut random = Stream::new(3, &[]);
    let labels: Vec<i64> = (0..n).map(|index| index % 3).collect();
    let images = labels.iter().flat_map(|&label| (0..3 * side * side).map(move |at| (label, at / (side * side))));
    let images: Vec<(i64, usize)> = images.collect();
    let images = images.into_iter().map(|(label, c)| random.normal() + if c as i64 == label { 1.0 } else { 0.0 });
    let tensors = NamedTensors::from_iter([
        ("images".to_owned(), Tensor::f32(&[n as usize, 3, side, side], images.collect())),
        ("labels".to_owned(), Tensor::i64(&[n as usize], labels)),
    ]);
    let path = folder.join("tiny.safetensors");
    save_tensors(&path, &tensors, &Default::default()).unwrap();
    path
}

fn recipe(folder: &Path) -> Recipe {
    Recipe {
        data: dataset(folder).display().to_string(),
        batch_size: 9,
        epochs: Some(4),
        lr: 0.05,
        weight_decay: 1e-3,
        checkpoint_every: Some(2),
        seed: 5,
        ..Recipe::default()
    }
}

fn options() -> Options {
    Options::new(Isa::detect(), Arc::new(Pool::new(2)))
}

fn run(recipe: Recipe, runs: &Path) -> (Job, RunFolder, Vec<Event>) {
    let job = Job::prepare(recipe).unwrap();
    let mut events = Vec::new();
    let outcome = train(&job, runs, &options(), &Arc::default(), &mut |event| events.push(event.clone())).unwrap();
    let Outcome::Finished(trained) = outcome else { panic!("interrupted") };
    (job, RunFolder::open(&trained.summary.run).unwrap(), events)
}

fn bits(tensors: &NamedTensors) -> Vec<(String, Vec<u32>)> {
    let bits = |tensor: &Tensor| match tensor.as_f32() {
        Some(values) => values.iter().map(|value| value.to_bits()).collect(),
        None => tensor.as_i64().unwrap().iter().map(|&value| value as u32).collect(),
    };
    tensors.iter().map(|(key, tensor)| (key.clone(), bits(tensor))).collect()
}

fn file(path: &Path) -> Vec<(String, Vec<u32>)> {
    bits(&load_tensors(path).unwrap().0)
}

/// The keys whose values a run changed, in the state dict's order.
fn changed(job: &Job, run: &RunFolder) -> Vec<String> {
    let after: HashMap<String, Vec<u32>> = file(&run.last()).into_iter().collect();
    let before = bits(&job.model.tensors).into_iter();
    before.filter(|(key, values)| after[key] != *values).map(|(key, _)| key).collect()
}

#[test]
fn frozen_tensors_are_unchanged_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let base = Recipe { epochs: Some(1), ..recipe(folder.path()) };
    let frozen = |spec: &str, freeze_bn| Recipe { freeze: Some(spec.into()), freeze_bn, ..base.clone() };

    let (job, folder, _) = run(frozen("backbone", true), &runs);
    assert_eq!(changed(&job, &folder), ["fc.weight", "fc.bias"]);
    // As in torch, frozen batch norms that are in training follow the batches.
    let (job, folder, _) = run(frozen("backbone", false), &runs);
    let is_statistic = |key: &String| key.contains("running") || key.contains("num_batches") || key.starts_with("fc.");
    let keys = changed(&job, &folder);
    assert!(keys.iter().all(is_statistic) && keys.len() > 30, "{keys:?}");
    for (spec, is_trained) in [
        ("layer1..layer2", (|key| key.starts_with("layer3") || key.starts_with("fc")) as fn(&str) -> bool),
        ("3", |key| key.starts_with("layer3") || key.starts_with("fc")),
        ("layer2..layer3", |key| !key.starts_with("layer2") && !key.starts_with("layer3")),
        ("conv1,layer2.0,layer3.1.conv2", |key| {
            !["conv1.", "layer2.0.", "layer3.1.conv2."].iter().any(|path| key.starts_with(path))
        }),
    ] {
        let (job, folder, _) = run(frozen(spec, true), &runs);
        let keys = changed(&job, &folder);
        for (key, _) in job.model.graph.parameters() {
            assert_eq!(keys.contains(&key), is_trained(&key), "{spec}: {key}");
        }
    }
    // Without anything frozen, all statistics are kept.
    let (job, folder, _) = run(Recipe { freeze_bn: true, ..base }, &runs);
    assert!(changed(&job, &folder).iter().all(|key| !key.contains("running")));
}

#[test]
fn layers_are_unfrozen_at_their_epoch_and_a_resumed_run_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let recipe = Recipe {
        freeze: Some("backbone".into()),
        freeze_bn: true,
        unfreeze_at: Some(vec!["2:layer3".into(), "4:layer2.2.conv2,layer2.2.bn2".into()]),
        head_lr_mult: 2.0,
        layer_decay: 0.5,
        ..recipe(folder.path())
    };
    let (job, reference, events) = run(recipe, &runs);
    let keys = changed(&job, &reference);
    let unfrozen =
        |key: &String| ["fc.", "layer3.", "layer2.2.conv2.", "layer2.2.bn2."].iter().any(|at| key.starts_with(at));
    assert!(keys.iter().all(unfrozen) && keys.iter().any(|key| key.starts_with("layer2.2.conv2")), "{keys:?}");
    // The optimiser counts the updates of each parameter from its first: 3 steps an epoch.
    let (state, _) = load_tensors(&reference.state()).unwrap();
    let steps = |key: &str| state.get(&format!("optimizer.step.{key}")).map(|steps| steps.as_i64().unwrap().to_vec());
    assert_eq!(
        ["fc.bias", "layer3.0.bn1.weight", "layer2.2.conv2.weight", "conv1.weight"].map(steps),
        [Some(vec![12]), Some(vec![9]), Some(vec![3]), None]
    );
    let notes: Vec<&String> =
        events.iter().filter_map(|event| if let Event::Note(text) = event { Some(text) } else { None }).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("epoch 2: ") && notes[1].starts_with("epoch 4: 2 more layers"), "{notes:?}");

    // Stopped before, at and after each boundary: 3 steps an epoch.
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = |at: &'static [u64]| {
        let stop = stop.clone();
        move |event: &Event| match event {
            Event::Step(step) if at.contains(&step.step) => stop.store(true, Ordering::Relaxed),
            // Between the end of an epoch and the first step of the next.
            Event::Checkpoint { step: 9 } => stop.store(true, Ordering::Relaxed),
            _ => {}
        }
    };
    let mut outcome = train(&job, &runs, &options(), &stop, &mut stopping(&[2])).unwrap();
    let mut interruptions = 0;
    while let Outcome::Interrupted(summary) = &outcome {
        interruptions += 1;
        stop.store(false, Ordering::Relaxed);
        let run = RunFolder::open(&summary.run).unwrap();
        let recipe = Recipe::resolve(&[Layer::run(&run.config()).unwrap()]).unwrap().recipe;
        let job = Job::resume(recipe, &run).unwrap();
        let at: &'static [u64] = if interruptions > 8 { &[] } else { &[3, 4, 6, 10] };
        outcome = resume(&job, run, &options(), &stop, &mut stopping(at)).unwrap();
    }
    assert!(interruptions > 4, "{interruptions}");
    let Outcome::Finished(trained) = outcome else { unreachable!() };
    let whole = RunFolder::open(&trained.summary.run).unwrap();
    for (a, b) in [(reference.last(), whole.last()), (reference.state(), whole.state())] {
        assert!(file(&a) == file(&b), "{} and {} differ", a.display(), b.display());
    }
}

#[test]
fn cached_features_train_the_head_as_the_images_do() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let probe = Recipe { freeze: Some("backbone".into()), freeze_bn: true, ..recipe(folder.path()) };
    let (_, usual, _) = run(probe.clone(), &runs);
    let (job, cached, events) = run(Recipe { cache_features: true, ..probe }, &runs);
    assert!(events.iter().any(|event| matches!(event, Event::Features { done: 30, total: 30 })));
    assert_eq!(changed(&job, &cached), ["fc.weight", "fc.bias"]);
    let (usual, _) = load_tensors(&usual.last()).unwrap();
    let (again, _) = load_tensors(&cached.last()).unwrap();
    assert_eq!(usual.len(), again.len());
    let start = &job.model.tensors;
    let furthest = |key: &str, from: &NamedTensors| {
        let pairs = again[key].as_f32().unwrap().iter().zip(from[key].as_f32().unwrap());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    for key in ["fc.weight", "fc.bias"] {
        let (apart, moved) = (furthest(key, &usual), furthest(key, start));
        assert!(apart < 1e-2 * moved, "{key}: {apart}, moved {moved}");
    }

    // Interrupted in the middle of an epoch, it computes its features again, and the result is bit-identical.
    let stop = Arc::new(AtomicBool::new(false));
    let outcome = train(&job, &runs, &options(), &stop, &mut |event| {
        if matches!(event, Event::Step(step) if step.step == 4) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    let Outcome::Interrupted(summary) = outcome.unwrap() else { panic!("not interrupted") };
    let broken = RunFolder::open(&summary.run).unwrap();
    let recipe = Recipe::resolve(&[Layer::run(&broken.config()).unwrap()]).unwrap().recipe;
    let job = Job::resume(recipe, &broken).unwrap();
    resume(&job, broken.clone(), &options(), &Arc::default(), &mut |_| {}).unwrap();
    assert!(file(&broken.last()) == file(&cached.last()) && file(&broken.state()) == file(&cached.state()));
}

#[test]
fn weights_of_other_classes_get_a_new_head_and_the_run_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let base = Recipe { max_steps: Some(1), epochs: None, ..recipe(folder.path()) };
    let (five, first, events) = run(Recipe { num_classes: Some(5), ..base.clone() }, &runs);
    assert!(five.new_head.is_none() && !events.iter().any(|event| matches!(event, Event::NewHead(_))));
    let (_, second, events) = run(Recipe { weights: Some(first.last()), ..base.clone() }, &runs);
    let head = NewHead { layer: "fc".into(), old: 5, new: 3, kept: 0 };
    assert!(events.contains(&Event::NewHead(head)));
    let job = Job::prepare(Recipe { weights: Some(second.last()), ..base }).unwrap();
    assert_eq!(job.new_head, None);
}

#[test]
fn a_transfer_that_cannot_be_is_refused_by_its_fields_name() {
    let folder = tempfile::tempdir().unwrap();
    let base = recipe(folder.path());
    let probe = Recipe { freeze: Some("backbone".into()), freeze_bn: true, cache_features: true, ..base.clone() };
    let freeze = |spec: &str| Recipe { freeze: Some(spec.into()), ..base.clone() };
    let unfreeze = |spec: &str| Recipe { unfreeze_at: Some(vec![spec.into()]), ..freeze("backbone") };
    for (recipe, expected) in [
        (
            freeze("layer9"),
            "freeze: expected backbone, a number, or modules of the network (conv1, bn1, layer1, layer2, layer3, fc), got \"layer9\"",
        ),
        (freeze("5"), "freeze: expected 1 to 4 parts (conv1 and bn1, layer1, layer2, layer3), got 5"),
        (freeze("layer3..layer1"), "freeze: expected \"layer3\" to come before \"layer1\", got \"layer3..layer1\""),
        (
            freeze("backbone,fc"),
            "freeze: expected a part of the network left to train, got \"backbone,fc\", which is all",
        ),
        (freeze(" "), "freeze: expected a text that is not empty, got \" \""),
        (unfreeze("layer3"), "unfreeze_at: expected EPOCH:MODULES, with an epoch from 2, got \"layer3\""),
        (unfreeze("1:layer3"), "unfreeze_at: expected EPOCH:MODULES, with an epoch from 2, got \"1:layer3\""),
        (
            unfreeze("2:stem"),
            "unfreeze_at: expected backbone, a number, or modules of the network (conv1, bn1, layer1, layer2, layer3, fc), got \"stem\"",
        ),
        (Recipe { unfreeze_at: Some(vec!["2:fc".into()]), ..base.clone() }, "unfreeze_at requires freeze"),
        (Recipe { layer_decay: 1.5, ..base.clone() }, "layer_decay: expected above 0, at most 1, got 1.5"),
        (Recipe { head_lr_mult: 0.0, ..base.clone() }, "head_lr_mult: expected above 0, at most 1e6, got 0.0"),
        (
            Recipe { freeze: None, ..probe.clone() },
            "cache_features: expected a backbone that is frozen to the end (freeze \"backbone\"), got no freeze",
        ),
        (
            Recipe { freeze_bn: false, ..probe.clone() },
            "cache_features: expected freeze_bn with it, as statistics change features, got freeze_bn false",
        ),
        (
            Recipe { freeze: Some("3".into()), ..probe.clone() },
            "cache_features: expected all layers but the head frozen (freeze \"backbone\"), got a \"layer3.0.conv1\" that is trained",
        ),
        (
            Recipe { augment: residual_train::Augment::Crop, ..probe },
            "cache_features: expected augment \"none\", as every epoch sees the same features, got augment \"crop\"",
        ),
    ] {
        assert_eq!(Job::prepare(recipe).err().unwrap().to_string(), expected);
    }
}

/// A folder of small bitmaps for each of these names, each in a grey of its own.
fn photos(root: &Path, names: &[&str]) {
    for (class, name) in names.iter().enumerate() {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for image in 0..4u8 {
            let grey = 60 * class as u8 + image;
            // A bitmap of 8×8 pixels of 24 bits.
            let sizes = [[54u32 + 192, 0, 54, 40, 8], [8, 1 | 24 << 16, 0, 192, 0]].concat();
            let header: Vec<u8> = sizes.iter().chain(&[0, 0, 0]).flat_map(|value| value.to_le_bytes()).collect();
            std::fs::write(folder.join(format!("{image}.bmp")), [b"BM", &header[..], &[grey; 192]].concat()).unwrap();
        }
    }
}

#[test]
fn classes_known_by_name_keep_their_trained_outputs_whatever_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let all = folder.path().join("all");
    photos(&all, &["ant", "bee", "cat"]);
    let start = Recipe {
        data: all.display().to_string(),
        img_size: Some(32),
        max_steps: Some(1),
        batch_size: 4,
        ..Recipe::default()
    };
    let trained = Job::prepare(start.clone()).unwrap();
    let weights = folder.path().join("w.safetensors");
    let mut model = trained.model.clone();
    model.labels.swap(0, 2);
    residual_weights::save(&weights, &model, None).unwrap();

    // The checkpoint calls its outputs cat, bee, ant; the folder's classes are numbered the other way round.
    let again = Job::prepare(Recipe { weights: Some(weights.clone()), ..start.clone() }).unwrap();
    assert_eq!(again.new_head, Some(NewHead { layer: "fc".into(), old: 3, new: 3, kept: 3 }));
    let rows = |job: &Job| {
        job.model.tensors["fc.weight"].as_f32().unwrap().chunks(64).map(<[f32]>::to_vec).collect::<Vec<_>>()
    };
    let (old, new) = (rows(&trained), rows(&again));
    assert_eq!([&new[0], &new[1], &new[2]], [&old[2], &old[1], &old[0]]);
    assert_eq!(again.model.labels, ["ant", "bee", "cat"]);

    // A part of the classes, and one output more than there are classes.
    let some = folder.path().join("some");
    photos(&some, &["ant", "cat"]);
    let part = Recipe { data: some.display().to_string(), weights: Some(weights), num_classes: Some(3), ..start };
    let part = Job::prepare(part).unwrap();
    assert_eq!(part.new_head.as_ref().map(|head| (head.new, head.kept)), Some((3, 2)));
    assert_eq!([&rows(&part)[0], &rows(&part)[1]], [&old[2], &old[0]]);
    assert_eq!(part.model.labels, ["ant", "cat", "(unused 2)"]);
}
