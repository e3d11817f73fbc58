//! `residual tune`: settings that are searched, killed and resumed, and the guide's commands.

use crate::support;

use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use support::{Place, json, words};

/// A search of 11 trials in the folder `output`.
fn tune(output: &str) -> Vec<&str> {
    "tune --space lr=log(0.001,1),sched=choose(cosine,linear) --data tiny.safetensors --model net.toml --augment none -b 4 --epochs 9 \
     --checkpoint-every 2 --trials 11 --seed 7 --threads 1 --json -o"
        .split_whitespace()
        .chain([output])
        .collect()
}

fn place() -> Place {
    let place = Place::new();
    place.tiny_data();
    place.write("net.toml", "family = 'cifar_resnet'\ndepths = [1, 1, 1]\nwidths = [4, 4, 8]\nimage_size = 12\n");
    place
}

#[test]
fn the_best_settings_are_a_recipe_that_trains() {
    let place = place();
    let result = json(&place.done(&tune("out")));
    assert_eq!((&result["trials"], &result["failed"], &result["best"]["epochs"]), (&11.into(), &0.into(), &9.into()));
    let scored = result["scored"].as_array().unwrap();
    assert_eq!(scored.len(), 11);
    let epochs: Vec<u64> = scored.iter().map(|trial| trial["epochs"].as_u64().unwrap()).collect();
    assert!(epochs.iter().all(|epochs| [1, 3, 9].contains(epochs)) && epochs.contains(&1), "{epochs:?}");
    let importance = result["importance"].as_object().unwrap();
    let sum: f64 = importance.values().filter_map(Value::as_f64).sum();
    assert!(importance.contains_key("lr") && (sum - 1.0).abs() < 1e-9, "{importance:?}");
    // The recipe has the settings of the best trial, and trains as a recipe of its own.
    let recipe = std::fs::read_to_string(place.path("out/best.toml")).unwrap();
    assert!(recipe.contains(&format!("\nlr = {}\n", result["best"]["settings"]["lr"])), "{recipe}");
    let command = result["command"].as_str().unwrap();
    assert!(command.starts_with("residual train --recipe ") && command.ends_with("out/best.toml"), "{command}");
    place.done(&["train", "--recipe", "out/best.toml", "--max-steps", "1", "--no-report"]);
    let eval = ["eval", "--weights", "out/best.safetensors", "--data", "tiny.safetensors", "--json", "--threads", "1"];
    assert_eq!(json(&place.done(&eval))["images"], 32);
    let page = std::fs::read_to_string(place.path("out/report.html")).unwrap();
    for text in ["Importance", "Accuracy by lr", "out/best.toml"] {
        assert!(page.contains(text), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn a_search_of_settings_that_is_killed_ends_as_one_that_was_not() {
    let place = place();
    let whole = json(&place.done(&tune("whole")));
    let mut kills = 0;
    let result = loop {
        let mut child = place.command(&tune("killed")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A little longer every time, so that it comes to an end.
        std::thread::sleep(Duration::from_millis(60 + 60 * kills));
        if child.try_wait().unwrap().is_none() && kills < 10 {
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            continue;
        }
        let ran = support::ran(child.wait_with_output().unwrap());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        break json(&ran.stdout);
    };
    assert!(kills > 2, "{kills}");
    for key in ["scored", "importance"] {
        assert_eq!(whole[key], result[key], "{key}");
    }
    let read = |folder: &str| std::fs::read(place.path(folder).join("best.safetensors")).unwrap();
    assert_eq!(read("whole"), read("killed"));
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let place = place();
    let refused = |arguments: &[&str], line: &str| {
        let data = ["--data", "tiny.safetensors", "--trials", "2"];
        place.refused(&[&["tune"], arguments, &data[..]].concat(), 2, line);
    };
    refused(
        &["--space", "epochs=uniform(1,5)"],
        "error: space: epochs: expected a setting that trials may differ in, got one that they share",
    );
    refused(
        &["--space", "lr=log(1,2)", "--max-steps", "5"],
        "error: epochs: expected alone, as tpe-asha gives its trials a part of the epochs, got none, or another length",
    );
    refused(
        &["--space", "lr=log(0.01,1)", "--epochs", "3", "--lr", "0.1"],
        "error: --lr: expected none, as --space chooses lr, got one",
    );
    refused(
        &["--space", "lr=log(0.01,1)", "--epochs", "3", "--lr-base", "0.1"],
        "error: --lr-base: expected none, as --space chooses lr, got one",
    );
    let line = "error: --trials or --budget is required: how long to search";
    place.refused(&["tune", "--space", "lr=log(1,2)", "--data", "tiny.safetensors", "--epochs", "1"], 2, line);
    let error =
        place.run(&["tune", "--space", "learning-rate=log(1,2)", "--data", "tiny.safetensors", "--trials", "2"]);
    assert!(error.stderr.contains("did you mean \"lr\"?"), "{}", error.stderr);
}

/// The commands of the guide, on data and a network that are tiny; trainings are cut short.
#[test]
fn every_command_of_the_guide_runs() {
    let place = place();
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tune.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let mut ran = 0;
    for line in guide.lines().filter_map(|line| line.strip_prefix("    residual ")) {
        let mut arguments = words(line);
        arguments.retain(|word| !["--data-dir", "cifar-10-batches-bin"].contains(word));
        if ["tune", "train"].contains(&arguments[0]) {
            for (flag, short) in [("--trials", "2"), ("--budget", "5s"), ("--data", "tiny.safetensors")] {
                if let Some(at) = arguments.iter().position(|word| *word == flag) {
                    arguments[at + 1] = short;
                }
            }
            arguments.extend(["--max-steps", "2", "-b", "8"]);
        }
        if arguments[0] == "tune" {
            // With so few steps nothing can be stopped before.
            arguments.extend(["--strategy", "tpe", "--model", "net.toml", "--augment", "none"]);
            if !arguments.contains(&"--data") {
                arguments.extend(["--data", "tiny.safetensors"]);
            }
        }
        place.done(&arguments);
        ran += 1;
    }
    assert!(ran >= 4, "{ran}");
}
