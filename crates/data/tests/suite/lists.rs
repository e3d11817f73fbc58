//! Lists of images in CSV and JSON-lines files, and as metadata beside the images.

use crate::support;

use std::path::Path;
use std::sync::Arc;

use residual_data::parse::parse_image_list;
use residual_data::{
    Dataset, HeldOut, ListedImages, Loader, LoaderOptions, Sampler, Source, Split, Targets, Transform, export,
    stratified_split,
};
use residual_preprocess::Preprocessing;
use support::{png, write};

fn parse(text: &str) -> Result<Arc<dyn Dataset>, String> {
    let list = parse_image_list(text.as_bytes(), Path::new("data/list.csv")).map_err(|error| error.to_string())?;
    Ok(Arc::new(ListedImages::new(Arc::new(list), Split::Train)))
}

fn labels(text: &str) -> (Vec<String>, Vec<u32>) {
    let set = parse(text).unwrap_or_else(|error| panic!("{error}"));
    (set.class_names().to_vec(), (0..set.len()).map(|index| set.label(index)).collect())
}

#[test]
fn a_list_has_a_header_or_none_and_its_paths_are_relative_to_it() {
    let expected = (vec!["cat".to_owned(), "dog".into()], vec![1, 0, 1]);
    assert_eq!(labels("a.png,dog\nb/c.png,cat\n\"d,e.png\", dog\n"), expected);
    assert_eq!(labels("path,label\na.png,dog\nb.png,cat\nc.png,dog"), expected);
    assert_eq!(labels("\u{feff}Label,Image\r\ndog,a.png\r\ncat,b.png\r\ndog,c.png\r\n"), expected);
    let set = parse("id,path,label\n7,\"d,e.png\",dog\n8,/abs/f.png,dog").unwrap();
    let places = [0, 1].map(|index| set.describe(index));
    assert_eq!(places, ["data/d,e.png", "/abs/f.png"]);
    assert_eq!(set.notes(), ["data/list.csv: ignored the columns \"id\""]);
    assert_eq!(set.describe_set(), "2 images of 1 class in data/list.csv");
}

#[test]
fn classes_are_sorted_by_name_and_numbers_by_value() {
    assert_eq!(labels("a,10\nb,9\nc,0").0, ["0", "9", "10"]);
    assert_eq!(labels("a,10\nb,9\nc,x").0, ["10", "9", "x"]);
    assert_eq!(labels("a,1\nb,01").0, ["01", "1"], "two names");
}

#[test]
fn several_labels_are_targets_of_zero_and_one() {
    let set = parse("path,label\na.png,dog;cat\nb.png,\nc.png,owl\nd.png,cat;dog").unwrap();
    assert!(set.is_multi_label());
    assert_eq!(set.class_names(), ["cat", "dog", "owl"]);
    let targets: Vec<_> = (0..4).map(|index| set.soft_label(index).unwrap()).collect();
    assert_eq!(targets, [[1.0, 1.0, 0.0], [0.0; 3], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]);
    assert_eq!(set.notes(), ["data/list.csv: 1 image without a label"]);
    // One label each, and still a list of several.
    let set = parse("path,labels\na.png,dog\nb.png,cat").unwrap();
    assert_eq!((set.is_multi_label(), set.soft_label(0)), (true, Some(&[0.0, 1.0][..])));
    let set = parse("a.png,dog\nb.png,cat").unwrap();
    assert_eq!((set.is_multi_label(), set.soft_label(0)), (false, None));
}

