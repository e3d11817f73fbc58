//! `residual predict`: its output, for which images, and images that cannot be read.

mod support;

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
