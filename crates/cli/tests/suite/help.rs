//! Help, version and shell completions.

use crate::support;

use support::Place;

const COMMANDS: &[&[&str]] = &[
    &["train"],
    &["eval"],
    &["predict"],
    &["features"],
    &["explain"],
    &["inspect"],
    &["bench"],
    &["export"],
    &["distill"],
    &["quantize"],
    &["prune"],
    &["compress"],
    &["search"],
    &["doctor"],
    &["tune"],
    &["report"],
    &["models", "list"],
    &["data", "list"],
    &["data", "fetch"],
    &["data", "convert"],
    &["data", "export"],
];

#[test]
fn every_command_has_its_help_in_one_layout() {
    let place = Place::new();
    for command in COMMANDS {
        let [long, short] = ["--help", "-h"].map(|flag| place.done(&[*command, &[flag]].concat()));
        assert_eq!(long, short, "{command:?}");
        assert!(long.lines().all(|line| line.chars().count() <= 100), "{long}");
        if !matches!(command, ["data", "list"]) {
            assert!(long.contains("\nExample"), "{command:?} has an example");
        }
    }
}

#[test]
fn flags_are_listed_under_their_heading() {
    let place = Place::new();
    for command in ["eval", "predict", "features", "export"] {
        let help = place.done(&[command, "--help"]);
        let section = |heading: &str| {
            let start = help.find(&format!("\n{heading}:\n")).unwrap_or_else(|| panic!("{command}: no {heading}"));
            let text = &help[start + 1..];
            text[..text.find("\n\n").unwrap_or(text.len())].to_owned()
        };
        let preprocessing = section("Preprocessing");
        assert!(preprocessing.contains("--mean") && preprocessing.contains("--interpolation"), "{preprocessing}");
        for other in ["--threads", "--json", "--low-memory", "--autotune"] {
            assert!(!preprocessing.contains(other), "{command}: {preprocessing}");
        }
        assert!(section("Output").contains("--json"));
        if command != "export" {
            assert!(section("Compute").contains("--threads"));
        }
    }
}

#[test]
fn exit_codes_features_and_instruction_sets_are_told() {
    let place = Place::new();
    let help = place.done(&["--help"]);
    for line in ["0    done", "1    failed", "2    wrong usage", "130  interrupted"] {
        assert!(help.contains(line), "{help}");
    }
    let version = place.done(&["--version"]);
    assert!(version.starts_with(&format!("residual {}\n", env!("CARGO_PKG_VERSION"))), "{version}");
    assert_eq!(version.contains("hub"), cfg!(feature = "hub"), "{version}");
    assert!(version.contains(residual::Isa::detect().name()) && version.contains("portable"), "{version}");
}

/// One name for an output, one for a batch size; the old ones stay.
#[test]
fn flags_are_called_the_same_in_every_command() {
    let place = Place::new();
    for command in ["train", "features", "export"] {
        let help = place.done(&[command, "--help"]);
        assert!(help.contains("-o, --output"), "{command}: {help}");
        assert!(help.contains("--out]"), "{command}: {help}");
    }
    for command in ["eval", "predict", "features", "inspect", "bench"] {
        let help = place.done(&[command, "--help"]);
        assert!(help.contains("-b, --batch-size"), "{command}: {help}");
        assert!(help.contains("--batch]"), "{command}: {help}");
    }
    for command in ["train", "eval", "predict", "features"] {
        assert!(place.done(&[command, "--help"]).contains("-j, --workers"), "{command}");
    }
}

#[test]
fn a_shell_completes_commands_and_flags() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.done(&["completions", shell]);
        for word in ["predict", "skip-bad-images", "grad-checkpointing"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
}