#[test]
fn a_wrong_row_is_named_by_its_line() {
    for (text, message) in [
        ("", "data/list.csv: expected rows of path,label, got none with a label"),
        ("a.png\n", "data/list.csv:1: expected path,label or path,label,split, got 1 field"),
        ("a.png;cat\n", "data/list.csv:1: expected path,label or path,label,split, got 1 field"),
        ("path,split\na.png,train\n", "data/list.csv:1: expected a column called label, got 2 columns"),
        ("a.png,cat\n\nb.png,cat,val\n", "data/list.csv:3: expected 2 fields, as in the first row, got 3 fields"),
        ("a.png,cat\r\n\r\nb.png\r\n", "data/list.csv:3: expected 2 fields, as in the first row, got 1 field"),
        ("path,label,x\na.png,cat\n", "data/list.csv:2: expected 3 fields, as in the header, got 2 fields"),
        ("a.png,cat\n,dog\n", "data/list.csv:2: expected the path of an image, got an empty field"),
        ("a.png,cat\nb.png, \n", "data/list.csv:2: expected a label, got an empty field"),
        ("a.png,cat;;dog\n", "data/list.csv:1: expected a label before and after each semicolon, got \"cat;;dog\""),
        ("a.png,cat;cat\n", "data/list.csv:1: expected each label once, got \"cat\" twice"),
        ("a.png,cat,later\n", "data/list.csv:1: expected a split: train, val or test, got \"later\""),
        ("a,caf\u{e9}\nb,cafe\u{301}", "data/list.csv: expected a name of its own for each class, got"),
        ("a,cat,train\nb,owl,val\n", "data/list.csv: classes: expected classes among \"cat\", got \"owl\""),
    ] {
        let Err(error) = parse(text) else { panic!("{text:?} was read") };
        assert!(error.starts_with(message), "{text:?}: {error}");
    }
    let bytes = parse_image_list(b"a.png,cat\n\xff.png,cat\n", Path::new("l.csv")).unwrap_err().to_string();
    assert_eq!(bytes, "l.csv:2: expected UTF-8 text, got other bytes");
    let escape = parse("a.png,cat,\u{1b}[2J").err().unwrap();
    assert!(!escape.contains('\u{1b}'), "{escape:?}");
}

#[test]
fn targets_beyond_a_bound_are_refused_before_they_are_allocated() {
    // 60,000 classes, and as many sets of one of them.
    let mut text = String::from("path,labels\n");
    (0..60_000).for_each(|class| text += &format!("a.png,{class}\n"));
    let error = parse(&text).err().unwrap();
    assert_eq!(
        error,
        "targets of 60000 classes for 60000 different sets of labels: expected 13733 MiB of memory, got less"
    );
    let mut text = String::new();
    (0..65_537).for_each(|class| text += &format!("a.png,{class}\n"));
    assert_eq!(parse(&text).err().unwrap(), "data/list.csv:65537: expected at most 65536 classes, got more");
}

#[test]
fn a_cut_or_changed_list_is_an_error_or_another_list_but_no_panic() {
    let text = b"path,label,split\n\"a \"\"b\"\".png\",cat;dog,train\nc.png,owl,val\r\nd.png,,test\n";
    for length in 0..text.len() {
        let _ = parse_image_list(&text[..length], Path::new("l.csv"));
        for byte in [0, b'"', b',', b';', b'\n', 0xff] {
            let mut changed = text.to_vec();
            changed[length] = byte;
            let _ = parse_image_list(&changed, Path::new("l.csv"));
        }
    }
}

#[test]
fn splits_are_those_of_the_column_and_hold_their_images() {
    let folder = tempfile::tempdir().unwrap();
    for (name, colour) in [("red", [255, 0, 0]), ("blue", [0, 0, 255])] {
        write(&folder.path().join(format!("images/{name}.png")), &png(4, 4, colour));
    }
    let list = folder.path().join("list.CSV");
    let rows = "images/red.png,warm,train\nimages/blue.png,cold,train\nimages/red.png,warm,valid\n";
    write(&list, rows.as_bytes());
    let source = Source::open(list.to_str().unwrap(), None).unwrap();
    assert_eq!(source.splits(), [Split::Train, Split::Val]);
    let (train, val) = source.training(None, 0).unwrap();
    assert_eq!((train.len(), val.unwrap().len()), (2, 1));
    assert!(source.split(Split::Test).is_err());
    let transform = Transform::evaluation(Preprocessing::unscaled([4, 4], &[0.0; 3], &[1.0; 3])).unwrap();
    let mut loader = Loader::new(train.clone(), transform, LoaderOptions::default()).unwrap();
    let batch = loader.next().unwrap().unwrap();
    assert_eq!(batch.labels(), [1, 0]);
    assert_eq!((&batch.images()[..3], &batch.images()[48..51]), (&[1.0, 0.0, 0.0][..], &[0.0, 0.0, 1.0][..]));

    // The fingerprint follows the file, wherever the list lies.
    let before = train.fingerprint_set();
    write(&folder.path().join("images/red.png"), &png(5, 5, [9, 9, 9]));
    assert_ne!(train.fingerprint_set(), before);
    write(&list, rows.replace("blue.png", "gone.png").as_bytes());
    let source = Source::open(list.to_str().unwrap(), None).unwrap();
    let error = source.split(Split::Train).unwrap().sample(1).unwrap_err();
    assert!(error.is_bad_image() && error.to_string().contains("gone.png"), "{error}");
}

