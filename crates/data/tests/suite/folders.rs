//! Image folders, whole and damaged, and export to them.

use crate::support;

use residual_data::{
    Dataset, Folder, HeldOut, Loader, LoaderOptions, Part, Sample, Source, Split, Transform, export, read_image,
    stratified_split,
};
use residual_preprocess::Preprocessing;
use std::path::Path;
use support::{png, test_data, write};

fn names(set: &dyn Dataset) -> Vec<&str> {
    set.class_names().iter().map(String::as_str).collect()
}

fn open(root: &Path) -> Source {
    Source::open(root.to_str().unwrap(), None).unwrap()
}

#[test]
fn classes_are_sorted_and_strays_are_counted_once() {
    let root = tempfile::tempdir().unwrap();
    let image = png(4, 5, [1, 2, 3]);
    for file in ["wasps/b.PNG", "wasps/deep/er/a.jpeg", "ants/z.webp", "ants/a.BMP", "ants/.hidden.png"] {
        write(&root.path().join(file), &image);
    }
    for file in ["ants/notes.txt", "wasps/gone.svg", "wasps/noextension", "README.md", ".git/config"] {
        write(&root.path().join(file), b"no image");
    }
    let set = Folder::read(root.path()).unwrap();
    assert_eq!(names(&set), ["ants", "wasps"]);
    let files: Vec<_> = (0..set.len()).map(|index| set.path(index)).collect();
    let expected = ["ants/a.BMP", "ants/z.webp", "wasps/b.PNG", "wasps/deep/er/a.jpeg"];
    assert_eq!(files, expected.map(|file| root.path().join(file)));
    assert_eq!((0..4).map(|index| set.label(index)).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert_eq!(set.notes().len(), 1);
    assert!(set.notes()[0].contains("ignored 3 files with another extension"), "{}", set.notes()[0]);
    // Content, not extension, decides how a file is decoded.
    let Sample::Pixels(pixels) = set.sample(3).unwrap() else { panic!("folders have pixels") };
    assert_eq!((pixels.height(), pixels.width(), &pixels.pixels()[..3]), (4, 5, &[1, 2, 3][..]));
}

#[test]
fn a_class_folder_without_images_is_an_error_that_names_it() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("ants/a.png"), &png(1, 1, [0; 3]));
    write(&root.path().join("bees/picture.svg"), b"<svg/>");
    let error = Folder::read(root.path()).err().unwrap().to_string();
    let expected = "bees: expected images (jpg, jpeg, png, webp, bmp, tif, tiff, ppm, pgm), got none";
    assert!(error.ends_with(expected), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = open(empty.path()).split(Split::Train).err().unwrap().to_string();
    assert!(error.ends_with("expected a folder for each class, got none"), "{error}");
}

/// Writes a small image to each of the files.
fn images(root: &Path, files: &[&str]) {
    files.iter().for_each(|file| write(&root.join(file), &png(1, 1, [0; 3])));
}

#[test]
fn splits_share_the_training_classes_and_none_stands_for_another() {
    let root = tempfile::tempdir().unwrap();
    images(root.path(), &["train/ants/1.png", "train/bees/1.png", "train/wasps/1.png", "val/wasps/2.png"]);
    let source = open(root.path());
    assert_eq!(source.splits(), [Split::Train, Split::Val]);
    let set = source.split(Split::Val).unwrap();
    assert_eq!((names(&*set), set.len(), set.label(0)), (vec!["ants", "bees", "wasps"], 1, 2));
    let error = source.split(Split::Test).err().unwrap().to_string();
    assert!(error.ends_with(": expected a test split, got train, val"), "{error}");

    let held_out = Some(HeldOut { share: 0.5, seed: 0 });
    let part = |split| source.evaluation(split, held_out).map(|selection| selection.part);
    assert_eq!(part(None).unwrap(), Part::Split(Split::Val), "the source's own split comes before a share");
    assert_eq!(part(Some(Split::Train)).unwrap(), Part::Split(Split::Train));
    assert!(part(Some(Split::Test)).is_err());
    images(root.path(), &["test/bees/3.png"]);
    let selection = open(root.path()).evaluation(None, held_out).unwrap();
    assert_eq!((selection.part, selection.dataset.label(0)), (Part::Split(Split::Test), 1));

    // A validation folder whose classes the training folder lacks. An empty class folder is none.
    images(root.path(), &["val/zebras\u{1b}[2J/4.png"]);
    std::fs::create_dir(root.path().join("val/ants")).unwrap();
    let error = open(root.path()).split(Split::Val).err().unwrap().to_string();
    assert!(
        error.ends_with("expected classes among \"ants\", \"bees\", \"wasps\", got \"zebras\\u{1b}[2J\""),
        "{error}"
    );
}

