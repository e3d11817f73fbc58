//! Datasets in a safetensors file, whole and damaged.

use crate::support;

use residual_data::parse::parse_tensor_file;
use residual_data::{Dataset, Loader, LoaderOptions, Part, Sample, Source, Split, Targets, Transform};
use std::sync::Arc;
use support::safetensors;

fn file(image_type: &str, shape: &str, image_bytes: &[u8], label_type: &str, label_bytes: &[u8]) -> Vec<u8> {
    let (middle, end) = (image_bytes.len(), image_bytes.len() + label_bytes.len());
    let header = format!(
        r#"{{"images":{{"dtype":"{image_type}","shape":{shape},"data_offsets":[0,{middle}]}},"labels":{{"dtype":"{label_type}","shape":[2],"data_offsets":[{middle},{end}]}}}}"#
    );
    safetensors(&header, &[image_bytes, label_bytes].concat())
}

#[test]
fn bytes_are_pixels_and_floats_are_taken_as_normalised() {
    let pixels: Vec<u8> = (0..2 * 3 * 4).collect();
    let set =
        parse_tensor_file(file("U8", "[2,3,2,2]", &pixels, "I64", &[[1u8, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat()), "a");
    let set = set.unwrap();
    assert_eq!((set.len(), set.label(0), set.label(1), set.class_names().len()), (2, 1, 0, 2));
    let Sample::Pixels(image) = set.sample(1).unwrap() else { panic!("u8 images are pixels") };
    assert_eq!(image.pixels(), [12, 16, 20, 13, 17, 21, 14, 18, 22, 15, 19, 23]);

    let floats: Vec<u8> = (0..2 * 2).flat_map(|value| (value as f32 - 1.5).to_le_bytes()).collect();
    let set = parse_tensor_file(file("F32", "[2,2,1,1]", &floats, "U8", &[4, 2]), "b").unwrap();
    assert!(set.format().normalized && set.format().image_size == Some([1, 1]) && set.class_names().len() == 5);
    let values = vec![0.5, 1.5];
    assert_eq!(set.sample(1).unwrap(), Sample::Normalized { height: 1, width: 1, channels: 2, values });
}

#[test]
fn a_fingerprint_is_that_of_images_and_labels_and_not_of_their_file() {
    let of = |pixels: &[u8], kind: &str, labels: &[u8], place: &str| {
        parse_tensor_file(file("U8", "[2,1,1,2]", pixels, kind, labels), place).unwrap().fingerprint_set()
    };
    let first = of(&[1, 2, 3, 4], "U8", &[0, 1], "a");
    assert_eq!(of(&[1, 2, 3, 4], "I16", &[0, 0, 1, 0], "b"), first, "another file with the same content");
    assert_ne!(of(&[1, 2, 3, 5], "U8", &[0, 1], "a"), first, "another pixel");
    assert_ne!(of(&[3, 4, 1, 2], "U8", &[0, 1], "a"), first, "another order");
    assert_ne!(of(&[1, 2, 3, 4], "U8", &[1, 0], "a"), first, "other labels");
}

#[test]
fn labels_of_any_integer_type_are_read() {
    for (kind, bytes) in [("I8", 1), ("U16", 2), ("I16", 2), ("U32", 4), ("I32", 4), ("U64", 8), ("I64", 8)] {
        let labels = [5u64.to_le_bytes()[..bytes].to_vec(), 7u64.to_le_bytes()[..bytes].to_vec()].concat();
        let set = parse_tensor_file(file("U8", "[2,1,1,1]", &[0, 0], kind, &labels), "a").unwrap();
        assert_eq!((set.label(0), set.label(1)), (5, 7), "{kind}");
    }
}

#[test]
fn probabilities_as_labels_are_soft_targets() {
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let soft = |values: &[f32]| {
        let labels = floats(values);
        let header = format!(
            r#"{{"images":{{"dtype":"F32","shape":[2,1,1,1],"data_offsets":[0,8]}},"labels":{{"dtype":"F32","shape":[2,3],"data_offsets":[8,{}]}}}}"#,
            8 + labels.len()
        );
        parse_tensor_file(safetensors(&header, &[floats(&[0.0, 1.0]), labels].concat()), "soft")
    };
    let values = [0.25, 0.5, 0.25, 0.0, 0.1, 0.9];
    let set = Arc::new(soft(&values).unwrap());
    assert_eq!((set.class_names().len(), set.label(0), set.label(1)), (3, 1, 2));
    let transform = Transform::evaluation(set.format().preprocessing().unwrap()).unwrap();
    let batch = Loader::new(set, transform, LoaderOptions::default()).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.targets(), Targets::Soft { values: &values, classes: 3 });
    assert_eq!(batch.labels(), [1, 2]);
    for bad in [[0.25, 0.5, 0.2, 0.0, 0.1, 0.9], [0.25, 0.5, 0.25, f32::NAN, 0.1, 0.9], [1.5, -0.5, 0.0, 1.0, 0.0, 0.0]]
    {
        let error = soft(&bad).unwrap_err().to_string();
        assert!(error.contains("expected probabilities that sum to 1, got a sum of "), "{error}");
    }
}

#[test]
fn a_fault_is_named_with_its_tensor() {
    let message = |bytes: Vec<u8>| parse_tensor_file(bytes, "d.safetensors").unwrap_err().to_string();
    let cases = [
        (file("U8", "[2,1,1]", &[0, 0], "U8", &[0, 0]), r#"d.safetensors: tensor "images": expected u8 or f32"#),
        (file("I8", "[2,1,1,1]", &[0, 0], "U8", &[0, 0]), r#"tensor "images": expected u8 or f32"#),
        (file("U8", "[2,0,1,1]", &[], "U8", &[0, 0]), r#"tensor "images""#),
        (
            file("U8", "[4,1,1,1]", &[0; 4], "U8", &[0, 0]),
            r#"tensor "labels": expected integers of shape [4], or f32 values of [4, classes], got U8 of shape [2]"#,
        ),
        (
            file("U8", "[2,1,1,1]", &[0, 0], "I8", &[0, 255]),
            r#"tensor "labels": element 1: expected a label from 0 to 65535, got -1"#,
        ),
        (file("U8", "[2,1,1,1]", &[0, 0], "F32", &[0; 8]), r#"tensor "labels": expected integers, got F32"#),
        (file("U8", "[2,1,1,1]", &[0, 0], "U64", &[255; 16]), r#"element 0: expected a label from 0 to 65535"#),
        (safetensors("{}", &[]), r#"expected a tensor "images", got none of that name"#),
    ];
    for (bytes, expected) in cases {
        let message = message(bytes);
        assert!(message.contains(expected) && message.lines().count() == 1, "{message}");
    }
}

#[test]
fn hostile_headers_are_refused() {
    let tensor =
        |shape: &str, from: u64, to: u64| format!(r#"{{"dtype":"U8","shape":{shape},"data_offsets":[{from},{to}]}}"#);
    let both = |images: String, labels: String| format!(r#"{{"images":{images},"labels":{labels}}}"#);
    let good = file("U8", "[2,1,1,1]", &[0, 0], "U8", &[0, 0]);
    let huge_header = [&u64::MAX.to_le_bytes()[..], &[b'{'; 100]].concat();
    let big_header = [&99_000_000u64.to_le_bytes()[..], &[b'{'; 100]].concat();
    let cases = [
        safetensors(&both(tensor("[2,1,1,1]", 0, 2), tensor("[2]", 1, 3)), &[0; 3]),
        safetensors(&both(tensor("[2,1,1,1]", 0, 2), tensor("[2]", 2, 1 << 40)), &[0; 4]),
        safetensors(&both(tensor("[4294967296,4294967296,4294967296,2]", 0, 2), tensor("[2]", 2, 4)), &[0; 4]),
        safetensors(&both(tensor("[18446744073709551615,1,1,1]", 0, 2), tensor("[2]", 2, 4)), &[0; 4]),
        safetensors(&"[".repeat(100_000), &[]),
        safetensors("{\"images\": 3}", &[]),
        huge_header,
        big_header,
        good[..good.len() - 1].to_vec(),
        good[..7].to_vec(),
        vec![],
    ];
    for bytes in cases {
        let error = parse_tensor_file(bytes, "hostile").unwrap_err().to_string();
        assert!(error.starts_with("hostile: expected") && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_file_is_a_source_without_splits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.safetensors");
    std::fs::write(&path, file("U8", "[2,1,1,1]", &[0, 0], "U8", &[0, 1])).unwrap();
    let source = Source::open("set.safetensors", Some(folder.path())).unwrap();
    let all = source.evaluation(None, None).unwrap();
    assert_eq!((all.part, all.dataset.len()), (Part::Everything, 2));
    assert!(all.dataset.describe_set().starts_with("2 images of 2 classes in "), "{}", all.dataset.describe_set());
    assert!(source.splits().is_empty() && source.split(Split::Val).is_err());
    assert!(Source::open("nothing.safetensors", None).unwrap_err().to_string().contains("no such name or path"));
}
