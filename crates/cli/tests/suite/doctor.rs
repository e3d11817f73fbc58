//! `residual doctor`: what it prints, its exit codes, the page, and the way to a quarantine and back.

use crate::support;

use residual::preprocess::Image;
use residual::tensor::Stream;
use std::collections::BTreeMap;
use std::path::Path;
use support::{Place, json, small_model};

/// A PNG file of coarse noise, which no other seed's resembles.
fn photograph(seed: u64) -> Vec<u8> {
    let mut random = Stream::new(seed, &[]);
    let blocks: Vec<u8> = (0..6 * 6 * 3).map(|_| random.below(200) as u8).collect();
    let pixel = |at: usize| {
        let (y, x, colour) = (at / 3 / 48 / 8, at / 3 % 48 / 8, at % 3);
        blocks[(y * 6 + x) * 3 + colour] + (at * 7 % 50) as u8
    };
    Image::new(48, 48, 3, (0..48 * 48 * 3).map(pixel).collect()).unwrap().to_png().unwrap()
}

/// `photos/`: two splits of two classes without faults.
fn photos(place: &Place) {
    for index in 0..40 {
        let split = if index < 32 { "train" } else { "val" };
        let class = ["ants", "bees"][index % 2];
        place.write(&format!("photos/{split}/{class}/{index}.png"), photograph(index as u64));
    }
}

