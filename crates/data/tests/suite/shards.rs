//! Tar shards: as webdataset writes them, in any order, indexed once, damaged.

use crate::support;

use residual_data::parse::parse_tar_shard;
use residual_data::{Batch, Dataset, Loader, LoaderOptions, Sample, Sampler, Source, Split, Transform};
use residual_files::TarWriter;
use residual_preprocess::Preprocessing;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{png, write};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn open(name: &Path) -> Source {
    Source::open(name.to_str().unwrap(), None).unwrap_or_else(|error| panic!("{error}"))
}

fn train(name: &Path) -> Arc<dyn Dataset> {
    open(name).split(Split::Train).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(name: &Path) -> String {
    let split = Source::open(name.to_str().unwrap(), None).and_then(|source| source.split(Split::Train));
    split.err().expect("an error").to_string()
}

fn labels(set: &dyn Dataset) -> Vec<u32> {
    (0..set.len()).map(|index| set.label(index)).collect()
}

/// The first pixel of an image.
fn pixel(set: &dyn Dataset, index: usize) -> Vec<u8> {
    let Sample::Pixels(image) = set.sample(index).unwrap() else { panic!("shards have pixels") };
    image.pixels()[..3].to_vec()
}

/// An archive of these files.
fn tar<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    files.into_iter().for_each(|(name, content)| writer.append(name, content).unwrap());
    writer.finish().unwrap()
}

/// A copy of the golden shards, as an index is kept beside them.
fn webdataset() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["train-000000.tar", "train-000001.tar", "val-000000.tar", "classes.txt"] {
        std::fs::copy(golden("webdataset").join(name), folder.path().join(name)).unwrap();
    }
    folder
}

#[test]
fn shards_of_webdataset_have_their_images_labels_names_and_splits() {
    let folder = webdataset();
    let source = open(folder.path());
    assert_eq!(source.splits(), [Split::Train, Split::Val]);
    let set = source.split(Split::Train).unwrap();
    assert_eq!((set.class_names().join(" "), labels(&*set)), ("ant bee cow".into(), vec![0, 1, 2, 0, 1, 2]));
    for index in 0..6 {
        assert_eq!(pixel(&*set, index), [40 * index as u8, 10, 200]);
        assert!(set.describe(index).ends_with(&format!("train-00000{}.tar: a.b/0000{index}.png", index / 4)));
    }
    let file = set.encoded(5).unwrap().unwrap();
    assert!(file.starts_with(b"\x89PNG") && file.ends_with(b"IEND\xaeB`\x82"));
    assert!(set.notes()[0].ends_with("classes.txt") && set.notes().len() == 1, "{:?}", set.notes());
    let val = source.split(Split::Val).unwrap();
    assert_eq!((labels(&*val), val.class_names().len()), (vec![1, 2], 3));
    assert!(source.split(Split::Test).is_err());
    // Names in JSON instead of indices, in one file without splits.
    let json = folder.path().join("json/set.tar");
    write(&json, &std::fs::read(golden("webdataset-json/set.tar")).unwrap());
    let set = train(&json);
    assert_eq!((set.class_names().join(" "), labels(&*set)), ("ant bee cow".into(), vec![0, 1, 2]));
    assert!(open(&json).splits().is_empty() && set.notes().is_empty(), "{:?}", set.notes());
}

#[test]
fn a_pattern_in_braces_names_its_shards_in_order() {
    let folder = webdataset();
    let pattern = folder.path().join("train-{000001..000000}.tar");
    let set = train(&pattern);
    assert_eq!(labels(&*set), [1, 2, 0, 1, 2, 0]);
    assert_eq!((set.place(), set.class_names()[0].as_str()), (pattern.display().to_string(), "ant"));
    let missing = folder.path().join("train-{000000..000002}.tar");
    assert!(refused(&missing).ends_with("train-000002.tar"), "{}", refused(&missing));
    let lists = folder.path().join("{a,b}.csv");
    ["a.csv", "b.csv"].iter().for_each(|name| write(&folder.path().join(name), b"a.png,x"));
    assert!(refused(&lists).ends_with("expected the names of .tar or of .parquet files, got other files"));
}

