#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = residual_data::parse::parse_class_list(text, "fuzz.txt".as_ref());
    let _ = residual_data::parse::parse_class_list(text, "fuzz.json".as_ref());
});
