//! `residual explain`: every subject's picture and numbers, and what is refused.

use crate::support;

use residual::files::load_npy;
use support::{Place, json, small_model};

const W: [&str; 3] = ["explain", "--weights", "w.safetensors"];

fn with<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    W.iter().chain(arguments).copied().chain(["--threads", "1"]).collect()
}

/// `w.safetensors` for the classes `ant` and `bee, bumble`, and a folder of images of them.
fn place() -> Place {
    let place = Place::new();
    small_model(&place);
    for index in 0..6u8 {
        let class = if index % 2 == 0 { "ant" } else { "bee, bumble" };
        place.write(&format!("photos/{class}/{index}.bmp"), pattern(index));
    }
    place
}

/// A 24-bit BMP of 16×16 whose pixels differ.
fn pattern(seed: u8) -> Vec<u8> {
    let mut bytes = support::bmp(16, 16, 0);
    let start = bytes.len() - 16 * 48;
    for (index, byte) in bytes[start..].iter_mut().enumerate() {
        *byte = (index * 7 + usize::from(seed) * 31 + index / 48 * 13) as u8;
    }
    bytes
}

fn is_png(place: &Place, name: &str) -> bool {
    std::fs::read(place.path(name)).unwrap().starts_with(b"\x89PNG\r\n\x1a\n")
}

#[test]
fn maps_of_several_images_classes_and_methods_are_a_picture_an_array_and_numbers() {
    let place = place();
    let arguments = ["photos", "--method", "grad-cam,occlusion", "--class", "true", "--class", "bee, bumble"];
    let document = json(&place.done(&with(&[&arguments[..], &["-o", "maps.npy", "--json"]].concat())));
    let maps = document["maps"].as_array().unwrap();
    assert_eq!((maps.len(), &document["images"]), (24, &6.into()));
    let array = load_npy(&place.path("maps.npy")).unwrap();
    assert_eq!(array.shape, [12, 2, 16, 16]);
    let values = array.to_f32();
    for (map, values) in maps.iter().zip(values.chunks_exact(256)) {
        let [row, column] = [0, 1].map(|axis| map["peak"][axis].as_u64().unwrap() as usize);
        let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert_eq!(values[16 * row + column], max);
        assert!((map["max"].as_f64().unwrap() - f64::from(max)).abs() < 1e-6);
    }
    assert_eq!((&maps[0]["class"], &maps[0]["input"]), (&"ant".into(), &"photos/ant/0.bmp".into()));
    assert_eq!((&maps[0]["method"], &maps[0]["layers"][0]), (&"grad-cam".into(), &"layer3.2.relu2".into()));
    assert_eq!((&maps[3]["method"], &maps[3]["class"]), (&"occlusion".into(), &"bee, bumble".into()));
    for file in ["maps.png", "maps.svg"] {
        let table = place.done(&with(&[&arguments[..], &["-o", file]].concat()));
        assert_eq!(table.lines().count(), 1 + 24 + 1, "{table}");
        assert!(table.ends_with(&format!("file  {file}\n")), "{table}");
    }
    assert!(is_png(&place, "maps.png"));
    let svg = std::fs::read_to_string(place.path("maps.svg")).unwrap();
    assert_eq!(svg.matches("<image").count(), 12 * 3);
    assert!(!svg.contains("http://") || svg.matches("http").count() == svg.matches("http://www.w3.org").count());
}

#[test]
fn maps_are_scored_and_checked_against_shuffled_weights() {
    let place = place();
    let arguments = ["photos/ant/0.bmp", "--scores", "--randomization-check", "--contrast", "top2", "--json"];
    let document = json(&place.done(&with(&arguments)));
    let map = &document["maps"][0];
    for score in ["insertion", "deletion"] {
        assert!((0.0..=1.0).contains(&map["scores"][score].as_f64().unwrap()), "{map}");
    }
    assert!(map["scores"]["road"].is_f64() && map["against"].is_string());
    let cascade: Vec<&str> =
        map["randomization"].as_array().unwrap().iter().map(|step| step["part"].as_str().unwrap()).collect();
    assert_eq!(cascade, ["fc", "layer3", "layer2", "layer1", "bn1", "conv1"]);
    // The same numbers again: everything that is random has a seed.
    assert_eq!(document, json(&place.done(&with(&arguments))));
}

