//! `residual inspect`: layers, shares, memory, comparisons and pictures of networks.

use crate::support;

use residual::graph::{Builder, Op};
use residual::model::{Initialisation, Model, initialise};
use residual::preprocess::Preprocessing;
use serde_json::{Value, json};
use support::{Place, bmp, json};

fn inspect(place: &Place, arguments: &[&str]) -> Value {
    json(&place.done(&[&["inspect"], arguments, &["--threads", "1", "--json"]].concat()))
}

#[test]
fn a_layer_has_its_window_its_bytes_and_its_field() {
    let place = Place::new();
    let document = inspect(&place, &["resnext50_32x4d"]);
    let node = |name: &str| {
        let nodes = document["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["name"] == name).unwrap().clone()
    };
    let conv = node("layer2.0.conv2");
    assert_eq!([&conv["kernel"], &conv["stride"], &conv["padding"]], [&json!([3, 3]), &json!([2, 2]), &json!([1, 1])]);
    assert_eq!((&conv["groups"], &conv["activation_bytes"]), (&json!(32), &json!(4 * 28 * 28 * 256)));
    let stem = node("maxpool");
    assert_eq!([&stem["receptive_field"], &stem["effective_stride"], &stem["effective_padding"]], [11, 4, 5]);
    assert_eq!(node("avgpool")["receptive_field"], Value::Null);
    assert_eq!([&document["depth"], &document["effective_stride"]], [50, 32]);

    let csv = place.done(&["inspect", "resnext50_32x4d", "--csv"]);
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{csv}");
    assert_eq!(lines.len(), 1 + document["nodes"].as_array().unwrap().len());
    let conv = lines.iter().find(|line| line[0] == "layer2.0.conv2").unwrap();
    assert_eq!(conv[1..14].join(","), "conv2d,28,28,256,3,3,2,2,1,1,1,1,32");
    let table = place.done(&["inspect", "resnext50_32x4d"]);
    let row = table.lines().find(|line| line.starts_with("layer2.0.conv2 ")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[1..7], ["conv2d", "28×28×256", "3×3", "2", "1", "32"]);
}

/// The notes' comparison: three quarters of a VGG's parameters are in its first linear layer, few of a ResNet's in its last.
#[test]
fn stages_and_head_have_their_share() {
    let place = Place::new();
    let resnet = inspect(&place, &["resnet50"]);
    let stages = resnet["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["conv1 … bn1", "layer1", "layer2", "layer3", "layer4", "fc"]);
    for key in ["parameters", "macs"] {
        let sum: u64 = stages.iter().map(|stage| stage[key].as_u64().unwrap()).sum();
        assert_eq!(sum, resnet[key].as_u64().unwrap(), "{key}");
    }
    for key in ["head", "fully_connected"] {
        let layers = &resnet[key];
        assert_eq!((&layers["names"], &layers["parameters"]), (&json!(["fc"]), &json!(2048 * 1000 + 1000)));
        assert!((layers["parameter_percent"].as_f64().unwrap() - 8.017).abs() < 0.001);
    }
    let vgg = inspect(&place, &["vgg19", "--depth", "1"]);
    let classifier = &vgg["modules"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(classifier["name"], "classifier");
    for share in [classifier, &vgg["fully_connected"]] {
        assert!((share["parameter_percent"].as_f64().unwrap() - 86.06).abs() < 0.01, "{share}");
    }
}

#[test]
fn modules_add_up_to_the_depth_that_was_typed() {
    let place = Place::new();
    let rows = |depth: &str| {
        let text = place.done(&["inspect", "resnet20", "--depth", depth, "--csv"]);
        text.lines().skip(1).map(|line| line.split(',').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(rows("0"), ["resnet20"]);
    let modules = ["input", "conv1", "bn1", "relu", "layer1", "layer2", "layer3", "avgpool", "flatten", "fc"];
    assert_eq!(rows("1"), modules);
    assert_eq!(rows("2")[4..7], ["layer1.0", "layer1.1", "layer1.2"]);
    assert!(rows("3").contains(&"layer3.2.conv2".to_owned()));
    assert_eq!(place.run(&["inspect", "resnet20", "--csv", "--json"]).code, Some(2));
}

/// What the plans of `inspect --plan` need, and the momentum of SGD.
#[test]
fn peak_memory_is_that_of_the_plans() {
    let place = Place::new();
    let memory = inspect(&place, &["resnet20", "-b", "16"])["memory"].clone();
    let total = |mode: &str| {
        inspect(&place, &["resnet20", "--plan", "-b", "16", "--mode", mode])["memory"]["total"].as_u64().unwrap()
    };
    assert_eq!((memory["batch"].as_u64(), memory["inference_bytes"].as_u64()), (Some(16), Some(total("infer"))));
    let beside = memory["training_bytes"].as_u64().unwrap() - total("train");
    assert!((4 * 272_474..4 * 300_000).contains(&beside), "{beside}");
}

/// A graph that the engine cannot run is shown all the same.
#[test]
fn a_network_without_a_plan_is_shown_without_its_memory() {
    let place = Place::new();
    let mut network = Builder::new("odd", [3, 8, 8]);
    let input = network.input();
    let flat = network.flatten("flatten", input).unwrap();
    let norm = network.push("norm", Op::LayerNorm { channels: 192, eps: 1e-5 }, &[flat]).unwrap();
    let graph = network.finish(norm).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    let preprocessing = Preprocessing::unscaled([8, 8], &[0.5; 3], &[0.25; 3]);
    let model = Model::new(graph, tensors, preprocessing, Vec::new()).unwrap();
    residual::weights::save(&place.path("odd.safetensors"), &model, None).unwrap();
    assert_eq!(inspect(&place, &["odd.safetensors"])["memory"], Value::Null);
    let text = place.done(&["inspect", "odd.safetensors"]);
    assert!(text.contains("peak memory") && text.contains("not known: "), "{text}");
}

#[test]
fn networks_are_compared_with_what_was_published_of_them() {
    let place = Place::new();
    let document = inspect(&place, &["--compare", "vgg19", "googlenet", "resnet50", "densenet121"]);
    let networks = document["networks"].as_array().unwrap();
    let column = |key: &str| networks.iter().map(|network| network[key].clone()).collect::<Vec<_>>();
    assert_eq!(column("model"), ["vgg19", "googlenet", "resnet50", "densenet121"]);
    assert_eq!(column("depth"), [19, 22, 50, 121]);
    assert_eq!(column("parameters"), [143_667_240, 6_624_904, 25_557_032, 7_978_856]);
    assert!(column("latency").iter().all(Value::is_null));
    let published = networks[2]["published"].as_array().unwrap();
    assert_eq!(
        published.iter().map(|it| (it["source"].as_str().unwrap(), it["top1"].as_f64().unwrap())).collect::<Vec<_>>(),
        [("torchvision:resnet50.v1", 76.13), ("torchvision:resnet50.v2", 80.858), ("lecture notes", 76.2)]
    );
    let table = place.done(&["inspect", "resnet18", "--compare", "resnet20", "--measure", "--threads", "1"]);
    let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("network").ends_with("images/s") && line("resnet18").contains("69.8/89.1"), "{table}");
    assert!(table.contains("passes of warm-up"), "{table}");
}

#[test]
fn the_architecture_is_a_picture_with_repeated_blocks_once() {
    let place = Place::new();
    place.done(&["inspect", "resnet152", "--svg", "net.svg"]);
    let svg = std::fs::read_to_string(place.path("net.svg")).unwrap();
    for text in
        ["<svg", "60.19 M parameters", "layer3: 36 blocks, 14×14×1024", "× 35", "7×7 conv, 64, /2", "linear, 1000"]
    {
        assert!(svg.contains(text), "no {text}");
    }
    assert!(svg.len() < 100_000, "{}", svg.len());
    place.done(&["inspect", "resnet20", "--svg", "net.png"]);
    assert!(std::fs::read(place.path("net.png")).unwrap().starts_with(b"\x89PNG"));
    assert!(place.done(&["inspect", "resnet20", "--svg", "-"]).starts_with("<svg"));
    let line = "error: --svg: expected a name that ends in .svg or .png, got \"net.jpg\"";
    place.refused(&["inspect", "resnet20", "--svg", "net.jpg"], 2, line);
}

#[test]
fn receptive_fields_are_drawn_over_a_picture() {
    let place = Place::new();
    place.write("photo.bmp", bmp(40, 30, 90));
    let draw = |node: &[&str]| {
        let arguments = [&["inspect", "resnet18", "--picture", "photo.bmp", "--svg", "field.svg"], node].concat();
        place.done(&arguments);
        std::fs::read_to_string(place.path("field.svg")).unwrap()
    };
    let all = draw(&[]);
    for text in
        ["layer1.1.relu2", "layer4.1.relu2: a value of its 7×7 map sees 435×435 of 224×224 pixels", "data:image/png"]
    {
        assert!(all.contains(text), "no {text}");
    }
    let one = draw(&["--node", "layer2.0.conv1"]);
    assert!(one.contains("layer2.0.conv1") && !one.contains("layer4"));
    let refused = |node: &str, line: &str| {
        let arguments = ["inspect", "resnet18", "--picture", "photo.bmp", "--svg", "f.svg", "--node", node];
        place.refused(&arguments, 2, line);
    };
    refused("layer9", "error: --node: expected a node that `residual inspect` shows, got \"layer9\"");
    refused("fc", "error: --node: expected a feature map, got fc, which sees the whole image");
}
