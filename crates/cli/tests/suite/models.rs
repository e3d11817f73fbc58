//! `residual models list`, and networks described in TOML.

use crate::support;

use support::{Place, TINY, json};

const SMALL: &str = "family = 'preact_resnet'\nname = 'mine'\ndepths = [1, 1]\nwidths = [8, 16]\nstem_width = 8\n";

#[test]
fn the_list_says_what_each_network_is_and_where_weights_are() {
    let place = Place::new();
    let table = place.done(&["models", "list"]);
    assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
    let line = |name: &str| {
        let line = table.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("name"), "name input parameters MACs paper weights");
    assert_eq!(
        line("resnet34"),
        "resnet34 3×224×224 21,797,672 3.664 G arXiv:1512.03385 torchvision v1; timm a1_in1k +6"
    );
    assert_eq!(line("wrn28_10"), "wrn28_10 3×32×32 36,479,194 5.243 G arXiv:1605.07146");
    let models = json(&place.done(&["models", "list", "--json"]));
    let model = |name: &str| {
        let all = models["models"].as_array().unwrap();
        all.iter().find(|model| model["name"] == name).unwrap().clone()
    };
    let seresnet = model("seresnet50");
    assert_eq!(seresnet["family"], "SE-ResNet");
    assert_eq!(seresnet["input"], serde_json::json!([3, 224, 224]));
    assert_eq!(seresnet["parameters"], 28_088_024);
    assert_eq!(seresnet["paper"], "arXiv:1709.01507");
    assert_eq!(seresnet["weights"][0], "timm:seresnet50.a1_in1k");
    assert_eq!(model("lecture_resnet50")["weights"], serde_json::json!([]));
}

#[test]
fn a_filter_takes_a_part_of_a_name_or_family() {
    let place = Place::new();
    let names = |filter: &str| -> Vec<String> {
        let models = json(&place.done(&["models", "list", filter, "--json"]));
        models["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("wrn28"), ["wrn28_10"]);
    assert!(names("ConvNeXt").iter().all(|name| name.starts_with("convnext")) && names("convnext").len() == 4);
    let line = "error: filter: expected a part of a network's name or family, got \"vit\"";
    place.refused(&["models", "list", "vit"], 2, line);
}

#[test]
fn a_described_network_is_inspected_trained_and_evaluated() {
    let place = Place::new();
    place.tiny_data();
    place.write("nets/my.toml", SMALL);
    let inspected = json(&place.done(&["inspect", "nets/my.toml", "--num-classes", "2", "--json"]));
    assert_eq!(inspected["model"], "mine");
    let benched =
        place.done(&["bench", "nets/my.toml", "--mode", "train", "--repeats", "1", "--threads", "1", "--json"]);
    assert_eq!(json(&benched)["results"][0]["model"], "mine");

    let mut arguments = TINY.to_vec();
    arguments[2] = "nets/my.toml";
    let result = json(&place.done(&arguments));
    assert_eq!(result["run"], "runs/1-mine-tiny");
    let evaluated = place.done(&["eval", "--weights", "runs/1-mine-tiny", "--model", "nets/my.toml", "--json"]);
    assert_eq!(json(&evaluated)["images"], 4);
    // A checkpoint has its network with it: the description may be gone.
    std::fs::remove_file(place.path("nets/my.toml")).unwrap();
    place.done(&["eval", "--weights", "runs/1-mine-tiny", "--json"]);
    place.done(&["train", "--resume", "runs/1-mine-tiny", "--json"]);
    place.write("other.toml", SMALL.replace("mine", "other"));
    let other = ["train", "--weights", "runs/1-mine-tiny", "--data", "tiny.safetensors", "--model", "other.toml"];
    place.refused(
        &[&other[..], &["--epochs", "1", "--augment", "none"]].concat(),
        2,
        "error: runs/1-mine-tiny: expected model \"mine\", as the checkpoint says, got \"other\"",
    );
}

#[test]
fn a_description_of_no_network_is_answered_with_its_field() {
    let place = Place::new();
    let refused = |text: &str, line: &str| {
        place.write("my.toml", text);
        place.refused(&["inspect", "my.toml"], 2, line);
        place.refused(&["train", "--model", "my.toml"], 2, line);
    };
    refused(
        "family = 'resnet'\ndepths = [3, 4, 0, 3]",
        "error: my.toml: depths: expected 4 numbers of 1 to 1024, got [3, 4, 0, 3]",
    );
    refused("family = 'resnet'\ndeepths = [1]", "error: my.toml: unknown key \"deepths\" (did you mean \"depths\"?)");
    place.write("my.toml", b"\xff\xfe family");
    place.refused(&["inspect", "my.toml"], 1, "error: my.toml: expected text in UTF-8, got byte 0 that is none");
    place.refused(
        &["inspect", "none.toml"],
        1,
        "error: none.toml: cannot be read: No such file or directory (os error 2)",
    );
    assert!(!place.path("runs").exists());
}
