#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = residual_zoo::from_toml(text) {
        let _ = config.graph();
    }
});
