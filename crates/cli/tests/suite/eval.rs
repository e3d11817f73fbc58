//! `residual eval`: images, class names, and output.

use crate::support;

use residual::tensor::Tensor;
use residual::weights::load_tensors;
use serde_json::Value;
use support::{Place, TINY, json, small_model};

const RUN: &str = "runs/1-resnet20-tiny";

/// The accuracy that training reported is that of the images it held out; evaluation finds the same ones.
#[test]
fn the_images_that_a_run_held_out_are_judged_again() {
    let place = Place::new();
    place.tiny_data();
    let trained = json(&place.done(&[&TINY[..], &["--val-split", "0.25", "--seed", "5"]].concat()));
    for arguments in [&[][..], &["--split", "val"]] {
        let ran = place.run(&[&["eval", "--weights", RUN, "--json"], arguments].concat());
        let judged = json(&ran.stdout);
        assert_eq!((&judged["images"], &judged["split"]), (&8.into(), &"held-out".into()), "{judged}");
        assert_eq!(judged["top1"], trained["best_top1"], "{judged}");
        // A run remembers where its data lie, wherever it is evaluated from.
        assert_eq!(judged["data"], place.path("tiny.safetensors").display().to_string());
        assert!(ran.stderr.contains("(held out: 0.25 of each class, seed 5)\n"), "{}", ran.stderr);
    }
    // The same data at another place.
    std::fs::rename(place.path("tiny.safetensors"), place.path("moved.safetensors")).unwrap();
    let moved = ["eval", "--weights", RUN, "--data", "moved.safetensors", "--json"];
    assert_eq!(json(&place.done(&moved))["split"], "all");
    let judged = json(&place.done(&[&moved[..], &["--val-split", "0.25"]].concat()));
    assert_eq!((&judged["split"], &judged["top1"]), (&"held-out".into(), &trained["best_top1"]));
}

#[test]
fn a_held_out_share_that_judges_nothing_is_refused() {
    let place = Place::new();
    place.tiny_data();
    place.done(&[&TINY[..], &["--val-split", "0.25", "--no-report"]].concat());
    for split in ["train", "test"] {
        place.photos();
        std::fs::create_dir_all(place.path("splits")).unwrap();
        std::fs::rename(place.path("photos"), place.path(&format!("splits/{split}"))).unwrap();
    }
    let flags = ["--weights", RUN, "--data", "splits", "--val-split", "0.5"];
    let line = "error: --val-split: expected --split val beside it, as the data have test images";
    for command in ["eval", "quantize"] {
        place.refused(&[&[command][..], &flags].concat(), 2, line);
    }
    place.refused(&[&["prune", "--target-macs", "0.5"][..], &flags].concat(), 2, line);
    let line = "error: --val-split: expected none, as the data's train images are judged on";
    place.refused(&[&["eval"][..], &flags, &["--split", "train"]].concat(), 2, line);
}

