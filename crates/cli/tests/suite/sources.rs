//! Data in every form that `--data` takes: training on it gives the bits that training on the folder it was made from gives.

use crate::support;

use residual::Model;
use residual::data::{Container, Source, convert};
use residual::tensor::Stream;
use std::path::Path;
use support::{Place, bmp, json};

/// `noise/`: class folders of 24×24 BMPs of noise, which are different for each image.
fn noise(place: &Place) -> &'static str {
    let mut random = Stream::new(7, &[]);
    for index in 0..12u8 {
        let mut bytes = bmp(24, 24, 0);
        bytes[54..].iter_mut().for_each(|byte| *byte = random.below(256) as u8);
        place.write(&format!("noise/{}/{index}.bmp", ["ants", "bees"][usize::from(index % 2)]), bytes);
    }
    "noise"
}

/// Two epochs of a tiny network on `data`; the last weights.
fn trained(place: &Place, data: &str, flags: &[&str]) -> Model {
    let train =
        ["train", "--data", data, "--model", "resnet20", "--epochs", "2", "-b", "4", "--threads", "1", "--json"];
    let run = json(&place.done(&[&train[..], &["--no-report"], flags].concat()));
    residual::load(place.path(run["run"].as_str().unwrap()).join("weights/last.safetensors")).unwrap()
}

/// Whether two models have the same bits and class names.
fn assert_same(first: &Model, second: &Model, what: &str) {
    assert_eq!(first.labels, second.labels, "{what}");
    assert!(first.tensors == second.tensors, "{what}: other weights");
}

/// The rows of a list of the images in a folder of class folders, in its order.
fn rows(place: &Place, folder: &str) -> Vec<(String, String)> {
    let source = Source::open(place.path(folder).to_str().unwrap(), None).unwrap();
    let set = source.split(residual::data::Split::Train).unwrap();
    let row = |index| {
        let path = set.describe(index);
        let path = Path::new(&path).strip_prefix(place.path(folder)).unwrap().to_str().unwrap().to_owned();
        (path, set.class_names()[set.label(index) as usize].clone())
    };
    (0..set.len()).map(row).collect()
}

#[test]
fn shards_and_lists_train_as_the_folder_that_they_were_made_from() {
    let place = Place::new();
    let folder = noise(&place);
    let flags = ["--img-size", "32"];
    let expected = trained(&place, folder, &flags);
    let source = Source::open(place.path(folder).to_str().unwrap(), None).unwrap();
    let mut containers = vec![("shards", Container::Tar)];
    if cfg!(feature = "parquet") {
        containers.push(("hub", Container::Parquet));
    }
    for (name, container) in containers {
        // Three images a shard.
        let written = convert(&source, &place.path(name), container, 6000).unwrap();
        assert_eq!((written.images, written.files), (12, 4));
        assert_same(&trained(&place, name, &flags), &expected, name);
    }
    // A pattern, whose shards' indices are kept by now; other numbers of workers and threads.
    let pattern = "shards/images-{000000..000003}.tar";
    assert!(place.path("shards/.images-000000.tar.index").is_file());
    let flags_3 = ["--img-size", "32", "-j", "3", "--threads", "3"];
    let train =
        ["train", "--data", pattern, "--model", "resnet20", "--epochs", "2", "-b", "4", "--json", "--no-report"];
    let run = json(&place.done(&[&train[..], &flags_3].concat()));
    let run = run["run"].as_str().unwrap().to_owned();
    let model = residual::load(place.path(&run).join("weights/last.safetensors")).unwrap();
    assert_same(&model, &expected, pattern);
    // The run knows its data, by the pattern.
    let judged = json(&place.done(&["eval", "--weights", &run, "--json"]));
    assert_eq!(judged["images"], 2, "{judged}");

    let rows = rows(&place, folder);
    let csv: String = rows.iter().map(|(path, label)| format!("noise/{path},{label}\n")).collect();
    place.write("list.csv", csv);
    let object = |(path, label): &(String, String)| format!("{{\"path\":\"noise/{path}\",\"label\":\"{label}\"}}\n");
    place.write("list.jsonl", rows.iter().map(object).collect::<String>());
    for list in ["list.csv", "list.jsonl"] {
        assert_same(&trained(&place, list, &flags), &expected, list);
    }
    // Decoded images in memory.
    assert_same(&trained(&place, folder, &[&flags[..], &["--cache-mb", "1"]].concat()), &expected, "--cache-mb");
    // Metadata beside the images, with other labels than the folders: the folders' are not used.
    let csv: String = rows.iter().map(|(path, label)| format!("{path},{label}\n")).collect();
    place.write("noise/metadata.csv", format!("file_name,label\n{csv}"));
    assert_same(&trained(&place, folder, &flags), &expected, "metadata.csv");
}

