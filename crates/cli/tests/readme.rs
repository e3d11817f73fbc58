//! The README's commands run as they stand, on small stand-ins for the files they name; trainings are cut short.

mod support;

use std::path::Path;
use support::{Place, bmp};

/// The README's lines that begin with `residual`.
fn commands() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    readme.lines().filter_map(|line| line.strip_prefix("    residual ")).map(str::to_owned).collect()
}

/// The folder of real data, if it was given.
fn data() -> Option<String> {
    let data = std::env::var("RESIDUAL_TEST_DATA").ok().filter(|data| !data.is_empty());
    let required = std::env::var("RESIDUAL_REQUIRE_DATA").is_ok_and(|required| required == "1");
    assert!(data.is_some() || !required, "RESIDUAL_REQUIRE_DATA is set, but RESIDUAL_TEST_DATA is not");
    data
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) {
    std::os::unix::fs::symlink(from, to).unwrap();
}

/// Links need a privilege there.
#[cfg(not(unix))]
fn link(from: &Path, to: &Path) {
    if from.is_file() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        link(&from.join(&name), &to.join(&name));
    }
}

#[test]
fn every_command_of_the_readme_runs() {
    let place = Place::new();
    place.photos();
    place.write("photo.jpg", bmp(40, 30, 90));
    let short = ["--max-steps", "2", "-b", "4"];
    place.done(&[&["train", "--output", "runs"], &short[..]].concat());
    // What the README downloads is here already, of random values.
    place.resnet18();
    let data = data();
    if let Some(data) = &data {
        for (name, file) in [
            ("cifar-10-batches-bin", "cifar-10-batches-bin"),
            ("resnet20-12fca82f.th", "akamaster/resnet20-12fca82f.th"),
        ] {
            link(&Path::new(data).join(file), &place.path(name));
        }
    }
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        if arguments.iter().any(|argument| argument.contains("cifar-10")) && data.is_none() {
            eprintln!("skipped, RESIDUAL_TEST_DATA is not set: residual {command}");
            continue;
        }
        if arguments[0] == "train" && !arguments.contains(&"--resume") {
            arguments.extend(short);
            if !arguments.contains(&"--img-size") && arguments.contains(&"photos") {
                arguments.extend(["--img-size", "32"]);
            }
        }
        let stdout = place.done(&arguments);
        assert!(!stdout.is_empty(), "residual {command}");
        if arguments[0] == "eval" {
            assert!(stdout.contains("91.7"), "{stdout}");
        }
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
