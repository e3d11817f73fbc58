//! Weights by name: network, preprocessing and classes that come with them, downloads, and errors offline.

use crate::support;

use residual::hub;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use support::{Place, bmp, ran, small_model};

#[test]
fn a_name_brings_network_preprocessing_and_classes() {
    let place = Place::new();
    place.resnet18();
    place.write("photo.bmp", bmp(40, 30, 90));
    let named = place.done(&["predict", "--offline", "--weights", "torchvision:resnet18", "photo.bmp", "--json"]);
    let file = "home/hub/torchvision/resnet18-f37072fd.pth";
    let by_hand = place.done(&["predict", "--model", "resnet18", "--weights", file, "photo.bmp", "--json"]);
    let logits = |text: &str| {
        let document: serde_json::Value = serde_json::from_str(text).unwrap();
        document["predictions"][0]["logits"].clone()
    };
    assert_eq!(logits(&named), logits(&by_hand));
    let document: serde_json::Value = serde_json::from_str(&named).unwrap();
    let top = &document["predictions"][0]["top"][0];
    let labels = hub::imagenet_labels();
    assert_eq!(top["label"].as_str().unwrap(), labels[top["index"].as_u64().unwrap() as usize]);

    let inspected = place.done(&["inspect", "torchvision:resnet18.v1", "--offline"]);
    assert!(inspected.contains("resnet18") && inspected.contains("11,689,512"), "{inspected}");

    // Training takes the network from the name, too, gives it a new head, and here one channel.
    let data = place.photos();
    let arguments =
        ["train", "--weights", "torchvision:resnet18.v1", "--in-chans", "1", "--data", data, "--img-size", "32"];
    place.done(&[&arguments[..], &["--val-split", "0.4", "--max-steps", "1", "-b", "2", "--offline"]].concat());
    let run = place.path("runs/1-resnet18-photos");
    let model = residual::load(run).unwrap();
    assert_eq!((model.graph.input_size()[0], model.labels.len()), (1, 2));
    assert_eq!(model.preprocessing.mean.len(), 1);

    place.refused(
        &["predict", "--model", "resnet50", "--weights", "torchvision:resnet18.v1", "photo.bmp"],
        2,
        "error: torchvision:resnet18.v1: expected model \"resnet18\", as the checkpoint says, got \"resnet50\"",
    );
}

#[test]
fn a_file_is_downloaded_once_with_progress_on_stderr() {
    let place = Place::new();
    small_model(&place);
    let content = std::fs::read(place.path("w.safetensors")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mirror = format!("http://{}", listener.local_addr().unwrap());
    // One request is answered, and no other.
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", content.len()).unwrap();
        stream.write_all(&content).unwrap();
        head[0].clone()
    });
    place.write("photo.bmp", bmp(16, 16, 90));
    let arguments = ["predict", "--weights", "hf:owner/model/w.safetensors", "photo.bmp"];
    let first = ran(place.command(&arguments).env("RESIDUAL_HUB_ENDPOINT", &mirror).output().unwrap());
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert_eq!(server.join().unwrap(), "GET /huggingface.co/owner/model/resolve/main/w.safetensors HTTP/1.1");
    let url = format!("{mirror}/huggingface.co/owner/model/resolve/main/w.safetensors");
    assert!(first.stderr.contains(&format!("downloading {url}, 1.1 MB\n")), "{}", first.stderr);
    assert!(first.stderr.contains("downloaded 1.1 MB; not verified, as no SHA-256 is published\n"), "{}", first.stderr);
    let second = place.run(&arguments);
    assert_eq!((second.stdout, second.stderr), (first.stdout, String::new()));
}

#[test]
fn what_cannot_be_had_is_one_line_that_says_where_to_put_it() {
    let place = Place::new();
    place.write("photo.bmp", bmp(16, 16, 90));
    let file = place.path("home/hub/torchvision/resnet50-11ad3fa6.pth");
    let line = |why: &str| {
        format!(
            "error: torchvision:resnet50.v2: expected a file that was downloaded before, as {why} forbids downloads, got \
             none; download https://download.pytorch.org/models/resnet50-11ad3fa6.pth yourself and put it at {}",
            file.display()
        )
    };
    let name = "torchvision:resnet50.v2";
    place.refused(&["predict", "--offline", "--weights", name, "photo.bmp"], 1, &line("--offline"));
    place.refused(&["bench", name, "--offline"], 1, &line("--offline"));
    place.refused(&["inspect", name, "--offline"], 1, &line("--offline"));
    place.refused(&["eval", "--weights", name, "--data", "shapes10", "--offline"], 1, &line("--offline"));
    place.refused(&["train", "--weights", name, "--offline"], 1, &line("--offline"));
    for variable in ["RESIDUAL_OFFLINE", "HF_HUB_OFFLINE"] {
        let ran = ran(place.command(&["predict", "--weights", name, "photo.bmp"]).env(variable, "1").output().unwrap());
        assert_eq!((ran.code, ran.stderr.trim_end()), (Some(1), &*line(variable)));
    }
    for (name, expected) in [
        (
            "torchvision:resnet50.v3",
            "expected torchvision:resnet50.v1, torchvision:resnet50.v2, got torchvision:resnet50.v3",
        ),
        ("hf:../../x", "expected names that are not empty and do not begin with a dot, got .."),
        ("hf:a/b/../c", "expected names that are not empty and do not begin with a dot, got .."),
        ("http://example.org/a.pth", "expected https, as http is only for this machine, got http://example.org/a.pth"),
    ] {
        place.refused(&["predict", "--weights", name, "photo.bmp"], 2, &format!("error: {name}: {expected}"));
    }
    assert!(!place.path("home").exists());
}
