#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = residual_search::CellTable::parse(bytes, std::path::Path::new("fuzz"));
});