#[test]
fn numbered_classes_of_two_splits_are_matched_by_name_too() {
    let root = tempfile::tempdir().unwrap();
    images(root.path(), &["train/a/1.png", "train/b/1.png", "val/0/1.png", "val/1/1.png"]);
    let error = open(root.path()).split(Split::Val).err().unwrap().to_string();
    assert!(error.contains("expected classes among \"a\", \"b\", got \"0\", \"1\""), "{error}");
}

#[test]
fn a_name_typed_in_two_ways_is_one_class() {
    let root = tempfile::tempdir().unwrap();
    images(root.path(), &["train/bar/1.png", "train/caf\u{e9}/1.png", "val/cafe\u{301}/2.png"]);
    let set = open(root.path()).split(Split::Val).unwrap();
    assert_eq!((set.len(), set.label(0)), (1, 1));
    images(root.path(), &["train/cafe\u{301}/2.png"]);
    let error = open(root.path()).split(Split::Train).err().unwrap().to_string();
    assert!(error.contains("expected a name of its own for each class"), "{error}");
}

#[test]
fn splits_are_known_by_their_usual_names_in_any_case() {
    let cases = [
        (["train", "validation"], [Split::Train, Split::Val]),
        (["training", "valid"], [Split::Train, Split::Val]),
        (["Train", "Val"], [Split::Train, Split::Val]),
        (["TRAIN", "Testing"], [Split::Train, Split::Test]),
        (["images/train", "images/dev"], [Split::Train, Split::Val]),
    ];
    for (folders, splits) in cases {
        let root = tempfile::tempdir().unwrap();
        for folder in folders {
            images(
                root.path(),
                &["a/1.png", "b/1.png"].map(|file| format!("{folder}/{file}")).each_ref().map(|f| &**f),
            );
        }
        let source = open(root.path());
        assert_eq!(source.splits(), splits, "{folders:?}");
        let (train, held_out) = source.training(None, 0).unwrap();
        assert_eq!((names(&*train), train.len()), (vec!["a", "b"], 2), "{folders:?}");
        let place = root.path().join(folders[1]);
        assert_eq!(held_out.unwrap().describe_set(), format!("2 images of 2 classes in {}", place.display()));
    }
    let root = tempfile::tempdir().unwrap();
    images(root.path(), &["train/a/1.png", "val/a/1.png", "validation/a/1.png"]);
    let error = Source::open(root.path().to_str().unwrap(), None).unwrap_err().to_string();
    assert!(error.ends_with("expected one folder for the val split, got \"val\" and \"validation\""), "{error}");
}

#[test]
fn a_class_may_be_called_train() {
    let root = tempfile::tempdir().unwrap();
    images(root.path(), &["car/1.png", "train/1.png", "test/1.png"]);
    let source = open(root.path());
    assert!(source.splits().is_empty());
    let set = source.split(Split::Train).unwrap();
    assert_eq!(names(&*set), ["car", "test", "train"]);
    assert_eq!(set.notes().len(), 2);
    assert!(set.notes()[1].ends_with("\"train\" holds no class folders and is taken for a class"), "{:?}", set.notes());
}

