//! Downloads from servers with faults of every kind are complete and correct, or fail.

mod support;

use residual_hub::{Hub, HubCause, HubError, HubEvent, HubName};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{Reply, Request, Server};
use tempfile::TempDir;

const NAME: &str = "hf:owner/model/weights.pth";
const ETAG: &str = "\"version-1\"";

fn content() -> Vec<u8> {
    (0..300_000u32).map(|index| (index.wrapping_mul(index) >> 7) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hub that downloads everything from `server`, with short timeouts.
fn hub(home: &TempDir, server: &Server) -> Hub {
    let hub = Hub::new(home.path()).with_patience(Duration::from_millis(700), Duration::from_millis(1));
    hub.with_hugging_face(&server.address).unwrap()
}

fn name(text: &str) -> HubName {
    HubName::parse(text).expect("a name of the hub").unwrap()
}

fn fetch(hub: &Hub, text: &str) -> Result<PathBuf, HubError> {
    hub.fetch(&name(text), &mut |_| ())
}

/// The files of the cache, except locks.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_none_or(|extension| extension != "lock") {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

fn ranges(server: &Server) -> Vec<Option<usize>> {
    server.requests().iter().map(Request::first_byte).collect()
}

#[test]
fn a_file_is_downloaded_once_checked_and_found_afterwards() {
    let files_server = Server::new(|request, _| Reply::file(request, &content()));
    let elsewhere = format!("{}/cdn/1?x=y", files_server.address);
    let server = Server::new(move |_, _| {
        Reply::redirection(&elsewhere).with("X-Linked-Etag", &format!("\"{}\"", sha256(&content())))
    });
    let home = TempDir::new().unwrap();
    let hub = hub(&home, &server).with_token("secret");
    let mut events = Vec::new();
    let path = hub.fetch(&name(NAME), &mut |event| events.push(format!("{event:?}"))).unwrap();
    assert_eq!(path, home.path().join("hub/hf/owner/model/weights.pth"));
    assert!(fs::read(&path).unwrap() == content());
    assert_eq!(files(home.path()), ["weights.pth"]);
    assert!(events[0].contains("Started") && events[0].contains("received: 0, total: Some(300000)"), "{events:?}");
    assert_eq!(events.last().unwrap(), "Finished { received: 300000, checked: true }");

    // The token is sent to its host, and not to the target of the redirection.
    assert_eq!(server.requests()[0].path, "/owner/model/resolve/main/weights.pth");
    assert_eq!(server.requests()[0].headers["authorization"], "Bearer secret");
    assert_eq!(files_server.requests()[0].path, "/cdn/1?x=y");
    assert!(!files_server.requests()[0].headers.contains_key("authorization"));

    assert_eq!(fetch(&hub.offline("--offline"), NAME).unwrap(), path);
    assert_eq!((server.requests().len(), files_server.requests().len()), (1, 1));
}

#[test]
fn a_dropped_connection_is_taken_up_where_it_broke() {
    let server = Server::new(|request, number| {
        let reply = Reply::file(request, &content()).with("ETag", ETAG);
        if number < 3 { reply.cut(70_000) } else { reply }
    });
    let home = TempDir::new().unwrap();
    let mut retries = 0;
    let mut count = |event: HubEvent<'_>| retries += usize::from(matches!(event, HubEvent::Retrying { .. }));
    let path = hub(&home, &server).fetch(&name(NAME), &mut count).unwrap();
    assert!(fs::read(path).unwrap() == content());
    assert_eq!(ranges(&server), [None, Some(70_000), Some(140_000), Some(210_000)]);
    assert_eq!(server.requests()[1].headers["if-range"], ETAG);
    assert_eq!(retries, 3);
}

#[test]
fn the_part_received_before_a_failure_is_kept_for_the_next_call() {
    let server = Server::new(|request, number| match number {
        0 => Reply::file(request, &content()).with("ETag", ETAG).cut(100_000),
        1..5 => Reply::status(503),
        _ => Reply::file(request, &content()).with("ETag", ETAG),
    });
    let home = TempDir::new().unwrap();
    let error = fetch(&hub(&home, &server), NAME).unwrap_err();
    assert!(matches!(error.cause, HubCause::Status { status: 503, .. }), "{error}");
    assert_eq!(files(home.path()), [".weights.pth.etag", ".weights.pth.part"]);
    let path = fetch(&hub(&home, &server), NAME).unwrap();
    assert!(fs::read(path).unwrap() == content());
    assert_eq!(ranges(&server)[5], Some(100_000));
    assert_eq!(files(home.path()), ["weights.pth"]);
}

#[test]
fn a_file_that_changed_meanwhile_is_downloaded_again() {
    let new: Vec<u8> = content().iter().map(|byte| !byte).collect();
    let whole = new.clone();
    let server = Server::new(move |request, number| match number {
        0 => Reply::file(request, &content()).with("ETag", ETAG).cut(100_000),
        // The response to If-Range: the whole file, as it has changed.
        _ => Reply::whole(&whole).with("ETag", "\"version-2\""),
    });
    let home = TempDir::new().unwrap();
    assert!(fs::read(fetch(&hub(&home, &server), NAME).unwrap()).unwrap() == new);
}

#[test]
fn parts_of_two_versions_are_noticed_by_the_hash_and_downloaded_again() {
    let server = Server::new(|request, number| {
        let old: Vec<u8> = content().iter().map(|byte| !byte).collect();
        let linked = format!("\"{}\"", sha256(&content()));
        match number {
            0 => Reply::file(request, &old).cut(100_000),
            _ => Reply::file(request, &content()),
        }
        .with("X-Linked-Etag", &linked)
    });
    let home = TempDir::new().unwrap();
    assert!(fs::read(fetch(&hub(&home, &server), NAME).unwrap()).unwrap() == content());
    assert_eq!(ranges(&server), [None, Some(100_000), None]);
}

#[test]
fn without_an_etag_or_a_hash_a_download_starts_over() {
    let server = Server::new(|request, number| {
        let reply = Reply::file(request, &content()).with("ETag", "W/\"weak\"");
        if number == 0 { reply.cut(70_000) } else { reply }
    });
    let home = TempDir::new().unwrap();
    assert!(fs::read(fetch(&hub(&home, &server), NAME).unwrap()).unwrap() == content());
    assert_eq!(ranges(&server), [None, None]);
}

#[test]
fn a_server_without_range_requests_sends_the_whole_file() {
    let server = Server::new(|_, number| {
        let reply = Reply::whole(&content()).with("ETag", ETAG);
        if number == 0 { reply.cut(70_000) } else { reply }
    });
    let home = TempDir::new().unwrap();
    assert!(fs::read(fetch(&hub(&home, &server), NAME).unwrap()).unwrap() == content());
    assert_eq!(ranges(&server), [None, Some(70_000)]);
}

#[test]
fn a_range_that_was_not_requested_is_refused() {
    for range in ["bytes 60000-299999/300000", "bytes 70000-60000/300000", "all of it"] {
        let server = Server::new(move |request, number| match number {
            0 => Reply::whole(&content()).with("ETag", ETAG).cut(70_000),
            1 => Reply { status: 206, ..Reply::whole(&content()[60_000..]) }.with("Content-Range", range),
            _ => Reply::file(request, &content()),
        });
        let home = TempDir::new().unwrap();
        assert!(fs::read(fetch(&hub(&home, &server), NAME).unwrap()).unwrap() == content());
        assert_eq!(ranges(&server), [None, Some(70_000), None]);
    }
    // A file that is shorter than the received part is downloaded again.
    let server = Server::new(|_, number| match number {
        0 => Reply::whole(&content()).with("ETag", ETAG).cut(70_000),
        1 => Reply::status(416),
        _ => Reply::whole(&content()[..50_000]),
    });
    let home = TempDir::new().unwrap();
    assert!(fs::read(fetch(&hub(&home, &server), NAME).unwrap()).unwrap() == content()[..50_000]);
}

#[test]
fn a_file_with_another_hash_is_thrown_away() {
    let server = Server::new(|request, _| {
        Reply::file(request, &content()).with("X-Linked-Etag", &format!("\"{}\"", "0".repeat(64)))
    });
    let home = TempDir::new().unwrap();
    let error = fetch(&hub(&home, &server), NAME).unwrap_err();
    let zeros = "0".repeat(64);
    assert!(
        matches!(&error.cause, HubCause::Hash { expected, got, .. } if *expected == zeros && *got == sha256(&content()))
    );
    assert_eq!((files(home.path()), server.requests().len()), (vec![".weights.pth.part".to_owned()], 1));
    assert_eq!(fs::metadata(home.path().join("hub/hf/owner/model/.weights.pth.part")).unwrap().len(), 0);
}

#[test]
fn an_address_with_a_known_hash_is_that_file_or_an_error() {
    let server = Server::new(|request, _| Reply::file(request, &content()));
    let home = TempDir::new().unwrap();
    let address = format!("{}/~set/images.tar.gz", server.address);
    let fetch = |hash: &str| hub(&home, &server).fetch(&name(&address).with_sha256(hash), &mut |_| ());
    let error = fetch(&"0".repeat(64)).unwrap_err();
    assert!(matches!(error.cause, HubCause::Hash { .. }), "{error}");
    let mut events = Vec::new();
    let name = name(&address).with_sha256(&sha256(&content()));
    let path = hub(&home, &server).fetch(&name, &mut |event| events.push(format!("{event:?}"))).unwrap();
    assert!(fs::read(&path).unwrap() == content());
    assert_eq!(events.last().unwrap(), "Finished { received: 300000, checked: true }");
    // A file in the cache is checked as well.
    fs::write(&path, "other").unwrap();
    assert!(matches!(hub(&home, &server).fetch(&name, &mut |_| ()).unwrap_err().cause, HubCause::Placed { .. }));
}

#[test]
fn a_mirror_has_a_folder_for_each_host_and_torchvisions_names_end_in_the_hash() {
    let server = Server::new(|request, _| Reply::file(request, &content()));
    let home = TempDir::new().unwrap();
    let hub = Hub::new(home.path()).with_mirror(&format!("{}/pub", server.address)).unwrap().with_token("secret");
    let error = fetch(&hub, "torchvision:resnet50.v1").unwrap_err();
    assert!(matches!(&error.cause, HubCause::Hash { expected, .. } if expected == "0676ba61"), "{error}");
    assert!(fetch(&hub, "timm:resnet50").is_ok());
    assert!(fetch(&hub, "https://example.org/a/b.pth").is_ok());
    let paths: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(
        paths,
        [
            "/pub/download.pytorch.org/models/resnet50-0676ba61.pth",
            "/pub/huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors",
            "/pub/example.org/a/b.pth"
        ]
    );
    // The token is not sent to the mirror.
    assert!(server.requests().iter().all(|request| !request.headers.contains_key("authorization")));
    assert!(home.path().join("hub/url/example.org/a/b.pth").is_file());
}

#[test]
fn answers_that_are_no_file_are_errors_in_one_line_with_a_way_out() {
    let home = TempDir::new().unwrap();
    for (status, requests, hint) in
        [(404, 1, "there is no such file"), (401, 1, "HF_TOKEN"), (500, 4, "status 500"), (418, 1, "")]
    {
        let server = Server::new(move |_, _| Reply::status(status));
        let error = fetch(&hub(&home, &server), NAME).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error.cause, HubCause::Status { status: got, .. } if got == status), "{text}");
        assert!(text.contains(hint) && !text.contains('\n'), "{text}");
        let url = format!("{}/owner/model/resolve/main/weights.pth", server.address);
        let path = home.path().join("hub/hf/owner/model/weights.pth");
        assert!(text.ends_with(&format!("; download {url} yourself and put it at {}", path.display())), "{text}");
        assert_eq!(server.requests().len(), requests, "{status}");
    }
}

