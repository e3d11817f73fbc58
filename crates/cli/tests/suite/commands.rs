//! `eval`, `predict`, `inspect`, `models` and `data` through the compiled program.

use crate::support;

use residual::files;
use serde_json::Value;
use std::io::Read;
use std::process::Stdio;
use support::{Place, json, small_model as model, test_data};

#[test]
fn inspect_counts_what_the_papers_count() {
    let place = Place::new();
    let document = json(&place.done(&["inspect", "resnet50", "--json"]));
    assert_eq!(document["model"], "resnet50");
    assert_eq!((&document["parameters"], &document["receptive_field"]), (&25_557_032.into(), &427.into()));
    assert_eq!(document["macs"], 4_089_184_256u64, "torchvision's 4.09 GMACs");
    let conv1 = &document["nodes"][1];
    assert_eq!((&conv1["name"], &conv1["op"], &conv1["parameters"]), (&"conv1".into(), &"conv2d".into(), &9408.into()));
    assert_eq!(conv1["output"], serde_json::json!([112, 112, 64]));
    let table = place.done(&["inspect", "resnet20"]);
    assert!(table.starts_with("node"), "{table}");
    let total = table.lines().find(|line| line.starts_with("resnet20 ")).unwrap();
    assert!(total.contains("total") && total.contains("272,474"), "{table}");
}

#[test]
fn inspect_shows_the_plan_of_a_network() {
    let place = Place::new();
    model(&place);
    let plan = |arguments: &[&str]| {
        json(&place.done(&[&["inspect", "w.safetensors", "--plan", "--json"], arguments].concat()))
    };
    let infer = plan(&["--batch", "4", "--measure", "--threads", "1"]);
    let steps = infer["steps"].as_array().unwrap();
    let bytes = |plan: &Value, key: &str| plan["memory"][key].as_u64().unwrap();
    // A step for each convolution, which takes the batch norm, the addition and the ReLU along, the pooling and the head.
    assert_eq!(steps.len(), 19 + 2 + 2);
    assert_eq!((&steps[0]["node"], &steps[0]["work"]), (&"conv1".into(), &"convolution".into()));
    assert_eq!((&steps[0]["pass"], &steps[0]["result_bytes"]), (&"forward".into(), &(4 * 4 * 16 * 16 * 16).into()));
    assert_eq!(steps[0]["kernel"]["algorithm"], "direct");
    let products = steps[0]["kernel"]["multiply_adds"].as_u64().unwrap();
    assert!((4 * 256 * 27 * 16..=5 * 256 * 27 * 16).contains(&products), "{products}");
    let packed: u64 = steps.iter().filter_map(|step| step["kernel"]["packed_weight_bytes"].as_u64()).sum();
    assert!(packed <= bytes(&infer, "packed_weights"));
    assert!(steps.iter().all(|step| step["estimated_ms"].as_f64().unwrap() > 0.0 && step["measured_ms"].is_f64()));
    assert!(infer["measured_ms"].as_f64().unwrap() > 0.0);
    let low = plan(&["--batch", "4", "--low-memory"]);
    assert!(bytes(&low, "packed_weights") < bytes(&infer, "packed_weights"));
    let train = plan(&["--batch", "4", "--mode", "train"]);
    assert!(train["steps"].as_array().unwrap().iter().any(|step| step["pass"] == "backward"));
    assert!(bytes(&train, "parameters") > 2 * 4 * 270_000);
    let measured = json(&place.done(&["inspect", "w.safetensors", "--measure", "--json"]));
    assert!(measured["measured_ms"].as_f64().unwrap() > 0.0, "--measure shows the plan");
    let table = place.done(&["inspect", "resnet20", "--plan"]);
    assert!(table.starts_with("node") && table.contains("\npacked weights  "), "{table}");
}

#[test]
fn inspect_reads_a_checkpoint_as_well() {
    let place = Place::new();
    model(&place);
    let document = json(&place.done(&["inspect", "w.safetensors", "--json"]));
    assert_eq!(document["nodes"][0]["output"], serde_json::json!([16, 16, 3]));
}

