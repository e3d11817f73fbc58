//! `residual eval`: images, class names, and output.

mod support;

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
    assert!(ran.stdout.starts_with("data      photos, "), "{}", ran.stdout);
    assert!(ran.stdout.contains("\nimages    6\n") && ran.stdout.contains("\nAcc@1     "), "{}", ran.stdout);
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
