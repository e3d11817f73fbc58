//! `residual prune`: what it writes, what it says, and its file in the other commands.

use crate::support;

use residual::weights::load;
use std::path::Path;
use support::{Place, TINY, json, small_model};

const RUN: &str = "runs/1-resnet20-tiny";

/// A tiny run that held a quarter of its images out.
fn tiny_run(place: &Place) {
    place.tiny_data();
    place.done(&[&TINY[..], &["--val-split", "0.25", "--no-report"]].concat());
}

/// `residual prune` of the tiny run on one thread.
fn prune<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["prune", "--weights", RUN, "-o", "pruned.safetensors", "--threads", "1", "--json"], more].concat()
}

#[test]
fn the_result_says_what_it_costs_and_gains() {
    let place = Place::new();
    tiny_run(&place);
    let result = json(&place.done(&prune(&["--target-macs", "0.5", "--blocks"])));
    for key in ["file", "images", "top1_before", "top1", "interval", "parameters", "macs", "bytes", "latency"] {
        assert!(!result[key].is_null(), "{key}: {result}");
    }
    // Scored on what is left of 32 images, judged on those that the run held out.
    assert_eq!((&result["images"], &result["scored_on"]), (&8.into(), &24.into()));
    let macs = |file: &Path| {
        let model = load(file).unwrap().model;
        let [height, width] = model.preprocessing.size;
        model.graph.analyse(height, width).unwrap().macs
    };
    let [before, after] =
        [&format!("{RUN}/weights/best.safetensors")[..], "pruned.safetensors"].map(|file| macs(&place.path(file)));
    assert_eq!(result["macs"], after);
    assert!(2 * after <= before && 5 * after >= 2 * before, "{after} of {before}");
    for batch in ["1", "8"] {
        let latency = &result["latency"][batch];
        let [before, after, ratio] = ["before_ms", "after_ms", "ratio"].map(|key| latency[key].as_f64().unwrap());
        assert!(before > 0.0 && after > 0.0 && (ratio - before / after).abs() < 1e-9, "{latency}");
    }
}

#[test]
fn its_file_is_a_checkpoint_like_any_other() {
    let place = Place::new();
    tiny_run(&place);
    let result =
        json(&place.done(&prune(&["--target-macs", "0.6", "--no-latency", "--uniform", "--criterion", "taylor"])));
    let eval = ["eval", "--weights", "pruned.safetensors", "--split", "val", "--json", "--threads", "1"];
    assert_eq!(json(&place.done(&eval))["top1"], result["top1"]);
    let inspected = json(&place.done(&["inspect", "pruned.safetensors", "--json"]));
    assert_eq!((&inspected["parameters"], &inspected["macs"]), (&result["parameters"], &result["macs"]));
    let weights = ["--weights", "pruned.safetensors"];
    let data = ["--data", "tiny.safetensors"];
    place.done(&[&["predict"], &weights[..], &data[..], &["--json"]].concat());
    place.done(&[&["quantize"], &weights[..], &data[..], &["-o", "int8.safetensors", "--no-latency"]].concat());
    place.done(&[&["export"], &weights[..], &["-o", "pruned.onnx"]].concat());
    place.done(&[&["train"], &TINY[3..], &weights[..], &["--max-steps", "2", "--no-report"]].concat());
    let again =
        ["prune", "--weights", "pruned.safetensors", "--target-macs", "0.6", "--no-latency", "-o", "again.safetensors"];
    place.done(&again);
    let parameters = |file: &str| load(&place.path(file)).unwrap().model.graph.parameter_count();
    assert!(parameters("again.safetensors") < parameters("pruned.safetensors"));
}

#[test]
fn a_speed_is_aimed_at_by_measuring_and_the_measurements_are_kept() {
    let place = Place::new();
    tiny_run(&place);
    let result = json(&place.done(&prune(&["--target-speedup", "1.3x@4", "--round", "1"])));
    let latency = &result["latency"];
    // Those of the outcome, and beside them what the search found.
    for key in ["goal", "predicted", "measured", "rounds"] {
        assert!(result["search"][key].as_f64().unwrap() > 0.0, "{key}: {result}");
    }
    assert!((result["search"]["goal"].as_f64().unwrap() - 1.0 / 1.3).abs() < 1e-9);
    assert!(["1", "4", "8"].iter().all(|batch| latency[batch]["ratio"].as_f64().unwrap() > 0.0), "{latency}");
    let tables = std::fs::read_dir(place.path("home/latency")).unwrap().count();
    assert_eq!(tables, 1);
}

