//! `residual quantize`: what it writes, what it says, and its file in the other commands.

use crate::support;

use residual::weights::load;
use std::path::Path;
use support::{Place, TINY, json, small_model, test_data};

/// A tiny run, quantised to `int8.safetensors`.
fn quantized(place: &Place, more: &[&str]) -> serde_json::Value {
    place.tiny_data();
    place.done(&[&TINY[..], &["--val-split", "0.25", "--no-report"]].concat());
    let command =
        ["quantize", "--weights", "runs/1-resnet20-tiny", "-o", "int8.safetensors", "--threads", "1", "--json"];
    json(&place.done(&[&command[..], more].concat()))
}

#[test]
fn the_result_says_what_it_costs_and_gains() {
    let place = Place::new();
    let result = quantized(&place, &["--sensitivity"]);
    for key in ["file", "images", "top1_before", "top1", "interval", "parameters", "macs", "bytes", "latency"] {
        assert!(!result[key].is_null(), "{key}: {result}");
    }
    // Calibrated on what is left of 32 images, judged on those that the run held out.
    assert_eq!((&result["images"], &result["calibrated_on"]), (&8.into(), &24.into()));
    assert_eq!(result["bytes"], std::fs::metadata(place.path("int8.safetensors")).unwrap().len());
    for batch in ["1", "8"] {
        let latency = &result["latency"][batch];
        let [before, after, ratio] = ["before_ms", "after_ms", "ratio"].map(|key| latency[key].as_f64().unwrap());
        assert!(before > 0.0 && after > 0.0 && (ratio - before / after).abs() < 1e-9, "{latency}");
    }
    let layers = load(&place.path("int8.safetensors")).unwrap().model.graph;
    let layers = layers.nodes.iter().filter(|node| node.op.is_quantized()).count();
    assert_eq!(result["sensitivity"].as_array().unwrap().len(), layers);
}

#[test]
fn its_file_is_a_checkpoint_like_any_other() {
    let place = Place::new();
    let result = quantized(&place, &["--no-latency"]);
    let eval = ["eval", "--weights", "int8.safetensors", "--split", "val", "--json", "--threads", "1"];
    assert_eq!(json(&place.done(&eval))["top1"], result["top1"]);
    let predict = ["predict", "--weights", "int8.safetensors", "--data", "tiny.safetensors", "--json"];
    assert_eq!(json(&place.done(&predict))["predictions"].as_array().unwrap().len(), 32);
    let inspected = json(&place.done(&["inspect", "int8.safetensors", "--json"]));
    assert_eq!(inspected["parameters"], result["parameters"]);
    assert!(place.done(&["bench", "int8.safetensors", "--repeats", "2", "--layers"]).contains("input.quantize"));
    let features = ["features", "--weights", "int8.safetensors", "--data", "tiny.safetensors", "-o", "f.npy"];
    place.done(&features);
    // Bytes have no gradients.
    let explain =
        ["explain", "--weights", "int8.safetensors", "--data", "tiny.safetensors", "--limit", "1", "-o", "m.png"];
    let explained = place.run(&explain);
    assert_eq!(explained.code, Some(0), "{}", explained.stderr);
    assert!(explained.stderr.contains("note: explaining the network in f32"), "{}", explained.stderr);
    let cause =
        "network: expected layers of floats, got quantized ones; start from the model that they were quantized from";
    let train = [&TINY[..], &["--weights", "int8.safetensors"]].concat();
    place.refused(&train, 1, &format!("error: {cause}"));
    place.refused(
        &["quantize", "--weights", "int8.safetensors", "--data", "tiny.safetensors", "-o", "again.safetensors"],
        1,
        "error: network: expected layers of floats, got quantized ones",
    );
}