#[test]
fn predict_names_images_folders_and_arrays() {
    let place = Place::new();
    let model = model(&place);
    place.photos();
    let output = place.done(&["predict", "--weights", "w.safetensors", "photos/ants/0.bmp", "photos", "--json"]);
    let predictions = json(&output)["predictions"].as_array().unwrap().clone();
    let inputs: Vec<_> = predictions.iter().map(|prediction| prediction["input"].as_str().unwrap()).collect();
    assert_eq!(inputs.len(), 7);
    assert_eq!(inputs[..3], ["photos/ants/0.bmp", "photos/ants/0.bmp", "photos/ants/2.bmp"]);
    let top = predictions[0]["top"].as_array().unwrap();
    assert_eq!(top.len(), 2);
    let shares = top.iter().map(|class| class["probability"].as_f64().unwrap());
    assert!((shares.sum::<f64>() - 1.0).abs() < 1e-6);
    let index = top[0]["index"].as_u64().unwrap() as usize;
    assert_eq!(top[0]["label"], model.labels[index].as_str());

    // The same black image, normalised by hand, as an array of two: N×C×H×W.
    let black = vec![-2.0; 2 * 3 * 16 * 16];
    files::save_npy(&place.path("two.npy"), &[2, 3, 16, 16], &black).unwrap();
    let output = json(&place.done(&["predict", "--weights", "w.safetensors", "two.npy", "--json"]));
    let arrays = output["predictions"].as_array().unwrap();
    assert_eq!((&arrays[0]["input"], &arrays[1]["input"]), (&"two.npy[0]".into(), &"two.npy[1]".into()));
    // A plan for another number of images may use other algorithms.
    close(&arrays[0]["logits"], &predictions[0]["logits"]);

    let logits = place.done(&["predict", "--weights", "w.safetensors", "two.npy", "--logits"]);
    let first: Vec<f64> =
        logits.lines().next().unwrap().split_whitespace().skip(1).map(|v| v.parse().unwrap()).collect();
    assert_eq!(first.len(), 2);
    let csv = place.done(&["predict", "--weights", "w.safetensors", "photos/ants/0.bmp", "--csv"]);
    assert!(csv.starts_with("input,rank,index,label,probability\nphotos/ants/0.bmp,1,"), "{csv}");
    assert!(csv.contains(",1,\"bee, bumble\",0."), "{csv}");
}

/// The same numbers within 1e-4 of the largest.
fn close(got: &Value, expected: &Value) {
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let (got, expected) = (numbers(got), numbers(expected));
    let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-4 * largest;
    assert!(got.len() == expected.len() && got.iter().zip(&expected).all(near), "{got:?}, expected {expected:?}");
}

#[test]
fn one_batch_and_many_give_the_same_predictions() {
    let place = Place::new();
    model(&place);
    place.photos();
    let photos: Vec<String> =
        (0..6).map(|index| format!("photos/{}/{index}.bmp", if index % 2 == 0 { "ants" } else { "bees" })).collect();
    let predict = |inputs: &[&str], arguments: &[&str]| {
        let common = ["predict", "--weights", "w.safetensors", "--json"];
        let document = json(&place.done(&[&common[..], inputs, arguments].concat()));
        document["predictions"].as_array().unwrap().clone()
    };
    let all: Vec<&str> = photos.iter().map(String::as_str).collect();
    let together = predict(&all, &[]);
    assert_eq!(together, predict(&all, &["--threads", "1"]), "for any number of threads");
    // In batches of 4 and 2, with weights packed ahead, and each alone.
    let apart = predict(&all, &["--batch-size", "4"]);
    let alone = photos.iter().flat_map(|photo| predict(&[photo], &[]));
    for ((one, other), alone) in together.iter().zip(&apart).zip(alone) {
        assert_eq!((&one["input"], &one["input"]), (&other["input"], &alone["input"]));
        close(&other["logits"], &one["logits"]);
        close(&alone["logits"], &one["logits"]);
    }
    // An array that is a batch, one that is more, and one beside images.
    let values: Vec<f32> = (0..3 * 3 * 16 * 16).map(|index| (index % 23) as f32 / 10.0 - 1.0).collect();
    files::save_npy(&place.path("three.npy"), &[3, 3, 16, 16], &values).unwrap();
    let array = predict(&["three.npy"], &[]);
    assert_eq!(array.len(), 3);
    for others in [predict(&["three.npy"], &["--batch-size", "2"]), predict(&["three.npy", &photos[0]], &[])] {
        array.iter().zip(&others).for_each(|(one, other)| close(&other["logits"], &one["logits"]));
    }
}

