//! Image folders, whole and damaged, and export to them.

mod support;

use residual_data::{
    Dataset, Folder, Loader, LoaderOptions, Sample, Source, Split, Transform, export, read_image, stratified_split,
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
    for file in ["ants/notes.txt", "wasps/gone.gif", "wasps/noextension", "README.md", ".git/config"] {
        write(&root.path().join(file), b"no image");
    }
    let set = Folder::read(root.path()).unwrap();
    assert_eq!(names(&set), ["ants", "wasps"]);
    let files: Vec<_> = (0..set.len()).map(|index| set.path(index).strip_prefix(root.path()).unwrap()).collect();
    let expected = ["ants/a.BMP", "ants/z.webp", "wasps/b.PNG", "wasps/deep/er/a.jpeg"];
    assert_eq!(files, expected.map(Path::new));
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
    write(&root.path().join("bees/picture.gif"), b"GIF89a");
    let error = Folder::read(root.path()).err().unwrap().to_string();
    assert!(error.ends_with("bees: expected images (jpg, jpeg, png, webp, bmp), got none"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = open(empty.path()).split(Split::Train).err().unwrap().to_string();
    assert!(error.ends_with("expected a folder for each class, got none"), "{error}");
}

#[test]
fn splits_stand_in_for_each_other_and_share_the_training_classes() {
    let root = tempfile::tempdir().unwrap();
    let image = png(1, 1, [0; 3]);
    for file in ["train/ants/1.png", "train/bees/1.png", "train/wasps/1.png", "val/wasps/2.png"] {
        write(&root.path().join(file), &image);
    }
    let source = open(root.path());
    assert!(source.has_held_out());
    for split in [Split::Val, Split::Test] {
        let set = source.split(split).unwrap();
        assert_eq!((names(&*set), set.len(), set.label(0)), (vec!["ants", "bees", "wasps"], 1, 2));
    }
    write(&root.path().join("test/bees/3.png"), &image);
    assert_eq!(open(root.path()).split(Split::Test).unwrap().label(0), 1, "its own split wins");
    write(&root.path().join("val/zebras/4.png"), &image);
    let error = open(root.path()).split(Split::Val).err().unwrap().to_string();
    assert!(error.contains("zebras: expected the classes of the train folder"), "{error}");
}

#[test]
fn a_folder_without_splits_is_judged_as_a_whole_or_divided_by_seed() {
    let root = tempfile::tempdir().unwrap();
    for index in 0..20 {
        write(&root.path().join(format!("ants/{index:02}.png")), &png(1, 1, [0; 3]));
    }
    for index in 0..5 {
        write(&root.path().join(format!("bees/{index:02}.png")), &png(1, 1, [0; 3]));
    }
    write(&root.path().join("one/1.png"), &png(1, 1, [0; 3]));
    let source = open(root.path());
    assert!(!source.has_held_out());
    assert!(source.split(Split::Val).is_err());
    assert_eq!(source.evaluation(Split::Val).unwrap().len(), 26);
    assert!(source.training(None, 0).unwrap().1.is_none());

    let whole = source.split(Split::Train).unwrap();
    let (train, held_out) = stratified_split(&whole, 0.2, 7).unwrap();
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
    let (again, _) = stratified_split(&whole, 0.2, 7).unwrap();
    let (other, _) = stratified_split(&whole, 0.2, 8).unwrap();
    assert_eq!(again.indices(), train.indices());
    assert_ne!(other.indices(), train.indices());
    for fraction in [0.0, 1.0, f32::NAN, -0.5] {
        assert!(stratified_split(&whole, fraction, 0).is_err());
    }
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
    let cases: [(&str, &[u8]); 7] = [
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
