//! Foreign bytes never panic, never run anything, and never cost more memory than is stated.

use crate::tiny;
use proptest::prelude::*;
use residual_model::ModelError;
use residual_weights::{
    Cause, load_into, parse_checkpoint, parse_safetensors, parse_state_dict, parse_torch, save, save_sparse,
};

const GOLDEN: [&str; 7] = [
    "zip.pth",
    "legacy.pth",
    "wrapped.pth",
    "wrapped_legacy.pth",
    "views_legacy.pth",
    "views.pth",
    "plain.safetensors",
];

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(tiny::golden(name)).unwrap()
}

/// A checkpoint of ours.
fn checkpoint() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let model = residual_model::Model::new(tiny::graph(), tiny::tensors(), tiny::preprocessing(), Vec::new()).unwrap();
    save(&path, &model, Some("a = 1")).unwrap();
    std::fs::read(path).unwrap()
}

/// A checkpoint of ours with a weight in two parts.
fn sparse_checkpoint() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    save_sparse(&path, &tiny::sparse(), None).unwrap();
    std::fs::read(path).unwrap()
}

/// A checkpoint of ours with weights in 4 bits.
fn four_bit_checkpoint() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    save(&path, &tiny::four_bits(), None).unwrap();
    std::fs::read(path).unwrap()
}

