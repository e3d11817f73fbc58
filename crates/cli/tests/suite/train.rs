//! `residual train` through the compiled program: results, interruptions, resumes.

use crate::support;

use residual::data::{Container, Source, convert};
use residual::weights::load_tensors;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use support::{Place, TINY, bmp, json, ran};

fn tensors(path: &Path) -> Vec<(String, Vec<u32>)> {
    let (tensors, _) = load_tensors(path).unwrap();
    let bits = tensors.iter().map(|(key, tensor)| match tensor.as_f32() {
        Some(values) => (key.clone(), values.iter().map(|value| value.to_bits()).collect()),
        None => (key.clone(), tensor.as_i64().unwrap().iter().map(|&value| value as u32).collect()),
    });
    bits.collect()
}

fn rows(place: &Place, run: &str) -> Vec<String> {
    let text = std::fs::read_to_string(place.path(run).join("metrics.csv")).unwrap();
    text.lines().map(|row| row.split(',').take(11).collect::<Vec<_>>().join(",")).collect()
}

/// The events without the fields that say how long something took.
fn events(place: &Place, run: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path(run).join("events.jsonl")).unwrap();
    let event = |line: &str| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        event.as_object_mut().unwrap().remove("images_per_second").unwrap();
        event
    };
    text.lines().map(event).collect()
}

#[test]
fn a_run_reports_itself_as_json_and_can_be_evaluated_by_its_folder() {
    let place = Place::new();
    place.tiny_data();
    let result: Value = serde_json::from_str(&place.done(&TINY)).unwrap();
    assert_eq!(result["run"], "runs/1-resnet20-tiny");
    assert_eq!((&result["epochs"], &result["steps"]), (&3.into(), &21.into()));
    assert!(result["top1"].is_f64() && result["images_per_second"].is_f64());
    for file in ["config.toml", "metrics.csv", "events.jsonl", "weights/best.safetensors", "weights/last.safetensors"] {
        assert!(place.path("runs/1-resnet20-tiny").join(file).is_file(), "{file}");
    }
    let evaluation = place.done(&["eval", "--weights", "runs/1-resnet20-tiny", "--json"]);
    let evaluation: Value = serde_json::from_str(&evaluation).unwrap();
    // What the run held out, a tenth of 32.
    assert_eq!(evaluation["images"], 4);
    assert!(evaluation["top1"].as_f64().unwrap() > 50.0 && evaluation["top5"] == 100.0, "{evaluation}");
}

#[test]
fn people_are_told_what_to_do_next() {
    let place = Place::new();
    place.tiny_data();
    let arguments: Vec<&str> = TINY.into_iter().filter(|&argument| argument != "--json").collect();
    let text = place.done(&[&arguments[..], &["--max-steps", "2"]].concat());
    assert!(text.contains("\n  residual eval --weights runs/1-resnet20-tiny\n"), "{text}");
    assert!(text.ends_with("\n  residual predict --weights runs/1-resnet20-tiny IMAGE\n"), "{text}");
}

#[test]
fn a_run_finds_its_data_from_any_folder_and_where_they_were_moved() {
    let place = Place::new();
    place.tiny_data();
    place.done(&[&TINY[..], &["--max-steps", "8"]].concat());
    let run = place.path("runs/1-resnet20-tiny");
    let elsewhere = tempfile::tempdir().unwrap();
    let from_elsewhere = |arguments: &[&str]| {
        let ran = ran(place.command(arguments).current_dir(elsewhere.path()).output().unwrap());
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
    };
    from_elsewhere(&["eval", "--weights", run.to_str().unwrap()]);
    from_elsewhere(&["train", "--resume", run.to_str().unwrap()]);
    std::fs::rename(place.path("tiny.safetensors"), place.path("moved.safetensors")).unwrap();
    place.done(&["train", "--resume", "runs/1-resnet20-tiny", "--data", "moved.safetensors"]);
}

#[test]
fn thread_counts_change_no_bit() {
    let place = Place::new();
    place.tiny_data();
    let last = |threads: &str, run: &str| {
        place.done(&[&TINY[..13], &["--max-steps", "20", "--threads", threads, "-j", threads]].concat());
        tensors(&place.path(run).join("weights/last.safetensors"))
    };
    let one = last("1", "runs/1-resnet20-tiny");
    assert!(one == last("2", "runs/2-resnet20-tiny"));
    assert!(one == last("3", "runs/3-resnet20-tiny"));
}

