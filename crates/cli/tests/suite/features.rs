//! `residual features`: what is written is what the network computes, in each format.

use crate::support;

use residual::files::{NpyValues, load_npy};
use residual::weights::load_tensors;
use serde_json::Value;
use support::{Place, bmp, json};

fn trained() -> Place {
    let place = Place::new();
    place.photos();
    place.done(&[
        "train",
        "--data",
        "photos",
        "--model",
        "resnet20",
        "--img-size",
        "32",
        "--max-steps",
        "1",
        "-b",
        "4",
    ]);
    place
}

const RUN: &str = "runs/1-resnet20-photos";

#[test]
fn pooled_vectors_times_the_head_are_the_logits() {
    let place = trained();
    let summary = json(&place.done(&["features", "--weights", RUN, "photos", "--out", "f.npy", "--json", "-b", "4"]));
    let shape = [(&summary["images"], 6.into()), (&summary["layers"][0]["shape"], serde_json::json!([64]))];
    shape.into_iter().for_each(|(got, expected): (&Value, Value)| assert_eq!(*got, expected));
    assert_eq!(summary["paths"][5], "photos/bees/5.bmp");
    let array = load_npy(&place.path("f.npy")).unwrap();
    let NpyValues::F32(vectors) = &array.values else { panic!("{:?}", array.shape) };
    assert_eq!(array.shape, [6, 64]);
    let model = residual::load(place.path(RUN)).unwrap();
    let (weight, bias) = (model.tensors["fc.weight"].as_f32().unwrap(), model.tensors["fc.bias"].as_f32().unwrap());
    let predicted = json(&place.done(&["predict", "--weights", RUN, "photos", "--json", "-b", "4"]));
    for (vector, prediction) in vectors.chunks(64).zip(predicted["predictions"].as_array().unwrap()) {
        for (class, bias) in bias.iter().enumerate() {
            let dot: f32 = vector.iter().zip(&weight[64 * class..]).map(|(x, w)| x * w).sum();
            let logit = prediction["logits"][class].as_f64().unwrap();
            assert!((f64::from(dot + bias) - logit).abs() < 1e-4, "{dot} + {bias}, {logit}");
        }
    }
}

#[test]
fn a_datasets_images_have_its_labels_and_classes() {
    let place = trained();
    let all = ["features", "--weights", RUN, "-b", "4", "-o"];
    place.done(&[&all[..], &["files.safetensors", "photos"]].concat());
    place.done(&[&all[..], &["data.safetensors", "--data", "photos"]].concat());
    let [files, data] =
        ["files", "data"].map(|name| load_tensors(&place.path(&format!("{name}.safetensors"))).unwrap());
    assert_eq!(files, data);
    let summary = json(&place.done(&[&all[..], &["s.npy", "--data", "shapes10", "--limit", "5", "--json"]].concat()));
    assert_eq!((&summary["images"], summary["classes"].as_array().unwrap().len()), (&5.into(), 10));
}

#[test]
fn maps_of_several_layers_share_a_file_with_paths_and_labels() {
    let place = trained();
    let all = ["features", "--weights", RUN, "photos", "--layers", "pooled,layer1,C2,layer2.0.conv1"];
    let text = place.done(&[&all[..], &["-o", "f.safetensors"]].concat());
    assert!(
        text.contains("layer     layer1 16×32×32 (layer1.2.relu2)\nlayer     C2 64×8×8 (layer3.2.relu2)"),
        "{text}"
    );
    let (tensors, metadata) = load_tensors(&place.path("f.safetensors")).unwrap();
    assert_eq!(tensors["layer1"].shape(), [6, 16, 32, 32]);
    assert_eq!(tensors["layer2.0.conv1"].shape(), [6, 32, 16, 16]);
    assert_eq!(tensors["labels"].as_i64().unwrap(), [0, 0, 0, 1, 1, 1]);
    assert_eq!(metadata["classes"], r#"["ants","bees"]"#);
    // Pooled is the mean of the last map.
    let (pooled, map) = (tensors["pooled"].as_f32().unwrap(), tensors["C2"].as_f32().unwrap());
    for (mean, channel) in pooled.iter().zip(map.chunks(64)) {
        assert!((mean - channel.iter().sum::<f32>() / 64.0).abs() < 1e-4);
    }
    // Another batch size gives the same rows.
    place.done(&[&all[..], &["-o", "g.safetensors", "-b", "1", "--threads", "1"]].concat());
    let (again, _) = load_tensors(&place.path("g.safetensors")).unwrap();
    for (key, tensor) in tensors.iter().filter(|(key, _)| *key != "labels") {
        let pairs = tensor.as_f32().unwrap().iter().zip(again[key.as_str()].as_f32().unwrap());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-3), "{key}");
    }
}

