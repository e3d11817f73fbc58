//! Conversions between folders, tar and parquet keep images, order and class names.

use crate::support;

use residual_data::{Container, Converted, Source, Split, convert, export};
use std::path::Path;
use support::{png, write};

fn open(path: &Path) -> Source {
    Source::open(path.to_str().unwrap(), None).unwrap_or_else(|error| panic!("{error}"))
}

/// Class names, and the label and the file of each image.
type Content = (Vec<String>, Vec<(u32, Vec<u8>)>);

fn content(source: &Source, split: Split) -> Content {
    let set = source.split(split).unwrap_or_else(|error| panic!("{error}"));
    let image = |index| (set.label(index), set.encoded(index).unwrap().expect("a file"));
    (set.class_names().to_vec(), (0..set.len()).map(image).collect())
}

/// A folder with two splits, whose names tell nothing of the order of images, and files of several formats.
fn photos(root: &Path) {
    let colored = |value: u8| png(3, 4, [value, 10, 20]);
    let jpeg =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../preprocess/tests/golden/jpeg-420.jpg")).unwrap();
    for (name, bytes) in [
        ("train/ant 1/b.PNG", colored(1)),
        ("train/ant 1/a.jpeg", jpeg),
        ("train/bee/z.png", colored(3)),
        ("train/bee/y.bmp", colored(4)),
        ("train/bee/deep/x.png", colored(5)),
        ("train/cow/1.png", colored(6)),
        ("val/cow/1.png", colored(7)),
    ] {
        write(&root.join(name), &bytes);
    }
}

/// The containers that this build writes.
const CONTAINERS: &[Container] = if cfg!(feature = "parquet") {
    &[Container::Tar, Container::Parquet, Container::Folder]
} else {
    &[Container::Tar, Container::Folder]
};

#[test]
fn every_container_has_the_same_images_and_classes_in_the_same_order() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("photos");
    photos(&folder);
    let original = open(&folder);
    let expected = [Split::Train, Split::Val].map(|split| content(&original, split));
    let mut sources = vec![original];
    // From each container to each: whatever one loses, the next one lacks.
    for round in 0..2 {
        let mut next = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            for &container in CONTAINERS {
                let place = root.path().join(format!("{round}-{number}-{container:?}"));
                // A shard holds about two images.
                let written = convert(source, &place, container, 200).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(written.images, 7);
                assert!(written.files >= 4, "{written:?}");
                let source = open(&place);
                assert_eq!(source.splits(), [Split::Train, Split::Val]);
                for (split, expected) in [Split::Train, Split::Val].into_iter().zip(&expected) {
                    assert!(content(&source, split) == *expected, "{container:?} of round {round}, {split}");
                }
                next.push(source);
            }
        }
        sources = next;
    }
}

#[test]
fn pixels_become_png_files_and_a_set_without_splits_stays_one() {
    let root = tempfile::tempdir().unwrap();
    for (number, value) in [9, 5, 7].into_iter().enumerate() {
        write(&root.path().join(format!("photos/{}/{number}.png", ["x", "y", "x"][number])), &png(2, 2, [value; 3]));
    }
    let photos = open(&root.path().join("photos"));
    let place = root.path().join("shards");
    let written = convert(&photos, &place, Container::Tar, 1 << 20).unwrap();
    assert_eq!(written, Converted { images: 3, files: 1 });
    assert!(place.join("images-000000.tar").is_file() && open(&place).splits().is_empty());
    assert_eq!(std::fs::read_to_string(place.join("classes.txt")).unwrap(), "x\ny\n");
    let shapes = Source::open("shapes10", None).unwrap().split(Split::Test).unwrap();
    assert!(shapes.encoded(0).unwrap().is_none());
    // Over what is there, nothing is written.
    let error = convert(&photos, &place, Container::Tar, 1).unwrap_err().to_string();
    assert!(error.ends_with("expected an empty folder or a new one, got a folder with files"), "{error}");

    // A GIF file, which folders are not searched for, becomes a PNG file there, and stays one elsewhere.
    let gif =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../preprocess/tests/golden/palette.gif")).unwrap();
    write(&root.path().join("a.gif"), &gif);
    write(&root.path().join("list.csv"), b"a.gif,x\n");
    let list = open(&root.path().join("list.csv"));
    let [tar, folder] = [Container::Tar, Container::Folder].map(|container| {
        let place = root.path().join(format!("gif-{container:?}"));
        convert(&list, &place, container, 1 << 20).unwrap();
        open(&place)
    });
    assert!(content(&tar, Split::Train).1[0].1 == gif);
    assert!(content(&folder, Split::Train).1[0].1.starts_with(b"\x89PNG"));
    let sample = |source: &Source| source.split(Split::Train).unwrap().sample(0).unwrap();
    assert!(sample(&folder) == sample(&list));
}

#[test]
fn class_names_that_lines_cannot_hold_are_written_as_json() {
    let root = tempfile::tempdir().unwrap();
    let names = [" spaced", "two\nlines", "z"];
    let rows: String =
        names.iter().map(|name| format!("{{\"path\":\"a.png\",\"label\":{}}}\n", serde_json::json!(name))).collect();
    write(&root.path().join("a.png"), &png(2, 2, [1; 3]));
    // Lists trim names; folders have them as they are.
    write(&root.path().join("list.jsonl"), rows.as_bytes());
    let list = open(&root.path().join("list.jsonl"));
    let place = root.path().join("shards");
    convert(&list, &place, Container::Tar, 1 << 20).unwrap();
    assert!(place.join("classes.json").is_file() && !place.join("classes.txt").exists());
    assert_eq!(content(&open(&place), Split::Train), content(&list, Split::Train));
}

#[test]
fn what_a_container_cannot_hold_is_refused() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("a.png"), b"no image");
    let refused = |list: &str, container| {
        let path = root.path().join("list.csv");
        write(&path, list.as_bytes());
        let place = root.path().join("out");
        let error = convert(&open(&path), &place, container, 1).unwrap_err().to_string();
        assert!(!place.exists());
        error
    };
    for container in [Container::Folder, Container::Tar] {
        let error = refused("path,labels\na.png,x;y\n", container);
        assert!(error.ends_with("expected one label per image, as a folder of class folders has, got several labels"));
        let error = refused("a.png,x\n", container);
        assert!(error.ends_with("the bytes are those of no image format that is read"), "{error}");
    }
    let error = refused("a.png,x/y\n", Container::Folder);
    assert_eq!(error, "class \"x/y\": expected a name that a folder can have, got another");
    // Probabilities of classes are more than labels.
    let header = r#"{"images":{"dtype":"U8","shape":[1,1,1,1],"data_offsets":[0,1]},"labels":{"dtype":"F32","shape":[1,2],"data_offsets":[1,9]}}"#;
    let data = [&[7][..], &0.25f32.to_le_bytes(), &0.75f32.to_le_bytes()].concat();
    let soft = root.path().join("soft.safetensors");
    write(&soft, &support::safetensors(header, &data));
    let error = export(&open(&soft), &root.path().join("out")).unwrap_err().to_string();
    assert!(error.ends_with("got probabilities of classes"), "{error}");
}
