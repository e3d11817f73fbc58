//! Parquet files of images, as pyarrow writes them in the layout of the Hugging Face library.
#![cfg(feature = "parquet")]

use crate::support;

use residual_data::{Dataset, Sample, Source, Split};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::write;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn split(path: &Path, split: Split) -> Result<Arc<dyn Dataset>, String> {
    let source = Source::open(path.to_str().unwrap(), None);
    source.and_then(|source| source.split(split)).map_err(|error| error.to_string())
}

fn train(name: &str) -> Arc<dyn Dataset> {
    split(&golden(name), Split::Train).unwrap_or_else(|error| panic!("{error}"))
}

fn labels(set: &dyn Dataset) -> Vec<u32> {
    (0..set.len()).map(|index| set.label(index)).collect()
}

/// The number that an image was made of.
fn number(set: &dyn Dataset, index: usize) -> u8 {
    let Sample::Pixels(image) = set.sample(index).unwrap() else { panic!("files have pixels") };
    assert_eq!((image.height(), image.width(), &image.pixels()[1..3]), (4, 5, &[10, 200][..]));
    image.pixels()[0] / 10
}

#[test]
fn a_dataset_of_the_hub_has_its_images_labels_names_and_splits() {
    let source = Source::open(golden("hub").to_str().unwrap(), None).unwrap();
    assert_eq!(source.splits(), [Split::Train, Split::Test]);
    let set = source.split(Split::Train).unwrap();
    assert_eq!(set.class_names(), ["ant", "bee", "cow"]);
    assert_eq!(labels(&*set), (0..13).map(|number| number % 3).collect::<Vec<_>>());
    // Out of order, across files, row groups and pages.
    for index in [12, 0, 9, 10, 3, 4, 5, 1, 11, 2, 8, 7, 6] {
        assert_eq!(number(&*set, index), index as u8);
    }
    assert!(set.describe(11).ends_with("hub/data/train-00001-of-00002.parquet row 1"), "{}", set.describe(11));
    assert!(set.describe(9).ends_with("train-00000-of-00002.parquet row 9"));
    assert!(set.notes().is_empty() && set.encoded(4).unwrap().unwrap().starts_with(b"\x89PNG"));
    let test = source.split(Split::Test).unwrap();
    assert_eq!((labels(&*test), number(&*test, 1)), (vec![2, 0], 21));
    let fingerprints: std::collections::BTreeSet<u32> = (0..13).map(|index| set.fingerprint(index)).collect();
    assert!(fingerprints.len() >= 12, "{fingerprints:?}");
}

#[test]
fn pages_of_every_kind_have_the_same_images() {
    for name in ["parquet/pages.parquet", "parquet/plain.parquet"] {
        let set = train(name);
        assert_eq!(labels(&*set), [0, 1, 2, 0, 1], "{name}");
        for index in [4, 0, 3, 1, 2, 4] {
            assert_eq!(number(&*set, index), index as u8, "{name}");
        }
    }
}

#[test]
fn labels_are_names_numbers_or_a_column_of_classes() {
    let set = train("parquet/names.parquet");
    assert_eq!((set.class_names().join(" "), labels(&*set)), ("ant cow".into(), vec![1, 0, 1]));
    let set = train("parquet/int32.parquet");
    assert_eq!((set.class_names().join(" "), labels(&*set)), ("0 1 2".into(), vec![2, 0, 2]));
    assert!(set.notes()[0].contains("no classes.txt names the classes"), "{:?}", set.notes());
    let set = train("parquet/cifar.parquet");
    assert_eq!((set.class_names().join(" "), labels(&*set)), ("ant bee cow".into(), vec![2, 1, 0]));
    assert!(set.notes()[0].ends_with("the labels are those of the column fine_label, not of coarse_label"));
    let error = set.sample(1).unwrap_err();
    assert!(error.is_bad_image() && error.to_string().ends_with("row 1: expected the bytes of an image, got none"));
    assert_eq!((number(&*set, 0), number(&*set, 2)), (0, 2));
}

#[test]
fn files_without_images_or_labels_are_refused() {
    let refused = |name: &str| split(&golden(name), Split::Train).err().unwrap();
    for (name, message) in [
        ("parquet/text.parquet", "expected a column of images, image.bytes or image, got text, label"),
        ("parquet/unlabelled.parquet", "row 1, label: expected a label, got none"),
        ("parquet/null.parquet", "row 1, label: expected a label, got none"),
        ("parquet/zstd.parquet", "expected a parquet file that is whole, plain or packed by snappy or gzip, got "),
    ] {
        let error = refused(name);
        assert!(error.contains(message), "{error}, not {message}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    for (bytes, message) in [
        (&b"PAR1"[..], "expected a parquet file, got other bytes at its end"),
        (b"PAR1\xff\xff\xff\xffPAR1", "expected a footer of at most 67108864 bytes, got 4294967295"),
        (b"PAR1abcd\x04\0\0\0PAR1", "expected a parquet file that is whole"),
    ] {
        write(&path, bytes);
        let error = split(&path, Split::Train).err().unwrap();
        assert!(error.contains(message) && error.lines().count() == 1, "{error}, not {message}");
    }
}

#[test]
fn a_cut_or_changed_file_is_an_error_or_another_one_but_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let try_all = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let Ok(set) = split(&path, Split::Train) else { return };
        for index in 0..set.len() {
            if let Err(error) = set.sample(index) {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
            }
        }
    };
    for name in ["hub/data/train-00001-of-00002.parquet", "parquet/pages.parquet", "parquet/names.parquet"] {
        let whole = std::fs::read(golden(name)).unwrap();
        for at in (0..whole.len()).step_by(3) {
            let mut changed = whole.clone();
            changed[at] ^= if at % 2 == 0 { 0xff } else { 0x11 };
            try_all(&changed);
            if at % 48 == 0 {
                try_all(&whole[..at]);
            }
        }
    }
}
