#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = residual_train::Layer::parse("fuzz", text);
});