#[test]
fn images_with_several_labels_are_held_out_at_random_and_batched_as_soft_targets() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.png"), &png(2, 2, [1, 2, 3]));
    let mut text = String::from("path,labels\n");
    (0..200).for_each(|number| text += if number % 2 == 0 { "a.png,x;y\n" } else { "a.png,z\n" });
    let list = folder.path().join("list.csv");
    write(&list, text.as_bytes());
    let source = Source::open(list.to_str().unwrap(), None).unwrap();
    let whole = source.split(Split::Train).unwrap();
    let (train, held) = stratified_split(&whole, HeldOut { share: 0.2, seed: 3 }).unwrap();
    assert_eq!((train.len(), held.len(), held.is_multi_label()), (160, 40, true));
    let again = stratified_split(&whole, HeldOut { share: 0.2, seed: 3 }).unwrap().1;
    assert_eq!(held.indices(), again.indices());
    assert_ne!(held.indices(), stratified_split(&whole, HeldOut { share: 0.2, seed: 4 }).unwrap().1.indices());

    let transform = Transform::evaluation(Preprocessing::unscaled([2, 2], &[0.0; 3], &[1.0; 3])).unwrap();
    let options = LoaderOptions { batch_size: 2, ..LoaderOptions::default() };
    let batch = Loader::new(whole.clone(), transform.clone(), options.clone()).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.targets(), Targets::Soft { values: &[1.0, 1.0, 0.0, 0.0, 0.0, 1.0], classes: 3 });
    let balanced = LoaderOptions { sampler: Sampler::Balanced, ..options };
    let error = Loader::new(whole, transform, balanced).err().unwrap().to_string();
    assert_eq!(error, "sampler: expected shuffle for images with several labels, got a sampler of classes");
    let error = export(&source, &folder.path().join("out")).unwrap_err().to_string();
    assert!(error.ends_with("expected one label per image, as a folder of class folders has, got several labels"));
}

fn parse_lines(text: &str) -> Result<Arc<dyn Dataset>, String> {
    let list = parse_image_list(text.as_bytes(), Path::new("data/list.jsonl")).map_err(|error| error.to_string())?;
    Ok(Arc::new(ListedImages::new(Arc::new(list), Split::Train)))
}

#[test]
fn a_list_of_json_lines_is_that_of_the_same_csv() {
    let csv = parse("path,label\na.png,dog\nb/c.png,cat\n\"d,e.png\",dog").unwrap();
    let lines = "{\"path\":\"a.png\",\"label\":\"dog\"}\r\n\n{\"label\":\"cat\",\"file_name\":\"b/c.png\",\"width\":3}\n\
                 {\"image\":\"d,e.png\",\"class\":\" dog \"}";
    let json = parse_lines(lines).unwrap();
    assert_eq!(json.class_names(), csv.class_names());
    for index in 0..3 {
        assert_eq!((json.label(index), json.describe(index)), (csv.label(index), csv.describe(index)));
    }
    assert_eq!(json.notes(), ["data/list.jsonl: ignored the fields \"width\""]);
    // Numbers are names too, sorted by value.
    let json = parse_lines("{\"path\":\"a\",\"label\":10}\n{\"path\":\"b\",\"label\":9}").unwrap();
    assert_eq!((json.class_names().join(" "), json.label(0)), ("9 10".into(), 1));
    let several = "{\"path\":\"a\",\"labels\":[\"dog\",\"cat\"]}\n{\"path\":\"b\",\"labels\":[]}\n{\"path\":\"c\",\"labels\":null}";
    let json = parse_lines(several).unwrap();
    let targets: Vec<_> = (0..3).map(|index| json.soft_label(index).unwrap()).collect();
    assert_eq!(targets, [[1.0, 1.0], [0.0; 2], [0.0; 2]]);
    assert_eq!(json.notes(), ["data/list.jsonl: 2 images without a label"]);
}