#[test]
fn lists_are_tables_and_json() {
    let place = Place::new();
    assert!(place.done(&["models", "list"]).contains("\nresnet50 "));
    let models = json(&place.done(&["models", "list", "--json"]));
    assert!(models["models"].as_array().unwrap().iter().any(|model| model["name"] == "resnet20_a"));
    assert!(place.done(&["data", "list"]).starts_with("shapes10"));
    assert_eq!(json(&place.done(&["data", "list", "--json"]))["datasets"][0]["name"], "shapes10");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let mut child = place
        .command(&["inspect", "resnet1202", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begin = [0; 10];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut begin).unwrap();
    drop(stdout);
    let ran = support::ran(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn the_published_weights_have_their_published_accuracy() {
    let Some(data) = test_data() else { return };
    let place = Place::new();
    let cifar = data.join("cifar-10-batches-bin");
    for (name, file, top1) in
        [("resnet20_a", "resnet20-12fca82f.th", 91.73), ("resnet56_a", "resnet56-4bfd9763.th", 93.39)]
    {
        let weights = data.join("akamaster").join(file);
        let result = json(&place.done(&[
            "eval",
            "--model",
            name,
            "--weights",
            weights.to_str().unwrap(),
            "--data",
            "cifar10",
            "--data-dir",
            cifar.to_str().unwrap(),
            "--mean",
            "0.485,0.456,0.406",
            "--std",
            "0.229,0.224,0.225",
            "--json",
        ]));
        assert_eq!(result["images"], 10_000);
        assert!((result["top1"].as_f64().unwrap() - top1).abs() <= 0.02, "{name}: {result}");
    }
}

#[test]
fn a_folder_of_photographs_is_trained_on() {
    let Some(data) = test_data() else { return };
    let place = Place::new();
    let photos = data.join("hymenoptera");
    let ran =
        place.run(&["train", "--data", photos.to_str().unwrap(), "--model", "resnet20", "--max-steps", "2", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("ignored"), "the file that is no photograph is counted: {}", ran.stderr);
    assert_eq!(json(&ran.stdout)["run"], "runs/1-resnet20-hymenoptera");
}

#[test]
fn a_truncated_photograph_ends_a_transfer_with_its_name_or_is_left_out() {
    let Some(data) = test_data() else { return };
    let place = Place::new();
    let mut whole = Vec::new();
    for (split, class) in [("train", "ants"), ("train", "bees"), ("val", "ants"), ("val", "bees")] {
        let photos = std::fs::read_dir(data.join("hymenoptera").join(split).join(class)).unwrap();
        let mut photos: Vec<_> = photos.map(|entry| entry.unwrap().path()).collect();
        photos.sort();
        photos.retain(|path| path.extension().is_some_and(|extension| extension != "gif"));
        for (index, path) in photos.iter().take(3).enumerate() {
            whole = std::fs::read(path).unwrap();
            place.write(&format!("photos/{split}/{class}/{index}.jpeg"), &whole);
        }
    }
    place.write("photos/train/bees/cut.jpeg", &whole[..whole.len() / 2]);
    place.write("photos/train/ants/moved.gif", b"GIF89a");
    let train = ["train", "--data", "photos", "--model", "resnet20", "--img-size", "64", "--epochs", "1", "-b", "4"];
    let ran = place.run(&train);
    let last = ran.stderr.lines().last().unwrap();
    assert!(ran.code == Some(1) && last.starts_with("error: photos/train/bees/cut.jpeg: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("ignored 1 file with another extension, such as photos/train/ants/moved.gif"));
    let frozen = ["--skip-bad-images", "--freeze", "backbone", "--freeze-bn", "--augment", "none", "--cache-features"];
    for arguments in [&["--skip-bad-images"][..], &frozen] {
        let ran = place.run(&[&train[..], arguments, &["--json"]].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stderr.contains("skipped: photos/train/bees/cut.jpeg: "), "{}", ran.stderr);
        assert_eq!(json(&ran.stdout)["skipped"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn weights_with_other_outputs_get_a_new_head_and_one_line_says_so() {
    let place = Place::new();
    place.photos();
    let short = ["--max-steps", "1", "-b", "4"];
    place.done(
        &[&["train", "--num-classes", "10", "--data", "photos", "--model", "resnet20", "--img-size", "32"], &short[..]]
            .concat(),
    );
    let transfer = ["train", "--data", "photos", "--weights", "runs/1-resnet20-photos", "--freeze", "2"];
    let ran = place.run(&[&transfer[..], &short].concat());
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("head")).collect();
    assert_eq!(
        (ran.code, lines),
        (Some(0), vec!["new head fc: 10 → 2 classes, trained outputs matched by class name"])
    );
    let expected = "error: --freeze: expected 1 to 4 parts (conv1 and bn1, layer1, layer2, layer3), got 5";
    place.refused(&[&transfer[..6], &["5"]].concat(), 2, expected);
}
