#![no_main]

use libfuzzer_sys::fuzz_target;
use residual_data::{Source, Split};
use std::io::Write;

// The reader opens its file for each part of it, so that the bytes have to be one.
fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::Builder::new().suffix(".parquet").tempfile().expect("a temporary file");
    file.write_all(bytes).expect("the bytes are written");
    let source = Source::open(&file.path().to_string_lossy(), None);
    if let Ok(set) = source.and_then(|source| source.split(Split::Train)) {
        (0..set.len()).for_each(|index| drop(set.sample(index)));
    }
});