/// Twelve images of 1,728 bytes in a million fit; two of 750,000 do not.
#[test]
fn decoded_images_that_do_not_fit_in_memory_are_told() {
    let place = Place::new();
    for (class, grey) in [("ants", 0), ("bees", 200)] {
        place.write(&format!("large/{class}/1.bmp"), bmp(500, 500, grey));
    }
    let train =
        ["train", "--data", "large", "--model", "resnet20", "--img-size", "32", "--epochs", "2", "--val-split", "0"];
    let shortage = "cache_mb: 1 of 2 images that were read fit decoded in 1 MB; the others are decoded every time";
    for (megabytes, told) in [("1", 1), ("2", 0)] {
        let ran = place.run(&[&train[..], &["-b", "2", "--no-report", "--cache-mb", megabytes]].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(ran.stderr.matches(shortage).count(), told, "{}", ran.stderr);
    }
    place.tiny_data();
    let train = ["train", "--data", "tiny.safetensors", "--augment", "none", "--max-steps", "1", "--no-report"];
    let ran = place.run(&[&train[..], &["--cache-mb", "1"]].concat());
    assert!(ran.stderr.contains("cache_mb: has no effect, as the dataset's pixels are in memory"), "{}", ran.stderr);
}

#[test]
fn arrays_train_as_the_folder_that_they_were_exported_to() {
    let place = Place::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/noise.npz");
    std::fs::copy(golden, place.path("noise.npz")).unwrap();
    let mut random = Stream::new(5, &[]);
    let pixels: Vec<u8> = (0..12 * 16 * 16).map(|_| random.below(256) as u8).collect();
    let header = |extents: &[u32]| {
        let extents: Vec<u8> = extents.iter().flat_map(|extent| extent.to_be_bytes()).collect();
        [&[0, 0, 8, (extents.len() / 4) as u8], &extents[..]].concat()
    };
    place.write("idx/train-images-idx3-ubyte", [&header(&[12, 16, 16]), &pixels[..]].concat());
    let labels = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1];
    place.write("idx/train-labels-idx1-ubyte", [&header(&[12]), &labels[..]].concat());
    for (data, channels, mean, std) in
        [("noise.npz", "3", "0.485,0.456,0.406", "0.229,0.224,0.225"), ("idx", "1", "0.5", "0.25")]
    {
        let folder = format!("{data}-folder");
        place.done(&["data", "export", data, &folder]);
        let flags = ["--img-size", "16", "--augment", "none", "--crop-pct", "1", "--in-chans", channels];
        let flags = [&flags[..], &["--mean", mean, "--std", std]].concat();
        assert_same(&trained(&place, data, &flags), &trained(&place, &folder, &flags), data);
    }
}