#[test]
fn ignored_entries_and_ambiguities_are_noted() {
    let root = tempfile::tempdir().unwrap();
    images(root.path(), &["train/a/1.png", "train/stray.png", "extra/a/1.png"]);
    let notes = open(root.path()).split(Split::Train).unwrap().notes().join("\n");
    assert!(notes.contains("ignored \"extra\" next to the splits"), "{notes}");
    assert!(notes.contains("ignored 1 image in no class folder"), "{notes}");

    let root = tempfile::tempdir().unwrap();
    images(root.path(), &["photos/a/1.png", "photos/b/1.png"]);
    let notes = open(root.path()).split(Split::Train).unwrap().notes().join("\n");
    let photos = root.path().join("photos");
    let expected = format!("one class only, \"photos\"; to take its folders for classes, name {}", photos.display());
    assert!(notes.contains(&expected), "{notes}");
}

#[test]
fn training_runs_among_the_classes_are_no_classes() {
    let root = tempfile::tempdir().unwrap();
    images(root.path(), &["a/1.png", "b/1.png", "runs/1-resnet20-data/report.png"]);
    write(&root.path().join("runs/1-resnet20-data/config.toml"), b"");
    write(&root.path().join("runs/1-resnet20-data/weights/last.safetensors"), b"");
    let set = open(root.path()).split(Split::Train).unwrap();
    assert_eq!((names(&*set), set.len()), (vec!["a", "b"], 2));
    assert!(set.notes()[0].ends_with("ignored \"runs\", which contains training runs"), "{:?}", set.notes());
}

#[test]
fn a_run_is_evaluated_on_the_images_that_it_held_out() {
    let root = tempfile::tempdir().unwrap();
    for index in 0..20 {
        images(root.path(), &[&format!("ants/{index:02}.png")]);
    }
    for index in 0..5 {
        images(root.path(), &[&format!("bees/{index:02}.png")]);
    }
    images(root.path(), &["one/1.png"]);
    let source = open(root.path());
    assert!(!source.has_held_out());
    let (train, validation) = source.training(Some(0.2), 7).unwrap();
    let validation = validation.unwrap();
    let held_out = HeldOut { share: 0.2, seed: 7 };
    let files = |set: &dyn Dataset| (0..set.len()).map(|index| set.describe(index)).collect::<Vec<_>>();
    for split in [None, Some(Split::Val)] {
        let selection = source.evaluation(split, Some(held_out)).unwrap();
        assert_eq!((files(&*selection.dataset), selection.part), (files(&*validation), Part::HeldOut(held_out)));
    }
    let place = root.path().display();
    assert_eq!(train.describe_set(), format!("21 images of 3 classes in {place} (all but 5 held out)"));
    let expected = format!("5 images of 3 classes in {place} (held out: 0.2 of each class, seed 7)");
    assert_eq!(validation.describe_set(), expected);

    assert_eq!(source.evaluation(None, None).unwrap().part, Part::Everything);
    let error = source.evaluation(Some(Split::Val), None).err().unwrap().to_string();
    assert!(error.ends_with("expected a val split, got images without splits"), "{error}");
    assert!(source.evaluation(Some(Split::Test), Some(held_out)).is_err());
    for nothing in [None, Some(0.0)] {
        let (all, held_out) = source.training(nothing, 0).unwrap();
        assert!(all.len() == 26 && held_out.is_none(), "nothing is held out");
    }

    let whole = source.split(Split::Train).unwrap();
    let (train, held_out) = stratified_split(&whole, held_out).unwrap();
    let count = |set: &dyn Dataset| {
        (0..set.len()).fold([0; 3], |mut counts, index| {
            counts[set.label(index) as usize] += 1;
            counts
        })
    };
    assert_eq!((count(&train), count(&held_out)), ([16, 4, 1], [4, 1, 0]));
    let mut all = [train.indices(), held_out.indices()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..26).collect::<Vec<_>>(), "every image is in one part");
    let (again, _) = stratified_split(&whole, HeldOut { share: 0.2, seed: 7 }).unwrap();
    let (other, _) = stratified_split(&whole, HeldOut { share: 0.2, seed: 8 }).unwrap();
    assert_eq!(again.indices(), train.indices());
    assert_ne!(other.indices(), train.indices());
    for share in [0.0, 1.0, f32::NAN, -0.5] {
        assert!(stratified_split(&whole, HeldOut { share, seed: 0 }).is_err());
    }
}

