//! `residual distill`: a training with a teacher, its result, and what it refuses.

use crate::support;

use support::{Place, TINY, json};

/// Flags of a distillation from the first run, on the same data.
fn distil(place: &Place, more: &[&str]) -> serde_json::Value {
    json(&place.done(&[&["distill", "--teacher", "runs/1-resnet20-tiny"], &TINY[1..], &["--no-report"], more].concat()))
}

#[test]
fn a_distillation_is_a_run_that_judges_its_teacher_too() {
    let place = Place::new();
    place.tiny_data();
    place.done(&TINY);
    let result = distil(&place, &["--loss", "dkd", "--kd-beta", "2", "--kd-warmup-epochs", "1"]);
    assert_eq!(result["run"], "runs/2-resnet20-tiny");
    assert!(result["top1"].is_f64(), "{result}");
    let judged = json(&place.done(&["eval", "--weights", "runs/1-resnet20-tiny", "--json"]));
    let [teacher] = &result["teachers"].as_array().unwrap()[..] else { panic!("one teacher: {result}") };
    assert_eq!((&teacher["network"], &teacher["top1"]), (&"resnet20".into(), &judged["top1"]));
    assert!(teacher["weights"].as_str().unwrap().ends_with("runs/1-resnet20-tiny"), "{result}");

    // The run is complete by itself: it is resumed from any folder, and its report does without the teacher.
    let config = std::fs::read_to_string(place.path("runs/2-resnet20-tiny/config.toml")).unwrap();
    assert!(config.contains("kd_loss = \"dkd\"\n") && config.contains("kd_beta = 2.0\n"), "{config}");
    let again = place.done(&["train", "--resume", "runs/2-resnet20-tiny", "--no-report"]);
    assert!(again.contains("\nteacher  resnet20 of /") && again.contains(": Acc@1 held out "), "{again}");
    std::fs::rename(place.path("runs/1-resnet20-tiny"), place.path("moved")).unwrap();
    place.done(&["report", "runs/2-resnet20-tiny"]);
    let moved = place.done(&["distill", "--resume", "runs/2-resnet20-tiny", "--teacher", "moved", "--json"]);
    assert_eq!(json(&moved)["top1"], result["top1"]);
}

/// Teachers of other families, in int8, and several; feature maps of one that has other channels.
#[test]
fn any_model_can_teach() {
    let place = Place::new();
    place.tiny_data();
    place.done(&TINY);
    let quantize = ["quantize", "--weights", "runs/1-resnet20-tiny", "-o", "int8.safetensors", "--no-latency"];
    place.done(&quantize);
    let wide = ["train", "--model", "wrn16_4", "--max-steps", "1", "--no-report"];
    place.done(&[&wide, &TINY[3..]].concat());
    let short = ["--max-steps", "2"];
    for flags in [
        &["--teacher", "int8.safetensors"][..],
        &["--teacher", "int8.safetensors,runs/2-wrn16_4-tiny"],
        &["--teacher", "int8.safetensors", "--loss", "at"],
        &["--teacher", "runs/2-wrn16_4-tiny", "--loss", "fitnet", "--alpha", "0.5"],
        &["--teacher", "runs/2-wrn16_4-tiny", "--loss", "fitnet", "--hint-layers", "layer2:layer3,layer1"],
    ] {
        let result = json(&place.done(&[&["distill"], flags, &TINY[1..], &["--no-report"], &short[..]].concat()));
        assert_eq!(result["steps"], 2, "{flags:?}: {result}");
        let teachers = result["teachers"].as_array().unwrap();
        assert_eq!(teachers.len(), 1 + usize::from(flags[1].contains(',')), "{result}");
    }
}

#[test]
fn what_cannot_be_distilled_is_refused() {
    let place = Place::new();
    place.tiny_data();
    place.refused(&["distill"], 2, "error: --teacher is required: the weights of the network to learn from");
    let with = |more: &[&'static str]| [&["distill", "--data", "tiny.safetensors"], more].concat();
    place.refused(
        &with(&["--teacher", "x", "--loss", "crd"]),
        2,
        "error: --kd-loss: expected kd, dkd, fitnet or at, got \"crd\"",
    );
    place.refused(&with(&["--kd-beta", "2"]), 2, "error: --kd-beta requires --teacher");
    let none = place.run(&with(&["--teacher", "none.safetensors", "--model", "resnet20", "--augment", "none"]));
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    assert!(none.stderr.contains("error: teacher: none.safetensors: expected "), "{}", none.stderr);
    assert!(!place.path("runs").exists());
}