#[test]
fn conversions_are_told_and_lose_nothing() {
    let place = Place::new();
    let folder = noise(&place);
    let shown = place.done(&["data", "convert", folder, "shards", "--to", "tar"]);
    assert_eq!(shown, "folder  shards\nimages  12\nfiles   1\nnext    residual train --data shards\n");
    let document = json(&place.done(&["data", "convert", "shards", "again", "--to", "folder", "--json"]));
    assert_eq!(document, serde_json::json!({ "folder": "again", "images": 12, "files": 12 }));
    let files = |folder: &str| -> Vec<(String, Vec<u8>)> {
        rows(&place, folder)
            .iter()
            .map(|(path, label)| (label.clone(), std::fs::read(place.path(folder).join(path)).unwrap()))
            .collect()
    };
    assert!(files("again") == files(folder));
    place.refused(
        &["data", "convert", folder, "again", "--to", "tar"],
        1,
        "error: again: expected an empty folder or a new one, got a folder with files",
    );
    if cfg!(not(feature = "parquet")) {
        let line = "error: hub: expected a folder or tar shards, as this was built without the feature \"parquet\", got parquet files";
        let ran = place.run(&["data", "convert", folder, "hub", "--to", "parquet"]);
        assert!(ran.code == Some(1) && ran.stderr.trim_end().ends_with(&line[12..]), "{}", ran.stderr);
    }
}

#[test]
fn a_download_that_is_not_possible_says_what_to_do_and_one_that_was_is_installed() {
    let place = Place::new();
    let mut command = place.command(&["data", "fetch", "cifar10"]);
    let ran = support::ran(command.env("RESIDUAL_OFFLINE", "1").output().unwrap());
    let address = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";
    let line = format!(
        "error: {address}: expected a file that was downloaded before, as RESIDUAL_OFFLINE forbids downloads, got none; \
         download {address} yourself and put it at "
    );
    let last = ran.stderr.lines().last().unwrap();
    assert!(
        ran.code == Some(1) && last.starts_with(&line) && last.ends_with("cifar-10-binary.tar.gz"),
        "{}",
        ran.stderr
    );
    assert!(!place.path("data").exists());
    place.refused(
        &["data", "fetch", "cifar11"],
        2,
        "error: data: expected cifar10, cifar100, mnist, fashion-mnist, got \"cifar11\" (did you mean \"cifar10\"?)",
    );
    // The files of MNIST in the cache, written down as the published ones: two images, and one.
    let set = residual::data::OFFICIAL.iter().find(|set| set.name == "mnist").unwrap();
    for file in set.files {
        let name = file.url.rsplit('/').next().unwrap();
        let count = if name.starts_with("train") { 2 } else { 1 };
        let bytes = match name.contains("images") {
            true => [&[0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 2, 0, 0, 0, 2][..], &[9; 4].repeat(count.into())].concat(),
            false => [&[0, 0, 8, 1, 0, 0, 0, count][..], &[7; 1].repeat(count.into())].concat(),
        };
        let folder = "home/hub/url/ossci-datasets.s3.amazonaws.com/mnist";
        place.write(&format!("{folder}/{name}"), bytes);
        let metadata = std::fs::metadata(place.path(&format!("{folder}/{name}"))).unwrap();
        let written = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        let checked = format!("{} {} {}", file.sha256, metadata.len(), written.as_nanos());
        place.write(&format!("{folder}/.{name}.checked"), checked);
    }
    let shown = place.done(&["data", "fetch", "mnist", "--offline", "--data-dir", "sets"]);
    assert_eq!(shown, "folder  sets\nimages  2 train, 1 test\nnext    residual train --data mnist --data-dir sets\n");
    assert!(place.path("sets/mnist/t10k-labels-idx1-ubyte.gz").is_file());
    // What is there is not installed again.
    std::fs::remove_dir_all(place.path("home")).unwrap();
    let document = json(&place.done(&["data", "fetch", "mnist", "--offline", "--data-dir", "sets", "--json"]));
    assert_eq!(document, serde_json::json!({ "name": "mnist", "data_dir": "sets", "images": 3 }));
}

