//! `--precision bf16`: in every command of inference, beside floats, and refused where it does not apply.

use crate::support::{Place, json, small_model};
use residual::model::Model;
use residual::weights::save;

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
fn precision_is_refused_where_it_does_not_apply() {
    let place = Place::new();
    place.refused(
        &["bench", "resnet20", "--mode", "train", "--precision", "bf16"],
        2,
        "error: --precision bf16: expected --mode infer; training computes with f32",
    );
    let ran = place.run(&["bench", "resnet20", "--precision", "f16"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("expected f32 or bf16"), "{}", ran.stderr);
}
