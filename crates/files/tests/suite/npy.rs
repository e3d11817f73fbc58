//! Arrays written by numpy (`golden/make.py`) are read, and written arrays are read back.

use residual_files::{NpyArray, NpyValues, load_npy, parse_npy, save_npy};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn read(name: &str) -> NpyArray {
    load_npy(&golden(name)).unwrap()
}

#[test]
fn every_numeric_type_of_numpy_is_read() {
    let floats = NpyArray { shape: vec![2, 3, 4], values: NpyValues::F32((0..24).map(|i| i as f32).collect()) };
    for name in ["float16.npy", "float32.npy", "float64.npy", "fortran.npy", "big_endian.npy"] {
        assert_eq!(read(name), floats, "{name}");
    }
    let integers = NpyArray { shape: vec![2, 3, 4], values: NpyValues::I64((0..24).collect()) };
    for name in ["int8.npy", "uint16.npy", "int32.npy", "int64.npy"] {
        assert_eq!(read(name), integers, "{name}");
        assert_eq!(read(name).to_f32(), floats.to_f32(), "{name}");
    }
    assert_eq!(read("uint8.npy").values, NpyValues::U8((0..24).collect()));
    assert_eq!(read("uint8.npy").to_f32(), floats.to_f32());
    assert_eq!(read("bool.npy").values, NpyValues::I64((0..24).map(|i| i64::from(i != 0)).collect()));
    assert_eq!(read("scalar.npy"), NpyArray { shape: vec![], values: NpyValues::F32(vec![2.5]) });
}

#[test]
fn a_written_array_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for shape in [&[][..], &[5], &[2, 3], &[1, 2, 3, 4], &[0, 7]] {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32 - 1.5).collect();
        save_npy(&path, shape, &values).unwrap();
        assert_eq!(load_npy(&path).unwrap(), NpyArray { shape: shape.to_vec(), values: NpyValues::F32(values) });
        let bytes = std::fs::read(&path).unwrap();
        let start = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        assert_eq!(start % 64, 0, "elements are aligned as numpy aligns them");
    }
    let values = [0.0, 1.0, 2.0, 3.0].map(|i: f32| i).to_vec();
    save_npy(&path, &[4], &values).unwrap();
    let header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }";
    assert!(std::fs::read(&path).unwrap().starts_with(header));
}

#[test]
fn what_is_no_array_of_numbers_is_refused() {
    let error = load_npy(&golden("complex.npy")).unwrap_err().to_string();
    assert!(
        error.ends_with("npy: descr: expected floats, integers or booleans of at most 8 bytes, got '<c8'"),
        "{error}"
    );
    let file = |header: &str, data: usize| {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}";
    assert!(parse_npy(&file(good, 16)).is_ok());
    for (header, data) in [
        (good, 15),
        (good, 17),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", 16),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", 8),
        ("{'descr': '<f4', 'fortran_order': False}", 4),
        ("{'descr': '<f4', 'fortran_order': 1, 'shape': ()}", 4),
        ("{'descr': '<f4', 'fortran_order': True, 'shape': (18446744073709551615, 18446744073709551615)}", 4),
        ("{'descr': '<f8', 'fortran_order': True, 'shape': (2305843009213693952, 8)}", 0),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 4),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1", 4),
        ("__import__('os').system('true')", 4),
        ("", 0),
        ("{'descr': '<f8', 'fortran_order': True, 'shape': (1099511627776,)}", 0),
    ] {
        let error = parse_npy(&file(header, data)).unwrap_err().to_string();
        assert!(error.len() < 200, "{header}: {error}");
    }
    let long = format!("{{'descr': '{}'}}", "x".repeat(30_000));
    assert!(parse_npy(&file(&long, 0)).unwrap_err().to_string().len() < 200);
}

#[test]
fn a_file_cut_short_anywhere_is_refused_and_a_changed_one_never_panics() {
    for name in ["float32.npy", "fortran.npy", "bool.npy", "big_endian.npy"] {
        let bytes = std::fs::read(golden(name)).unwrap();
        assert!(parse_npy(&bytes).is_ok());
        for place in 0..bytes.len() {
            assert!(parse_npy(&bytes[..place]).is_err(), "{name} cut to {place} bytes");
            for value in [0, 1, b'9', b'\'', 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[place] = value;
                let _ = parse_npy(&changed);
            }
        }
    }
}
