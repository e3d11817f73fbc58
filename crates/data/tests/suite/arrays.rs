//! Files of arrays: IDX, as MNIST's, and numpy archives.

use crate::support;

use residual_data::parse::{parse_idx, parse_npz};
use residual_data::{Dataset, Sample, Source, Split};
use std::path::{Path, PathBuf};
use support::write;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn open(path: &Path) -> Source {
    Source::open(path.to_str().unwrap(), None).unwrap_or_else(|error| panic!("{error}"))
}

fn labels(set: &dyn Dataset) -> Vec<u32> {
    (0..set.len()).map(|index| set.label(index)).collect()
}

fn pixels(set: &dyn Dataset, index: usize) -> ([usize; 3], Vec<u8>) {
    let Sample::Pixels(image) = set.sample(index).unwrap() else { panic!("bytes are pixels") };
    ([image.height(), image.width(), image.channels()], image.into_pixels())
}

/// An IDX file of bytes.
fn idx(shape: &[u32], bytes: &[u8]) -> Vec<u8> {
    let extents: Vec<u8> = shape.iter().flat_map(|extent| extent.to_be_bytes()).collect();
    [&[0, 0, 8, shape.len() as u8], &extents[..], bytes].concat()
}

fn mnist(folder: &Path) {
    write(&folder.join("train-images-idx3-ubyte"), &idx(&[3, 2, 2], &(0..12).collect::<Vec<u8>>()));
    write(&folder.join("train-labels-idx1-ubyte"), &idx(&[3], &[2, 0, 9]));
    write(&folder.join("t10k-images-idx3-ubyte"), &idx(&[1, 2, 2], &[9; 4]));
    write(&folder.join("t10k-labels-idx1-ubyte"), &idx(&[1], &[1]));
}

#[test]
fn idx_files_are_the_splits_of_mnist() {
    let folder = tempfile::tempdir().unwrap();
    mnist(folder.path());
    let source = open(folder.path());
    assert_eq!(source.splits(), [Split::Train, Split::Test]);
    let set = source.split(Split::Train).unwrap();
    assert_eq!((labels(&*set), set.class_names().len()), (vec![2, 0, 9], 10));
    assert_eq!(pixels(&*set, 2), ([2, 2, 1], vec![8, 9, 10, 11]));
    assert_eq!((set.format().channels, set.format().image_size), (1, Some([2, 2])));
    assert!(set.notes()[0].ends_with("no classes.txt names the classes, which are called 0 to 9"));
    let test = source.split(Split::Test).unwrap();
    assert_eq!((labels(&*test), test.class_names().len()), (vec![1], 10));

    // By name: with its classes and statistics, in torchvision's subfolder too.
    for (name, theirs, class) in [("mnist", "MNIST/raw", "9"), ("fashion-mnist", "FashionMNIST/raw", "Ankle boot")] {
        let root = tempfile::tempdir().unwrap();
        mnist(&root.path().join(theirs));
        let set = Source::open(name, Some(root.path())).unwrap().split(Split::Train).unwrap();
        assert_eq!((set.class_names()[9].as_str(), set.notes().len()), (class, 0));
        assert!(set.format().mean != [0.5]);
    }
    let error = Source::open("mnist", None).err().unwrap().to_string();
    assert_eq!(error, "mnist: expected --data-dir, required for mnist, got none");
}

/// The array of a packed file, of a file of gzip's own making.
#[test]
fn a_packed_file_is_unpacked_and_a_plain_one_comes_before_it() {
    let packed = std::fs::read(golden("labels-idx1-ubyte.gz")).unwrap();
    let array = parse_idx(packed.clone(), "l").unwrap();
    assert_eq!((array.shape, array.bytes), (vec![3], vec![2, 0, 9]));
    let folder = tempfile::tempdir().unwrap();
    mnist(folder.path());
    write(&folder.path().join("train-labels-idx1-ubyte.gz"), b"no gzip");
    assert_eq!(labels(&*open(folder.path()).split(Split::Train).unwrap()), [2, 0, 9]);
    std::fs::remove_file(folder.path().join("train-labels-idx1-ubyte")).unwrap();
    let error = open(folder.path()).split(Split::Train).err().unwrap().to_string();
    assert!(error.contains("train-labels-idx1-ubyte.gz: expected an IDX file, got other bytes"), "{error}");
    write(&folder.path().join("train-labels-idx1-ubyte.gz"), &packed);
    assert_eq!(labels(&*open(folder.path()).split(Split::Train).unwrap()), [2, 0, 9]);
    for len in 0..packed.len() {
        assert!(parse_idx(packed[..len].to_vec(), "l").is_err(), "{len}");
    }
}

