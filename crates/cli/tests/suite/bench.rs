//! `residual bench` reports what it measured, in a table, as JSON, and to a program that drives it.

use crate::support;

use residual::graph::{Builder, Conv2d};
use residual::model::{Initialisation, Model, initialise};
use residual::preprocess::Preprocessing;
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;
use support::{Place, ran};

#[test]
fn results_have_the_documented_keys() {
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
            assert!(number("iqr_ms") >= 0.0 && number("memory_bytes") > 4.0 * 270_000.0);
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
fn every_number_of_threads_is_measured_and_the_repeats_are_told() {
    let place = Place::new();
    let arguments = ["bench", "resnet20", "-b", "1,2", "--threads", "1,2", "--repeats", "2", "--warmup", "1"];
    let document: Value = serde_json::from_str(&place.done(&[&arguments[..], &["--json"]].concat())).unwrap();
    let results = document["results"].as_array().unwrap();
    let key = |row: &Value| [row["threads"].as_u64().unwrap(), row["batch"].as_u64().unwrap()];
    assert_eq!(results.iter().map(key).collect::<Vec<_>>(), [[1, 1], [1, 2], [2, 1], [2, 2]]);
    assert_eq!(document["warmup"], 1);
    let text = place.done(&arguments);
    assert!(text.contains("1 warm-up and 2 timed passes"), "{text}");
}

#[test]
fn two_networks_take_turns_and_their_ratio_has_an_interval() {
    let place = Place::new();
    let arguments = ["bench", "resnet20", "--vs", "resnet56", "--repeats", "5", "--threads", "1"];
    let document: Value = serde_json::from_str(&place.done(&[&arguments[..], &["--json"]].concat())).unwrap();
    let comparison = &document["comparisons"][0];
    assert_eq!((&comparison["model"], &comparison["vs"]), (&"resnet20".into(), &"resnet56".into()));
    let [ratio, low, high] = [&comparison["ratio"], &comparison["interval"][0], &comparison["interval"][1]]
        .map(|value| value.as_f64().unwrap());
    assert!(low <= ratio && ratio <= high);
    let median = |index: usize| document["results"][index]["median_ms"].as_f64().unwrap();
    assert!((ratio - median(0) / median(1)).abs() < 1e-9);
    let text = place.done(&arguments);
    assert!(text.contains("of the time of resnet56 at batch size 1, 1 threads (95 % interval "), "{text}");
}

#[test]
fn layers_have_a_bar_and_a_place_below_the_roofline() {
    let place = Place::new();
    let arguments = ["bench", "resnet20", "-b", "2", "--repeats", "2", "--threads", "1", "--layers"];
    let text = place.done(&[&arguments[..], &["--svg", "layers.svg"]].concat());
    let layers: Vec<&str> = text.lines().filter(|line| line.starts_with("layer")).collect();
    assert!(layers.len() >= 18 && layers.iter().any(|line| line.ends_with('█')), "{text}");
    let alone = place.done(&[&arguments[..], &["--svg", "-"]].concat());
    assert!(alone.starts_with("<svg") && alone.trim_end().ends_with("</svg>"), "{alone}");
    let svg = std::fs::read_to_string(place.path("layers.svg")).unwrap();
    for text in ["layer1.0.conv1: ", "FLOP/byte", "% of the limit", "Roofline of resnet20"] {
        assert!(svg.contains(text), "no {text}");
    }
    place.refused(
        &["bench", "resnet20", "--svg", "layers.txt"],
        2,
        "error: --svg: expected a name that ends in .svg or .png, got \"layers.txt\"",
    );
}

/// `inspect --plan` says what would be needed, and takes none of it.
#[test]
fn what_no_machine_can_hold_is_told_and_refused() {
    let place = Place::new();
    let huge = ["resnet18", "--img-size", "4096", "-b", "2000", "--threads", "1"];
    let plan: Value =
        serde_json::from_str(&place.done(&[&["inspect", "--plan", "--json"], &huge[..]].concat())).unwrap();
    assert!(plan["memory"]["total"].as_u64().unwrap() > 1 << 38, "{}", plan["memory"]);
    for command in [&["bench"][..], &["inspect", "--measure"]] {
        let ran = place.run(&[command, &huge].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
        assert!(
            ran.stderr.starts_with("error: memory: expected ") && ran.stderr.lines().count() == 1,
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn threads_beyond_the_machine_are_noted_or_refused() {
    let place = Place::new();
    let refused = "error: threads: expected 1 to 1024, got 65535";
    place.refused(&["inspect", "resnet20", "--plan", "--threads", "65535"], 2, refused);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let many = (4 * cores + 1).to_string();
    if 4 * cores < 1024 {
        let ran = place.run(&["inspect", "resnet20", "--plan", "--threads", &many]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stderr.starts_with(&format!("note: --threads {many} on ")), "{}", ran.stderr);
    }
}

/// A checkpoint may hold any graph, also one whose result is a map.
#[test]
fn a_network_whose_result_is_a_map_takes_no_training_step() {
    let place = Place::new();
    let mut network = Builder::new("map", [3, 8, 8]);
    let input = network.input();
    let output = network.conv("conv", input, Conv2d::new(3, 2, 1)).unwrap();
    let graph = network.finish(output).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    let model = Model::new(graph, tensors, Preprocessing::unscaled([8, 8], &[0.5; 3], &[0.25; 3]), Vec::new()).unwrap();
    residual::weights::save(&place.path("map.safetensors"), &model, None).unwrap();
    let line = "error: map.safetensors: expected a result of one value per class to train, got a map of 8×8×2";
    place.refused(&["bench", "map.safetensors", "--mode", "train", "--threads", "1"], 1, line);
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