/// Runs `train` once without interruption, and once killed with SIGKILL at whatever moment comes, again and again, until
/// the run is through; the results are equal. Returns how often it was killed.
fn kill_and_compare(place: &Place, train: &[&str], run: &str, files: &[&str]) -> u64 {
    place.done(&[train, &["--output", "whole"]].concat());
    let (whole, killed) = (format!("whole/{run}"), format!("runs/{run}"));
    let resume = ["train", "--resume", &killed, "--threads", "2", "--json"];
    let mut kills = 0;
    for attempt in 0u64.. {
        assert!(attempt < 200, "the run never came to its end");
        let begun = place.path(&killed).join("config.toml").exists();
        let arguments = if begun { &resume[..] } else { train };
        let mut child = place.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Ever later, so that slow machines get through as well.
        std::thread::sleep(Duration::from_millis(60 + 20 * attempt + 13 * (attempt * attempt % 7)));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += u64::from(begun);
        if !place.path(&killed).join("config.toml").exists() {
            // Killed before it was a run: what is there of its folder would give the next one another number.
            let _nothing_there_yet = std::fs::remove_dir_all(place.path("runs"));
        }
    }
    for file in files {
        let [whole, killed] = [&whole, &killed].map(|run| place.path(run).join(file));
        assert!(tensors(&whole) == tensors(&killed), "{file}");
    }
    assert_eq!(rows(place, &whole), rows(place, &killed));
    assert_eq!(events(place, &whole), events(place, &killed));
    kills
}

const WEIGHTS: [&str; 3] = ["weights/best.safetensors", "weights/last.safetensors", "state/last.safetensors"];

#[test]
fn a_run_that_is_killed_and_resumed_ends_as_if_it_had_not_been() {
    let place = Place::new();
    place.tiny_data();
    let often = ["--epochs", "12", "--checkpoint-every", "3", "--log-every", "2"];
    let start = [&TINY[..11], &often, &TINY[13..]].concat();
    let kills = kill_and_compare(&place, &start, "1-resnet20-tiny", &WEIGHTS);
    assert!(kills > 2, "killed {kills} times");
}

