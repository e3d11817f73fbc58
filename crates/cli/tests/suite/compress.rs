//! `residual compress`: its networks, its choice, and work that is killed at every stage.

use crate::support;

use residual::weights::load;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use support::{Place, TINY, json, ran, small_model, words};

const RUN: &str = "runs/1-resnet20-tiny";
const SHAPES_RUN: &str = "runs/1-resnet20-shapes10";

/// A tiny run that held a quarter of its images out.
fn tiny_run(place: &Place) {
    place.tiny_data();
    place.done(&[&TINY[..], &["--val-split", "0.25", "--no-report"]].concat());
}

/// `residual compress` of a run on one thread, to half of its multiply-accumulates, with a short training.
fn compress_run<'a>(run: &'a str, budget: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let command = "compress --threads 1 --repeats 3 --json -o out --macs 0.5 --finetune shapes-quick --max-steps 4 -b 4 --warmup-epochs 0 \
                   --checkpoint-every 1 --weights";
    command.split_whitespace().chain([run, "--budget", budget]).chain(more.iter().copied()).collect()
}

/// … of the tiny run.
fn compress<'a>(budget: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    compress_run(RUN, budget, more)
}

#[test]
fn every_point_is_a_checkpoint_that_is_judged_timed_and_chosen_by_its_budget() {
    let place = Place::new();
    place.done(&["train", "--val-split", "0.1", "--max-steps", "4", "-b", "8", "--no-report", "--threads", "1"]);
    let compress = |budget: &'static str, more: &[&'static str]| {
        compress_run(SHAPES_RUN, budget, &[&["--img-sizes", "32,24"], more].concat())
    };
    let result = json(&place.done(&compress("macs<=0.6", &[])));
    let points = result["points"].as_array().unwrap();
    let names: Vec<&str> = points.iter().map(|point| point["name"].as_str().unwrap()).collect();
    let floats = ["original", "pruned to 0.5 MACs"];
    let all: Vec<String> =
        floats.iter().map(|name| (*name).to_owned()).chain(floats.map(|name| format!("{name}, int8"))).collect();
    let resized = all.iter().map(|name| format!("{name}, 24 px"));
    assert_eq!(names, all.iter().cloned().chain(resized).collect::<Vec<_>>());
    let original = &points[0];
    for point in points {
        for key in
            ["file", "images", "top1_before", "top1", "interval", "parameters", "macs", "bytes", "latency", "drop"]
        {
            assert!(!point[key].is_null(), "{key}: {point}");
        }
        let file = point["file"].as_str().unwrap();
        let eval = ["eval", "--weights", file, "--data", "shapes10", "--split", "val", "--val-split", "0.1", "--json"];
        assert_eq!(json(&place.done(&[&eval[..], &["--threads", "1"]].concat()))["top1"], point["top1"], "{file}");
        for batch in ["1", "8"] {
            let [ms, ratio] =
                [&point["latency_ms"][batch], &point["latency"][batch]["ratio"]].map(|v| v.as_f64().unwrap());
            let before = original["latency"][batch]["before_ms"].as_f64().unwrap();
            assert!((ms - before / ratio).abs() < 1e-9 * ms && ms > 0.0, "{point}");
        }
    }
    assert_eq!((&original["drop"], &original["latency"]["1"]["ratio"]), (&0.0.into(), &1.0.into()));
    let macs = |point: &Value| point["macs"].as_f64().unwrap() / original["macs"].as_f64().unwrap();
    assert!(macs(&points[1]) <= 0.5 && macs(&points[4]) < 0.6, "{result}");
    let bytes = |place: usize| points[place]["bytes"].as_f64().unwrap();
    assert!(bytes(2) < 0.5 * bytes(0) && bytes(3) < 0.5 * bytes(1), "{result}");
    // The student of a fine-tuning learns from the original.
    let recipe = load(&place.path("out/points/pruned-to-0.5-MACs.safetensors")).unwrap().recipe.unwrap();
    assert!(recipe.contains("teacher = [") && recipe.contains("val_split = 0.1"), "{recipe}");

    // The most accurate one of those within the limit.
    let within: Vec<&Value> = points.iter().filter(|point| macs(point) <= 0.6).collect();
    let best = within.iter().map(|point| point["top1"].as_f64().unwrap()).fold(0.0, f64::max);
    let chosen = points.iter().find(|point| point["name"] == result["chosen"]).unwrap();
    assert!(macs(chosen) <= 0.6 && chosen["top1"] == best, "{result}");
    let read = |file: &str| std::fs::read(place.path(file)).unwrap();
    assert!(read("out/chosen.safetensors") == read(chosen["file"].as_str().unwrap()));
    let page = std::fs::read_to_string(place.path("out/report.html")).unwrap();
    for text in [
        "Compression of resnet20",
        "original, int8, 24 px",
        "Chosen within macs&lt;=0.6",
        ">limit<",
        "ms at batch size 8",
    ] {
        assert!(page.contains(text), "{text}");
    }

    // Another budget chooses anew among the same networks: the fastest that loses nothing.
    assert!(result["test_top1_before"].is_f64() && result["test_top1"].is_f64(), "{result}");
    let again = json(&place.done(&compress("drop<=0", &[])));
    assert_eq!(again["points"], result["points"]);
    let fastest = points.iter().filter(|point| point["drop"].as_f64().unwrap() <= 0.0);
    let fastest = fastest.min_by(|a, b| {
        let [a, b] = [a, b].map(|point| point["latency_ms"]["1"].as_f64().unwrap());
        a.total_cmp(&b)
    });
    assert_eq!(again["chosen"], fastest.unwrap()["name"]);

    // None fits.
    let nothing = place.run(&compress("size<=1KB", &[]));
    assert_eq!(nothing.code, Some(1), "{}", nothing.stderr);
    let line = nothing.stderr.lines().last().unwrap();
    assert!(
        line.starts_with("error: budget: expected a network within size<=0.001MB, got none; the nearest is "),
        "{line}"
    );
    assert!(line.contains("int8") && json(&nothing.stdout)["chosen"].is_null(), "{line}");
    assert!(!place.path("out/chosen.safetensors").exists());

    // Other settings are other work.
    for (more, expected) in [
        (["--criterion", "bn"], "out/journal.json: criterion: expected \"l1\", as the work was begun, got \"bn\""),
        (["--lr", "0.5"], "out/journal.json: finetune: lr: expected "),
        (["--calib", "8"], "out/journal.json: calib: expected 1024, as the work was begun, got 8"),
    ] {
        let ran = place.run(&compress("drop<=0", &more));
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}

