//! `residual export` through the compiled program.

use crate::support;

use residual::graph::{Builder, NodeId, Op};
use residual::model::{
    Initialisation, Model, Quantization, QuantizedWeight, WeightBits, fold_batch_norm, initialise, quantize,
    quantized_values,
};
use residual::preprocess::Preprocessing;
use residual::weights;
use std::collections::{HashMap, HashSet};
use std::path::Path;
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
fn flags_of_onnx_files_are_refused_for_checkpoints() {
    let place = Place::new();
    model(&place);
    for flag in ["preprocess", "dynamic-size", "verify"] {
        let line = format!("error: {flag}: expected --format onnx, got safetensors");
        place.refused(&["export", "--weights", "w.safetensors", "-o", "a.safetensors", &format!("--{flag}")], 2, &line);
    }
}

#[test]
fn preprocessing_is_put_into_the_file() {
    let place = Place::new();
    let model = model(&place);
    let export = ["export", "--weights", "w.safetensors", "-o", "images.onnx", "--preprocess"];
    let document = json(&place.done(&[&export[..], &["--json"]].concat()));
    assert_eq!(document["opset"], 18);
    let mut expected = Vec::new();
    let onnx = residual::onnx::OnnxModel::with_input(&model, residual::onnx::Input::Images).unwrap();
    onnx.write(&mut expected).unwrap();
    assert!(std::fs::read(place.path("images.onnx")).unwrap() == expected);
    let table = place.done(&[&export[..], &["--exif-orientation"]].concat());
    assert!(table.contains("N×height×width×3 in bytes, upright"), "{table}");
    let line =
        "error: verify: expected a file for normalised images, got --preprocess: rten has no antialiased resizing";
    place.refused(&[&export[..], &["--verify"]].concat(), 2, line);
}

#[test]
fn the_size_of_images_is_free_where_the_network_allows() {
    let place = Place::new();
    model(&place);
    let table = place.done(&["export", "--weights", "w.safetensors", "-o", "any.onnx", "--dynamic-size"]);
    assert!(table.contains("N×3×height×width, normalised"), "{table}");
    // As VGG, which has a weight for each pixel of its last map.
    let mut net = Builder::new("flat", [3, 4, 4]);
    let x = net.flatten("flatten", net.input()).unwrap();
    let x = net.linear("fc", x, 2, true).unwrap();
    let graph = net.finish(x).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    let flat = Model::new(graph, tensors, Preprocessing::unscaled([4, 4], &[0.5; 3], &[0.5; 3]), Vec::new()).unwrap();
    weights::save(&place.path("flat.safetensors"), &flat, None).unwrap();
    let line = "error: onnx: node \"flatten\": expected a network for images of any size, got a map as a vector, whose length \
                depends on the image's size";
    place.refused(&["export", "--weights", "flat.safetensors", "-o", "flat.onnx", "--dynamic-size"], 1, line);
    assert!(!place.path("flat.onnx").exists());
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

/// The commands of the guide as they stand, on a short run and a quantised stand-in.
#[test]
fn every_command_of_the_guide_runs() {
    let place = Place::new();
    place.done(&["train", "--output", "runs", "--max-steps", "2", "-b", "4", "--no-report"]);
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/export.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let run = weights::load(&place.path("runs/1-resnet20-shapes10")).unwrap().model;
    weights::save(&place.path("int8.safetensors"), &quantized(&run), None).unwrap();
    let commands: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("    residual ")).collect();
    assert!(commands.len() > 4, "{commands:?}");
    for command in commands {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let document = json(&place.done(&[&arguments[..], &["--json"]].concat()));
        assert!(place.path(document["file"].as_str().unwrap()).exists(), "residual {command}");
    }
}

/// `model` with all its layers in int8, and values between -4 and 4.
fn quantized(model: &Model) -> Model {
    let model = fold_batch_norm(model, &[]);
    let is_layer = |id: &NodeId| matches!(model.graph.node(*id).op, Op::Conv2d(_) | Op::Linear { .. });
    let layers: HashSet<NodeId> = (0..model.graph.nodes.len()).map(NodeId).filter(is_layer).collect();
    let name = |id: NodeId| model.graph.node(id).name.clone();
    let weight = |&id: &NodeId| {
        let tensor = &model.tensors[model.graph.node(id).key("weight").as_str()];
        (name(id), QuantizedWeight::nearest(tensor, WeightBits::Eight))
    };
    let values = quantized_values(&model.graph, &layers).into_iter();
    let values: HashMap<_, _> = values.map(|id| (name(id), Quantization::of_range(-4.0, 4.0))).collect();
    quantize(&model, &layers.iter().map(weight).collect(), &values).unwrap()
}

#[test]
fn an_int8_checkpoint_is_copied_with_its_bytes() {
    let place = Place::new();
    let model = quantized(&model(&place));
    weights::save(&place.path("int8.safetensors"), &model, None).unwrap();
    for flags in [&["-o", "copy.safetensors"][..], &["-o", "copy.safetensors", "--fold"]] {
        place.done(&[&["export", "--weights", "int8.safetensors"], flags].concat());
        assert_eq!(weights::load(&place.path("copy.safetensors")).unwrap().model, model);
    }
    let [int8, float] = ["int8.onnx", "w.onnx"].map(|file| {
        place.done(&["export", "--weights", &format!("{}.safetensors", file.trim_end_matches(".onnx")), "-o", file]);
        std::fs::metadata(place.path(file)).unwrap().len()
    });
    assert!(10 * int8 < 3 * float, "{int8} of {float} bytes");
}