#[test]
fn offline_nothing_is_requested_and_the_error_says_where_to_put_the_file() {
    let server = Server::new(|request, _| Reply::file(request, &content()));
    let home = TempDir::new().unwrap();
    let error = fetch(&hub(&home, &server).offline("RESIDUAL_OFFLINE"), NAME).unwrap_err();
    let (address, path) = (&server.address, home.path().join("hub/hf/owner/model/weights.pth"));
    assert_eq!(
        error.to_string(),
        format!(
            "{NAME}: expected a file that was downloaded before, as RESIDUAL_OFFLINE forbids downloads, got none; \
             download {address}/owner/model/resolve/main/weights.pth yourself and put it at {}",
            path.display()
        )
    );
    assert!(server.requests().is_empty());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "by hand").unwrap();
    assert_eq!(fetch(&hub(&home, &server).offline("RESIDUAL_OFFLINE"), NAME).unwrap(), path);
}

#[test]
fn redirections_are_limited_and_lead_to_https_only() {
    let home = TempDir::new().unwrap();
    let round = Server::new(|request, _| Reply::redirection(&format!("{}x", request.path)));
    let error = fetch(&hub(&home, &round), NAME).unwrap_err().to_string();
    assert!(error.contains("expected a few redirections, got more than 10"), "{error}");
    assert_eq!(round.requests().len(), 11);
    for location in ["http://169.254.169.254/latest", "file:///etc/passwd", "ftp://a.org/b", "", "https://a.org/\\\\b"]
    {
        let server = Server::new(move |_, _| Reply::redirection(location));
        let error = fetch(&hub(&home, &server), NAME).unwrap_err();
        let is_refused = matches!(error.cause, HubCause::Answer { .. });
        // An empty location is the same address again.
        assert!(is_refused, "{location}: {error}");
    }
}

