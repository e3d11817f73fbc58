//! `residual export` through the compiled program.

mod support;

use residual::model::Model;
use residual::weights;
use support::{Place, json, small_model};

/// `w.safetensors`: the small model, with a recipe.
fn model(place: &Place) -> Model {
    let model = small_model(place);
    weights::save(&place.path("w.safetensors"), &model, Some("epochs = 3\n")).unwrap();
    model
}

#[test]
fn an_onnx_file_is_called_like_the_network_and_holds_the_weights() {
    let place = Place::new();
    let model = model(&place);
    let document = json(&place.done(&["export", "--weights", "w.safetensors", "--format", "onnx", "--json"]));
    let written = std::fs::read(place.path("resnet20.onnx")).unwrap();
    assert_eq!((&document["file"], &document["format"]), (&"resnet20.onnx".into(), &"onnx".into()));
    assert_eq!((&document["model"], &document["opset"]), (&"resnet20".into(), &17.into()));
    assert_eq!(document["bytes"], written.len());
    let mut expected = Vec::new();
    residual::onnx::OnnxModel::new(&model).unwrap().write(&mut expected).unwrap();
    assert!(written == expected);
    let flags = ["--fold", "--output", "folded.onnx", "--img-size", "24"];
    let table = place.done(&[&["export", "--weights", "w.safetensors", "--format", "onnx"], &flags[..]].concat());
    assert!(table.contains("N×3×24×24"), "{table}");
    assert!(std::fs::metadata(place.path("folded.onnx")).unwrap().len() < written.len() as u64);
}

#[test]
fn the_name_of_the_file_says_its_format() {
    let place = Place::new();
    model(&place);
    let export = ["export", "--weights", "w.safetensors", "--json"];
    for (name, format) in [("a.onnx", "onnx"), ("b.SafeTensors", "safetensors")] {
        let document = json(&place.done(&[&export[..], &["-o", name]].concat()));
        assert_eq!((&document["file"], &document["format"]), (&name.into(), &format.into()));
    }
    let line = "error: --format is required for an output whose name does not end in .onnx or .safetensors";
    place.refused(&[&export[..], &["-o", "c.bin"]].concat(), 2, line);
    place.refused(&export, 2, line);
}

#[test]
fn a_checkpoint_keeps_all_it_holds() {
    let place = Place::new();
    let model = model(&place);
    place.done(&["export", "--weights", "w.safetensors", "--format", "safetensors", "-o", "copy.safetensors"]);
    let copy = weights::load(&place.path("copy.safetensors")).unwrap();
    assert_eq!((&copy.model, copy.recipe.as_deref()), (&model, Some("epochs = 3\n")));
    place.done(&["export", "--weights", "w.safetensors", "--format", "safetensors", "--fold"]);
    let folded = weights::load(&place.path("resnet20.safetensors")).unwrap().model;
    assert!(folded.tensors.contains_key("conv1.bias") && !folded.tensors.contains_key("bn1.weight"));
}

#[test]
fn the_weights_are_not_written_over() {
    let place = Place::new();
    let model = model(&place);
    std::fs::rename(place.path("w.safetensors"), place.path("resnet20.safetensors")).unwrap();
    let line = "error: output: expected another file than the weights', got resnet20.safetensors: use --output";
    place.refused(&["export", "--weights", "resnet20.safetensors", "--format", "safetensors", "--fold"], 2, line);
    assert_eq!(weights::load(&place.path("resnet20.safetensors")).unwrap().model, model);
}

#[test]
fn only_an_onnx_file_is_verified() {
    let place = Place::new();
    model(&place);
    let line = "error: verify: expected --format onnx, got safetensors";
    place.refused(&["export", "--weights", "w.safetensors", "--format", "safetensors", "--verify"], 2, line);
}

#[cfg(not(feature = "verify"))]
#[test]
fn a_program_without_another_engine_says_how_to_get_one() {
    let place = Place::new();
    model(&place);
    let line = "error: verify: expected a program that was built with it, got one without: \
                cargo install --path crates/cli --features verify";
    place.refused(&["export", "--weights", "w.safetensors", "--format", "onnx", "--verify"], 2, line);
    assert!(!place.path("resnet20.onnx").exists());
}

#[cfg(feature = "verify")]
#[test]
fn another_program_gives_the_same_logits() {
    let place = Place::new();
    model(&place);
    place.write("photo.bmp", support::bmp(40, 30, 90));
    for flags in [&["--verify"][..], &["--verify", "--fold"], &["--verify", "--inputs", "photo.bmp", "photo.bmp"]] {
        let command = ["export", "--weights", "w.safetensors", "--format", "onnx", "--json"];
        let document = json(&place.done(&[&command, flags].concat()));
        let verified = &document["verified"];
        assert_eq!(verified["images"], if flags.len() == 4 { 2 } else { 4 }, "{verified}");
        assert!(verified["difference"].as_f64().unwrap() < 1e-5, "{verified}");
    }
}