#[test]
fn an_image_that_cannot_be_read_ends_the_command_or_leaves_no_row() {
    let place = trained();
    let whole = ["features", "--weights", RUN, "photos", "--layers", "pooled,layer1", "--out"];
    place.done(&[&whole[..], &["whole.safetensors"]].concat());
    place.write("photos/ants/1.jpg", &b"\xff\xd8\xff\xe0 no more"[..]);
    place.write("photos/ants/moved.gif", b"GIF89a");
    let ran = place.run(&[&whole[..], &["f.safetensors"]].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    let last = ran.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: photos/ants/1.jpg: "), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("photos: skipped 1 file with another extension, such as photos/ants/moved.gif"),
        "{}",
        ran.stderr
    );
    assert!(!place.path("f.safetensors").exists());
    let files = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(files.into_iter().all(|name| !name.to_string_lossy().ends_with(".tmp")));

    for out in ["f.safetensors", "f.npy"] {
        let layers = if out == "f.npy" { "pooled" } else { "pooled,layer1" };
        let arguments = ["features", "--weights", RUN, "photos", "--skip-bad-images", "--json", "-b", "2", "--layers"];
        let summary = json(&place.done(&[&arguments[..], &[layers, "--out", out]].concat()));
        assert_eq!((&summary["images"], summary["skipped"].as_array().unwrap().len()), (&6.into(), 1));
    }
    let (expected, _) = load_tensors(&place.path("whole.safetensors")).unwrap();
    let (tensors, metadata) = load_tensors(&place.path("f.safetensors")).unwrap();
    assert_eq!(tensors["labels"].as_i64().unwrap(), [0, 0, 0, 1, 1, 1]);
    assert!(!metadata["paths"].contains("1.jpg") && metadata["paths"].contains("photos/bees/1.bmp"));
    for key in ["pooled", "layer1"] {
        let pairs = tensors[key].as_f32().unwrap().iter().zip(expected[key].as_f32().unwrap());
        assert_eq!(tensors[key].shape(), expected[key].shape());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-3), "{key}");
    }
    let array = load_npy(&place.path("f.npy")).unwrap().to_f32();
    assert!(array.iter().zip(tensors["pooled"].as_f32().unwrap()).all(|(a, b)| (a - b).abs() < 1e-3));
}

#[test]
fn no_readable_image_is_an_error_and_no_file() {
    let place = trained();
    place.write("bad/1.jpg", b"no photograph");
    let ran = place.run(&["features", "--weights", RUN, "bad", "-o", "f.npy", "--skip-bad-images"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.starts_with("skipped: bad/1.jpg: "), "{}", ran.stderr);
    assert!(
        ran.stderr.ends_with("error: inputs: expected at least one readable image, got none of 1\n"),
        "{}",
        ran.stderr
    );
    assert!(!place.path("f.npy").exists());
}

/// A name is bytes; it is text only where it is shown.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_utf_8_are_read_and_told_apart() {
    use std::os::unix::ffi::OsStrExt;
    let place = trained();
    std::fs::create_dir(place.path("odd")).unwrap();
    for (name, value) in [(b"a\xff.bmp", 10), (b"a\xfe.bmp", 200)] {
        let path = place.path("odd").join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(path, bmp(16, 16, value)).unwrap();
    }
    let expected = [r"odd/a\xfe.bmp", r"odd/a\xff.bmp"];
    let summary = json(&place.done(&["features", "--weights", RUN, "odd", "-o", "f.npy", "--json"]));
    assert_eq!(summary["paths"], serde_json::json!(expected));
    let predicted = json(&place.done(&["predict", "--weights", RUN, "odd", "--json"]));
    assert_eq!([0, 1].map(|row| predicted["predictions"][row]["input"].as_str().unwrap().to_owned()), expected);
}

/// As in training.
#[cfg(unix)]
#[test]
fn hidden_files_are_skipped_and_links_followed() {
    let place = trained();
    std::fs::create_dir(place.path("linked")).unwrap();
    for class in ["ants", "bees"] {
        std::os::unix::fs::symlink(place.path("photos").join(class), place.path("linked").join(class)).unwrap();
    }
    place.write("photos/ants/._0.bmp", b"a resource fork");
    place.write("photos/ants/.ipynb_checkpoints/0-checkpoint.bmp", bmp(16, 16, 1));
    let ran = place.run(&["features", "--weights", RUN, "linked", "-o", "f.npy", "--json"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        (&json(&ran.stdout)["images"], &json(&ran.stdout)["classes"]),
        (&6.into(), &serde_json::json!(["ants", "bees"]))
    );
    let predicted = json(&place.done(&["predict", "--weights", RUN, "linked", "--json"]));
    assert_eq!(predicted["predictions"].as_array().unwrap().len(), 6);
}

#[test]
fn what_cannot_be_written_is_refused() {
    let place = trained();
    place.write("photo.jpg", bmp(20, 30, 7));
    let refused = |layers: &str, out: &str, code, line: &str| {
        place.refused(&["features", "--weights", RUN, "photo.jpg", "--layers", layers, "--out", out], code, line);
    };
    refused(
        "layer9",
        "f.npy",
        2,
        "error: layers: expected pooled, C0, C1, C2, a module of the network (conv1, bn1, layer1, layer2, layer3, fc) or a \
         node, got \"layer9\"",
    );
    let expected = "error: f.npy: expected one layer in a .npy file (.safetensors takes several)";
    refused("pooled,layer1", "f.npy", 2, expected);
    let expected = "error: f.csv: expected a name that ends in .npy, .safetensors or .parquet";
    refused("pooled", "f.csv", 2, expected);
    if cfg!(not(feature = "parquet")) {
        let expected =
            "error: f.parquet: expected .npy or .safetensors, as this was built without the feature \"parquet\"";
        refused("pooled", "f.parquet", 2, expected);
    }
}

/// Rows, lists and labels as the crate's own reader sees them are held by a test of the library.
#[cfg(feature = "parquet")]
#[test]
fn parquet_has_a_row_an_image() {
    let place = trained();
    let summary = place.done(&["features", "--weights", RUN, "photos", "--out", "f.parquet", "--json"]);
    assert_eq!(json(&summary)["images"], 6);
    assert!(std::fs::read(place.path("f.parquet")).unwrap().starts_with(b"PAR1"));
}