#[test]
fn splits_are_in_names_or_folders_and_images_beside_shards_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let image = png(2, 2, [1, 2, 3]);
    let shard = |label: &str| tar([("0.png", &image[..]), ("0.cls", label.as_bytes())]);
    for (name, label) in [("data/train/a.tar", "x"), ("data/train/b.tar", "y"), ("data/validation/c.tar", "y")] {
        write(&folder.path().join(name), &shard(label));
    }
    let source = open(folder.path());
    assert_eq!(source.splits(), [Split::Train, Split::Val]);
    let val = source.split(Split::Val).unwrap();
    assert_eq!((val.class_names().join(" "), labels(&*val)), ("x y".into(), vec![1]));
    // A class that the training shards lack.
    write(&folder.path().join("data/validation/d.tar"), &shard("z"));
    let error = open(folder.path()).split(Split::Val).err().unwrap().to_string();
    assert!(error.ends_with("expected classes among \"x\", \"y\", got \"z\""), "{error}");

    let mixed = tempfile::tempdir().unwrap();
    ["train-0.tar", "extra.tar"].iter().for_each(|name| write(&mixed.path().join(name), &shard("x")));
    let expected = "expected the name of a split in each shard's name, or in none, got \"extra.tar\"";
    assert!(refused(mixed.path()).ends_with(expected));

    // The archive that class folders were unpacked from does not hide them.
    let photos = tempfile::tempdir().unwrap();
    write(&photos.path().join("photos.tar"), &shard("x"));
    ["cat/1.png", "dog/1.png"].iter().for_each(|name| write(&photos.path().join(name), &image));
    assert_eq!(train(photos.path()).class_names(), ["cat", "dog"]);

    // Training runs, which are no images, hide no shards.
    let beside = tempfile::tempdir().unwrap();
    write(&beside.path().join("a.tar"), &shard("x"));
    write(&beside.path().join("runs/1-net/config.toml"), b"");
    std::fs::create_dir(beside.path().join("runs/1-net/weights")).unwrap();
    assert_eq!(train(beside.path()).class_names(), ["x"]);
    write(&beside.path().join("b.parquet"), b"");
    assert!(refused(beside.path()).ends_with("expected tar or parquet shards, got both"));
}

#[test]
fn classes_without_a_list_are_their_indices_and_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let image = png(2, 2, [1, 2, 3]);
    let files = [("0.png", &image[..]), ("0.cls", b"2"), ("1.txt", b" 0\n"), ("1.PNG", &image), ("README", b"hello")];
    let path = folder.path().join("a.tar");
    write(&path, &tar(files));
    let set = train(&path);
    assert_eq!((set.class_names().join(" "), labels(&*set)), ("0 1 2".into(), vec![2, 0]));
    let notes: Vec<&str> = set.notes().iter().map(|note| note.split_once(": ").unwrap().1).collect();
    let expected =
        ["no classes.txt names the classes, which are called 0 to 2", "ignored 1 file that belong to no image"];
    assert_eq!(notes, expected);
    write(&folder.path().join("labels.json"), br#"{"a":0,"b":1}"#);
    assert!(refused(&path).contains("labels.json, got 2"), "{}", refused(&path));
}

#[test]
fn an_index_is_kept_and_used_until_its_shard_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let image = png(2, 2, [1, 2, 3]);
    write(&path, &tar([("0.png", &image[..]), ("0.cls", b"cat")]));
    let before = train(&path);
    let kept = folder.path().join(".a.tar.index");
    let text = std::fs::read_to_string(&kept).unwrap();
    assert!(text.starts_with("residual tar index 1,") && text.contains("\n0.png,512,"), "{text}");
    // Another label in the index is another label of the image: the shard was not read again.
    std::fs::write(&kept, text.replace(",cat", ",dog")).unwrap();
    assert_eq!(train(&path).class_names(), ["dog"]);
    // A damaged index, and one of another version of the shard, is made anew.
    std::fs::write(&kept, &text[..text.len() / 2]).unwrap();
    assert_eq!(train(&path).class_names(), ["cat"]);
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), text);
    assert_eq!(train(&path).fingerprint_set(), before.fingerprint_set());
    write(&path, &tar([("0.png", &png(3, 3, [0; 3])[..]), ("0.cls", b"owl")]));
    let after = train(&path);
    assert_eq!(after.class_names(), ["owl"]);
    assert_ne!(after.fingerprint_set(), before.fingerprint_set());
    // Where it cannot be kept, which is told, shards are read all the same.
    std::fs::remove_file(&kept).unwrap();
    std::fs::create_dir(&kept).unwrap();
    let set = train(&path);
    assert_eq!(set.class_names(), ["owl"]);
    assert!(set.notes()[0].contains("the index cannot be kept: "), "{:?}", set.notes());
}