/// The same with everything that has a state of its own or its own random numbers.
#[test]
fn a_run_with_adamw_averaging_mixing_randaugment_and_accumulation_survives_ten_kills() {
    let place = Place::new();
    let data = place.photos();
    let train = [
        &["train", data, "--model", "resnet20", "--img-size", "32", "-b", "2", "--epochs", "60", "--threads", "2"][..],
        &["--opt", "adamw", "--lr", "0.001", "--weight-decay", "0.05", "--grad-accum-steps", "2", "--clip-grad", "1"],
        &["--model-ema", "--model-ema-decay", "0.9", "--mixup", "0.2", "--cutmix", "1", "--smoothing", "0.1"],
        &["--aa", "rand-m9-mstd0.5-inc1", "--reprob", "0.25", "--drop-path", "0.1", "--bn-recalibration", "2"],
        &["--checkpoint-every", "3", "--log-every", "2", "--checkpoint-hist", "2", "--tensorboard"],
    ];
    let kills = kill_and_compare(&place, &train.concat(), "1-resnet20-photos", &WEIGHTS);
    assert!(kills >= 10, "killed {kills} times");
    let epochs = |run: &str| {
        let entries = std::fs::read_dir(place.path(run).join("1-resnet20-photos/weights")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(epochs("whole"), epochs("runs"));
}

/// The order of an epoch, and a place in its middle, are those of single images, not of shards.
#[test]
fn a_run_on_shards_is_killed_and_resumed_in_mid_epoch() {
    let place = Place::new();
    let data = textured(&place);
    let source = Source::open(place.path(data).to_str().unwrap(), None).unwrap();
    let mut containers = vec![("shards", Container::Tar)];
    if cfg!(feature = "parquet") {
        containers.push(("hub", Container::Parquet));
    }
    for (name, container) in containers {
        // Three images a shard, five batches an epoch, a checkpoint at every third one.
        convert(&source, &place.path(name), container, 6000).unwrap();
        let train =
            ["train", name, "--model", "resnet20", "--img-size", "32", "-b", "2", "--epochs", "12", "--threads", "2"];
        let train = [&train[..], &["--checkpoint-every", "3", "--log-every", "2", "-j", "2"]].concat();
        let kills = kill_and_compare(&place, &train, &format!("1-resnet20-{name}"), &WEIGHTS);
        assert!(kills > 2, "killed {kills} times");
        ["whole", "runs"].iter().for_each(|folder| std::fs::remove_dir_all(place.path(folder)).unwrap());
    }
}

#[test]
fn algorithms_that_were_measured_are_remembered_and_stay_with_the_run() {
    let place = Place::new();
    place.tiny_data();
    let run = |arguments: &[&str]| {
        let ran = place.run(arguments);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stderr
    };
    run(&[&TINY[..], &["--autotune", "--max-steps", "9"]].concat());
    let files: Vec<_> =
        std::fs::read_dir(place.path("home/autotune")).unwrap().map(|file| file.unwrap().path()).collect();
    let [cache] = &files[..] else { panic!("{files:?}") };
    assert!(cache.to_str().unwrap().ends_with("-1.json"), "{}", cache.display());
    let saved = place.path("runs/1-resnet20-tiny/tuning.json");
    assert_eq!(std::fs::read(cache).unwrap(), std::fs::read(&saved).unwrap());

    // A damaged cache is replaced by new measurements; the run has its own, and needs them.
    std::fs::write(cache, "{").unwrap();
    let warned = run(&["eval", "--weights", "runs/1-resnet20-tiny", "--autotune", "--threads", "1"]);
    assert!(warned.contains("warning: ") && warned.contains("expected measured algorithms"), "{warned}");
    assert!(std::fs::metadata(cache).unwrap().len() > 100);
    run(&["train", "--resume", "runs/1-resnet20-tiny", "--threads", "1"]);
    std::fs::write(&saved, "{").unwrap();
    let ran = place.run(&["train", "--resume", "runs/1-resnet20-tiny"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
}

#[cfg(unix)]
#[test]
fn ctrl_c_writes_a_checkpoint_and_exits_130() {
    let place = Place::new();
    place.tiny_data();
    let long = [&TINY[..11], &["--epochs", "2000"], &TINY[13..]].concat();
    let child = place.command(&long).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let events = place.path("runs/1-resnet20-tiny/events.jsonl");
    for wait in 0.. {
        if std::fs::metadata(&events).is_ok_and(|metadata| metadata.len() > 0) {
            break;
        }
        assert!(wait < 10_000, "the run never logged a step");
        std::thread::sleep(Duration::from_millis(5));
    }
    let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("resume with: residual train --resume runs/1-resnet20-tiny\n"), "{}", ran.stderr);
    assert!(place.path("runs/1-resnet20-tiny/state/last.safetensors").exists());
    place.refused(
        &["train", "--resume", "runs/1-resnet20-tiny", "--model", "resnet32"],
        1,
        "error: runs/1-resnet20-tiny: model: expected \"resnet20\", as the run began, got \"resnet32\" (a resumed run keeps \
         its model, data and recipe)",
    );
}

#[test]
#[ignore = "minutes of work: cargo test --release -p residual-cli --test suite train:: -- --ignored"]
fn the_default_training_reaches_95_percent() {
    let place = Place::new();
    let result: Value = serde_json::from_str(&place.done(&["train", "--json"])).unwrap();
    assert_eq!(result["run"], "runs/1-resnet20-shapes10");
    assert!(result["top1"].as_f64().unwrap() >= 95.0, "{result}");
}

#[test]
fn seeds_are_trained_in_turn_and_two_recipes_are_compared_seed_by_seed() {
    let place = Place::new();
    let short = ["--max-steps", "3", "-b", "4", "--output", "runs"];
    let ran = place.done(&[&["train", "--seeds", "2", "--seed", "5"], &short[..]].concat());
    assert!(ran.contains("last Acc@1") && ran.contains("(mean ± sd of 2)"), "{ran}");
    let json = place.done(&[&["train", "--seeds", "2", "--seed", "5", "--lr", "0.01", "--json"], &short[..]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let tops: Vec<f64> = json["runs"].as_array().unwrap().iter().map(|run| run["top1"].as_f64().unwrap()).collect();
    assert_eq!(json["top1"]["mean"].as_f64().unwrap(), (tops[0] + tops[1]) / 2.0);

    let list: serde_json::Value = serde_json::from_str(&place.done(&["runs", "list", "--json"])).unwrap();
    let runs = list["runs"].as_array().unwrap();
    assert_eq!(runs.iter().map(|run| run["seed"].as_u64().unwrap()).collect::<Vec<_>>(), [5, 6, 5, 6]);
    assert_eq!(runs[2]["top1"].as_f64().unwrap(), tops[0]);
    let paths: Vec<&str> = runs.iter().map(|run| run["run"].as_str().unwrap()).collect();
    let compared = place.done(&[&["runs", "compare"], &paths[..]].concat());
    assert!(compared.contains("\nlr "), "{compared}");
    assert!(compared.contains("second − first") && compared.contains("95 % interval"), "{compared}");
    let json = place.done(&[&["runs", "compare", "--json"], &paths[..]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let of = |run: usize| runs[run]["top1"].as_f64().unwrap();
    let expected = ((of(2) - of(0)) + (of(3) - of(1))) / 2.0;
    assert!((json["paired"]["difference"]["mean"].as_f64().unwrap() - expected).abs() < 1e-9);
    assert_eq!(json["paired"]["seeds"], serde_json::json!([5, 6]));
    // Runs that differ by more than seeds in more than two ways, and one alone, are not paired.
    let two = place.done(&["runs", "compare", paths[0], paths[1]]);
    assert!(!two.contains("second − first") && two.contains("\nseed "), "{two}");
    place.refused(&["runs", "list", "nowhere"], 1, "error: nowhere: No such file or directory (os error 2)");
}

#[test]
fn a_range_test_suggests_a_learning_rate_and_draws_its_picture() {
    let place = Place::new();
    let shown = place.done(&["train", "--find-lr", "-b", "8", "--model", "resnet20"]);
    assert!(shown.contains("\nsuggestion  --lr ") && shown.contains("\npicture     lr.svg\n"), "{shown}");
    assert!(std::fs::read_to_string(place.path("lr.svg")).unwrap().starts_with("<svg"));
    assert!(!place.path("runs").exists());
    let json = support::json(&place.done(&["train", "--find-lr=other.svg", "-b", "8", "--json"]));
    let points = json["points"].as_array().unwrap();
    assert_eq!(points[0]["lr"].as_f64().unwrap(), 1e-7);
    assert!(points.len() > 50 && json["suggestion"].as_f64().unwrap() > 1e-6);
    assert!(place.path("other.svg").exists());
}

/// `textured/`: as [`Place::photos`], of noise. Batch norms of constant images amplify rounding errors.
fn textured(place: &Place) -> &'static str {
    let mut random = residual::tensor::Stream::new(7, &[]);
    for index in 0..12u8 {
        let mut bytes = bmp(24, 24, 0);
        bytes[54..].iter_mut().for_each(|byte| *byte = random.below(256) as u8);
        place.write(&format!("textured/{}/{index}.bmp", ["ants", "bees"][usize::from(index % 2)]), bytes);
    }
    "textured"
}

/// FixRes: trained at one size, evaluated and saved at another.
#[test]
fn a_run_may_be_evaluated_at_another_size_and_named() {
    let place = Place::new();
    let data = textured(&place);
    let train = ["train", data, "--max-steps", "2", "-b", "4", "--img-size", "32", "--json"];
    let fixed = support::json(&place.done(&[&train[..], &["--test-size", "48", "--experiment", "fix res"]].concat()));
    let plain = support::json(&place.done(&train));
    let run = fixed["run"].as_str().unwrap();
    assert_eq!(run, "runs/1-fix_res");
    let weights = |run: &str| residual::load(place.path(run).join("weights/last.safetensors")).unwrap();
    let (at_48, at_32) = (weights(run), weights(plain["run"].as_str().unwrap()));
    assert_eq!((at_48.preprocessing.size, at_32.preprocessing.size), ([48, 48], [32, 32]));
    assert!(at_48.tensors == at_32.tensors, "training is the same");
    let judged = support::json(&place.done(&["eval", "--weights", run, "--data", data, "--json"]));
    assert_eq!(judged["top1"], fixed["top1"]);
    let loss = |document: &Value| document["loss"].as_f64().unwrap();
    assert!((loss(&judged) / loss(&fixed) - 1.0).abs() < 1e-5, "{judged} {fixed}");
    let config = std::fs::read_to_string(place.path(run).join("config.toml")).unwrap();
    assert!(config.contains("\nimg_size = 32\n") && config.contains("\ntest_size = 48\n"), "{config}");
}

#[test]
fn messages_can_be_turned_off_and_flags_without_a_meaning_here_are_told() {
    let place = Place::new();
    let data = place.photos();
    let short = ["train", data, "--max-steps", "1", "-b", "4", "--img-size", "32"];
    let loud = place.run(&[&short[..], &["--half", "--channels-last"]].concat());
    assert!(loud.stderr.contains("--half is ignored: training is in f32, or with --amp in bf16\n"), "{}", loud.stderr);
    assert!(loud.stderr.contains("--channels-last is ignored: every network runs channels last\n"));
    let quiet = place.run(&[&["-q"], &short[..], &["--half"]].concat());
    assert!(quiet.stderr.is_empty() && quiet.stdout.contains("\nNext:\n"), "{}", quiet.stderr);
    let coloured = place.run(&["--color", "always", "eval", "--weights", "nowhere"]);
    assert!(coloured.stderr.starts_with("\u{1b}[1;31merror:\u{1b}[0m nowhere"), "{}", coloured.stderr);
    let line = "error: --pretrained: expected a network with published weights (residual models list), got resnet20; name the \
                weights: --weights FILE|NAME";
    place.refused(&["train", data, "--model", "resnet20", "--pretrained"], 2, line);
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let place = Place::new();
    place.done(&["man", "pages"]);
    for page in ["residual.1", "residual-train.1", "residual-runs-compare.1"] {
        assert!(std::fs::read_to_string(place.path("pages").join(page)).unwrap().contains(".TH "), "{page}");
    }
}

#[test]
fn kept_epochs_are_averaged() {
    let place = Place::new();
    let data = place.photos();
    place.done(&["train", data, "--epochs", "2", "-b", "4", "--img-size", "32", "--keep-every", "1"]);
    let run = std::fs::read_dir(place.path("runs")).unwrap().next().unwrap().unwrap().path();
    let weights: Vec<_> = [1, 2].iter().map(|epoch| run.join(format!("weights/epoch-{epoch}.safetensors"))).collect();
    let [first, second] = [&weights[0], &weights[1]].map(|path| residual::load(path).unwrap());
    let names: Vec<&str> = weights.iter().map(|path| path.to_str().unwrap()).collect();
    place.done(&["average", names[0], names[1], "-o", "mean.safetensors"]);
    let mean = residual::load(place.path("mean.safetensors")).unwrap();
    let value = |model: &residual::Model| f64::from(model.tensors["fc.weight"].as_f32().unwrap()[0]);
    assert!((value(&mean) - (value(&first) + value(&second)) / 2.0).abs() < 1e-7);
    assert_eq!(mean.labels, first.labels);
    place.refused(
        &["average", names[0], "resnet18", "-o", "x"],
        2,
        "error: expected weights, got the network resnet18",
    );
}

#[test]
fn other_names_of_optimisers_and_schedules_are_answered() {
    let place = Place::new();
    for (flag, value, hint) in [("--opt", "lambc", "--opt lamb --trust-clip"), ("--sched", "StepLR", "--sched step")] {
        let ran = place.run(&["train", flag, value]);
        assert_eq!(ran.code, Some(2));
        assert!(ran.stderr.trim_end().ends_with(&format!("got \"{value}\"; write {hint}")), "{}", ran.stderr);
    }
}

#[test]
fn a_run_evaluates_with_the_views_that_eval_takes() {
    let place = Place::new();
    let data = textured(&place);
    let train = ["train", data, "--max-steps", "2", "-b", "4", "--img-size", "32", "--json", "--tta", "5"];
    let ran = support::json(&place.done(&train));
    let run = ran["run"].as_str().unwrap();
    let judged =
        support::json(&place.done(&["eval", "--weights", run, "--data", data, "--json", "--tta", "five-crop"]));
    assert_eq!(judged["top1"], ran["top1"]);
    let loss = |document: &Value| document["loss"].as_f64().unwrap();
    assert!((loss(&judged) / loss(&ran) - 1.0).abs() < 1e-5, "{judged} {ran}");
    let plain = support::json(&place.done(&["eval", "--weights", run, "--data", data, "--json"]));
    assert!((loss(&plain) / loss(&ran) - 1.0).abs() > 1e-3, "{plain} {ran}");
}

#[test]
fn recipes_are_verified_by_name() {
    let place = Place::new();
    let document = json(&place.done(&["recipes", "verify", "rsb-a1", "wrn", "--trace", "--json"]));
    assert_eq!(document["broken"], 0);
    let [rsb, wrn] = &document["recipes"].as_array().unwrap()[..] else { panic!("{document}") };
    assert_eq!((&rsb["name"], &wrn["name"]), (&"rsb-a1".into(), &"wrn".into()));
    let of = |recipe: &Value, what: &str| {
        let checks = recipe["checks"].as_array().unwrap();
        checks.iter().find(|check| check["what"] == what).unwrap()["got"].clone()
    };
    assert_eq!(of(rsb, "steps with 1281167 images"), "375600");
    assert_eq!(of(wrn, "augmentation"), "pad and crop, horizontal flip");
    place.refused(
        &["recipes", "verify", "wnr"],
        2,
        "error: recipe: expected a built-in recipe (residual recipes list) or a TOML file, got \"wnr\" (did you mean \"wrn\"?)",
    );
}
