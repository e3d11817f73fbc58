//! The commands of the tour through the lecture notes run as they stand; trainings and measurements are cut short.

use crate::support;

use std::path::Path;
use support::Place;

#[test]
fn every_command_of_the_tour_runs() {
    let place = Place::new();
    let tour = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lecture-notes.md");
    let tour = std::fs::read_to_string(tour).unwrap();
    let commands: Vec<&str> = tour.lines().filter_map(|line| line.strip_prefix("    residual ")).collect();
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        // Every quick claim is run by another test.
        if arguments[0] == "reproduce" && arguments[1] != "receptive-field" {
            continue;
        }
        match arguments[0] {
            "train" if arguments.contains(&"--find-lr") => arguments.extend(["-b", "8"]),
            "train" => arguments.extend(["--max-steps", "2", "-b", "8", "--no-report"]),
            "bench" => arguments.extend(["--repeats", "2", "--warmup", "1"]),
            _ => {}
        }
        let stdout = place.done(&arguments);
        assert!(!stdout.is_empty(), "residual {command}");
        if let Some(at) = arguments.iter().position(|argument| ["-o", "--svg", "--report"].contains(argument)) {
            let written = place.path(arguments[at + 1]);
            assert!(std::fs::metadata(&written).is_ok_and(|file| file.len() > 0), "residual {command}");
        }
    }
}
