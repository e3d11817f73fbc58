//! `residual search`: on a table, and with trials that are trained, killed and shared.

use crate::support;

use residual::zoo::{Cell, CellOp};
use serde_json::Value;
use std::process::{Child, Stdio};
use std::time::Duration;
use support::{Place, json, test_data};

/// A table of all cells of four ops, whose accuracy falls with every edge that is no 3×3 convolution.
fn table() -> String {
    let mut text = "arch,cellstr,cifar10_test,cifar10_val\n".to_owned();
    for index in 0..4usize.pow(6) {
        let cell = Cell(std::array::from_fn(|edge| CellOp::ALL[index / 4usize.pow(edge as u32) % 4]));
        let others = cell.0.iter().enumerate().filter(|(_, op)| **op != CellOp::Conv3x3);
        let lost: f64 = others.map(|(edge, _)| 3.0 + edge as f64).sum();
        text += &format!("{index},{cell},{},{}\n", 95.0 - lost, 90.0 - lost);
    }
    text
}

#[test]
fn a_table_is_searched_by_held_out_accuracy_and_reports_the_tests() {
    let place = Place::new();
    place.write("t.csv", table());
    let search = ["search", "--table", "t.csv", "--strategy", "evolution", "--trials", "200", "--seed", "3"];
    let result = json(&place.done(&[&search[..], &["--json"]].concat()));
    let best = Cell([CellOp::Conv3x3; 6]);
    assert_eq!(result["best"]["cell"], best.to_string());
    assert_eq!((&result["best"]["cifar10_val"], &result["best"]["cifar10_test"]), (&90.0.into(), &95.0.into()));
    assert_eq!((&result["best"]["arch"], &result["trials"]), (&4095.into(), &200.into()));
    assert!(place.done(&search).contains("\ntest      Acc@1 95.00\n"));
    let refused = |more: &[&str], line: &str| place.refused(&[&search[..3], more].concat(), 2, line);
    refused(&["--epochs", "3"], "error: --epochs: expected none with --table, which trains nothing");
    refused(&["--recipe", "x.toml"], "error: --recipe: expected none with --table, which trains nothing");
    refused(
        &["--strategy", "asha"],
        "error: --strategy: expected evolution, random or tpe with --table, which has one accuracy for each cell, got asha",
    );
}

#[test]
fn the_benchmarks_table_is_searched() {
    let Some(file) = test_data().map(|data| data.join("nasbench201/nasbench201.csv.gz")).filter(|file| file.exists())
    else {
        return;
    };
    let place = Place::new();
    let file = file.to_str().unwrap();
    let search = ["search", "--table", file, "--strategy", "evolution", "--trials", "300", "--seed", "1", "--json"];
    let result = json(&place.done(&search));
    assert!(result["best"]["cifar10_test"].as_f64().unwrap() > 88.0, "{result}");
}

const SPACE: &str = "
family = 'cifar_resnet'
depths = { each = [[1], [1], [1, 2]] }
widths = { each = [[4, 8], [4, 8], [4, 8]] }
image_size = 12
";

/// A search of six trials in the folder `output`.
fn search(output: &str) -> Vec<&str> {
    "search --space space.toml --data tiny.safetensors --augment none --warmup-epochs 1 -b 4 --epochs 6 --checkpoint-every 2 \
     --trials 6 --max-params 20k --seed 7 --threads 1 --json -o"
        .split_whitespace()
        .chain([output])
        .collect()
}

fn place() -> Place {
    let place = Place::new();
    place.tiny_data();
    place.write("space.toml", SPACE);
    place
}

/// The journal's entries without times.
fn journal(place: &Place, folder: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path(folder).join("journal.jsonl")).unwrap();
    let entries = text.lines().map(|line| {
        let mut entry: Value = serde_json::from_str(line).unwrap();
        entry.as_object_mut().unwrap().remove("seconds");
        entry
    });
    entries.filter(|entry| entry["event"] != "paused").collect()
}

