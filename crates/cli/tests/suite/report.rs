//! `residual report`, and the report at the end of a run.

use crate::support;

use serde_json::Value;
use support::Place;

const TRAIN: [&str; 13] = [
    "train",
    "--data",
    "tiny.safetensors",
    "--model",
    "resnet20",
    "--augment",
    "none",
    "--max-steps",
    "4",
    "-b",
    "8",
    "--threads",
    "1",
];

#[test]
fn a_run_writes_its_report_and_says_where() {
    let place = Place::new();
    place.tiny_data();
    let text = place.done(&TRAIN);
    assert!(text.contains("\nreport    runs/1-resnet20-tiny/report.html\n"), "{text}");
    let page = std::fs::read_to_string(place.path("runs/1-resnet20-tiny/report.html")).unwrap();
    assert!(page.contains("command line") && page.contains("max_steps"), "settings have their sources");
    let numbers = std::fs::read_to_string(place.path("runs/1-resnet20-tiny/report.json")).unwrap();
    let numbers: Value = serde_json::from_str(&numbers).unwrap();
    assert_eq!(numbers["facts"]["environment"]["threads"], 1);
    assert!(numbers["facts"]["wall_clock"]["seconds"].as_f64().unwrap() > 0.0);
    assert!(place.path("runs/1-resnet20-tiny/plots/loss.png").exists());

    let document: Value =
        serde_json::from_str(&place.done(&[&TRAIN[..], &["--json", "--no-report"]].concat())).unwrap();
    assert_eq!(document["report"], Value::Null);
    assert!(!place.path("runs/2-resnet20-tiny/report.html").exists());
}

#[test]
fn a_report_is_rebuilt_and_runs_are_compared() {
    let place = Place::new();
    place.tiny_data();
    place.done(&[&TRAIN[..], &["--no-report"]].concat());
    place.done(&[&TRAIN[..], &["--no-report", "--lr", "0.01"]].concat());
    let (first, second) = ("runs/1-resnet20-tiny", "runs/2-resnet20-tiny");
    let text = place.done(&["report", first]);
    assert!(text.starts_with("report  runs/1-resnet20-tiny/report.html\nsize    "), "{text}");
    let rebuilt = std::fs::read(place.path(first).join("report.html")).unwrap();
    place.done(&["report", first]);
    assert!(rebuilt == std::fs::read(place.path(first).join("report.html")).unwrap());

    let document: Value = serde_json::from_str(&place.done(&["report", first, second, "--json"])).unwrap();
    assert_eq!(document["differences"]["lr"][1], "0.01");
    let page = std::fs::read_to_string(place.path("comparison.html")).unwrap();
    assert!(page.contains("2-resnet20-tiny held out") && page.contains("<td>0.01</td>"));
    place.refused(&["report", "nowhere"], 1, "error: nowhere: expected a run folder, got one without config.toml");
}