#[test]
fn a_silent_server_is_given_up_and_a_slow_one_is_not() {
    let home = TempDir::new().unwrap();
    let slow = Server::new(|request, _| Reply {
        chunk: Some(60_000),
        pause: Duration::from_millis(250),
        ..Reply::file(request, &content())
    });
    // It takes longer than the timeout, but is never silent for as long.
    assert!(fs::read(fetch(&hub(&home, &slow), NAME).unwrap()).unwrap() == content());
    let home = TempDir::new().unwrap();
    let silent = Server::new(|_, _| Reply { pause: Duration::from_secs(60), ..Reply::whole(&content()) });
    let hub = hub(&home, &silent).with_patience(Duration::from_millis(100), Duration::from_millis(1));
    let error = fetch(&hub, NAME).unwrap_err().to_string();
    assert!(error.contains("no answer in time"), "{error}");
}

#[test]
fn a_server_that_is_not_there_is_an_error_at_once() {
    let home = TempDir::new().unwrap();
    let hub = Hub::new(home.path()).with_hugging_face("http://127.0.0.1:1").unwrap();
    let error = fetch(&hub, NAME).unwrap_err();
    assert!(matches!(error.cause, HubCause::Network { .. }), "{error}");
}

#[test]
fn a_length_that_is_never_reached_or_past_the_limit_ends_it() {
    let home = TempDir::new().unwrap();
    let server = Server::new(|_, _| Reply::whole(&content()).with("Content-Length", "300001"));
    let error = fetch(&hub(&home, &server), NAME).unwrap_err();
    assert!(matches!(error.cause, HubCause::Network { .. }), "{error}");
    assert!(server.requests().len() <= 5, "{}", server.requests().len());
    let home = TempDir::new().unwrap();
    let server = Server::new(|_, _| Reply::whole(&content()).with("Content-Length", "17179869185"));
    let error = fetch(&hub(&home, &server), NAME).unwrap_err();
    assert!(matches!(error.cause, HubCause::TooLarge { limit: 17_179_869_184, .. }), "{error}");
    // A body beyond its Content-Length is not read.
    let home = TempDir::new().unwrap();
    let server = Server::new(|_, _| Reply::whole(&content()).with("Content-Length", "1000"));
    assert!(fs::read(fetch(&hub(&home, &server), NAME).unwrap()).unwrap() == content()[..1000]);
}

