//! `residual predict`: its output, for which images, and images that cannot be read.

use crate::support;

use residual::weights;
use std::io::{Read, Write};
use std::process::Stdio;
use support::{Place, bmp, json, ran, small_model};

const PREDICT: [&str; 3] = ["predict", "--weights", "w.safetensors"];

#[test]
fn an_image_on_stdin_is_classified_as_its_file_is() {
    let place = Place::new();
    small_model(&place);
    place.write("a.bmp", bmp(20, 24, 90));
    let file = json(&place.done(&[&PREDICT[..], &["a.bmp", "--json"]].concat()));
    let mut command = place.command(&[&PREDICT[..], &["-", "--json"]].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bmp(20, 24, 90)).unwrap();
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let stdin = json(&ran.stdout);
    assert_eq!(stdin["predictions"][0]["input"], "-");
    assert_eq!(stdin["predictions"][0]["logits"], file["predictions"][0]["logits"]);
    place.refused(&[&PREDICT[..], &["-", "-"]].concat(), 2, "error: -: expected stdin once, got it several times");
}

/// Each path is answered before the next one comes; a line may be a folder.
#[test]
fn paths_on_stdin_are_classified_as_they_come() {
    let place = Place::new();
    small_model(&place);
    place.photos();
    place.write("P1 a.bmp", bmp(16, 16, 40));
    let mut command = place.command(&[&PREDICT[..], &["-", "-k", "1", "--json", "--skip-bad-images"]].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"P1 a.bmp\n").unwrap();
    let start = r#"{
  "predictions": [
    {"input":"P1 a.bmp","#;
    let mut first = vec![0; start.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(String::from_utf8(first).unwrap(), start);
    stdin.write_all(b"photos/bees\r\n\nnone.bmp\nphotos/ants/0.bmp").unwrap();
    drop(stdin);
    let rest = ran(child.wait_with_output().unwrap());
    assert_eq!(rest.code, Some(0), "{}", rest.stderr);
    let document = json(&(start.to_owned() + &rest.stdout));
    let names: Vec<_> =
        document["predictions"].as_array().unwrap().iter().map(|row| row["input"].as_str().unwrap()).collect();
    let expected = ["P1 a.bmp", "photos/bees/1.bmp", "photos/bees/3.bmp", "photos/bees/5.bmp", "photos/ants/0.bmp"];
    assert_eq!(names, expected);
    assert!(document["skipped"][0].as_str().unwrap().starts_with("none.bmp: "), "{document}");
    assert!(rest.stderr.starts_with("skipped: none.bmp: "), "{}", rest.stderr);

    let empty = place.command(&[&PREDICT[..], &["-"]].concat()).stdin(Stdio::null()).output().unwrap();
    let empty = ran(empty);
    let expected = "error: stdin: expected an image, or a path a line, got nothing\n";
    assert_eq!((empty.code, empty.stderr.as_str()), (Some(2), expected));
}

#[test]
fn a_datasets_images_are_classified_in_place_of_files() {
    let place = Place::new();
    small_model(&place);
    place.photos();
    let files = json(&place.done(&[&PREDICT[..], &["photos", "--json"]].concat()));
    let ran = place.run(&[&PREDICT[..], &["--data", "photos", "--json"]].concat());
    assert_eq!(json(&ran.stdout)["predictions"], files["predictions"]);
    assert_eq!(ran.stderr, "data  6 images of 2 classes in photos (all images, as the data have no splits)\n");
    let some = place
        .run(&[&PREDICT[..], &["--data", "shapes10", "--split", "train", "--limit", "3", "--csv", "-k", "1"]].concat());
    assert_eq!(some.stdout.lines().count(), 4, "{}", some.stdout);
    assert!(some.stderr.starts_with("data  the first 3 of 10000 images of 10 classes in shapes10"), "{}", some.stderr);
    place.refused(
        &[&PREDICT[..], &["--data", "photos", "--split", "test"]].concat(),
        1,
        "error: photos: expected a test split, got images without splits",
    );
    for wrong in [&["a.bmp", "--data", "photos"][..], &["a.bmp", "--limit", "1"], &[]] {
        assert_eq!(place.run(&[&PREDICT[..], wrong].concat()).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn annotated_pictures_are_written_in_the_order_of_the_results() {
    let place = Place::new();
    small_model(&place);
    place.write("a/x.bmp", bmp(300, 20, 40));
    place.write("b/x.bmp", bmp(16, 16, 90));
    let black = vec![-2.0; 2 * 3 * 16 * 16];
    residual::files::save_npy(&place.path("two.npy"), &[2, 3, 16, 16], &black).unwrap();
    place.done(&[&PREDICT[..], &["a/x.bmp", "b", "two.npy", "--save", "pictures"]].concat());
    let size = |name: &str| {
        let image = residual::read_image(place.path("pictures").join(name)).unwrap();
        [image.width(), image.height()]
    };
    // The bar is 32 pixels high; small images are enlarged to at least 256 pixels.
    assert_eq!(size("00001-x.png"), [300, 20 + 32]);
    for name in ["00002-x.png", "00003-two.png", "00004-two.png"] {
        assert_eq!(size(name), [256, 256 + 32], "{name}");
    }
    assert_eq!(std::fs::read_dir(place.path("pictures")).unwrap().count(), 4);
}

/// The reader gets the first row while the last image is not there yet.
#[test]
fn results_are_printed_as_they_come() {
    let place = Place::new();
    small_model(&place);
    place.write("a.bmp", bmp(16, 16, 40));
    let mut command = place.command(&[&PREDICT[..], &["a.bmp", "-", "-b", "1", "--csv"]].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut row = [0; 43];
    child.stdout.as_mut().unwrap().read_exact(&mut row).unwrap();
    assert_eq!(row.as_slice(), b"input,rank,index,label,probability\na.bmp,1,");
    child.stdin.take().unwrap().write_all(&bmp(16, 16, 90)).unwrap();
    let rest = ran(child.wait_with_output().unwrap());
    assert!(rest.code == Some(0) && rest.stdout.contains("\n\"'-\",1,"), "{}{}", rest.stdout, rest.stderr);
}

#[test]
fn any_number_of_decoding_threads_gives_the_same_results_in_the_order_typed() {
    let place = Place::new();
    small_model(&place);
    place.photos();
    let inputs = ["photos/bees", "photos/ants/4.bmp", "photos/ants", "-b", "2", "--json", "-j"];
    let with = |threads: &str| json(&place.done(&[&PREDICT[..], &inputs, &[threads]].concat()));
    let one = with("1");
    let names: Vec<_> =
        one["predictions"].as_array().unwrap().iter().map(|row| row["input"].as_str().unwrap()).collect();
    let expected = ["bees/1", "bees/3", "bees/5", "ants/4", "ants/0", "ants/2", "ants/4"];
    assert_eq!(names, expected.map(|name| format!("photos/{name}.bmp")));
    for threads in ["0", "2", "5", "40"] {
        assert_eq!(with(threads), one, "{threads} threads");
    }
}

#[test]
fn a_bad_image_costs_no_other_its_result() {
    let place = Place::new();
    small_model(&place);
    for name in ["1.bmp", "2.bmp", "4.bmp"] {
        place.write(&format!("a/{name}"), bmp(16, 16, 9));
    }
    place.write("a/3.jpg", b"no photograph");
    let ran = place.run(&[&PREDICT[..], &["a", "--json"]].concat());
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.starts_with("error: a/3.jpg: "), "{}", ran.stderr);
    assert!(ran.stderr.ends_with(" (--skip-bad-images skips such images)\n"), "{}", ran.stderr);
    let before = json(&ran.stdout);
    assert_eq!(before["predictions"].as_array().unwrap().len(), 2, "those before it");
    let whole = json(&place.done(&[&PREDICT[..], &["a", "--json", "--skip-bad-images"]].concat()));
    assert_eq!(whole["predictions"].as_array().unwrap().len(), 3);
    assert!(whole["skipped"][0].as_str().unwrap().starts_with("a/3.jpg: "));

    let ran = place.run(&[&PREDICT[..], &["a/3.jpg", "--skip-bad-images"]].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(
        ran.stderr.ends_with("error: inputs: expected at least one readable image, got none of 1\n"),
        "{}",
        ran.stderr
    );
}

/// What the system refuses to open (here a link to itself; it might be a lack of descriptors) is no fault of an image.
#[cfg(unix)]
#[test]
fn only_images_are_skipped_and_not_failures_of_the_system() {
    let place = Place::new();
    small_model(&place);
    place.photos();
    std::os::unix::fs::symlink("loop.bmp", place.path("photos/bees/loop.bmp")).unwrap();
    for command in [&["predict"][..], &["features", "-o", "f.npy"]] {
        let ran = place.run(&[command, &["--weights", "w.safetensors", "photos", "--skip-bad-images"]].concat());
        assert_eq!(ran.code, Some(1), "{command:?}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.starts_with("error: photos/bees/loop.bmp: "), "{command:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("skip"), "{command:?}: {}", ran.stderr);
        assert!(!place.path("f.npy").exists());
    }
}

#[test]
fn names_of_files_and_classes_neither_act_on_the_terminal_nor_break_a_line() {
    let place = Place::new();
    let labels = vec!["ant\u{1b}[2J\nbee,x".to_owned(), "=cmd|x".to_owned()];
    let model = small_model(&place).with_labels(labels.clone()).unwrap();
    weights::save(&place.path("w.safetensors"), &model, None).unwrap();
    let name = "p\u{1b}]0;x\u{7}.bmp";
    place.write(name, bmp(16, 16, 9));
    place.write("bad\u{1b}[31m.bmp", b"no image");
    let acts = |text: &str| text.contains(|c: char| c.is_control() && c != '\n');
    for format in [&[][..], &["--csv"], &["--json"]] {
        let arguments = [&PREDICT[..], &[name, "bad\u{1b}[31m.bmp", "--skip-bad-images"], format].concat();
        let ran = place.run(&arguments);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(!acts(&ran.stdout) && !acts(&ran.stderr), "{format:?}: {:?} {:?}", ran.stdout, ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        match format {
            ["--json"] => {
                let document = json(&ran.stdout);
                assert_eq!(document["predictions"][0]["input"], name, "JSON is exact");
                let shown: Vec<_> = document["predictions"][0]["top"].as_array().unwrap().iter().collect();
                let label = |index: u64| shown.iter().find(|class| class["index"] == index).unwrap()["label"].clone();
                assert_eq!([label(0), label(1)], [labels[0].as_str(), labels[1].as_str()]);
            }
            ["--csv"] => {
                assert_eq!(ran.stdout.lines().count(), 3);
                assert!(ran.stdout.contains(",\"'=cmd|x\","), "no formula: {}", ran.stdout);
            }
            _ => assert_eq!(ran.stdout.lines().count(), 1),
        }
    }
}

/// A network with weights that are not numbers names no class.
#[test]
fn a_result_that_is_no_number_is_an_error_with_the_images_name() {
    let place = Place::new();
    let mut model = small_model(&place);
    let bias = model.tensors["fc.bias"].shape().to_vec();
    model.tensors.insert("fc.bias".into(), residual::tensor::Tensor::f32(&bias, vec![3e38; 2]));
    let weight = model.tensors["fc.weight"].shape().to_vec();
    let len = weight.iter().product();
    model.tensors.insert("fc.weight".into(), residual::tensor::Tensor::f32(&weight, vec![3e38; len]));
    weights::save(&place.path("w.safetensors"), &model, None).unwrap();
    place.write("a.bmp", bmp(16, 16, 90));
    let ran = place.run(&[&PREDICT[..], &["a.bmp"]].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("error: a.bmp: expected finite logits, got "), "{}", ran.stderr);
}