#[test]
fn a_fingerprint_tells_a_replaced_file_and_not_where_the_folder_is() {
    let root = tempfile::tempdir().unwrap();
    let files = ["data/ants/1.png", "data/ants/2.png", "data/bees/3.png", "data/bees/4.png"];
    images(root.path(), &files);
    let at = |folder: &str| open(&root.path().join(folder)).split(Split::Train).unwrap();
    let of_parts = |folder: &str| {
        let (train, held_out) = stratified_split(&at(folder), HeldOut { share: 0.5, seed: 0 }).unwrap();
        [train.fingerprint_set(), held_out.fingerprint_set()]
    };
    let (whole, parts) = (at("data").fingerprint_set(), of_parts("data"));
    std::fs::rename(root.path().join("data"), root.path().join("moved")).unwrap();
    assert_eq!((at("moved").fingerprint_set(), of_parts("moved")), (whole, parts));

    // Another image under an old name: only the part that has it differs.
    write(&root.path().join("moved/ants/1.png"), &png(200, 300, [1, 2, 3]));
    assert_ne!(at("moved").fingerprint_set(), whole);
    assert_eq!(of_parts("moved").iter().zip(&parts).filter(|(now, before)| now != before).count(), 1);
    images(root.path(), &["moved/ants/1.png"]);
    assert_eq!(at("moved").fingerprint_set(), whole);
    // The same file under another name, or in another class.
    std::fs::rename(root.path().join("moved/ants/1.png"), root.path().join("moved/ants/0.png")).unwrap();
    assert_ne!(at("moved").fingerprint_set(), whole);
    std::fs::rename(root.path().join("moved/ants/0.png"), root.path().join("moved/bees/1.png")).unwrap();
    assert_ne!(at("moved").fingerprint_set(), whole);
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("elsewhere/1.png"), &png(1, 1, [0; 3]));
    write(&root.path().join("data/ants/2.png"), &png(1, 1, [0; 3]));
    std::os::unix::fs::symlink(root.path().join("elsewhere"), root.path().join("data/ants/more")).unwrap();
    std::os::unix::fs::symlink(root.path().join("data/ants"), root.path().join("data/ants/again")).unwrap();
    assert_eq!(Folder::read(&root.path().join("data")).unwrap().len(), 2);
}

#[test]
fn a_damaged_image_is_one_line_that_names_the_file() {
    let root = tempfile::tempdir().unwrap();
    let good = png(16, 16, [9; 3]);
    let bomb = {
        // A PNG header that claims 2^31 - 1 pixels in each direction.
        let mut bomb = good.clone();
        bomb[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        bomb
    };
    let mut flipped = good.clone();
    flipped[60] ^= 0xff;
    let mut palette = vec![0x89, b'P', b'N', b'G', 13, 10, 26, 10];
    // An image of one pixel with a palette of two bytes: image-png#694.
    for (kind, data) in [
        (b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 3, 0, 0, 0][..]),
        (b"PLTE", &[1, 2]),
        (b"IDAT", &[0x78, 1, 1, 2, 0, 0xfd, 0xff, 0, 0, 0, 2, 0, 1]),
        (b"IEND", &[]),
    ] {
        let checksum = crc32(&[&kind[..], data].concat());
        palette.extend([&(data.len() as u32).to_be_bytes()[..], kind, data, &checksum.to_be_bytes()].concat());
    }
    let cases: [(&str, &[u8]); 8] = [
        ("palette.png", &palette),
        ("empty.png", b""),
        ("text.jpg", b"this is no image"),
        ("picture.jpg", b"GIF89a\x01\x00\x01\x00"),
        ("cut.png", &good[..good.len() / 2]),
        ("flipped.png", &flipped),
        ("bomb.png", &bomb),
        ("start.jpg", b"\xff\xd8\xff\xe0"),
    ];
    for (name, bytes) in cases {
        let path = root.path().join(name);
        write(&path, bytes);
        let error = read_image(&path).unwrap_err().to_string();
        assert!(error.starts_with(path.to_str().unwrap()) && error.lines().count() == 1, "{name}: {error}");
    }
}

