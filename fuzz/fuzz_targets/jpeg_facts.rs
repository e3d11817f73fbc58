#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    residual_doctor::parse::jpeg_facts(bytes);
});
