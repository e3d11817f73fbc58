//! Invalid input: an error of one line, an exit code, nothing half-written.

use crate::support;

use residual::{files, weights};
use support::{Place, TINY, bmp, small_model as model};

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    let place = Place::new();
    let refused = |arguments: &[&str], line: &str| place.refused(arguments, 2, line);
    refused(
        &["train", "--model", "resnt20"],
        "error: model: expected a name from `residual models list`, got \"resnt20\" (did you mean \"resnet20\"?)",
    );
    refused(
        &["inspect", "resnet50-v1"],
        "error: model: expected a name from `residual models list`, got \"resnet50-v1\" (did you mean \"resnet50_v1\"?)",
    );
    refused(
        &["train", "--data", "shape10"],
        "error: data: expected shapes10, cifar10, cifar100, mnist, fashion-mnist, a folder, a list, shards or a file of arrays, \
         got \"shape10\" (did you mean \"shapes10\"?)",
    );
    refused(
        &["train", "--recipe", "cifar-quik"],
        "error: recipe: expected a built-in recipe (residual recipes list) or a TOML file, got \"cifar-quik\" (did you mean \"cifar-quick\"?)",
    );
    refused(&["train", "--recipe", "imagenet-100"], "error: --data is required, as the recipe names no dataset");
    refused(
        &["train", "--epoch", "3"],
        "error: expected a flag that `residual train --help` lists, got \"--epoch\" (did you mean \"--epochs\"?)",
    );
    assert!(!place.path("runs").exists());
}

#[test]
fn a_recipe_that_cannot_be_followed_is_answered_with_its_place() {
    let place = Place::new();
    let refused = |text: &str, line: &str| {
        place.write("my.toml", text);
        place.refused(&["train", "--recipe", "my.toml"], 2, line);
    };
    refused("momentun = 0.9\n", "error: my.toml: unknown key \"momentun\" (did you mean \"momentum\"?)");
    refused("lr = \"fast\"\n", "error: my.toml: lr: expected a number, 0 to 1e6, got \"fast\"");
    refused("batch_size = 0\n", "error: my.toml: batch_size: expected 1 to 65536, got 0");
    place.write("my.toml", b"\xff\xfe lr");
    place.refused(
        &["train", "--recipe", "my.toml"],
        2,
        "error: my.toml: expected text in UTF-8, got byte 0 that is none",
    );
    place.refused(
        &["train", "--recipe", "no.toml"],
        2,
        "error: no.toml: cannot be read: No such file or directory (os error 2)",
    );
    place.refused(&["train", "--lr=-1"], 2, "error: --lr: expected 0 to 1e6, got -1.0");
    assert!(!place.path("runs").exists());
}