#[test]
fn a_share_of_each_layers_weights_becomes_zero() {
    let place = Place::new();
    tiny_run(&place);
    let result = json(&place.done(&prune(&["--unstructured", "0.3", "--no-latency"])));
    let [zeros, weights] = ["zeros", "weights"].map(|key| result["sparsity"][key].as_f64().unwrap());
    assert!((zeros / weights - 0.3).abs() < 0.001, "{result}");
    let weight = &load(&place.path("pruned.safetensors")).unwrap().model.tensors["layer1.0.conv1.weight"];
    let zeros = weight.as_f32().unwrap().iter().filter(|value| **value == 0.0).count();
    // round(0.3 · 2304)
    assert_eq!(zeros, 691);
}

#[test]
fn a_sparse_file_is_smaller_and_a_checkpoint_like_any_other() {
    let place = Place::new();
    tiny_run(&place);
    let half = ["--unstructured", "0.5", "--no-latency"];
    let dense = json(&place.done(&prune(&half)));
    let model = load(&place.path("pruned.safetensors")).unwrap().model;
    place.done(&["export", "--weights", "pruned.safetensors", "-o", "dense.safetensors"]);
    let sparse = json(&place.done(&prune(&[&half[..], &["--sparse"]].concat())));
    let size = |result: &serde_json::Value| result["bytes"].as_f64().unwrap();
    assert!(size(&sparse) < 0.7 * size(&dense), "{sparse}");
    assert_eq!((&sparse["top1"], &sparse["sparsity"]), (&dense["top1"], &dense["sparsity"]));
    assert_eq!(load(&place.path("pruned.safetensors")).unwrap().model, model);
    let inspected = json(&place.done(&["inspect", "pruned.safetensors", "--json"]));
    assert_eq!(inspected["parameters"], dense["parameters"]);
    // The exported file is the dense one.
    place.done(&["export", "--weights", "pruned.safetensors", "-o", "again.safetensors"]);
    let [first, second] = ["dense", "again"].map(|name| std::fs::read(place.path(&format!("{name}.safetensors"))));
    assert!(first.unwrap() == second.unwrap());
}

#[test]
fn weights_that_were_made_zero_stay_zero_through_fine_tuning() {
    let place = Place::new();
    tiny_run(&place);
    let short = ["--finetune", "shapes-quick", "--max-steps", "4", "-b", "4", "--warmup-epochs", "0"];
    let result = json(&place.done(&prune(&[&["--unstructured", "global:0.4", "--no-latency"][..], &short].concat())));
    let share = |key: &str| result[key]["zeros"].as_f64().unwrap() / result[key]["weights"].as_f64().unwrap();
    assert!(share("sparsity_before") < 0.01 && (share("sparsity") - 0.4).abs() < 0.001, "{result}");
    let [pruned, tuned] = ["pruned.steps/1/pruned.safetensors", "pruned.safetensors"]
        .map(|file| load(&place.path(file)).unwrap().model.tensors["layer2.0.conv1.weight"].clone());
    let pairs = pruned.as_f32().unwrap().iter().zip(tuned.as_f32().unwrap());
    assert!(pairs.clone().all(|(before, after)| (*before == 0.0) == (*after == 0.0)));
    assert!(pairs.filter(|(before, after)| before != after).count() > pruned.len() / 2);
}

#[test]
fn fine_tuning_goes_on_where_it_was_interrupted() {
    let place = Place::new();
    tiny_run(&place);
    let short = ["--finetune", "shapes-quick", "--steps", "2", "--max-steps", "4", "-b", "4", "--warmup-epochs", "0"];
    let command = prune(&[&["--target-macs", "0.5", "--no-latency", "--round", "4"], &short[..]].concat());
    let result = json(&place.done(&command));
    let bytes = || std::fs::read(place.path("pruned.safetensors")).unwrap();
    let whole = bytes();
    // Between the steps, the network has 0.5^(1/2) of the multiply-accumulates.
    let macs = |file: &str| json(&place.done(&["inspect", file, "--json"]))["macs"].as_f64().unwrap();
    let before = macs(&format!("{RUN}/weights/best.safetensors"));
    let middle = macs("pruned.steps/1/tuned.safetensors") / before;
    assert!((0.6..=0.5f64.sqrt()).contains(&middle), "{middle}");
    assert!(result["macs"].as_f64().unwrap() <= 0.5 * before);
    // As if the process had been killed after the last step of the second training.
    for lost in ["pruned.safetensors", "pruned.steps/2/tuned.safetensors"] {
        std::fs::remove_file(place.path(lost)).unwrap();
    }
    place.done(&command);
    assert!(bytes() == whole);
    // … or before the second pruning.
    std::fs::remove_dir_all(place.path("pruned.steps/2")).unwrap();
    place.done(&command);
    assert!(bytes() == whole);
    // Finished steps are those of the settings that they were made with, also where a run may be resumed with others.
    let other = place.run(&[&command[..], &["--lr", "0.5"]].concat());
    assert_ne!(other.code, Some(0));
    assert!(other.stderr.contains("lr: expected "), "{}", other.stderr);
    let other = place.run(&[&command[..], &["--time-budget", "10m"]].concat());
    assert_eq!(other.code, Some(2), "{}", other.stderr);
    assert!(other.stderr.contains("time_budget: expected none, got "), "{}", other.stderr);
    let other = place.run(&[&command[..], &["--seed", "1"]].concat());
    assert_eq!(other.code, Some(2), "{}", other.stderr);
    assert!(
        other.stderr.contains("expected steps of the same command, got those of other settings"),
        "{}",
        other.stderr
    );
    // The run that held images out decides what is trained on, and they are evaluated after every epoch.
    let recipe = load(&place.path("pruned.safetensors")).unwrap().recipe.unwrap();
    assert!(recipe.contains("val_split = 0.25") && recipe.contains("max_steps = 4"), "{recipe}");
}