/// Some images are classified correctly, so that their own class is the first one too.
#[test]
fn images_without_a_contrast_are_skipped() {
    let place = place();
    let images = ["photos", "--class", "top1", "--contrast", "0", "--json"];
    let all = json(&place.done(&with(&["photos", "--json"])));
    let indices: Vec<i64> = all["maps"].as_array().unwrap().iter().map(|map| map["index"].as_i64().unwrap()).collect();
    let other = indices.iter().filter(|&&index| index != 0).count();
    let ran = place.run(&with(&images));
    if other == 0 {
        assert!(ran.stderr.contains("got the same for every image"), "{}", ran.stderr);
        return;
    }
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(json(&ran.stdout)["maps"].as_array().unwrap().len(), other);
    assert_eq!(ran.stderr.matches("skipped: --contrast").count(), indices.len() - other, "{}", ran.stderr);
}

#[test]
fn layers_are_shown_as_feature_maps_and_filters() {
    let place = place();
    let maps =
        json(&place.done(&with(&["photos/ant/0.bmp", "--feature-maps", "--layer", "layer1", "-o", "f.npy", "--json"])));
    assert_eq!((&maps["node"], maps["channels"].as_array().unwrap().len()), (&"layer1.2.relu2".into(), 16));
    let array = load_npy(&place.path("f.npy")).unwrap();
    assert_eq!(array.shape, [1, 16, 16, 16]);
    place.done(&["features", "--weights", "w.safetensors", "photos/ant/0.bmp", "--layers", "layer1", "-o", "g.npy"]);
    assert_eq!(array.to_f32(), load_npy(&place.path("g.npy")).unwrap().to_f32());
    place.done(&with(&["photos", "--feature-maps", "--channels", "3,5", "-o", "f.svg"]));
    let svg = std::fs::read_to_string(place.path("f.svg")).unwrap();
    assert_eq!(svg.matches("<image").count(), 6 * 3);

    let filters = json(&place.done(&with(&["--filters", "-o", "filters.png", "--json"])));
    assert_eq!((&filters["layer"], &filters["shape"]), (&"conv1".into(), &serde_json::json!([16, 3, 3, 3])));
    assert!(is_png(&place, "filters.png"));
}

#[test]
fn patches_are_cut_to_the_receptive_field() {
    let place = place();
    let arguments = ["photos", "--patches", "--layer", "layer1.0.conv1", "--channels", "2", "-k", "3", "-o", "p.png"];
    let document = json(&place.done(&with(&[&arguments[..], &["--json"]].concat())));
    let patches = document["patches"].as_array().unwrap();
    assert_eq!(patches.len(), 3);
    assert!(patches.is_sorted_by(|a, b| a["activation"].as_f64() >= b["activation"].as_f64()));
    for patch in patches {
        // Two 3×3 convolutions see 5×5 pixels around the position.
        let number = |key: &str, index: usize| patch[key][index].as_i64().unwrap();
        for axis in 0..2 {
            assert_eq!(number("window", axis), number("position", axis) - 2);
            assert_eq!(number("window", axis + 2), number("position", axis) + 3);
        }
    }
    assert!(is_png(&place, "p.png"));
}

#[test]
fn predictions_neighbours_and_points_name_their_images() {
    let place = place();
    let predicted = json(&place.done(&with(&["photos", "--predictions", "-o", "p.svg", "--json"])));
    assert_eq!(predicted["predictions"].as_array().unwrap().len(), 6);
    assert!(predicted["top1"].is_f64() && predicted["predictions"][1]["true"] == "ant");
    let found = json(&place.done(&with(&["photos", "--neighbours", "-k", "2", "-o", "n.png", "--json"])));
    for row in found["images"].as_array().unwrap() {
        let neighbours = row["neighbours"].as_array().unwrap();
        assert!(neighbours.len() == 2 && neighbours.iter().all(|other| other["input"] != row["input"]));
    }
    // In a gallery that has the image itself, that is the nearest.
    let itself = json(&place.done(&with(&["photos/ant/0.bmp", "--neighbours", "--gallery", "photos", "--json"])));
    let nearest = &itself["images"][0]["neighbours"][0];
    assert!(nearest["input"].as_str().unwrap().ends_with("0.bmp") && nearest["similarity"].as_f64().unwrap() > 0.9999);
    for (kind, file) in [("pca", "e.svg"), ("tsne", "e.png"), ("tsne", "e.npy")] {
        let points = json(&place.done(&with(&["photos", "--embedding", kind, "-o", file, "--json"])));
        assert_eq!(points["points"].as_array().unwrap().len(), 6, "{kind}");
        assert_eq!(points["points"][0]["class"], "ant");
    }
    assert_eq!(load_npy(&place.path("e.npy")).unwrap().shape, [6, 2]);
    assert!(std::fs::read_to_string(place.path("e.svg")).unwrap().contains("of the variance"));
}

