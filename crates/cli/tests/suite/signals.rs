//! Signals end every command: at once where there is nothing to save, after a checkpoint in a training.
#![cfg(unix)]

use crate::support;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Place, TINY, ran};

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn start(place: &Place, arguments: &[&str]) -> Child {
    let mut command = place.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a command that must end; one that does not is killed, and fails the test.
fn ended(mut child: Child) -> support::Ran {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("the signal did not end the command");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    ran(child.wait_with_output().unwrap())
}

#[test]
fn a_measurement_ends_at_the_first_signal() {
    let place = Place::new();
    for signal in ["-INT", "-TERM"] {
        // It measures until its stdin ends, which it does not.
        let mut child = start(&place, &["bench", "resnet20", "--threads", "1", "--serve"]);
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.contains("ready"), "{ready}");
        send(&child, signal);
        assert_eq!(ended(child).code, Some(130), "{signal}");
    }
}

#[test]
fn a_download_ends_at_the_first_signal() {
    let place = Place::new();
    // A server that takes the request and says nothing.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/x.safetensors", server.local_addr().unwrap());
    let child = start(&place, &["predict", "--weights", &address, "photo.jpg"]);
    let (mut connection, _) = server.accept().unwrap();
    connection.read_exact(&mut [0; 16]).unwrap();
    send(&child, "-INT");
    assert_eq!(ended(child).code, Some(130));
}

#[test]
fn warnings_of_batch_systems_and_closed_terminals_end_a_training_after_a_checkpoint() {
    let place = Place::new();
    place.tiny_data();
    for (number, signal) in ["-TERM", "-HUP", "-USR1"].into_iter().enumerate() {
        let long = [&TINY[..11], &["--epochs", "2000"], &TINY[13..]].concat();
        let child = start(&place, &long);
        let run = place.path(&format!("runs/{}-resnet20-tiny", number + 1));
        let waited = Instant::now();
        while std::fs::metadata(run.join("events.jsonl")).map_or(0, |metadata| metadata.len()) == 0 {
            assert!(waited.elapsed() < Duration::from_secs(120), "the run never logged a step");
            std::thread::sleep(Duration::from_millis(5));
        }
        send(&child, signal);
        // Closed terminals send several.
        if signal == "-HUP" {
            send(&child, signal);
        }
        let ran = ended(child);
        assert_eq!(ran.code, Some(130), "{signal}: {}", ran.stderr);
        assert!(ran.stderr.contains("after a checkpoint; resume with: "), "{signal}: {}", ran.stderr);
        assert!(run.join("state/last.safetensors").exists(), "{signal}");
    }
}

/// What nohup does: the signal is ignored when the program starts.
#[cfg(target_os = "linux")]
#[test]
fn a_training_under_nohup_outlives_its_terminal() {
    let place = Place::new();
    place.tiny_data();
    let arguments = [&TINY[..11], &["--epochs", "3"], &TINY[13..]].concat();
    let script = "trap '' HUP; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_residual")]).args(arguments).current_dir(place.path(""));
    let child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let events = place.path("runs/1-resnet20-tiny/events.jsonl");
    let waited = Instant::now();
    while !events.exists() {
        assert!(waited.elapsed() < Duration::from_secs(120), "the run never began");
        std::thread::sleep(Duration::from_millis(5));
    }
    send(&child, "-HUP");
    let ran = ended(child);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn an_interrupted_prediction_keeps_what_it_printed() {
    let place = Place::new();
    support::small_model(&place);
    place.write("a.bmp", support::bmp(16, 16, 40));
    // The second image comes over stdin, and does not come.
    let arguments = ["predict", "--weights", "w.safetensors", "a.bmp", "-", "-b", "1", "-j", "1", "--json"];
    let mut child = start(&place, &arguments);
    let mut begin = [0; 20];
    child.stdout.as_mut().unwrap().read_exact(&mut begin).unwrap();
    send(&child, "-INT");
    // It waits for the image in a read that a signal does not end; the image ends it, once the signal was heard.
    std::thread::sleep(Duration::from_secs(1));
    drop(child.stdin.take());
    let ran = ended(child);
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    let text = format!("{}{}", String::from_utf8_lossy(&begin), ran.stdout);
    let document: serde_json::Value = serde_json::from_str(&text).expect("a whole document");
    assert_eq!(document["predictions"].as_array().unwrap().len(), 1, "{text}");
    assert!(ran.stderr.ends_with("interrupted after 1 image\n"), "{}", ran.stderr);
}