#[test]
fn a_file_of_weights_alone_is_smaller_and_a_checkpoint_like_any_other() {
    let place = Place::new();
    let result = quantized(&place, &["--no-latency", "--weights-only", "4"]);
    assert_eq!((&result["scheme"], &result["method"]), (&"weights only, 4 bits".into(), &serde_json::Value::Null));
    let run = ["quantize", "--weights", "runs/1-resnet20-tiny", "--no-latency", "--json", "--weights-only"];
    let bytes = json(&place.done(&[&run[..], &["8", "-o", "bytes.safetensors"]].concat()));
    let [four, eight] = [&result, &bytes].map(|result| result["bytes"].as_u64().unwrap());
    let f32 = std::fs::metadata(place.path("runs/1-resnet20-tiny/weights/best.safetensors")).unwrap().len();
    assert!(10 * four < 2 * f32 && 10 * eight < 3 * f32, "{four} and {eight} of {f32} bytes");
    let eval = ["eval", "--weights", "int8.safetensors", "--split", "val", "--json", "--threads", "1"];
    assert_eq!(json(&place.done(&eval))["top1"], result["top1"]);
    let inspected = json(&place.done(&["inspect", "int8.safetensors", "--json"]));
    assert_eq!(inspected["parameters"], result["parameters"]);
    place.done(&["predict", "--weights", "int8.safetensors", "--data", "tiny.safetensors", "--json"]);
    place.done(&["bench", "int8.safetensors", "--repeats", "2"]);
    place.done(&["export", "--weights", "int8.safetensors", "-o", "int4.onnx"]);
    for (flags, error) in [
        (&["--weights-only", "3"][..], "error: invalid value '3' for '--weights-only <BITS>': expected 8 or 4"),
        (
            &["--weights-only", "4", "--method", "entropy"],
            "error: the argument '--weights-only <BITS>' cannot be used with '--method <METHOD>'",
        ),
    ] {
        let ran = place.run(&[&["quantize", "--weights", "runs/1-resnet20-tiny"], flags].concat());
        assert_eq!((ran.code, ran.stderr.lines().next()), (Some(2), Some(error)), "{}", ran.stderr);
    }
}

#[test]
fn dynamic_quantisation_is_judged_in_batches_and_exported() {
    let place = Place::new();
    let result = quantized(&place, &["--no-latency", "--dynamic"]);
    assert_eq!(result["scheme"], "dynamic, linear layers in 8 bits");
    let graph = load(&place.path("int8.safetensors")).unwrap().model.graph;
    let layers = graph.nodes.iter().filter(|node| node.op.is_quantized());
    assert_eq!(layers.map(|node| &*node.name).collect::<Vec<_>>(), ["fc"]);
    let eval = ["eval", "--weights", "int8.safetensors", "--split", "val", "--json", "--threads", "1"];
    assert_eq!(json(&place.done(&eval))["top1"], result["top1"]);
    place.done(&["inspect", "int8.safetensors"]);
    place.done(&["bench", "int8.safetensors", "--repeats", "2"]);
    place.done(&["export", "--weights", "int8.safetensors", "-o", "dynamic.onnx"]);
}

#[test]
fn learned_rounding_is_repeated_by_its_seed() {
    let place = Place::new();
    let learned =
        ["--no-latency", "--weights-only", "4", "--rounding", "adaround:20", "--keep-f32", "layer1,layer2,layer3"];
    let result = quantized(&place, &learned);
    assert_eq!(result["rounding"], "adaround:20");
    let first = std::fs::read(place.path("int8.safetensors")).unwrap();
    let again = [&["quantize", "--weights", "runs/1-resnet20-tiny", "-o", "again.safetensors"], &learned[..]].concat();
    place.done(&again);
    assert!(std::fs::read(place.path("again.safetensors")).unwrap() == first);
}

#[test]
fn what_was_typed_is_done_or_refused() {
    let place = Place::new();
    let result = quantized(&place, &["--no-latency", "--keep-f32", "conv1,layer2", "--method", "percentile:99.9"]);
    assert_eq!(result["kept_f32"], serde_json::json!(["conv1", "layer2"]));
    let graph = load(&place.path("int8.safetensors")).unwrap().model.graph;
    for (name, is_quantized) in [("conv1", false), ("layer1.0.conv1", true), ("layer2.0.conv1", false), ("fc", true)] {
        assert_eq!(graph.node(graph.find(name).unwrap()).op.is_quantized(), is_quantized, "{name}");
    }
    let run = "runs/1-resnet20-tiny";
    let quantize = |more: &[&'static str]| [&["quantize", "--weights", run, "--no-latency"], more].concat();
    place.refused(
        &quantize(&["--keep-f32", "layer9"]),
        2,
        "error: keep in f32: expected a layer or module of the network, got \"layer9\"",
    );
    let weights = "runs/1-resnet20-tiny/weights/best.safetensors";
    let refused = place.run(&quantize(&["-o", weights]));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("expected another file than the weights'"), "{}", refused.stderr);
    let refused = place.run(&quantize(&["-o", "missing/int8.safetensors"]));
    assert!(
        refused.stderr.ends_with("error: missing: expected a folder for the output, got none\n"),
        "{}",
        refused.stderr
    );
    let refused = place.run(&quantize(&["--method", "best"]));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("expected minmax, percentile:50 to 100, mse or entropy"), "{}", refused.stderr);
}

