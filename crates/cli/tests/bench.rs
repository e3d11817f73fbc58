//! `residual bench` reports what it measured, in a table, as JSON, and to a program that drives it.

mod support;

use serde_json::Value;
use std::io::Write;
use std::process::Stdio;
use support::{Place, ran};

#[test]
fn results_stand_under_the_documented_keys() {
    let place = Place::new();
    for mode in ["infer", "train"] {
        let arguments =
            ["bench", "resnet20", "--mode", mode, "-b", "1,3", "--repeats", "2", "--threads", "1", "--json"];
        let document: Value = serde_json::from_str(&place.done(&arguments)).unwrap();
        let results = document["results"].as_array().unwrap();
        assert_eq!(results.len(), 2);
        for (result, batch) in results.iter().zip([1, 3]) {
            assert_eq!(result["model"], "resnet20");
            assert_eq!(result["mode"], mode);
            assert_eq!(result["batch"], batch);
            assert_eq!(result["threads"], 1);
            let number = |key: &str| result[key].as_f64().unwrap();
            assert!(number("median_ms") > 0.0 && number("p95_ms") >= number("median_ms"));
            // 40.8 M multiply-accumulates an image, three times as many for a step.
            let passes = if mode == "train" { 3.0 } else { 1.0 };
            let flops = 2.0 * passes * 40_813_184.0 * f64::from(batch);
            assert!((number("gflops") * number("median_ms") * 1e6 / flops - 1.0).abs() < 1e-9);
            let images = f64::from(batch) / number("median_ms") * 1e3;
            assert!((number("images_per_second") / images - 1.0).abs() < 1e-9);
        }
        assert!(document["peak_gflops"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_driver_gets_as_many_times_as_it_asks_for() {
    let place = Place::new();
    let mut command = place.command(&["bench", "resnet20", "--threads", "1", "--serve"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"run 1\nrun 3\nquit\n").unwrap();
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["ready"]["threads"], 1);
    let counts: Vec<usize> = lines[1..].iter().map(|line| line["ms"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [1, 3]);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let place = Place::new();
    let unknown =
        "error: model: expected a name from `residual models list`, got \"resnet2o\" (did you mean \"resnet20\"?)";
    place.refused(&["bench", "resnet2o"], 2, unknown);
    place.refused(&["bench", "resnet20", "-b", "1,2", "--serve"], 2, "error: --serve: expected one batch size");
    place.refused(&["bench", "resnet20", "resnet32", "--serve"], 2, "error: --serve: expected one network");
}