#[test]
fn gradients_and_activations_of_every_layer_are_listed() {
    let place = place();
    let flow = json(&place.done(&with(&["photos", "--gradients", "--lr", "0.5", "-o", "g.svg", "--json"])));
    let tensors = flow["tensors"].as_array().unwrap();
    assert_eq!((&flow["images"], &tensors[0]["name"]), (&6.into(), &"conv1.weight".into()));
    let [norm, weight, ratio] = ["norm", "weight_norm", "update_ratio"].map(|key| tensors[0][key].as_f64().unwrap());
    assert!((ratio - 0.5 * norm / weight).abs() < 1e-9 * ratio && ratio > 0.0);
    assert!(std::fs::read_to_string(place.path("g.svg")).unwrap().contains("layer3.2.conv2.weight"));
    let table = place.done(&with(&["photos", "--gradients"]));
    assert!(table.starts_with("tensor ") && table.contains("learning rate of 0.1"), "{table}");

    let activations = json(&place.done(&with(&["photos", "--activations", "--json"])));
    assert_eq!((&activations["images"], &activations["nodes"][0]["node"]), (&6.into(), &"conv1".into()));
    assert!(activations["dead_share"].is_f64());
    assert!(place.done(&with(&["photos", "--activations"])).contains("ReLU channels are dead"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = place();
    let refused = |arguments: &[&str], line: &str| place.refused(&with(arguments), 2, &format!("error: {line}"));
    let image = "photos/ant/0.bmp";
    refused(&[image], "--output is required for pictures (--json prints numbers without it)");
    refused(&[image, "-o", "a.jpg"], "a.jpg: expected a name that ends in .png, .svg or .npy");
    refused(&[image, "--predictions", "-o", "a.npy"], "a.npy: expected a name that ends in .png or .svg");
    refused(
        &[image, "--activations", "-o", "a.png"],
        "--output: expected none, as activations are a table (--json prints them as numbers)",
    );
    refused(&[image, "--steps", "5", "--json"], "--method integrated-gradients is required for --steps");
    refused(&[image, "--gradients", "--perplexity", "5"], "--embedding tsne is required for --perplexity");
    refused(&[image, "--json", "--limit", "2"], "--data is required for --limit");
    refused(
        &[image, "--json", "--class", "bee"],
        "--class: expected one of 2 classes, a number below 2, true, or top1 to top2, got \"bee\"; did you mean bee, bumble?",
    );
    refused(
        &[image, "--json", "--class", "true"],
        "--class true: expected an image with a class, got photos/ant/0.bmp (--data has classes)",
    );
    refused(
        &[image, "--json", "--class", "ant", "--contrast", "0"],
        "--contrast: expected another class than --class, got the same for photos/ant/0.bmp",
    );
    refused(
        &[image, "--json", "--layer", "pooled"],
        "layer \"pooled\": expected a feature map of more than one pixel, got 1×1×64",
    );
    refused(
        &[image, "--json", "--layer", "layer1", "--method", "occlusion"],
        "layer: expected none for occlusion, which explains the image, got \"layer1\"",
    );
    refused(&[image, "--json", "--method", "occlusion", "--window", "20"], "window: expected 1 to 16, got 20");
    refused(&["--filters", "--layer", "bn1", "--json"], "layer: expected a convolution, got batch_norm2d \"bn1\"");
    refused(
        &["photos", "--feature-maps", "--channels", "99", "--json"],
        "channels: expected numbers below 16, the channels of conv1, got 99",
    );
    refused(&[image, "--gradients"], "photos/ant/0.bmp: expected a class of the model for --gradients, got none");
    refused(
        &["photos", "--embedding", "tsne", "--perplexity", "0.5", "--json"],
        "perplexity: expected a number above 1, got 0.5",
    );
    let ran = place.run(&with(&[image, "--json", "--layer", "layer9"]));
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.starts_with("error: layers: expected pooled, "), "{}", ran.stderr);
    let ran = place.run(&with(&[image, "--json", "--method", "lime"]));
    assert!(ran.code == Some(2) && ran.stderr.contains("grad-cam"), "{}", ran.stderr);
    let ran = place.run(&with(&[image, "--json", "--gradients", "--scores"]));
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}