#[test]
fn malformed_headers_are_errors() {
    let home = TempDir::new().unwrap();
    for (header, value) in
        [("X-Long", "a".repeat(1 << 20)), ("Content-Length", "-1".into()), ("Transfer-Encoding", "chunked".into())]
    {
        let server =
            Server::new(move |_, _| Reply { body: b"zz\r\n".to_vec(), ..Reply::status(200) }.with(header, &value));
        let text = fetch(&hub(&home, &server), NAME).unwrap_err().to_string();
        assert!(text.len() < 600 && !text.contains('\n'), "{text}");
    }
}

#[test]
fn concurrent_downloads_of_a_file_wait_for_each_other() {
    let server = Server::new(|request, _| Reply {
        chunk: Some(100_000),
        pause: Duration::from_millis(100),
        ..Reply::file(request, &content())
    });
    let home = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        let both: Vec<_> = (0..4).map(|_| scope.spawn(|| fetch(&hub(&home, &server), NAME).unwrap())).collect();
        both.into_iter().for_each(|one| assert!(fs::read(one.join().unwrap()).unwrap() == content()));
    });
    assert_eq!(server.requests().len(), 1);
    assert_eq!(files(home.path()), ["weights.pth"]);
}

#[test]
fn plain_http_is_for_this_machine() {
    let home = TempDir::new().unwrap();
    for address in ["http://mirror.example.org", "ftp://127.0.0.1/", "mirror"] {
        let error = Hub::new(home.path()).with_mirror(address).unwrap_err().to_string();
        assert!(error.starts_with("RESIDUAL_HUB_ENDPOINT: expected "), "{error}");
    }
    let server = Server::new(|request, _| Reply::file(request, &content()));
    let url = format!("{}/a/b.pth", server.address);
    let path = fetch(&Hub::new(home.path()), &url).unwrap();
    assert!(path.starts_with(home.path().join("hub/url")) && fs::read(path).unwrap() == content());
}