fn start(place: &Place, arguments: &[&str]) -> Child {
    place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn the_result_says_what_was_found_and_how_to_train_it() {
    let place = place();
    let result = json(&place.done(&search("out")));
    let best = &result["best"];
    for key in ["trial", "epochs", "top1", "parameters", "macs", "network", "weights"] {
        assert!(!best[key].is_null(), "{key}: {result}");
    }
    assert_eq!((&result["trials"], &result["failed"], &best["epochs"]), (&6.into(), &0.into(), &6.into()));
    assert!(best["parameters"].as_u64().unwrap() <= 20_000);
    assert_eq!(result["space"]["size"], 16.0);
    // The page shows all trials and the best network.
    assert_eq!(result["report"], "out/report.html");
    let page = std::fs::read_to_string(place.path("out/report.html")).unwrap();
    for text in ["trial 0: ", "trial 5: ", "Accuracy against multiply-accumulates", "To train it in full:", "conv1"] {
        assert!(page.contains(text), "{text}");
    }
    // The command trains, and the checkpoint is one like any other.
    let command = result["command"].as_str().unwrap();
    let words: Vec<&str> = command.strip_prefix("residual ").unwrap().split(' ').collect();
    assert!(command.contains(" --augment none --warmup-epochs 1") && !command.contains("--epochs 6"), "{command}");
    place.done(&[&words[..], &["--max-steps", "1", "--no-report"]].concat());
    let eval = ["eval", "--weights", "out/best.safetensors", "--data", "tiny.safetensors", "--json", "--threads", "1"];
    assert_eq!(json(&place.done(&eval))["images"], 32);
    assert!(place.done(&["runs", "list", "out/trials"]).contains("trial-5"));
    // More trials go on with the same search.
    let more: Vec<&str> = search("out").into_iter().map(|word| if word == "6" { "7" } else { word }).collect();
    let refused = place.run(&more);
    assert!(refused.stderr.contains("out/journal.jsonl: recipe: expected \"epochs = 6\""), "{}", refused.stderr);
    let line = "error: --trials or --budget is required: how long to search";
    place.refused(&["search", "--space", "space.toml", "--data", "tiny.safetensors"], 2, line);
    let line = "error: model: expected none: the networks come from the space, with new weights, got one";
    place.refused(&[&search("new")[..], &["--model", "resnet20"]].concat(), 2, line);
}

#[test]
fn a_search_of_a_space_without_more_networks_says_so() {
    let place = place();
    let ran = place.run(
        &"search --space space.toml --data tiny.safetensors --augment none -b 4 --max-steps 1 --trials 50 --threads 1 --json -o out"
            .split(' ')
            .collect::<Vec<_>>(),
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(json(&ran.stdout)["trials"], 16);
    let line = "\nended after 16 of 50 trials: no other network of the space within the limits was found\n";
    assert!(ran.stderr.contains(line), "{}", ran.stderr);
}

/// Runs the search to its end in `whole`, and in `killed`, where it is killed again and again; both results.
#[cfg(unix)]
fn with_kills(place: &Place, search: &dyn Fn(&'static str) -> Vec<&'static str>) -> [Value; 2] {
    let whole = json(&place.done(&search("whole")));
    let mut kills = 0;
    let result = loop {
        let mut child = start(place, &search("killed"));
        // A little longer every time, so that it comes to an end.
        std::thread::sleep(Duration::from_millis(60 + 40 * kills));
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
    [whole, result]
}

#[cfg(unix)]
#[test]
fn a_search_that_is_killed_again_and_again_ends_as_one_that_was_not() {
    let place = place();
    let [whole, result] = with_kills(&place, &search);
    let (mut expected, mut got) = (journal(&place, "whole"), journal(&place, "killed"));
    assert_eq!(expected.len(), 1 + 2 * 6);
    for entries in [&mut expected, &mut got] {
        entries.sort_by_key(|entry| (entry["trial"].as_u64(), entry["event"] == "scored"));
    }
    assert_eq!(expected, got);
    assert_eq!((&whole["best"]["trial"], &whole["best"]["top1"]), (&result["best"]["trial"], &result["best"]["top1"]));
}

/// A one-shot search in the folder `output`.
fn one_shot(output: &'static str) -> Vec<&'static str> {
    [&search(output)[..], &["--strategy", "supernet", "--finetune-epochs", "2"]].concat()
}

#[cfg(unix)]
#[test]
fn a_one_shot_search_that_is_killed_again_and_again_ends_as_one_that_was_not() {
    let place = place();
    let [whole, result] = with_kills(&place, &one_shot);
    assert_eq!(journal(&place, "whole"), journal(&place, "killed"));
    assert_eq!(whole["best"]["epochs"], 2);
    let [a, b] = ["whole", "killed"].map(|folder| std::fs::read(place.path(folder).join("best.safetensors")).unwrap());
    assert!(a == b, "the best networks have other weights");
    assert_eq!(whole["best"]["trial"], result["best"]["trial"]);
}

#[test]
fn a_one_shot_search_says_what_shares_weights_and_what_it_refuses() {
    let place = place();
    let ran = place.run(&one_shot("out"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for line in
        ["\n        1 supernet\n", "supernet 0: ", ", 6 epochs\n", " with shared weights\n", " after 2 epochs\n"]
    {
        assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
    }
    let page = std::fs::read_to_string(place.path("out/report.html")).unwrap();
    assert!(page.contains(", shared weights: ") && page.contains(", fine-tuned: "));
    let refused = |more: &[&str], line: &str| place.refused(&[&search("new")[..], more].concat(), 2, line);
    refused(&["--finetune-epochs", "2"], "error: finetune_epochs: expected none with strategy evolution, got 2");
    refused(
        &["--strategy", "supernet", "--budget", "5m"],
        "error: budget: expected none, as supernet takes as long as its epochs and trials do, got one",
    );
    let tune = ["tune", "--space", "lr=log(0.01,1)", "--data", "tiny.safetensors", "--epochs", "3", "--trials", "2"];
    place.refused(
        &[&tune[..], &["--strategy", "supernet"]].concat(),
        2,
        "error: strategy: expected one for settings, as only networks share weights, got supernet",
    );
}

#[test]
fn two_processes_share_the_trials_of_one_folder() {
    let place = place();
    let children: Vec<Child> = (0..2).map(|_| start(&place, &search("shared"))).collect();
    let results = children.into_iter().map(|child| {
        let ran = support::ran(child.wait_with_output().unwrap());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        json(&ran.stdout)
    });
    let results: Vec<Value> = results.collect();
    assert_eq!(results[0], results[1]);
    let scored = journal(&place, "shared");
    let mut scored: Vec<u64> = scored
        .iter()
        .filter(|entry| entry["event"] == "scored")
        .map(|entry| entry["trial"].as_u64().unwrap())
        .collect();
    scored.sort_unstable();
    assert_eq!(scored, [0, 1, 2, 3, 4, 5]);
}