#[test]
fn the_environment_says_what_is_accepted_of_images() {
    let place = Place::new();
    support::small_model(&place);
    // Values of 12 bits in 16.
    place.write("grey.pgm", [&b"P5\n2 2\n65535\n"[..], &[0, 0, 1, 0, 8, 0, 15, 255]].concat());
    let predict = |variable: &str, value: &str| {
        let arguments = ["predict", "--weights", "w.safetensors", "grey.pgm", "--json"];
        support::ran(place.command(&arguments).env(variable, value).output().unwrap())
    };
    let logits = |ran: support::Ran| {
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        json(&ran.stdout)["predictions"][0]["logits"].clone()
    };
    let upper = logits(predict("RESIDUAL_SIXTEEN_BIT", "upper-byte"));
    assert_eq!(upper, logits(predict("RESIDUAL_SIXTEEN_BIT", "")));
    assert_ne!(upper, logits(predict("RESIDUAL_SIXTEEN_BIT", "scale")));
    for (variable, value, line) in [
        (
            "RESIDUAL_SIXTEEN_BIT",
            "refuse",
            "error: grey.pgm: not a supported image: 16 bits per value, which are refused",
        ),
        (
            "RESIDUAL_SIXTEEN_BIT",
            "lower",
            "error: RESIDUAL_SIXTEEN_BIT: expected upper-byte, scale, refuse, got \"lower\"",
        ),
        (
            "RESIDUAL_MAX_PIXELS",
            "3",
            "error: grey.pgm: image of 2x2: expected sides of at most 16384 and at most 3 pixels",
        ),
        (
            "RESIDUAL_MAX_PIXELS",
            "many",
            "error: RESIDUAL_MAX_PIXELS: expected a number of 1 to 4294967296, got \"many\"",
        ),
    ] {
        let ran = predict(variable, value);
        assert!(ran.code != Some(0) && ran.stderr.starts_with(line), "{}", ran.stderr);
    }
}

/// The commands of docs/datasets.md, on small stand-ins for the files they name; trainings are cut short.
#[test]
fn every_command_of_the_page_about_datasets_runs() {
    let place = Place::new();
    place.photos();
    for (index, class) in [(0, "ants"), (1, "bees"), (2, "ants"), (3, "bees")] {
        place.write(&format!("images/{index}.bmp"), bmp(16, 16, 40 * index));
        let split = if index < 2 { "train" } else { "test" };
        for folder in ["labelled/train", "labelled/test"] {
            place.write(&format!("{folder}/{index}.bmp"), bmp(16, 16, 40 * index));
        }
        let line = |list: &str, text: String| {
            let before = std::fs::read_to_string(place.path(list)).unwrap_or_default();
            place.write(list, before + &text);
        };
        line("images.csv", format!("images/{index}.bmp,{class}\n"));
        line("images.jsonl", format!("{{\"path\":\"images/{index}.bmp\",\"label\":\"{class}\"}}\n"));
        let head = if index % 2 == 0 { "file_name,label\n" } else { "" };
        line(&format!("labelled/{split}/metadata.csv"), format!("{head}{index}.bmp,{class}\n"));
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/noise.npz");
    std::fs::copy(golden, place.path("noise.npz")).unwrap();
    for (split, count) in [("train", 4), ("t10k", 2)] {
        let images =
            [&[0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28][..], &vec![9; 28 * 28 * usize::from(count)]];
        place.write(&format!("data/mnist/{split}-images-idx3-ubyte"), images.concat());
        let labels = [&[0, 0, 8, 1, 0, 0, 0, count][..], &(0..count).collect::<Vec<u8>>()].concat();
        place.write(&format!("data/mnist/{split}-labels-idx1-ubyte"), labels);
    }
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/datasets.md")).unwrap();
    let commands: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("    residual ")).collect();
    assert!(commands.len() > 12, "{commands:?}");
    for command in commands {
        if command.contains("hub") && cfg!(not(feature = "parquet")) {
            eprintln!("skipped, built without parquet: residual {command}");
            continue;
        }
        let mut arguments: Vec<&str> = command.split_whitespace().map(|argument| argument.trim_matches('\'')).collect();
        if arguments[0] == "train" {
            arguments.extend(["--max-steps", "2", "-b", "2", "--no-report", "--threads", "1"]);
            if !arguments.contains(&"mnist") {
                arguments.extend(["--img-size", "32"]);
            }
        }
        let stdout = place.done(&arguments);
        let expected = if arguments[0] == "train" { "\nNext:\n" } else { "images" };
        assert!(stdout.contains(expected) || arguments[1] == "list", "residual {command}: {stdout}");
    }
}
