//! Classes keep their names between a run and a folder.

use crate::support;

use serde_json::Value;
use support::Place;

/// Two epochs of training and 12,000 images on the disk: part of `.ci/full`.
#[test]
#[ignore = "takes minutes"]
fn an_exported_dataset_is_scored_as_the_training_said() {
    let place = Place::new();
    let json = |text: String| -> Value { serde_json::from_str(&text).unwrap() };
    let trained = json(place.done(&["train", "--epochs", "2", "--json"]));
    place.done(&["data", "export", "shapes10", "shapes"]);
    let run = trained["run"].as_str().unwrap();
    let [named, folder] =
        ["shapes10", "shapes"].map(|data| json(place.done(&["eval", "--weights", run, "--data", data, "--json"])));
    // The folder's classes are in alphabetical order, the run's are not.
    assert!(trained["top1"].as_f64().unwrap() > 15.0, "{trained}");
    for evaluation in [&named, &folder] {
        assert_eq!(evaluation["images"], 2000);
        assert_eq!(evaluation["top1"], trained["top1"], "{evaluation}");
    }
    let losses = [&named, &folder].map(|evaluation| evaluation["loss"].as_f64().unwrap());
    assert!((losses[0] - losses[1]).abs() < 1e-6, "{losses:?}");
    std::fs::create_dir(place.path("two")).unwrap();
    for class in ["star", "circle"] {
        std::fs::rename(place.path("shapes/test").join(class), place.path("two").join(class)).unwrap();
    }
    let two = json(place.done(&["eval", "--weights", run, "--data", "two", "--json"]));
    let said = json(place.done(&["predict", "--weights", run, "two", "-k", "1", "--json"]));
    let predictions = said["predictions"].as_array().unwrap();
    let right = predictions
        .iter()
        .filter(|row| row["input"].as_str().unwrap().contains(row["top"][0]["label"].as_str().unwrap()));
    let expected = 100.0 * right.count() as f64 / predictions.len() as f64;
    assert_eq!(two["top1"].as_f64().unwrap(), expected);
    assert_eq!(two["absent_classes"].as_array().unwrap().len(), 8);
}