#[test]
fn what_was_typed_is_done_or_refused() {
    let place = Place::new();
    tiny_run(&place);
    let refused = |more: &[&str], code: i32, expected: &str| {
        let ran = place.run(&[&["prune", "--weights", RUN], more].concat());
        assert_eq!(ran.code, Some(code), "{more:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{more:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    };
    refused(&[], 2, "--target-macs");
    refused(&["--target-macs", "0.5", "--target-speedup", "2x@1"], 2, "cannot be used with");
    refused(&["--target-macs", "0"], 2, "target-macs: expected a share as 0.5, or a number as 62M, got \"0\"");
    refused(&["--target-latency", "5ms"], 2, "expected milliseconds and a batch size as 5ms@1");
    refused(&["--target-latency", "9000ms@1"], 2, "target-latency: expected less than it takes, got 9000 ms");
    refused(&["--target-macs", "0.5", "--criterion", "best"], 2, "criterion: expected l1, bn, taylor or random");
    refused(&["--target-macs", "0.5", "--epochs", "3"], 2, "--epochs: expected --finetune RECIPE beside it, got none");
    refused(&["--target-macs", "0.5", "--steps", "3"], 2, "--finetune");
    refused(&["--unstructured", "0.3", "--blocks"], 2, "cannot be used with");
    refused(&["--target-macs", "0.5", "--sparse"], 2, "cannot be used with");
    refused(&["--target-macs", "0.001"], 1, "target: expected at least ");
    let weights = format!("{RUN}/weights/best.safetensors");
    refused(&["--target-macs", "0.5", "-o", &weights], 2, "expected another file than the weights'");
    place.photos();
    small_model(&place);
    let everything = [
        "prune",
        "--weights",
        "w.safetensors",
        "--data",
        "photos",
        "--target-macs",
        "0.5",
        "--finetune",
        "folder-quick",
    ];
    let ran = place.run(&everything);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("expected training images besides those that are judged on"), "{}", ran.stderr);
    // Of other classes, they recalibrate but do not judge.
    let ran = place.run(&[&everything[..7], &["--no-latency", "--json"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let result = json(&ran.stdout);
    assert!(result["top1"].is_null() && result["file"] == "resnet20-pruned.safetensors", "{result}");
    place.done(&["quantize", "--weights", RUN, "-o", "int8.safetensors", "--no-latency"]);
    place.refused(
        &["prune", "--weights", "int8.safetensors", "--target-macs", "0.5"],
        1,
        "error: network: expected layers of floats, got quantized ones; start from the model that they were quantized from",
    );
}

/// The commands of the guide, on the run of its first one.
#[test]
fn every_command_of_the_guide_runs() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/prune.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let commands: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("    residual ")).collect();
    assert!(commands.len() > 6, "{commands:?}");
    let place = Place::new();
    for command in commands {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        match arguments[0] {
            "train" => arguments.extend(["--max-steps", "4", "-b", "8", "--no-report"]),
            "prune" => {
                arguments.extend(["--limit", "100", "--calib", "64"]);
                if arguments.contains(&"--finetune") {
                    arguments.extend(["--max-steps", "2"]);
                }
                if !arguments.iter().any(|argument| argument.contains("latency") || argument.contains("speedup")) {
                    arguments.push("--no-latency");
                }
            }
            "bench" => arguments.extend(["--repeats", "2"]),
            _ => {}
        }
        assert!(!place.done(&arguments).is_empty(), "residual {command}");
    }
}