/// The checksum of PNG's chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_a_regular_file_is_a_bad_image_and_not_read() {
    let root = tempfile::tempdir().unwrap();
    let link = root.path().join("endless.png");
    std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
    let error = read_image(&link).unwrap_err();
    assert!(error.is_bad_image() && error.to_string().ends_with("expected a file, got a device"), "{error}");
    let error = read_image(&root.path().join("gone.png")).unwrap_err();
    assert!(error.is_bad_image(), "{error}");
}

#[test]
fn bad_images_in_a_folder_are_skipped_counted_and_listed_on_request() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("ants/a.png"), &png(8, 8, [255; 3]));
    write(&root.path().join("ants/b.jpg"), b"no image");
    write(&root.path().join("bees/c.png"), &png(9, 7, [0; 3]));
    let set = open(root.path()).split(Split::Train).unwrap();
    let transform = Transform::evaluation(Preprocessing { size: [8, 8], ..Preprocessing::imagenet() }).unwrap();
    let strict = Loader::new(set.clone(), transform.clone(), LoaderOptions::default()).unwrap().next().unwrap();
    assert!(strict.unwrap_err().to_string().contains("b.jpg: not a readable image"));
    let options = LoaderOptions { skip_bad_images: true, ..LoaderOptions::default() };
    let mut loader = Loader::new(set, transform, options).unwrap();
    assert_eq!(loader.next().unwrap().unwrap().labels(), [0, 1]);
    assert!(loader.skipped().len() == 1 && loader.skipped()[0].reason.contains("b.jpg"));
}

#[test]
fn an_export_reads_back_as_the_same_images() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("cifar");
    let record =
        |label: u8| [vec![label], (0..3072u32).map(|at| (at * 31 + u32::from(label)) as u8).collect()].concat();
    for batch in 1..=5 {
        write(&data.join(format!("data_batch_{batch}.bin")), &[record(batch), record(9 - batch)].concat());
    }
    write(&data.join("test_batch.bin"), &(0..10).map(record).collect::<Vec<_>>().concat());
    let source = Source::open("cifar10", Some(&data)).unwrap();
    let folder = root.path().join("out");
    assert_eq!(export(&source, &folder).unwrap(), 20);
    let (set, read) = (source.split(Split::Test).unwrap(), Folder::read(&folder.join("test")).unwrap());
    assert_eq!((read.len(), names(&read)), (10, names(&*set)));
    for index in 0..10 {
        assert_eq!(read.sample(index).unwrap(), set.sample(index).unwrap());
    }
    let error = export(&source, &folder).unwrap_err().to_string();
    assert!(error.ends_with("expected an empty folder or a new one, got a folder with files"), "{error}");
    // An empty folder is filled; an export that fails leaves nothing behind.
    let empty = root.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(export(&source, &empty).unwrap(), 20);
    std::fs::remove_file(data.join("test_batch.bin")).unwrap();
    export(&source, &root.path().join("broken")).unwrap_err();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 3, "the data and two exports");
}

#[test]
fn ants_and_bees_are_read_as_found() {
    let Some(data) = test_data() else { return };
    let source = open(&data.join("hymenoptera"));
    let (train, held_out) = source.training(None, 0).unwrap();
    assert_eq!((train.len(), held_out.unwrap().len(), names(&*train)), (41, 30, vec!["ants", "bees"]));
    assert!(train.notes()[0].contains("ignored 1 file") && train.notes()[0].contains("imageNotFound.gif"));
    let transform = Transform::evaluation(Preprocessing::imagenet()).unwrap();
    let options = LoaderOptions { workers: 2, batch_size: 8, ..LoaderOptions::default() };
    let images: usize = Loader::new(train, transform, options).unwrap().map(|batch| batch.unwrap().len()).sum();
    assert_eq!(images, 41);
}