#[test]
fn idx_files_that_contradict_themselves_are_refused() {
    for (bytes, message) in [
        (b"".to_vec(), "x: expected an IDX file, got other bytes"),
        (b"\0\0\x08\x03\0\0".to_vec(), "x: expected a header, got the end of the file"),
        (b"\0\0\x0d\x01\0\0\0\0".to_vec(), "x: expected elements of unsigned bytes (type 8), got type 13"),
        (idx(&[3], &[1, 2]), "x: expected elements of shape [3], got 2 bytes"),
        (idx(&[u32::MAX, u32::MAX, u32::MAX], &[1]), "expected elements of shape"),
        (idx(&[], &[]), "x: expected elements of shape [], got 0 bytes"),
    ] {
        let error = parse_idx(bytes, "x").unwrap_err().to_string();
        assert!(error.contains(message), "{error}, not {message}");
    }
    let folder = tempfile::tempdir().unwrap();
    mnist(folder.path());
    let refused = |name: &str, bytes: Vec<u8>| {
        let file = folder.path().join(name);
        let before = std::fs::read(&file).unwrap();
        std::fs::write(&file, bytes).unwrap();
        let source = Source::open(folder.path().to_str().unwrap(), None);
        let error = source.and_then(|source| source.split(Split::Train)).err().unwrap().to_string();
        std::fs::write(&file, before).unwrap();
        error
    };
    let error = refused("train-labels-idx1-ubyte", idx(&[2], &[1, 2]));
    assert!(error.ends_with("expected 3 labels, one for each image, got 2"), "{error}");
    let error = refused("train-labels-idx1-ubyte", idx(&[3, 1], &[1, 2, 3]));
    assert!(error.ends_with("expected labels in one dimension, got 2"), "{error}");
    let error = refused("train-images-idx3-ubyte", idx(&[3, 0, 4], &[]));
    assert!(error.ends_with("expected images of at least one pixel and at most 4 channels, got shape [3, 0, 4]"));
    write(&folder.path().join("emnist-train-images-idx3-ubyte"), &idx(&[1, 1, 1], &[1]));
    write(&folder.path().join("emnist-train-labels-idx1-ubyte"), &idx(&[1], &[1]));
    let error = Source::open(folder.path().to_str().unwrap(), None).err().unwrap().to_string();
    assert!(error.contains("expected one file of train images, got emnist-train-images"), "{error}");
}

#[test]
fn numpy_archives_have_the_splits_of_medmnist_and_keras() {
    for name in ["medmnist.npz", "keras.npz"] {
        let source = open(&golden(name));
        let expected = if name == "keras.npz" {
            vec![Split::Train, Split::Test]
        } else {
            vec![Split::Train, Split::Val, Split::Test]
        };
        assert_eq!(source.splits(), expected, "{name}");
        let set = source.split(Split::Train).unwrap();
        assert_eq!((labels(&*set), set.class_names().join(" ")), (vec![2, 0, 1, 2], "0 1 2".into()), "{name}");
        let test = source.split(Split::Test).unwrap();
        assert_eq!((labels(&*test), test.class_names().len()), (vec![1], 3), "{name}");
        let (size, values) = pixels(&*set, 3);
        // As the script made them: the number of the image times 7, the row times 3, the column and the channel.
        let channels = size[2];
        let expected: Vec<u8> = (0..4 * 5 * channels)
            .map(|at| 3 * 7 + (at / (5 * channels)) as u8 * 3 + (at / channels % 5) as u8 + (at % channels) as u8)
            .collect();
        assert_eq!((size, values), ([4, 5, if name == "keras.npz" { 1 } else { 3 }], expected), "{name}");
    }
}

#[test]
fn an_archive_of_floats_is_normalised_and_columns_of_labels_are_several() {
    let source = open(&golden("multilabel.npz"));
    assert!(source.splits().is_empty());
    let set = source.split(Split::Train).unwrap();
    assert!(set.is_multi_label() && set.format().normalized);
    assert_eq!((set.soft_label(0), set.soft_label(1)), (Some(&[1.0, 0.0, 1.0][..]), Some(&[0.0; 3][..])));
    let Sample::Normalized { height, width, channels, values } = set.sample(1).unwrap() else { panic!("floats") };
    // Channels came first: 2 images of 3 channels of 4x5, counted from 0.
    assert_eq!((height, width, channels), (4, 5, 3));
    assert_eq!(values[..4], [60.0, 80.0, 100.0, 61.0]);
    assert!(set.notes()[0].contains("the channels come before the rows"), "{:?}", set.notes());
}

#[test]
fn archives_that_are_damaged_or_without_images_are_refused() {
    let refused = |name: &str, bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        write(&path, bytes);
        let source = Source::open(path.to_str().unwrap(), None);
        source.and_then(|source| source.split(Split::Train)).err().unwrap().to_string()
    };
    assert!(refused("a.npz", b"PK").contains("expected a numpy archive (.npz), got "));
    let whole = std::fs::read(golden("medmnist.npz")).unwrap();
    for at in (0..whole.len()).step_by(5) {
        let mut changed = whole.clone();
        changed[at] ^= 0x55;
        let _ = parse_npz(&changed, "a.npz");
        let _ = parse_npz(&whole[..at], "a.npz");
    }
    let error = refused("a.npz", &std::fs::read(golden("other.npz")).unwrap());
    assert!(error.ends_with("or images and labels, got weights"), "{error}");
}