#[test]
fn batches_are_the_same_for_any_number_of_workers_and_from_the_middle_of_an_epoch() {
    let folder = webdataset();
    let set = train(folder.path());
    let transform = Transform::evaluation(Preprocessing::unscaled([4, 5], &[0.0; 3], &[1.0; 3])).unwrap();
    let batches = |workers, start_batch| -> Vec<(Vec<usize>, Vec<u32>, Vec<f32>)> {
        let sampler = Sampler::Shuffle;
        let options =
            LoaderOptions { batch_size: 2, sampler, seed: 3, epoch: 1, workers, start_batch, ..Default::default() };
        let content = |batch: Result<Batch, _>| {
            let batch = batch.unwrap();
            (batch.indices().to_vec(), batch.labels().to_vec(), batch.images().to_vec())
        };
        Loader::new(set.clone(), transform.clone(), options).unwrap().map(content).collect()
    };
    let alone = batches(0, 0);
    assert_eq!(alone.len(), 3);
    let order: Vec<usize> = alone.iter().flat_map(|(indices, ..)| indices.clone()).collect();
    let last_shard: Vec<usize> = (0..6).filter(|&position| order[position] >= 4).collect();
    assert_ne!(last_shard, [4, 5], "shuffled across shards");
    for workers in [1, 3] {
        assert!(batches(workers, 0) == alone);
        assert!(batches(workers, 2)[..] == alone[2..]);
    }
}

#[test]
fn a_sample_that_is_not_whole_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let image = &png(2, 2, [1, 2, 3])[..];
    let long = vec![b'x'; 300];
    let huge = vec![b'1'; 5000];
    let expected_label =
        "a label: a file of the same name with .cls, .json or .txt, right before or after it, got none";
    for (files, message) in [
        (vec![("0.png", image), ("1.cls", b"x")], format!("0.png: expected {expected_label}")),
        (vec![("0.png", image), ("0.cls", b" ")], format!("0.png: expected {expected_label}")),
        (vec![("0.png", image), ("0.json", b"{\"width\":3}")], format!("0.png: expected {expected_label}")),
        (vec![("0.cls", b"x")], "expected images with labels (000.jpg and 000.cls), got none".into()),
        (
            vec![("0.seg.png", image), ("0.cls", b"x")],
            "expected images with labels (000.jpg and 000.cls), got none".into(),
        ),
        (
            vec![("0.png", image), ("0.jpg", image), ("0.cls", b"x")],
            "expected one image and one label for each sample, got 0.png and 0.jpg".into(),
        ),
        (vec![("0.png", image), ("0.cls", &long)], "0.png: expected a label of at most 256 bytes, got 300".into()),
        (vec![("0.png", image), ("0.cls", &huge)], "expected a file of another length, got 5000 bytes".into()),
        (vec![("0.png", image), ("0.cls", b"\xff")], "0.png: expected a label in UTF-8, got other bytes".into()),
        (
            vec![("0.png", image), ("0.json", b"{\"label\":[1]}")],
            "0.png: expected a label in its JSON file, got another value than a name or an index".into(),
        ),
        (vec![("0.png", image), ("0.json", b"{")], "0.png: expected a label in its JSON file, got EOF".into()),
    ] {
        write(&path, &tar(files));
        let error = refused(&path);
        assert!(error.contains(&message) && error.lines().count() == 1, "{error}, not {message}");
        assert!(!folder.path().join(".a.tar.index").exists() || message.contains("images with labels"), "{message}");
        let _not_always_there = std::fs::remove_file(folder.path().join(".a.tar.index"));
    }
    // A damaged image is a bad image, which may be skipped; a shard that is cut is an error of the whole.
    write(&path, &tar([("0.png", &image[..40]), ("0.cls", b"x")]));
    let error = train(&path).sample(0).unwrap_err();
    assert!(error.is_bad_image() && error.to_string().contains("a.tar: 0.png: not a readable image"), "{error}");
    let whole = tar([("0.png", image), ("0.cls", b"x")]);
    write(&path, &whole[..whole.len() - 1024]);
    assert!(refused(&path).ends_with("expected the end mark of a tar archive, got the end of the file"));
    let gz = folder.path().join("a.tar.gz");
    write(&gz, b"\x1f\x8b");
    assert!(refused(&gz).ends_with("got a compressed file (unpack it first)"));
}

#[test]
fn a_cut_or_changed_shard_is_an_error_or_another_one_but_no_panic() {
    let whole = std::fs::read(golden("webdataset/val-000000.tar")).unwrap();
    assert!(parse_tar_shard(&whole, "v.tar").unwrap().is_some());
    for at in (0..whole.len()).step_by(11) {
        let _ = parse_tar_shard(&whole[..at], "v.tar");
        for byte in [0, b'9', 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] = byte;
            if let Err(error) = parse_tar_shard(&changed, "v.tar") {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
            }
        }
    }
}