#[test]
fn a_wrong_line_of_json_is_named() {
    for (text, message) in [
        ("", "data/list.jsonl: expected rows of path,label, got none with a label"),
        ("\n{", "data/list.jsonl:2: expected an object of JSON on each line, got EOF"),
        ("[1]", "data/list.jsonl:1: expected an object of JSON on each line, got invalid type"),
        ("{\"label\":1}", "data/list.jsonl:1: expected a field called path, got none"),
        ("{\"path\":1,\"label\":1}", "data/list.jsonl:1: expected the path of an image, got another value"),
        ("{\"path\":\"a\"}", "data/list.jsonl:1: expected a field called label, got none"),
        (
            "{\"path\":\"a\",\"label\":1.5}",
            "expected a name, a number or an array of these as label, got another value",
        ),
        ("{\"path\":\"a\",\"label\":null}", "data/list.jsonl:1: expected a label, got an empty field"),
        ("{\"path\":\"a\",\"label\":1,\"split\":\"x\"}", ":1: expected a split: train, val or test, got \"x\""),
        (
            "{\"path\":\"a\",\"label\":1,\"split\":\"val\"}\n{\"path\":\"a\",\"label\":1}",
            ":2: expected a split in each row, or in none, got none",
        ),
        ("{\"path\":\"a\",\"label\":[\"x\",\"x\"]}", "expected each label once, got \"x\" twice"),
    ] {
        let Err(error) = parse_lines(text) else { panic!("{text:?} was read") };
        assert!(error.contains(message) && error.lines().count() == 1, "{text:?}: {error}");
    }
    let deep = format!("{{\"path\":\"a\",\"label\":1,\"x\":{}", "[".repeat(100_000));
    assert!(parse_lines(&deep).err().unwrap().contains("recursion limit"));
    let many: String = (0..100).map(|field| format!("\"f{field:02}\":1,")).collect();
    let set = parse_lines(&format!("{{{many}\"path\":\"a\",\"label\":1}}")).unwrap();
    let expected = "ignored the fields \"f00\", \"f01\", \"f02\", \"f03\", \"f04\" and more";
    assert!(set.notes()[0].ends_with(expected), "{:?}", set.notes());
}

/// The layouts of the Hugging Face `ImageFolder`.
#[test]
fn metadata_beside_images_has_the_labels() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["train/x/a.png", "train/x/b.png", "test/x/c.png"] {
        write(&root.join(name), &png(2, 2, [1, 2, 3]));
    }
    let open = || Source::open(root.to_str().unwrap(), None).unwrap_or_else(|error| panic!("{error}"));
    // Without labels it is not used, which is told.
    write(&root.join("metadata.csv"), b"file_name,caption\ntrain/x/a.png,hello\n");
    let set = open().split(Split::Train).unwrap();
    assert_eq!(set.class_names(), ["x"]);
    assert!(
        set.notes().iter().any(|note| note.contains("metadata.csv: has no columns file_name and label")),
        "{:?}",
        set.notes()
    );
    // One file for all, whose paths begin with the splits.
    write(&root.join("metadata.csv"), b"file_name,label\ntrain/x/a.png,cat\ntrain/x/b.png,dog\ntest/x/c.png,dog\n");
    let source = open();
    assert_eq!(source.splits(), [Split::Train, Split::Test]);
    let set = source.split(Split::Train).unwrap();
    assert_eq!((set.class_names().join(" "), set.len(), set.label(1)), ("cat dog".into(), 2, 1));
    assert!(set.sample(1).is_ok() && set.notes()[0].contains("the labels are those of the metadata"));
    // One in each folder of a split.
    std::fs::remove_file(root.join("metadata.csv")).unwrap();
    write(&root.join("train/metadata.jsonl"), b"{\"file_name\":\"x/a.png\",\"label\":\"owl\"}\n");
    write(&root.join("test/metadata.csv"), b"file_name,label\nx/c.png,owl\n");
    let source = open();
    assert_eq!(source.splits(), [Split::Train, Split::Test]);
    let set = source.split(Split::Test).unwrap();
    assert_eq!(
        (set.class_names().join(" "), set.describe(0)),
        ("owl".into(), root.join("test/x/c.png").display().to_string())
    );
    assert!(set.sample(0).is_ok());
    write(&root.join("train/metadata.csv"), b"file_name,label\na.png\n");
    let error = Source::open(root.to_str().unwrap(), None).err().unwrap().to_string();
    assert!(error.ends_with("train/metadata.csv:2: expected 2 fields, as in the header, got 1 field"), "{error}");
    let mixed = "{\"file_name\":\"train/a.png\",\"label\":1}\n{\"file_name\":\"b.png\",\"label\":1}";
    write(&root.join("metadata.jsonl"), mixed.as_bytes());
    let error = Source::open(root.to_str().unwrap(), None).err().unwrap().to_string();
    assert!(error.ends_with("expected all images in folders of splits, or none, got 1 of 2 images"), "{error}");
}