#[test]
fn what_was_typed_is_done_or_refused_before_any_work() {
    let place = Place::new();
    tiny_run(&place);
    let refused = |arguments: &[&str], code: i32, expected: &str| {
        let ran = place.run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty() && !place.path("out").exists());
    };
    let limits =
        "budget: expected latency<=3ms@1, drop<=0.5, size<=2MB or macs<=60M, each at most once, joined by commas, got ";
    refused(&compress("latency<3ms@1", &[]), 2, &format!("{limits}\"latency<3ms@1\""));
    refused(&compress("drop<=1, drop<=2", &[]), 2, &format!("{limits}\"drop<=2\""));
    refused(&compress("drop<=1", &["--speedups", "2"]), 2, "cannot be used with");
    refused(&compress("drop<=1", &["--macs", "2"]), 2, "macs: expected shares below 1, as 0.7,0.5, got \"2\"");
    refused(&compress("drop<=1", &["--student", "resnet8"]), 2, "--distill");
    refused(
        &compress("drop<=1", &["--teacher", "w.safetensors"]),
        2,
        "--teacher: expected none, as the original teaches",
    );
    refused(&compress("drop<=1", &["--keep-zeros"]), 2, "--keep-zeros: expected none, as the original teaches");
    refused(&compress("drop<=1", &["--student", "resnet8x", "--distill", "shapes-quick"]), 2, "resnet8x");
    refused(
        &compress("drop<=1", &["--mixup", "0.2", "--kd-loss", "dkd"]),
        2,
        "kd-loss: expected kd with mixup or cutmix",
    );
    refused(&compress("drop<=1", &["--img-sizes", "16"]), 1, "dataset: expected images of 16x16");
    place.photos();
    small_model(&place);
    let everything = [
        "compress",
        "--weights",
        "w.safetensors",
        "--data",
        "photos",
        "--budget",
        "drop<=1",
        "--finetune",
        "folder-quick",
    ];
    refused(
        &[&everything[..], &["-o", "out"]].concat(),
        2,
        "--val-split: expected the share of the training images to choose by",
    );
    place.done(&["quantize", "--weights", RUN, "-o", "int8.safetensors", "--no-latency"]);
    let int8 =
        ["compress", "--weights", "int8.safetensors", "--budget", "drop<=1", "--finetune", "shapes-quick", "-o", "out"];
    refused(&int8, 1, "network: expected layers of floats, got quantized ones");
}

/// A small network, without the size of its images.
const STUDENT: &str = "family = \"cifar_resnet\"\nname = \"student\"\ndepths = [2, 2, 2]\nwidths = [16, 32, 64]\n";

/// The files of a folder, by name.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().into(), std::fs::read(&path).unwrap())).collect()
}

