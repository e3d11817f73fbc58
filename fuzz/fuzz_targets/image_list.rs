#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = residual_data::parse::parse_image_list(bytes, "fuzz.csv".as_ref());
    let _ = residual_data::parse::parse_image_list(bytes, "fuzz.jsonl".as_ref());
});
