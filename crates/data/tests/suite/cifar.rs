//! CIFAR in both official layouts, whole and damaged.

use crate::support;

use std::path::Path;

use residual_data::parse::{parse_binary, parse_python};
use residual_data::{Cifar, CifarKind, Dataset, Sample, Source, Split};
use support::{test_data, write};

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// The pixels of golden/make.py.
fn planes() -> Vec<u8> {
    (0..2 * 3072u32).map(|at| (at * 7 % 251) as u8).collect()
}

fn record(labels: &[u8], fill: u8) -> Vec<u8> {
    [labels, &[fill; 3072]].concat()
}

#[test]
fn every_protocol_of_the_python_layout_gives_the_same_images() {
    let names = ["python2", "protocol2", "protocol4", "protocol5", "columns"];
    for name in names {
        let records = parse_python(&golden(&format!("cifar10-{name}.pickle")), CifarKind::Cifar10, name).unwrap();
        assert_eq!((records.labels, records.pixels == planes()), (vec![3, 9], true), "{name}");
    }
    let records = parse_python(&golden("cifar100-protocol2.pickle"), CifarKind::Cifar100, "fine").unwrap();
    assert_eq!(records.labels, [99, 0]);
}

#[test]
fn both_layouts_are_found_in_the_folder_and_in_its_usual_sub_folders() {
    let data = tempfile::tempdir().unwrap();
    let test = golden("cifar10-python2.pickle");
    write(&data.path().join("a/test_batch"), &test);
    write(&data.path().join("b/cifar-10-batches-py/test_batch"), &test);
    let binary = [&[3][..], &planes()[..3072], &[9], &planes()[3072..]].concat();
    write(&data.path().join("c/test_batch.bin"), &binary);
    write(&data.path().join("d/cifar-10-batches-bin/test_batch.bin"), &binary);
    for folder in ["a", "b", "c", "d"] {
        let source = Source::open("cifar10", Some(&data.path().join(folder))).unwrap();
        let set = source.split(Split::Test).unwrap();
        assert_eq!((set.len(), set.label(0), set.label(1)), (2, 3, 9));
        assert_eq!(set.class_names()[9], "truck", "the built-in names");
        let Sample::Pixels(image) = set.sample(1).unwrap() else { panic!("CIFAR has pixels") };
        let planes = &planes()[3072..];
        assert_eq!(image.pixels()[..6], [planes[0], planes[1024], planes[2048], planes[1], planes[1025], planes[2049]]);
        assert!(set.describe(1).ends_with(" image 1"), "{}", set.describe(1));
        let error = source.split(Split::Train).err().unwrap().to_string();
        assert!(error.contains("data_batch_1"), "{error}");
    }
}

#[test]
fn class_names_beside_the_images_win() {
    let data = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..10).map(|name| format!("class {name}")).collect();
    write(&data.path().join("test_batch.bin"), &record(&[7], 0));
    write(&data.path().join("batches.meta.txt"), (names.join("\r\n") + "\n\n").as_bytes());
    let set = Cifar::open(CifarKind::Cifar10, data.path(), Split::Test).unwrap();
    assert_eq!(set.class_names(), names);
    write(&data.path().join("batches.meta.txt"), b"one\ntwo\n");
    let error = Cifar::open(CifarKind::Cifar10, data.path(), Split::Test).err().unwrap().to_string();
    assert!(error.ends_with("batches.meta.txt: expected 10 class names, got 2"), "{error}");
    write(&data.path().join("batches.meta.txt"), names.join("\n").replace("class 7", "class 3").as_bytes());
    let error = Cifar::open(CifarKind::Cifar10, data.path(), Split::Test).err().unwrap().to_string();
    assert!(error.ends_with("expected a name of its own for each class, got \"class 3\" twice"), "{error}");
}

#[test]
fn a_missing_folder_says_what_was_looked_for() {
    let data = tempfile::tempdir().unwrap();
    let error = Source::open("cifar100", Some(data.path())).unwrap_err().to_string();
    assert!(error.contains("expected test.bin or test, here or in cifar-100-binary or cifar-100-python"), "{error}");
    assert!(Source::open("cifar10", None).unwrap_err().to_string().contains("--data-dir"));
}