/// Everything there is to do with bytes; whether some of it succeeded.
fn parse_all(bytes: &[u8]) -> bool {
    let mut read = parse_checkpoint(bytes).is_ok();
    read |= parse_safetensors(bytes).is_ok() | parse_torch(bytes).is_ok();
    if let Ok((views, _)) = parse_state_dict(bytes) {
        for (name, view) in views {
            if let Ok(tensor) = view.to_tensor(&name) {
                assert_eq!(tensor.shape(), view.shape());
            }
        }
    }
    read
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    for name in GOLDEN {
        let bytes = golden(name);
        assert!(parse_all(&bytes), "{name}");
        for length in 0..bytes.len() {
            assert!(!parse_all(&bytes[..length]), "{name} cut to {length} bytes");
        }
    }
    for bytes in [checkpoint(), sparse_checkpoint(), four_bit_checkpoint()] {
        assert!(parse_all(&bytes));
        assert!((0..bytes.len()).all(|length| !parse_all(&bytes[..length])));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic(
        file in 0..=GOLDEN.len() + 2,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = match GOLDEN.get(file) {
            Some(name) => golden(name),
            None if file == GOLDEN.len() => checkpoint(),
            None if file == GOLDEN.len() + 1 => sparse_checkpoint(),
            None => four_bit_checkpoint(),
        };
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        parse_all(&bytes);
    }

    #[test]
    fn random_operations_never_panic(
        operations in prop::collection::vec(prop::sample::select(&b"\x80\x02(.0123NJKMGXUTCB])}ldtaesubhjqrcRQ\x81\x85\x86\x87\x88\x89\x8a\x8c\x8f\x90\x91\x92\x93\x94\x95\x00\x01\n"[..]), 0..200),
    ) {
        parse_all(&legacy(&operations));
    }
}

/// A file of torch's old format around the operations of a pickle (without its protocol and its stop).
fn legacy(operations: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    bytes.extend(b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.\x80\x02");
    bytes.extend(operations);
    bytes.extend(b".\x80\x02].");
    bytes
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn lying_safetensors_headers_are_refused() {
    let tensor = |dtype: &str, shape: &str, start: u64, end: u64| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let good = tensor("F32", "[2]", 0, 8);
    assert!(parse_safetensors(&safetensors(&format!(r#"{{"a":{good}}}"#), 8)).is_ok());
    for header in [
        format!(r#"{{"a":{}}}"#, tensor("F32", "[1000000000000]", 0, 8)),
        format!(r#"{{"a":{}}}"#, tensor("F32", "[18446744073709551615,18446744073709551615]", 0, 8)),
        format!(r#"{{"a":{}}}"#, tensor("F32", "[2]", 0, 1 << 60)),
        format!(r#"{{"a":{}}}"#, tensor("F32", "[2]", 4, 12)),
        format!(r#"{{"a":{}}}"#, tensor("F32", "[2]", 8, 0)),
        format!(r#"{{"a":{}}}"#, tensor("F33", "[2]", 0, 8)),
        format!(r#"{{"a":{}}}"#, tensor("F32", "[-2]", 0, 8)),
        // Overlapping, and the same name twice.
        format!(r#"{{"a":{good},"b":{good}}}"#),
        format!(r#"{{"a":{good},"a":{}}}"#, tensor("F32", "[2]", 8, 16)),
        "[".repeat(100_000),
        "{}".into(),
    ] {
        assert!(parse_safetensors(&safetensors(&header, 8)).is_err(), "{}", &header[..header.len().min(200)]);
    }
    for length in [u64::MAX, 1 << 62, 100_000_001, 65 << 20, 9] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}      ");
        assert!(parse_safetensors(&bytes).is_err(), "a header of {length} bytes");
    }
}

#[test]
fn a_type_that_becomes_no_tensor_is_named() {
    let header = r#"{"fc.bias":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]}}"#;
    let bytes = safetensors(header, 3);
    let (views, _) = parse_state_dict(&bytes).unwrap();
    assert_eq!(
        views[0].1.to_tensor("fc.bias").unwrap_err().to_string(),
        "tensor \"fc.bias\": expected elements of type f16, bf16, f32, f64, an integer or bool, got f8_e4m3"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let error = load_into(&path, &tiny::graph(), tiny::preprocessing(), Vec::new()).unwrap_err();
    let Cause::Model(ModelError::Tensors { problems }) = error.cause else { panic!("{:?}", error.cause) };
    assert_eq!(problems.last().unwrap().to_string(), "tensor \"fc.bias\": expected elements of type f32, got f8_e4m3");
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let info = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let error = parse_safetensors(&safetensors(&format!(r#"{{"a":{info},"a":{info}}}"#), 4)).unwrap_err().to_string();
    assert_eq!(error, "safetensors: expected every key once, got \"a\" twice");
}

#[test]
fn strings_of_a_file_are_short_and_harmless_in_its_errors() {
    let long = "x\x1b[2J\n".repeat(100_000);
    let text =
        |text: &str| [b"X".to_vec(), (text.len() as u32).to_le_bytes().to_vec(), text.as_bytes().to_vec()].concat();
    let header = serde_json::json!({ "a": { "dtype": &long, "shape": [1], "data_offsets": [0, 4] } }).to_string();
    let class =
        [b"}".to_vec(), text("a"), b"c".to_vec(), "m".repeat(1 << 20).into_bytes(), b"\nn\n)Rs".to_vec()].concat();
    let storage = [
        b"}".to_vec(),
        text("a"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text(&long),
        text("cpu"),
        b"K\x01tQK\x00K\x01\x85K\x01\x85tRs".to_vec(),
    ];
    for error in [
        parse_safetensors(&safetensors(&header, 4)).unwrap_err(),
        parse_torch(&legacy(&class)).unwrap_err(),
        parse_torch(&legacy(&storage.concat())).unwrap_err(),
    ] {
        let message = error.to_string();
        assert!(message.len() < 800 && !message.contains(char::is_control), "{message}");
    }
}

#[test]
fn a_call_in_a_pickle_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let evidence = folder.path().join("evidence");
    let command = format!("touch {}", evidence.display());
    let mut operations = b"}X\x07\x00\x00\x00fc.biascos\nsystem\nX".to_vec();
    operations.extend((command.len() as u32).to_le_bytes());
    operations.extend(command.as_bytes());
    operations.extend(b"\x85Rs");
    let error = parse_torch(&legacy(&operations)).unwrap_err().to_string();
    assert!(error.contains("got none but \"fc.bias\", a pickled os.system"), "{error}");
    assert!(!evidence.exists());
}

#[test]
fn views_past_their_storage_are_refused() {
    // The legacy golden file with numbers in its pickle changed: sizes, offsets and strides are BININT1.
    let bytes = golden("legacy.pth");
    let good = b"K\x00K\x03K\x02\x86q";
    let at = bytes.windows(good.len()).position(|window| window == good).expect("the shape of fc.weight");
    for (index, value) in [(1, 1), (3, 4), (5, 3), (1, 255), (3, 255)] {
        let mut bytes = bytes.clone();
        bytes[at + index] = value;
        assert!(parse_torch(&bytes).is_err(), "byte {index} as {value}");
    }
}

/// A zip archive of one stored entry that its directory names `names` times.
fn archive_of_one_entry(data: &[u8], names: usize) -> Vec<u8> {
    let sizes = (data.len() as u32).to_le_bytes();
    // Version 20, no flags, stored, no time, no checksum.
    let common = [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &sizes, &sizes].concat();
    let mut bytes = [b"PK\x03\x04", &common[..], &[10, 0, 0, 0], b"a/data.pkl", data].concat();
    let start = bytes.len() as u32;
    for index in 0..names {
        let name = if index == 0 { "a/data.pkl".to_owned() } else { format!("a/data/{index}") };
        bytes.extend(
            [b"PK\x01\x02\x14\0", &common[..], &(name.len() as u16).to_le_bytes(), &[0; 16], name.as_bytes()].concat(),
        );
    }
    let length = bytes.len() as u32 - start;
    let count = (names as u16).to_le_bytes();
    bytes.extend(
        [b"PK\x05\x06\0\0\0\0", &count[..], &count, &length.to_le_bytes(), &start.to_le_bytes(), &[0; 2]].concat(),
    );
    bytes
}

#[test]
fn zip_entries_that_share_their_bytes_are_refused() {
    let pickle = b"\x80\x02}.";
    assert!(parse_torch(&archive_of_one_entry(pickle, 1)).unwrap().is_empty());
    // 30,000 entries of one megabyte each, in a file of three: reading them all would take minutes.
    let mut data = pickle.to_vec();
    data.resize(1 << 20, 0);
    let error = parse_torch(&archive_of_one_entry(&data, 30_000)).unwrap_err().to_string();
    assert!(error.ends_with("expected bytes of its own, got another entry's"), "{error}");
}

#[test]
fn a_compressed_entry_is_refused_unread() {
    let mut bytes = archive_of_one_entry(b"\x80\x02}.", 1);
    for at in (0..bytes.len() - 12).filter(|&at| bytes[at..].starts_with(b"PK\x03\x04")).collect::<Vec<_>>() {
        bytes[at + 8] = 8;
    }
    for at in (0..bytes.len() - 12).filter(|&at| bytes[at..].starts_with(b"PK\x01\x02")).collect::<Vec<_>>() {
        bytes[at + 10] = 8;
        // Four gigabytes when unpacked.
        bytes[at + 24..at + 28].fill(0xff);
    }
    let error = parse_torch(&bytes).unwrap_err().to_string();
    assert!(error.contains("expected data as torch.save writes it, got compressed data"), "{error}");
}

/// A pickle of dictionaries in which each holds the one before it several times.
fn nested_dictionaries(levels: u8, copies: usize) -> Vec<u8> {
    let mut operations = b"}q\x00".to_vec();
    for level in 0..levels {
        operations.push(b'}');
        for copy in 0..copies {
            operations.extend([b'U', 1, b'a' + copy as u8, b'h', level, b's']);
        }
        operations.extend([b'q', level + 1]);
    }
    operations
}

/// Set in a process that this test starts under a limit.
const LIMITED: &str = "RESIDUAL_TEST_LIMITED";

#[test]
#[ignore = "started by the test below, in a process with little memory"]
fn parse_bombs() {
    if std::env::var_os(LIMITED).is_none() {
        return;
    }
    let many = |operation: &[u8]| operation.repeat((8 << 20) / operation.len());
    for operations in [
        // More values, marks, memo entries than the limit of operations.
        many(b"]"),
        many(b"("),
        many(b"}2"),
        many(b"N\x94"),
        many(b"(t"),
        // Deep: tuples in tuples, lists in lists.
        [b")".to_vec(), b"\x85".repeat(1 << 20)].concat(),
        [b"]".to_vec(), b"]a".repeat(0), many(b"]")[..1 << 20].to_vec(), b"a".repeat((1 << 20) - 1)].concat(),
        // Shared: 2^40 and 20^60 paths through a few dictionaries.
        nested_dictionaries(40, 2),
        nested_dictionaries(60, 20),
        // Recursive: a dictionary in itself, a list in itself.
        b"}q\x00U\x01ah\x00s".to_vec(),
        b"]q\x00h\x00a".to_vec(),
        // One list taken from the memo and appended to itself.
        [b"]q\x00".to_vec(), many(b"h\x00a")].concat(),
        // Lengths of 2^63 and 2^31.
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(),
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(),
        b"B\xff\xff\xff\x7f".to_vec(),
        b"X\xff\xff\xff\x7f".to_vec(),
        b"\x8b\xff\xff\xff\x7f".to_vec(),
        b"K\x01r\xff\xff\xff\xff".to_vec(),
    ] {
        parse_all(&legacy(&operations));
    }
    for length in [u64::MAX, 1 << 40, 64 << 20] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{\"a\":");
        parse_all(&bytes);
    }
    parse_all(&safetensors(&format!("{{\"a\":{}}}", "[".repeat(4 << 20)), 0));
    // Sizes of zip entries: every field of the central directory at its largest.
    let bytes = golden("zip.pth");
    for at in 0..bytes.len() - 4 {
        if at % 3 == 0 || bytes[at..].starts_with(b"PK") {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].fill(0xff);
            parse_all(&bytes);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn bombs_are_defused_within_a_gigabyte() {
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 1048576; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "hostile::parse_bombs", "--ignored", "--test-threads=1"])
        .env(LIMITED, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}