/// The finished points of the journal.
fn finished(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("journal.json")).unwrap_or_default();
    let journal: Option<Value> = serde_json::from_str(&text).ok();
    journal.and_then(|journal| journal["points"].as_array().cloned()).unwrap_or_default()
}

/// The runs of a stage.
fn runs(folder: &Path, stage: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("stages").join(stage));
    let paths = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.join("config.toml").exists()).collect()
}

#[cfg(unix)]
#[test]
fn work_that_is_killed_at_every_stage_ends_with_the_same_files_and_repeats_no_finished_stage() {
    let place = Place::new();
    tiny_run(&place);
    place.write("student.toml", format!("{STUDENT}image_size = 12\n"));
    place.write("distill.toml", "max_steps = 4\nbatch_size = 4\nlr = 0.05\ncheckpoint_every = 1\n");
    let command = compress("macs<=0.5", &["--student", "student.toml", "--distill", "distill.toml"]);
    let whole = json(&place.done(&command));
    // The checkpoints have the paths of their training.
    let (out, reference) = (place.path("out"), place.path("whole"));
    std::fs::rename(&out, &reference).unwrap();
    let names: Vec<&Value> = whole["points"].as_array().unwrap().iter().map(|point| &point["name"]).collect();
    let pruned = "student pruned to 0.5 MACs";
    let expected = ["original", "student", pruned, "original, int8", "student, int8", &format!("{pruned}, int8")];
    assert_eq!(names, expected);

    let stage = pruned.replace(' ', "-");
    let trains = |stage: &str| runs(&out, stage).iter().any(|run| run.join("state/last.safetensors").exists());
    let reached: [&dyn Fn() -> bool; 9] = [
        &|| out.join("points/original.safetensors").exists(),
        &|| !finished(&out).is_empty(),
        &|| trains("student"),
        &|| finished(&out).len() > 1,
        &|| out.join("stages").join(&stage).join("pruned.safetensors").exists(),
        &|| trains(&stage),
        &|| finished(&out).len() > 2,
        &|| finished(&out).len() > 3,
        &|| finished(&out).len() > 4,
    ];
    let (mut kills, mut known) = (0, Vec::new());
    for is_reached in reached {
        let mut child = place.command(&command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !is_reached() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if kills == 0 {
            let second = place.run(&command);
            assert!(second.stderr.contains("another process compresses in this folder"), "{}", second.stderr);
        }
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
        let now = finished(&out);
        assert_eq!(now[..known.len()], known[..], "measurements are kept");
        known = now;
    }
    assert!(kills > 6, "{kills}");
    let last = ran(place.command(&command).output().unwrap());
    assert_eq!(last.code, Some(0), "{}", last.stderr);
    let points = finished(&out);
    assert_eq!(points[..known.len()], known[..]);
    assert_eq!([runs(&out, "student").len(), runs(&out, &stage).len()], [1, 1]);
    assert!(files(&out.join("points")) == files(&reference.join("points")), "the networks are the same");
    let chosen = json(&last.stdout)["chosen"].as_str().unwrap().replace(", ", "-").replace(' ', "-");
    let read = |file: &str| std::fs::read(out.join(file)).unwrap();
    assert!(read("chosen.safetensors") == read(&format!("points/{chosen}.safetensors")));
    // Done work is not done again.
    let journal = read("journal.json");
    assert_eq!(json(&place.done(&command))["chosen"], json(&last.stdout)["chosen"]);
    assert!(read("journal.json") == journal);
}

/// The commands of the guide, on the run of its first one.
#[test]
fn every_command_of_the_guide_runs() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compress.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let commands: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("    residual ")).collect();
    assert!(commands.len() > 4, "{commands:?}");
    let place = Place::new();
    place.write("student.toml", "max_steps = 2\nbatch_size = 8\nlr = 0.05\n");
    place.write("small.toml", format!("{STUDENT}image_size = 32\n"));
    for command in commands {
        let mut arguments = words(command);
        match arguments[0] {
            "train" => arguments.extend(["--max-steps", "4", "-b", "8", "--no-report"]),
            "compress" => {
                // After two steps, on any machine.
                let latency = arguments.iter().position(|argument| argument.starts_with("latency"));
                latency.into_iter().for_each(|place| arguments[place] = "latency<=1000ms@1, drop<=100");
                arguments.extend(["--limit", "50", "--calib", "64", "--max-steps", "2", "-b", "8"]);
                if !["--speedups", "--macs"].iter().any(|flag| arguments.contains(flag)) {
                    arguments.extend(["--speedups", "1.2"]);
                }
            }
            "bench" => arguments.extend(["--repeats", "2"]),
            _ => {}
        }
        assert!(!place.done(&arguments).is_empty(), "residual {command}");
    }
}