#[test]
fn a_clean_folder_passes_and_one_with_a_leak_fails() {
    let place = Place::new();
    photos(&place);
    let clean = place.done(&["doctor", "photos"]);
    assert!(clean.contains("\nresult  0 errors, 0 warnings, 0 notes\n"), "{clean}");

    place.write("photos/val/ants/copy.png", photograph(0));
    place.write("photos/train/bees/broken\u{1b}[2J.png", b"x");
    let ran = place.run(&["doctor", "photos"]);
    assert_eq!(ran.code, Some(1));
    let last = ran.stderr.lines().last().unwrap_or_default();
    assert_eq!(last, "error: photos: training on it would be wrong: 2 errors");
    assert!(
        ran.stdout.contains("\nerror    unreadable: 1 image cannot be read: damaged or no image\n"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("\nerror    leakage: 1 file in several splits\n"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("photos/train/ants/0.png = photos/val/ants/copy.png  (train, val)\n"),
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains('\u{1b}'), "a name acts");
    // Of checks that were left out nothing is said.
    place.done(&["doctor", "photos", "--skip", "unreadable,leakage"]);
    place.done(&["doctor", "photos", "--checks", "near-leakage,blurry"]);
}

#[test]
fn json_has_the_documented_keys() {
    let place = Place::new();
    photos(&place);
    place.write("photos/val/ants/copy.png", photograph(0));
    let ran = place.run(&["doctor", "photos", "--json", "-o", "page.html"]);
    let document = json(&ran.stdout);
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doctor.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    for key in document.as_object().unwrap().keys() {
        assert!(guide.contains(&format!("`{key}`")), "{key} is not in the guide");
    }
    assert_eq!((&document["images"], &document["errors"]), (&41.into(), &1.into()));
    assert_eq!(document["classes"], serde_json::json!(["ants", "bees"]));
    let finding = &document["findings"][0];
    assert_eq!(keys(finding), "check groups images message severity");
    assert_eq!((&finding["check"], &finding["severity"]), (&"leakage".into(), &"error".into()));
    let image = &finding["groups"][0]["images"][1];
    assert_eq!(*image, serde_json::json!({"image": "photos/val/ants/copy.png", "split": "val", "class": "ants"}));

    let page = std::fs::read_to_string(place.path("page.html")).unwrap();
    assert_eq!(page.matches("<img").count(), 2, "the two files that are equal");
    assert!(!page.replace("http://www.w3.org", "").contains("http"), "the page loads something");
    assert!(page.contains("Training on these data would be wrong: 1 error was found."));
}

#[test]
fn every_kind_of_data_is_examined_and_says_what_does_not_apply() {
    let place = Place::new();
    photos(&place);
    place.done(&["data", "convert", "photos", "shards", "--to", "tar"]);
    let document = json(&place.done(&["doctor", "shards", "--json"]));
    assert_eq!((&document["images"], &document["findings"]), (&40.into(), &serde_json::json!([])));
    let rows: String = (0..32)
        .map(|index| format!("photos/train/{}/{index}.png,{}\n", ["ants", "bees"][index % 2], index % 2))
        .collect();
    place.write("list.csv", rows);
    assert_eq!(json(&place.done(&["doctor", "list.csv", "--json"]))["images"], 32);
    let tiny = place.tiny_data();
    let document = json(&place.done(&["doctor", tiny, "--json"]));
    let skipped: BTreeMap<&str, &str> = document["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|skipped| (skipped["check"].as_str().unwrap(), skipped["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(skipped["extension"], "the images are no files of their own");
    assert_eq!(skipped["dark"], "the images have no 8-bit pixels of 1 to 4 channels");
    assert_eq!(skipped["groups"], "there is one split only");
}

#[test]
fn the_features_of_a_network_judge_labels_and_near_duplicates() {
    let place = Place::new();
    photos(&place);
    small_model(&place);
    for index in 40..80 {
        place.write(&format!("photos/train/{}/{index}.png", ["ants", "bees"][index % 2]), photograph(index as u64));
    }
    let document = json(&place.done(&["doctor", "photos", "--weights", "w.safetensors", "--json"]));
    assert_eq!(document["labels"]["features"], "the last features of resnet20");
    assert_eq!(document["labels"]["images"], 72);
    let line = "error: --weights: expected one of the checks labels, near-duplicates and near-leakage, which use them, got none";
    place.refused(&["doctor", "photos", "--weights", "w.safetensors", "--checks", "dark"], 2, line);
}

#[test]
fn wrong_usage_is_refused_before_anything_is_read() {
    let place = Place::new();
    photos(&place);
    for (arguments, line) in [
        (
            &["photos", "--checks", "leakege"][..],
            "error: invalid value 'leakege' for '--checks <CHECK,…>': expected a check, got \"leakege\" (did you mean \"leakage\"?)",
        ),
        (&["photos", "--threshold", "dark=2"], "error: --threshold: dark: expected a number of 0 to 1, got 2"),
        (
            &["photos", "--threshold", "dark=.5", "--skip", "dark"],
            "error: --threshold: expected a check that is made, got dark",
        ),
        (
            &["photos", "--fix", "quarantine", "--fix-kinds", "names"],
            "error: --fix-kinds: expected checks that name images, got names",
        ),
        (
            &["photos", "--fix", "quarantine", "--fix-kinds", "dark", "--skip", "dark"],
            "error: --fix-kinds: expected checks that are made, got dark",
        ),
        (
            &["photos", "--fix", "quarantine", "--checks", "dark,labels"],
            "error: --fix: expected one of the checks unreadable, contradictory, leakage, duplicates, or --fix-kinds, got none of them",
        ),
        (
            &["photos", "--threshold", "dark=.5", "--threshold", "dark=.4"],
            "error: --threshold: expected one limit of dark, got two",
        ),
        (&["shapes10", "--fix", "quarantine"], "error: --fix: expected a folder of class folders, got shapes10"),
    ] {
        let ran = place.run(&[&["doctor"], arguments].concat());
        let last = ran.stderr.lines().find(|line| line.starts_with("error")).unwrap_or_default();
        assert_eq!((ran.code, last), (Some(2), line), "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(place.run(&["doctor", "photos", "--undo", "x"]).code, Some(2));
    assert_eq!(place.run(&["doctor"]).code, Some(2));
    assert_eq!(place.run(&["doctor", "--undo", "x"]).code, Some(1));
}

#[test]
fn a_quarantine_settles_errors_and_is_undone() {
    let place = Place::new();
    photos(&place);
    place.write("photos/val/ants/copy.png", photograph(0));
    place.write("photos/train/bees/broken.png", b"x");
    let files = || {
        let mut files: Vec<_> = residual::files::images_below(&place.path("photos")).unwrap().images;
        files.sort();
        files
    };
    let before = files();
    let stdout = place.done(&["doctor", "photos", "--fix", "quarantine"]);
    assert!(stdout.contains("\nmoved   2 files to "), "{stdout}");
    let undo = stdout.lines().last().unwrap().strip_prefix("undo    residual ").unwrap();
    assert_eq!(files().len(), before.len() - 2);
    place.done(&["doctor", "photos"]);
    let undo: Vec<&str> = undo.split_whitespace().collect();
    assert_eq!(place.done(&undo), "moved back  2 files\n");
    assert_eq!(files(), before);
    assert_eq!(place.run(&["doctor", "photos"]).code, Some(1));
    // What is not moved is still an error.
    assert_eq!(place.run(&["doctor", "photos", "--fix", "quarantine", "--fix-kinds", "leakage"]).code, Some(1));
}

#[test]
fn a_folder_that_cannot_take_files_is_refused_before_the_survey() {
    let place = Place::new();
    photos(&place);
    let fix = ["doctor", "photos", "-o", "page.html", "--fix", "quarantine"];
    let line = "error: photos/new/q: expected a folder outside the dataset's, got one inside";
    place.refused(&[&fix[..], &["--quarantine", "photos/new/q"]].concat(), 1, line);
    assert!(!place.path("photos/new").exists(), "what was made is removed");
    place.write("taken/file", b"x");
    let line = "error: taken: expected a new folder, got one that exists";
    place.refused(&[&fix[..], &["--quarantine", "taken"]].concat(), 1, line);
    assert!(!place.path("page.html").exists(), "the images were examined");
    // Without a file at fault the folder is not left.
    let stdout = place.done(&[&fix[..], &["--quarantine", "new/q"]].concat());
    assert!(stdout.contains("\nmoved   no files: "), "{stdout}");
    assert!(place.path("page.html").is_file() && !place.path("new").exists());
}

#[test]
fn a_quarantine_that_empties_a_class_says_so_and_fails() {
    let place = Place::new();
    photos(&place);
    for index in (1..32).step_by(2) {
        place.write(&format!("photos/train/bees/{index}.png"), b"x");
    }
    let ran = place.run(&["doctor", "photos", "--fix", "quarantine"]);
    let message = "1 class folder left without images: photos/train/bees";
    let last = ran.stderr.lines().last().unwrap_or_default();
    assert_eq!((ran.code, last), (Some(1), &*format!("error: photos: training on it would be wrong: {message}")));
    assert!(ran.stdout.contains(&format!("\nemptied  {message}\nundo     residual doctor --undo ")), "{}", ran.stdout);
    place.done(&["doctor", "--undo", "photos-quarantine"]);
    let document = json(&place.run(&["doctor", "photos", "--fix", "quarantine", "--json"]).stdout);
    assert_eq!((&document["quarantine"]["files"], &document["quarantine"]["emptied"]), (&16.into(), &message.into()));
}

/// Folders that cannot be read are readable for root, who is another user here.
#[cfg(unix)]
#[test]
fn a_class_folder_that_cannot_be_read_is_a_finding() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    let place = Place::new();
    photos(&place);
    std::fs::rename(place.path("photos/val"), place.path("val")).unwrap();
    let mode = |name: &str, mode| {
        std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (data, images) in [("photos/train", 16), ("photos", 24)] {
        let folder = "photos/train/bees";
        let mut command = place.command(&["doctor", data, "--json"]);
        mode(folder, 0o000);
        if std::fs::read_dir(place.path(folder)).is_ok() {
            mode("", 0o755);
            std::fs::copy(env!("CARGO_BIN_EXE_residual"), place.path("program")).unwrap();
            let arguments = ["doctor", data, "--json"];
            command = std::process::Command::new(place.path("program"));
            command.args(arguments).current_dir(place.path("")).uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        mode(folder, 0o755);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let document = json(&String::from_utf8_lossy(&output.stdout));
        let finding = &document["findings"][0];
        let message = format!(
            "1 class folder of which nothing is known: {folder}: cannot be read: Permission denied (os error 13)"
        );
        assert_eq!((&finding["check"], &finding["message"]), (&"unreadable".into(), &message.into()));
        assert_eq!((&document["errors"], &document["images"]), (&1.into(), &images.into()));
        if data == "photos/train" {
            std::fs::rename(place.path("val"), place.path("photos/val")).unwrap();
        }
    }
}

#[test]
fn every_command_of_the_guide_runs() {
    let place = Place::new();
    photos(&place);
    place.write("photos/train/ants/again.png", photograph(0));
    let short = ["--max-steps", "2", "-b", "4", "--no-report", "--output", "runs"];
    place.done(&[&["train"], &short[..]].concat());
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doctor.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let commands: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("    residual ")).collect();
    assert!(commands.len() > 6, "{commands:?}");
    for command in commands {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let stdout = place.done(&arguments);
        assert!(!stdout.is_empty(), "residual {command}");
        if let Some(at) = arguments.iter().position(|argument| *argument == "-o") {
            assert!(place.path(arguments[at + 1]).is_file(), "residual {command}");
        }
    }
}
