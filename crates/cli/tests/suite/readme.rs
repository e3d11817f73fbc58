//! The README's commands run as they stand, on small stand-ins for the files they name; trainings and measurements are cut short.

use crate::support;

use std::path::Path;
use support::{Place, bmp, test_data, words};

/// The README's lines that begin with `residual`.
fn commands() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    readme.lines().filter_map(|line| line.strip_prefix("    residual ")).map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_readme_runs() {
    let place = Place::new();
    place.photos();
    place.write("photo.jpg", bmp(40, 30, 90));
    let short = ["--max-steps", "2", "-b", "4", "--no-report"];
    place.done(&[&["train", "--output", "runs"], &short[..]].concat());
    // What the README downloads is here already, of random values.
    place.resnet18();
    let data = test_data();
    if let Some(data) = &data {
        for (name, file) in [
            ("cifar-10-batches-bin", "cifar-10-batches-bin"),
            ("resnet20-12fca82f.th", "akamaster/resnet20-12fca82f.th"),
        ] {
            link(&data.join(file), &place.path(name));
        }
    }
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let mut arguments = words(&command);
        if arguments.iter().any(|argument| argument.contains("cifar-10")) && data.is_none() {
            eprintln!("skipped, RESIDUAL_TEST_DATA is not set: residual {command}");
            continue;
        }
        let trains = ["train", "distill"].contains(&arguments[0]);
        if trains && !arguments.contains(&"--resume") {
            arguments.extend(short);
            if !arguments.contains(&"--img-size") && arguments.contains(&"photos") {
                arguments.extend(["--img-size", "32"]);
            }
        }
        if arguments[0] == "bench" {
            arguments.extend(["--repeats", "2", "--warmup", "1"]);
        }
        if arguments[0] == "quantize" {
            arguments.push("--no-latency");
        }
        if arguments[0] == "compress" {
            // After two steps hardly any network is within the budget.
            let budget = arguments.iter().position(|argument| *argument == "--budget").expect("a budget");
            arguments[budget + 1] = "drop<=100";
            arguments.extend(["--speedups", "1.2", "--limit", "50", "--calib", "64", "--max-steps", "2", "-b", "8"]);
        }
        if arguments[0] == "search" {
            for (flag, short) in [("--trials", "2"), ("--epochs", "1")] {
                let place = arguments.iter().position(|argument| *argument == flag).expect("a length");
                arguments[place + 1] = short;
            }
            arguments.extend(["--data", "photos", "-b", "4", "--img-size", "32"]);
        }
        if arguments[0] == "tune" {
            let place = arguments.iter().position(|argument| *argument == "--trials").expect("a length");
            arguments[place + 1] = "1";
            arguments.extend([
                "--data",
                "photos",
                "-b",
                "4",
                "--img-size",
                "32",
                "--strategy",
                "tpe",
                "--max-steps",
                "2",
            ]);
        }
        if arguments.starts_with(&["recipes", "verify"]) {
            arguments.push("--trace");
        }
        let stdout = place.done(&arguments);
        let shows = |text: &str| assert!(stdout.contains(text), "residual {command}: no {text:?} in {stdout}");
        match arguments[0] {
            "train" if arguments.contains(&"--find-lr") => shows("\nsuggestion  --lr "),
            "distill" => shows("\nteacher  "),
            "train" => shows("\nNext:\n  residual eval --weights runs/"),
            "recipes" if arguments[1] == "verify" => shows("ok       pixels of 64 images"),
            "recipes" => shows("he2015-cifar\n"),
            "reproduce" if arguments[1] == "list" => shows("degradation\n"),
            "reproduce" => shows("PASS  receptive-field"),
            "runs" => shows("resnet20"),
            "report" => shows("report  "),
            "eval" if arguments.contains(&"--precision") => shows(", in f32: Acc@1 "),
            "eval" => shows("91.7"),
            "predict" if arguments.contains(&"--json") => {
                let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
                assert_eq!(document["predictions"].as_array().unwrap().len(), 6, "residual {command}");
            }
            "predict" => shows("photo"),
            "features" => {
                let file = arguments.last().unwrap();
                shows(&format!("\nfile      {file}\n"));
                assert!(place.path(file).metadata().unwrap().len() > 4 * 6 * 64, "residual {command}");
            }
            "explain" => {
                let file = arguments.last().unwrap();
                assert!(place.path(file).metadata().unwrap().len() > 1000, "residual {command}");
            }
            "inspect" if arguments.contains(&"--svg") => shows("resnet152.svg"),
            "inspect" if arguments.contains(&"--compare") => shows("72.4/90.9"),
            "inspect" => shows("layer1.0.conv1"),
            "bench" => shows("GFLOP/s"),
            "quantize" | "prune" => shows("\ntop-1  "),
            "compress" => shows("\nchoice   Chosen within drop<=100: "),
            "doctor" => shows("\nresult  0 errors, "),
            "search" => shows("\nNext:\n  residual train --model "),
            "tune" => shows("\nNext:\n  residual train --recipe "),
            "export" => shows("opset"),
            "models" => shows("resnet50"),
            "data" if arguments[1] == "convert" => shows("\nfiles   1\n"),
            "data" => shows("shapes"),
            other => panic!("residual {other}: nothing is known of its result"),
        }
    }
}

#[cfg(unix)]
fn link(file: &Path, place: &Path) {
    std::os::unix::fs::symlink(file, place).unwrap();
}

#[cfg(windows)]
fn link(file: &Path, place: &Path) {
    if file.is_dir() {
        std::os::windows::fs::symlink_dir(file, place).unwrap();
    } else {
        std::os::windows::fs::symlink_file(file, place).unwrap();
    }
}

/// The two commands of the front door are the ones that continuous integration and this workspace run.
#[test]
fn the_front_door_has_its_two_commands() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    for command in ["    cargo run --release -- train\n", "    cargo test --workspace\n"] {
        assert!(readme.contains(command), "{command}");
    }
    // `cargo run` finds the binary, and `train` needs no flag.
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("default-members = [\"crates/cli\"]"));
}
