//! The settings of a training run on the command line: flags, spellings of other programs, `--show-config`.

use crate::support;

use residual::train::{Kind, PRESETS, SETTINGS};
use serde_json::Value;
use support::Place;

/// The settings that `residual train` would follow, and who gave each.
fn config(place: &Place, arguments: &[&str]) -> (Value, Value) {
    let shown = place.done(&[&["train", "--show-config", "--json"], arguments].concat());
    let shown: Value = serde_json::from_str(&shown).unwrap();
    (shown["settings"].clone(), shown["origins"].clone())
}

#[test]
fn help_lists_every_setting_under_its_heading_and_every_preset() {
    let help = Place::new().done(&["train", "--help"]);
    for setting in SETTINGS {
        assert!(help.contains(&format!("--{}", setting.flag())), "{}", setting.name);
        assert!(help.contains(&format!("\n{}:\n", setting.heading)), "{}", setting.heading);
    }
    for preset in PRESETS {
        assert!(help.contains(preset.name), "{}", preset.name);
    }
}

#[test]
fn the_settings_are_shown_with_who_gave_them_and_nothing_is_trained() {
    let place = Place::new();
    place.write("my.toml", "batch_size = 64\n");
    let shown = place.done(&["train", "--show-config", "--recipe", "my.toml", "--lr", "0.05"]);
    let line = |key: &str| {
        let line = shown.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("epochs"), "epochs = 4 # shapes-quick");
    assert_eq!(line("batch_size"), "batch_size = 64 # my.toml");
    assert_eq!(line("lr"), "lr = 0.05 # command line");
    assert_eq!(line("seed"), "seed = 0 # default");
    assert!(!shown.contains("hflip"), "what has no effect is not shown: {shown}");
    // What is shown is a recipe.
    place.write("shown.toml", &shown);
    let (settings, _) = config(&place, &["--recipe", "shown.toml"]);
    assert_eq!((&settings["lr"], &settings["batch_size"]), (&0.05.into(), &64.into()));
    assert!(!place.path("runs").exists());
}

#[test]
fn lists_take_commas_and_spaces_and_negative_numbers_are_numbers() {
    let place = Place::new();
    let (commas, _) = config(&place, &["--mean", "0.5,0.25,0.5", "--opt", "adamw", "--opt-betas", "0.8,0.9"]);
    let (spaces, _) =
        config(&place, &["--mean", "0.5", "0.25", "0.5", "--opt=adamw", "--betas", "0.8", "0.9", "shapes10"]);
    assert_eq!(commas["mean"], serde_json::json!([0.5, 0.25, 0.5]));
    assert_eq!(commas, spaces);
    let (timm, _) = config(&place, &["--sched", "multistep", "--decay-milestones", "2", "3", "--decay-rate", "0.2"]);
    assert_eq!((&timm["milestone_epochs"], &timm["gamma"]), (&serde_json::json!([2, 3]), &0.2.into()));
    place.refused(&["train", "--lr", "-1"], 2, "error: --lr: expected 0 to 1e6, got -1.0");
    let means = "error: --mean: expected numbers, each 0 to 1, got [-0.5, 0.5]";
    place.refused(&["train", "--mean", "-0.5", "0.5"], 2, means);
    place.refused(&["train", "-b", "0"], 2, "error: --batch-size: expected 1 to 65536, got 0");
}

#[test]
fn flags_of_other_programs_mean_what_they_mean_there_or_are_answered() {
    let place = Place::new();
    for (theirs, key, value) in [
        (&["--optimizer", "adamw"][..], "opt", Value::from("adamw")),
        (&["--no-aug"], "augment", "none".into()),
        (&["--freeze-backbone"], "freeze", "backbone".into()),
        (&["--input-size", "3", "64", "64"], "img_size", 64.into()),
        (&["--imgsz", "64"], "img_size", 64.into()),
        (&["--lr0", "0.5"], "lr", 0.5.into()),
        (&["--label-smoothing", "0.1"], "smoothing", 0.1.into()),
        (&["--log-interval", "5"], "log_every", 5.into()),
        (&["--initial-checkpoint", "w.pth"], "weights", "w.pth".into()),
    ] {
        assert_eq!(config(&place, theirs).0[key], value, "{theirs:?}");
    }
    for (theirs, answer) in [
        ("--cuda", "error: --cuda: everything runs on the CPU; --threads sets the number of threads"),
        ("--ra-magnitude=9", "error: --ra-magnitude: write it behind the name: --aa ra-m9"),
        (
            "--epoch",
            "error: expected a flag that `residual train --help` lists, got \"--epoch\" (did you mean \"--epochs\"?)",
        ),
        ("--plots", "error: --plots: metrics.csv and events.jsonl in the run folder hold the course of a run"),
        ("--whatever", "error: expected a flag that `residual train --help` lists, got \"--whatever\""),
    ] {
        place.refused(&["train", theirs], 2, answer);
    }
    place.refused(&["eval", "--checkpoint", "w"], 2, "error: --checkpoint: write --weights");
}

/// An answer to a flag that exists would never be given.
#[test]
fn no_setting_is_answered_as_if_it_were_missing() {
    let place = Place::new();
    for setting in SETTINGS.iter().filter(|setting| setting.kind == Kind::Switch) {
        let ran = place.run(&["train", "--show-config", &format!("--{}", setting.flag())]);
        assert!(!ran.stderr.contains("expected a flag"), "{}", ran.stderr);
    }
}

#[test]
fn a_folder_is_read_however_it_is_named() {
    let place = Place::new();
    let photos = place.photos();
    for arguments in [&["--data", photos][..], &["--data-dir", photos], &[photos]] {
        let (settings, origins) = config(&place, arguments);
        assert_eq!((&settings["data"], &settings["data_dir"]), (&photos.into(), &Value::Null), "{arguments:?}");
        assert_eq!(origins["epochs"], "folder-quick");
    }
    place.refused(
        &["train", "--data", "shapes10", "--data-dir", photos],
        2,
        "error: --data-dir has no effect with --data shapes10",
    );
    place.write("cifar/test_batch.bin", "");
    place.refused(
        &["train", "--data-dir", "cifar"],
        2,
        "error: --data is required beside the files of cifar10: write --data cifar10",
    );
}

#[test]
fn a_setting_that_cannot_matter_is_refused_before_anything_is_read() {
    let place = Place::new();
    for (typed, answer) in [
        (&["--augment", "none", "--hflip", "1"][..], "--hflip requires --augment crop or resized-crop (is none)"),
        (&["--gamma", "0.5"], "--gamma requires --sched multistep, step or plateau (is cosine)"),
        (
            &["--opt", "adamw", "--momentum", "0.9"],
            "--momentum requires --opt sgd, momentum, rmsprop, rmsproptf or muon (is adamw)",
        ),
    ] {
        place.refused(&[&["train", "--data", "nowhere"], typed].concat(), 2, &format!("error: {answer}"));
    }
    assert!(!place.path("runs").exists());
}