#[test]
fn a_drop_beyond_the_gate_fails_and_names_layers() {
    let place = Place::new();
    place.tiny_data();
    place.done(&[&TINY[..], &["--val-split", "0.25", "--no-report"]].concat());
    let quantize = ["quantize", "--weights", "runs/1-resnet20-tiny", "-o", "q.safetensors", "--no-latency"];
    // No drop is below −100 points.
    let failed = place.run(&[&quantize[..], &["--max-drop=-101"]].concat());
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    let expected = "error: accuracy: expected a drop of at most -101 points, got ";
    assert!(
        failed.stderr.contains(expected) && failed.stderr.contains("the layers that cost most: "),
        "{}",
        failed.stderr
    );
    let kept = place.run(&[&quantize[..], &["--keep-f32", "auto", "--max-drop", "100"]].concat());
    assert_eq!(kept.code, Some(0), "{}", kept.stderr);
    assert!(kept.stderr.contains("predictions agree for "), "{}", kept.stderr);
}

#[test]
fn images_of_other_classes_calibrate_but_do_not_judge() {
    let place = Place::new();
    place.photos();
    small_model(&place);
    let ran = place.run(&["quantize", "--weights", "w.safetensors", "--data", "photos", "--no-latency", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let result = json(&ran.stdout);
    assert!(result["top1"].is_null() && result["interval"].is_null(), "{result}");
    assert_eq!(result["file"], "resnet20-int8.safetensors");
    assert!(ran.stderr.contains("note: accuracy not judged: classes: expected classes among"), "{}", ran.stderr);
    for ant in [0, 2, 4] {
        place.write(&format!("photos/ants/{ant}.bmp"), b"BM no image");
    }
    let bad = ["quantize", "--weights", "w.safetensors", "--data", "photos", "--no-latency"];
    let refused = place.run(&bad);
    assert!(refused.code == Some(1) && refused.stderr.contains("--skip-bad-images skips"), "{}", refused.stderr);
    let skipped = place.run(&[&bad[..], &["--skip-bad-images"]].concat());
    assert!(skipped.code == Some(0) && skipped.stderr.contains("\nskipped: "), "{}", skipped.stderr);
    // Of data without splits, half at most calibrate, and the others would judge.
    assert_eq!(result["calibrated_on"], 3);
}

/// The commands of the guide, on the run of its first one.
#[test]
fn every_command_of_the_guide_runs() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/quantize.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let commands: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("    residual ")).collect();
    assert!(commands.len() > 6, "{commands:?}");
    let place = Place::new();
    let data = test_data();
    for command in commands {
        let mut arguments: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if command.contains("cifar-10") || command.contains("akamaster") {
            let Some(data) = &data else { continue };
            for argument in &mut arguments {
                if argument == "cifar-10-batches-bin" || argument.starts_with("akamaster/") {
                    *argument = data.join(&*argument).display().to_string();
                }
            }
        }
        match &*arguments[0] {
            "train" => arguments.extend(["--max-steps", "4", "-b", "8", "--no-report"].map(String::from)),
            "quantize" => arguments.extend(["--no-latency", "--limit", "200", "--calib", "64"].map(String::from)),
            "bench" => arguments.extend(["--repeats", "2"].map(String::from)),
            _ => {}
        }
        let steps = |argument: &mut String| *argument = "adaround:10".to_owned();
        arguments.iter_mut().filter(|argument| *argument == "adaround").for_each(steps);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert!(!place.done(&arguments).is_empty(), "residual {command}");
    }
}
