//! `--precision bf16` in every command of inference, beside floats, and in training (`--amp`).

use crate::support::{Place, json, small_model};
use residual::model::Model;
use residual::weights::save;
use serde_json::Value;

#[test]
fn every_command_of_inference_computes_with_bf16() {
    let place = Place::new();
    let Model { graph, tensors, preprocessing, .. } = small_model(&place);
    let model = Model::new(graph, tensors, preprocessing, vec!["ants".into(), "bees".into()]).unwrap();
    save(&place.path("model.safetensors"), &model, None).unwrap();
    let photos = place.photos();
    let logits = |precision: &str| {
        let arguments =
            ["predict", "--weights", "model.safetensors", photos, "--json", "--logits", "--precision", precision];
        let result = json(&place.done(&arguments));
        let images = result["predictions"].as_array().unwrap().iter();
        let numbers = images.flat_map(|image| image["logits"].as_array().unwrap().clone());
        numbers.map(|number| number.as_f64().unwrap()).collect::<Vec<f64>>()
    };
    let (floats, halves) = (logits("f32"), logits("bf16"));
    let largest = floats.iter().fold(0.0f64, |largest, logit| largest.max(logit.abs()));
    assert!(!floats.is_empty() && floats.len() == halves.len());
    assert_ne!(floats, halves);
    assert!(floats.iter().zip(&halves).all(|(a, b)| (a - b).abs() < 0.03 * largest), "{floats:?} {halves:?}");

    // Judged beside the same weights in f32.
    let result = json(&place.done(&[
        "eval",
        "--weights",
        "model.safetensors",
        "--data",
        photos,
        "--json",
        "--precision",
        "bf16",
    ]));
    assert_eq!(result["vs"]["weights"], "model.safetensors, in f32");
    assert!(result["vs"]["top1"].is_number(), "{result}");
    let plain = json(&place.done(&["eval", "--weights", "model.safetensors", "--data", photos, "--json"]));
    assert_eq!(result["vs"]["top1"], plain["top1"]);

    let features = ["features", "--weights", "model.safetensors", photos, "--output", "f.npy", "--precision", "bf16"];
    place.done(&features);
    assert!(place.path("f.npy").exists());

    let row =
        json(&place.done(&["bench", "resnet20", "--precision", "bf16", "--repeats", "2", "--warmup", "0", "--json"]));
    assert_eq!(row["precision"], "bf16");
}

#[test]
fn training_computes_with_bf16() {
    let place = Place::new();
    let measure = ["bench", "resnet20", "--mode", "train", "-b", "2", "--repeats", "2", "--warmup", "0", "--json"];
    let row = |precision| json(&place.done(&[&measure[..], &["--precision", precision]].concat()));
    let (floats, halves) = (row("f32"), row("bf16"));
    assert_eq!(halves["precision"], "bf16");
    let bytes = |row: &Value| row["results"][0]["memory_bytes"].as_u64().unwrap();
    assert!(bytes(&halves) < bytes(&floats), "{halves} {floats}");

    let data = place.photos();
    let train = ["train", data, "--max-steps", "2", "-b", "4", "--img-size", "32", "--checkpoint-every", "1"];
    let ran = place.run(&[&train[..], &["--amp", "--output", "runs"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains(", bf16; peak memory about ") && ran.stderr.contains(" in f32\n"), "{}", ran.stderr);
    let run = std::fs::read_dir(place.path("runs")).unwrap().next().unwrap().unwrap().path();
    let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("\namp = true\n"), "{config}");
    let shown = place.done(&["train", "--show-config", "--amp"]);
    let set = |line: &str| line.starts_with("amp = true") && line.ends_with("# command line");
    assert!(shown.lines().any(set), "{shown}");
    place.refused(
        &[&train[..], &["--amp", "--autotune"]].concat(),
        2,
        "error: --autotune: expected training in f32, whose algorithms it measures, got amp = true; leave one out",
    );
    // A run is resumed in its own precision.
    let refused = place.run(&["train", "--resume", run.to_str().unwrap(), "--amp=false"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("amp: expected true, as the run began, got false"), "{}", refused.stderr);
}

#[test]
fn a_precision_that_does_not_exist_is_refused() {
    let place = Place::new();
    let ran = place.run(&["bench", "resnet20", "--precision", "f16"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("expected f32 or bf16"), "{}", ran.stderr);
}