#[test]
fn a_damaged_binary_file_is_named_with_its_offset() {
    let message = |bytes: &[u8], kind| parse_binary(bytes, kind, "f.bin").unwrap_err().to_string();
    let cut = [record(&[1], 0), record(&[2], 0)].concat();
    assert_eq!(
        message(&cut[..3073 + 100], CifarKind::Cifar10),
        "f.bin: offset 3073: expected a record of 3073 bytes, got 100 (the file has 3173 bytes)"
    );
    assert!(message(&[], CifarKind::Cifar10).contains("offset 0"));
    let label = [record(&[1], 0), record(&[10], 0)].concat();
    assert_eq!(message(&label, CifarKind::Cifar10), "f.bin: offset 3073: expected a label from 0 to 9, got 10");
    let label = record(&[0, 100], 0);
    assert_eq!(message(&label, CifarKind::Cifar100), "f.bin: offset 1: expected a label from 0 to 99, got 100");
    assert!(parse_binary(&record(&[255, 99], 0), CifarKind::Cifar100, "").is_ok(), "coarse labels are not used");
}

#[test]
fn a_pickle_is_never_executed() {
    let error = parse_python(&golden("attack.pickle"), CifarKind::Cifar10, "attack").unwrap_err().to_string();
    assert_eq!(error, "attack: expected \"data\" to be an array of u8, got something else");
    assert!(!Path::new("/tmp/residual-pickle-was-executed").exists());
}

#[test]
fn a_cut_or_changed_pickle_is_an_error_or_other_images_but_no_panic() {
    let whole = golden("cifar10-protocol4.pickle");
    for len in (0..whole.len()).filter(|len| len % 37 == 0 || *len < 200 || len + 200 > whole.len()) {
        assert!(parse_python(&whole[..len], CifarKind::Cifar10, "cut").is_err(), "{len} bytes");
    }
    for file in ["cifar10-protocol2.pickle", "cifar10-protocol5.pickle", "cifar10-python2.pickle"] {
        let whole = golden(file);
        let interesting = (0..300).chain(whole.len() - 200..whole.len());
        for at in interesting {
            for value in [0, 1, 0x28, 0x52, 0x62, 0x7f, 0x80, 0x94, 0xff, whole[at].wrapping_add(1)] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = parse_python(&changed, CifarKind::Cifar10, "changed");
            }
        }
    }
}

#[test]
fn a_pickle_cannot_ask_for_more_memory_than_its_size_warrants() {
    // Lengths of 2^63 bytes, endless copies of one text, and a list that holds itself.
    let long = b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.".to_vec();
    let mut copies = b"\x80\x02c_codecs\nencode\nq\x00X\x00\x10\x00\x00".to_vec();
    copies.extend([b'a'; 4096]);
    copies.extend(b"q\x01X\x06\x00\x00\x00latin1q\x020");
    copies.extend(b"h\x00h\x01h\x02\x86R".repeat(100_000));
    let itself = b"\x80\x02]q\x00h\x00a.".to_vec();
    for bytes in [long, copies, itself, b"0".repeat(100), b"(".repeat(5 << 20), b"N".repeat(5 << 20)] {
        assert!(parse_python(&bytes, CifarKind::Cifar10, "greedy").is_err());
    }
}

#[test]
fn the_official_counts_are_read() {
    let Some(data) = test_data() else { return };
    for (name, counts, first) in [("cifar10", [50_000, 10_000], "airplane"), ("cifar100", [5_000, 1_000], "apple")] {
        let folder = data.join(if name == "cifar10" { "cifar-10-batches-bin" } else { "cifar-100-binary" });
        for place in [&data, &folder] {
            let source = Source::open(name, Some(place)).unwrap();
            for (split, count) in [Split::Train, Split::Test].into_iter().zip(counts) {
                let set = source.split(split).unwrap();
                assert_eq!((set.len(), set.class_names()[0].as_str()), (count, first));
                let mut classes = vec![0; set.class_names().len()];
                (0..set.len()).for_each(|index| classes[set.label(index) as usize] += 1);
                assert!(classes.iter().all(|&members| members == count / classes.len()), "balanced");
            }
        }
    }
}

#[test]
fn the_usual_statistics_are_those_of_the_training_images() {
    let Some(data) = test_data() else { return };
    let set = Source::open("cifar10", Some(&data)).unwrap().split(Split::Train).unwrap();
    let (mut sums, mut squares) = ([0.0f64; 3], [0.0f64; 3]);
    for index in (0..set.len()).step_by(10) {
        let Sample::Pixels(image) = set.sample(index).unwrap() else { panic!("CIFAR has pixels") };
        for (at, &value) in image.pixels().iter().enumerate() {
            sums[at % 3] += f64::from(value) / 255.0;
            squares[at % 3] += (f64::from(value) / 255.0).powi(2);
        }
    }
    let count = set.len() as f64 / 10.0 * 1024.0;
    for channel in 0..3 {
        let mean = sums[channel] / count;
        let std = (squares[channel] / count - mean * mean).sqrt();
        assert!((mean - f64::from(set.format().mean[channel])).abs() < 0.005, "{mean}");
        assert!((std - f64::from(set.format().std[channel])).abs() < 0.005, "{std}");
    }
}
