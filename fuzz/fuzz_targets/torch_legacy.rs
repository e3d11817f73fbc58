#![no_main]

use libfuzzer_sys::fuzz_target;

/// What torch writes before the pickle of the object: a magic number, a version, facts about the system.
const HEAD: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\
\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.";

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tensors) = residual_weights::parse_torch(&[HEAD, bytes].concat()) {
        for (key, view) in tensors {
            let _ = view.to_tensor(&key);
        }
    }
});
