#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = residual_data::parse::parse_tar_shard(bytes, "fuzz");
});