#[test]
fn it_begins_with_what_was_read_and_ends_with_what_was_judged() {
    let place = Place::new();
    place.photos();
    small_model(&place);
    // The folder's classes, as they are called in the model.
    place.write("map.txt", "ants\nbees\n");
    let ran = place.run(&[
        "eval",
        "--weights",
        "w.safetensors",
        "--data",
        "photos",
        "--class-map",
        "map.txt",
        "--threads",
        "1",
        "-b",
        "4",
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let begins =
        |start: &str| assert!(ran.stderr.lines().any(|line| line.starts_with(start)), "{start}: {}", ran.stderr);
    begins("network  resnet20, 271,954 parameters, of w.safetensors");
    begins("data     6 images of 2 classes in photos (all images, as the data have no splits)");
    begins("input    3×16×16, batch size 4");
    begins("compute  1 thread, ");
    assert!(ran.stdout.starts_with("data         photos, "), "{}", ran.stdout);
    assert!(ran.stdout.contains("\nimages       6\n") && ran.stdout.contains("\nAcc@1        "), "{}", ran.stdout);
    assert!(!ran.stdout.contains("Acc@5"), "five of two classes are always right: {}", ran.stdout);

    place.refused(
        &["eval", "--weights", "w.safetensors", "--data", "photos"],
        1,
        "error: classes: expected classes among \"ant\", \"bee, bumble\", got \"ants\", \"bees\" (--class-map says which \
         classes of the model they are)",
    );
    place.refused(
        &["eval", "--weights", "w.safetensors"],
        2,
        "error: --data is required for w.safetensors, which does not say what it was trained on",
    );
}

#[test]
fn labels_name_the_classes_of_weights_without_names() {
    let place = Place::new();
    small_model(&place);
    place.write("names.txt", "black\nwhite\n");
    place.write("a.bmp", support::bmp(16, 16, 90));
    let named =
        json(&place.done(&["predict", "--weights", "w.safetensors", "--labels", "names.txt", "a.bmp", "--json"]));
    for class in named["predictions"][0]["top"].as_array().unwrap() {
        assert_eq!(class["label"], if class["index"] == 0 { "black" } else { "white" });
    }
    place.refused(
        &["predict", "--weights", "w.safetensors", "--labels", "imagenet", "a.bmp"],
        1,
        "error: imagenet: expected classes for the network's 2 outputs, got one for output 999",
    );
}

/// `residual eval` of [`small_model`] on the folder of [`Place::photos`].
const PHOTOS: [&str; 9] =
    ["eval", "--weights", "w.safetensors", "--data", "photos", "--class-map", "map.txt", "--threads", "1"];

fn photos() -> Place {
    let place = Place::new();
    place.photos();
    small_model(&place);
    place.write("map.txt", "ants\nbees\n");
    place
}

/// The counts, the lists and the rows of the file tell one story.
#[test]
fn classes_confusion_lists_and_rows_agree() {
    let place = photos();
    let more = ["--json", "--wrong", "9", "--uncertain", "2", "--predictions"];
    let judged = json(&place.done(&[&PHOTOS[..], &more, &["p.json"]].concat()));
    let rows: Value = json(&std::fs::read_to_string(place.path("p.json")).unwrap());
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 6);
    let count = |label: &str, predicted: &str| {
        rows.iter().filter(|row| row["label"] == label && row["predicted"] == predicted).count()
    };
    let names = ["ant", "bee, bumble"];
    for (class, name) in names.into_iter().enumerate() {
        let metrics = &judged["classes"][class];
        assert_eq!((&metrics["name"], &metrics["support"]), (&name.into(), &3.into()), "{judged}");
        assert_eq!(metrics["recall"].as_f64().unwrap(), count(name, name) as f64 / 3.0);
        assert_eq!(judged["confusion"][class], serde_json::json!(names.map(|predicted| count(name, predicted))));
    }
    let wrong = judged["wrong"].as_array().unwrap();
    let mistakes: Vec<&Value> = rows.iter().filter(|row| row["correct"] == false).collect();
    assert_eq!(wrong.len(), mistakes.len());
    assert_eq!(judged["top1"].as_f64().unwrap(), 100.0 * (6 - wrong.len()) as f64 / 6.0);
    let probability = |row: &Value| row["probability"].as_f64().unwrap();
    assert!(wrong.is_sorted_by(|a, b| probability(a) >= probability(b)), "{judged}");
    let uncertain = judged["uncertain"].as_array().unwrap();
    let least = rows.iter().map(probability).fold(1.0, f64::min);
    assert_eq!((uncertain.len(), probability(&uncertain[0])), (2, least));
    let losses = rows.iter().map(|row| row["loss"].as_f64().unwrap());
    assert!((losses.sum::<f64>() / 6.0 - judged["loss"].as_f64().unwrap()).abs() < 1e-12);

    // The same as CSV, and as tables.
    let text = place.done(&[&PHOTOS[..], &["--confusion", "--wrong", "9", "--predictions", "p.csv"]].concat());
    let csv = std::fs::read_to_string(place.path("p.csv")).unwrap();
    assert!(csv.starts_with("image,index,label,predicted,probability,correct,loss\nphotos/ants/0.bmp,0,ant,"), "{csv}");
    assert_eq!(csv.lines().count(), 7);
    for line in ["\nAcc@1        ", " (95 % interval ", "\nmacro F1     ", "\nECE          ", "\nBrier score  "] {
        assert!(text.contains(line), "{line:?}: {text}");
    }
    for row in ["\nclass          precision", "\nweighted mean  ", "\ntrue \\ predicted  0  1\n0 ant            "] {
        assert!(text.contains(row), "{row:?}: {text}");
    }
}

/// The images that one of two models has right, counted from their predictions.
#[test]
fn two_models_are_compared_image_by_image() {
    let place = photos();
    let model = small_model(&place);
    let mut tensors = model.tensors.clone();
    // The other network always says "ant".
    tensors.insert("fc.bias".into(), Tensor::f32(&[2], vec![100.0, 0.0]));
    let other = residual::Model { tensors, ..model };
    residual::weights::save(&place.path("other.safetensors"), &other, None).unwrap();
    let more = ["--vs", "other.safetensors", "--json", "--predictions", "p.json"];
    let judged = json(&place.done(&[&PHOTOS[..], &more].concat()));
    let rows = json(&std::fs::read_to_string(place.path("p.json")).unwrap());
    let count = |correct: bool, label: &str| {
        rows.as_array().unwrap().iter().filter(|row| row["correct"] == correct && row["label"] == label).count()
    };
    let (first, second) = (count(true, "bee, bumble"), count(false, "ant"));
    let vs = &judged["vs"];
    assert_eq!((&vs["only_first"], &vs["only_second"], &vs["top1"]), (&first.into(), &second.into(), &50.0.into()));
    assert_eq!(vs["difference"].as_f64().unwrap(), 100.0 * (first as f64 - second as f64) / 6.0);
    assert!(vs["interval"][0].as_f64() <= vs["difference"].as_f64() && vs["p_value"].as_f64().unwrap() <= 1.0, "{vs}");
    let text = place.done(&[&PHOTOS[..], &["--vs", "other.safetensors"]].concat());
    assert!(text.contains("\nvs          other.safetensors: Acc@1 50.00\ndifference  "), "{text}");
}

#[test]
fn predictions_of_another_format_are_refused_before_anything_is_computed() {
    let place = photos();
    let expected = "error: p.txt: expected a name that ends in .csv, .json or .parquet";
    place.refused(&[&PHOTOS[..], &["--predictions", "p.txt"]].concat(), 2, expected);
    if cfg!(not(feature = "parquet")) {
        let expected = "error: p.parquet: expected .csv or .json, as this was built without the feature \"parquet\"";
        place.refused(&[&PHOTOS[..], &["--predictions", "p.parquet"]].concat(), 2, expected);
    }
}

/// Of 32 images every fourth has the wrong label, so that a trained network is too certain.
#[test]
fn a_temperature_is_fitted_on_some_images_judged_on_others_and_stored() {
    let place = Place::new();
    place.tiny_data();
    place.done(&[&TINY[..], &["--val-split", "0"]].concat());
    let (mut tensors, metadata) = load_tensors(&place.path("tiny.safetensors")).unwrap();
    let flipped = (0..32).map(|index| if index % 8 < 2 { 1 - index % 2 } else { index % 2 });
    tensors.insert("labels".into(), Tensor::i64(&[32], flipped.collect()));
    residual::weights::save_tensors(&place.path("noisy.safetensors"), &tensors, &metadata).unwrap();

    let eval = ["eval", "--weights", RUN, "--data", "noisy.safetensors", "--threads", "1"];
    let ran = place.run(&[&eval[..], &["--fit-temperature", "-o", "c.safetensors", "--json"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("\nfitting  the temperature, on 16 images of 2 classes in noisy.safetensors (held out"),
        "{}",
        ran.stderr
    );
    let fitted = json(&ran.stdout);
    assert_eq!((&fitted["images"], &fitted["split"]), (&16.into(), &"half of all".into()));
    assert_eq!((&fitted["fitted"]["images"], &fitted["file"]), (&16.into(), &"c.safetensors".into()));
    let temperature = fitted["temperature"].as_f64().unwrap();
    assert_eq!(fitted["fitted"]["temperature"], fitted["temperature"]);
    assert!(temperature != 1.0 && fitted["uncalibrated"]["ece"].is_f64(), "{fitted}");

    // The checkpoint says it again.
    let judge = |weights: &str| {
        let ran = place.run(&["eval", "--weights", weights, "--data", "noisy.safetensors", "--threads", "1", "--json"]);
        (json(&ran.stdout), ran.stderr)
    };
    let ((before, _), (after, stderr)) = (judge(RUN), judge("c.safetensors"));
    assert!(stderr.contains(&format!("\ntemperature  {}, which divides the logits\n", temperature as f32)), "{stderr}");
    assert_eq!((&after["temperature"], &after["top1"]), (&fitted["temperature"], &before["top1"]));
    assert_eq!(after["uncalibrated"]["loss"], before["loss"]);
    assert!(before.get("uncalibrated").is_none());

    let output = "error: output: expected another file than the weights', got c.safetensors";
    place.refused(&["eval", "--weights", "c.safetensors", "--fit-temperature", "-o", "c.safetensors"], 2, output);
}