#[test]
fn damaged_weights_are_refused() {
    let place = Place::new();
    model(&place);
    let whole = std::fs::read(place.path("w.safetensors")).unwrap();
    place.write("cut.safetensors", &whole[..whole.len() / 2]);
    place.write("empty.pth", b"");
    place.write("text.pth", b"these are no weights");
    place.write("p.bmp", bmp(16, 16, 9));
    for file in ["cut.safetensors", "empty.pth", "text.pth", "none.pth"] {
        let ran = place.run(&["predict", "--weights", file, "--model", "resnet20", "p.bmp"]);
        // A file that is not there is a name that was mistyped.
        assert_eq!(ran.code, Some(if file == "none.pth" { 2 } else { 1 }), "{file}: {}", ran.stderr);
        assert!(
            ran.stderr.starts_with(&format!("error: {file}: ")) && ran.stderr.lines().count() == 1,
            "{}",
            ran.stderr
        );
    }
    place.refused(
        &["predict", "--weights", "w.safetensors", "--model", "resnet32", "p.bmp"],
        2,
        "error: w.safetensors: expected model \"resnet20\", as the checkpoint says, got \"resnet32\"",
    );
    let tensors = residual::load(place.path("w.safetensors")).unwrap().tensors;
    weights::save_tensors(&place.path("bare.safetensors"), &tensors, &Default::default()).unwrap();
    let ran = place.run(&["predict", "--weights", "bare.safetensors", "p.bmp"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stderr, "note: bare.safetensors: read as resnet20, from its tensors\n");
    let ran = place.run(&["predict", "--weights", "bare.safetensors", "--model", "resnet32", "p.bmp"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("tensor \"layer1.3.conv1.weight\": expected [16, 16, 3, 3], got none"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("(the tensors fit resnet20, not resnet32)"), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[test]
fn a_corrupt_image_ends_a_prediction_unless_it_may_be_skipped() {
    let place = Place::new();
    model(&place);
    place.write("a/good.bmp", bmp(16, 16, 9));
    place.write("a/bad.jpg", b"no photograph");
    let predict = ["predict", "--weights", "w.safetensors", "a"];
    let ran = place.run(&predict);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.starts_with("error: a/bad.jpg: ") && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    let ran = place.run(&[&predict[..], &["--skip-bad-images"]].concat());
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1));
    assert!(ran.stderr.starts_with("skipped: a/bad.jpg: "), "{}", ran.stderr);
}

#[test]
fn an_array_of_another_shape_is_refused() {
    let place = Place::new();
    model(&place);
    files::save_npy(&place.path("x.npy"), &[1, 3, 8, 8], &[0.0; 192]).unwrap();
    place.refused(
        &["predict", "--weights", "w.safetensors", "x.npy"],
        1,
        "error: x.npy: expected N×3×16×16 normalised f32, or u8 images of N×C×H×W, got numbers of shape [1, 3, 8, 8]",
    );
    files::save_npy(&place.path("none.npy"), &[0, 3, 16, 16], &[]).unwrap();
    let ran = place.run(&["predict", "--weights", "w.safetensors", "none.npy", "--autotune"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.ends_with("got numbers of shape [0, 3, 16, 16]\n"), "{}", ran.stderr);
    place.write("y.npy", b"no array");
    let ran = place.run(&["predict", "--weights", "w.safetensors", "y.npy"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.starts_with("error: y.npy: npy: "), "{}", ran.stderr);
}

#[test]
fn a_corrupt_training_image_ends_the_run_unless_it_may_be_skipped() {
    let place = Place::new();
    place.photos();
    place.write("photos/ants/bad.png", b"no photograph");
    place.write("photos/ants/notes.txt", b"ignored");
    let train =
        ["train", "--data", "photos", "--model", "resnet20", "--max-steps", "2", "-b", "8", "--val-split", "0.2"];
    let ran = place.run(&train);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.lines().last().unwrap().starts_with("error: photos/ants/bad.png: "), "{}", ran.stderr);
    let ran = place.run(&[&train[..], &["--skip-bad-images"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("skipped: photos/ants/bad.png: ")).count(), 1);
    assert_eq!(ran.stderr.matches("ignored").count(), 1, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("\nskipped   1 image\n") && ran.stdout.contains("photos/ants/bad.png: "),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_dataset_that_is_none_is_refused() {
    let place = Place::new();
    place.photos();
    std::fs::create_dir(place.path("photos/wasps")).unwrap();
    let refused = |arguments: &[&str], start: &str| {
        let ran = place.run(arguments);
        let last = ran.stderr.lines().last().unwrap_or_default();
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(last.starts_with(start), "{}", ran.stderr);
    };
    refused(&["train", "--data", "photos"], "error: photos/wasps: expected ");
    place.write("cut.safetensors", b"\x10\0\0\0\0\0\0\0{}");
    refused(&["train", "--data", "cut.safetensors"], "error: cut.safetensors: expected a safetensors file, got ");
    refused(&["train", "--data", "cifar10"], "error: cifar10: expected --data-dir, required for cifar10, got none");
    std::fs::create_dir(place.path("cifar")).unwrap();
    refused(&["train", "--data", "cifar10", "--data-dir", "cifar"], "error: ");
    for batch in 1..=5 {
        place.write(&format!("cifar/data_batch_{batch}.bin"), vec![3; 3073 * 2 - 7]);
    }
    place.write("cifar/test_batch.bin", vec![3; 3073]);
    refused(&["train", "--data", "cifar10", "--data-dir", "cifar"], "error: cifar/data_batch_1.bin");
    assert!(!place.path("runs").exists());
}

#[test]
fn labels_beyond_the_classes_are_refused() {
    let place = Place::new();
    place.tiny_data();
    let ran = place.run(&[&TINY[..], &["--num-classes", "1"]].concat());
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.ends_with("expected a label below num_classes (1), got 1\n"), "{}", ran.stderr);
    assert!(!place.path("runs").exists());
}

#[test]
fn a_folder_that_is_no_run_is_not_resumed() {
    let place = Place::new();
    place.refused(
        &["train", "--resume", "nowhere"],
        1,
        "error: nowhere: expected a run folder, got one without config.toml",
    );
    place.tiny_data();
    place.done(&[&TINY[..], &["--max-steps", "1"]].concat());
    let run = "runs/1-resnet20-tiny";
    place.write(&format!("{run}/state/last.safetensors"), b"torn");
    let ran = place.run(&["train", "--resume", run]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.starts_with(&format!("error: {run}/state/last.safetensors: ")), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[test]
fn an_output_path_that_cannot_be_written_is_refused() {
    let place = Place::new();
    place.tiny_data();
    place.write("file", b"in the way");
    let ran = place.run(&[&TINY[..], &["--output", "file/runs"]].concat());
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.stderr, "error: file/runs: Not a directory (os error 20)\n");
    place.photos();
    let ran = place.run(&["data", "export", "shapes10", "photos"]);
    assert_eq!((ran.code, ran.stderr.lines().count()), (Some(1), 1), "{}", ran.stderr);
}

/// A file-size limit stands for a full disk: the write fails, the run says which, and the checkpoint before it is whole.
#[cfg(unix)]
#[test]
fn a_full_disk_ends_the_run_and_leaves_the_last_checkpoint_whole() {
    let place = Place::new();
    place.tiny_data();
    place.done(&[&TINY[..11], &["--epochs", "3", "--max-steps", "3", "--json"]].concat());
    let run = "runs/1-resnet20-tiny";
    let state = std::fs::read(place.path(run).join("state/last.safetensors")).unwrap();
    std::fs::remove_file(place.path(run).join("weights/last.safetensors")).unwrap();
    // 512 blocks of 512 or 1024 bytes: less than a resnet20, more than its logs.
    let script = "ulimit -f 512; exec \"$0\" train --resume \"$1\"";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_residual"), run]).current_dir(place.path(""));
    let ran = support::ran(shell.output().unwrap());
    let line = format!("error: {run}/weights/last.safetensors: cannot be written: File too large (os error 27)");
    assert_eq!((ran.code, ran.stderr.lines().last()), (Some(1), Some(line.as_str())), "{}", ran.stderr);
    assert_eq!(std::fs::read(place.path(run).join("state/last.safetensors")).unwrap(), state);
    for folder in ["weights", "state"] {
        let files = std::fs::read_dir(place.path(run).join(folder)).unwrap();
        assert_eq!(files.count(), 1, "no half-written file in {folder}");
    }
    place.done(&["train", "--resume", run]);
    assert!(place.path(run).join("weights/last.safetensors").exists());
}

#[test]
fn an_instruction_set_that_is_none_is_refused() {
    let place = Place::new();
    let ran = support::ran(place.command(&["train"]).env("RESIDUAL_ISA", "sse9").output().unwrap());
    let line = "error: RESIDUAL_ISA: instruction set: expected portable, avx2 or avx512, got \"sse9\"\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(2), line));
}