#[test]
fn pages_that_servers_send_in_place_of_a_file_are_discarded() {
    for (body, what) in [
        (&b"<!DOCTYPE html><html>sign in</html>"[..], "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a git-lfs pointer"),
        (b"{\"error\":\"not found\"}", "a JSON file"),
    ] {
        let server = Server::new(move |_, _| Reply::whole(body));
        let home = TempDir::new().unwrap();
        let error = fetch(&hub(&home, &server), NAME).unwrap_err().to_string();
        assert!(error.contains(&format!("expected weights, got {what}")), "{error}");
        assert_eq!(files(home.path()), [".weights.pth.part"]);
        assert_eq!(fs::metadata(home.path().join("hub/hf/owner/model/.weights.pth.part")).unwrap().len(), 0);
    }
}

#[test]
fn a_download_that_is_too_slow_is_aborted_and_its_part_is_kept() {
    let server = Server::new(|request, _| Reply {
        chunk: Some(10),
        pause: Duration::from_millis(50),
        ..Reply::file(request, &content()).with("ETag", ETAG)
    });
    let home = TempDir::new().unwrap();
    let error = fetch(&hub(&home, &server), NAME).unwrap_err().to_string();
    assert!(error.contains("expected at least 1000 bytes a second, got "), "{error}");
    assert_eq!(server.requests().len(), 1);
    assert!(fs::metadata(home.path().join("hub/hf/owner/model/.weights.pth.part")).unwrap().len() > 0);
}

#[cfg(unix)]
#[test]
fn a_link_in_a_parts_place_is_not_followed() {
    let server = Server::new(|request, _| Reply::file(request, &content()).with("ETag", ETAG));
    let (home, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let victims = ["part", "etag"].map(|kind| elsewhere.path().join(kind));
    let folder = home.path().join("hub/hf/owner/model");
    fs::create_dir_all(&folder).unwrap();
    for (victim, kind) in victims.iter().zip(["part", "etag"]) {
        fs::write(victim, "precious").unwrap();
        std::os::unix::fs::symlink(victim, folder.join(format!(".weights.pth.{kind}"))).unwrap();
    }
    assert!(fs::read(fetch(&hub(&home, &server), NAME).unwrap()).unwrap() == content());
    assert!(victims.iter().all(|victim| fs::read(victim).unwrap() == b"precious"));
}

#[test]
fn a_file_put_there_by_hand_under_a_name_with_a_hash_is_checked() {
    let home = TempDir::new().unwrap();
    let hub = Hub::new(home.path()).offline("--offline");
    let path = hub.path(&name("torchvision:resnet18.v1"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "random weights").unwrap();
    let error = fetch(&hub, "torchvision:resnet18.v1").unwrap_err();
    assert!(matches!(&error.cause, HubCause::Placed { expected, .. } if expected == "f37072fd"), "{error}");
    assert!(error.to_string().ends_with("(delete it)"), "{error}");
}
