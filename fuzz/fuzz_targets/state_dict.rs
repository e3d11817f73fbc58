#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((tensors, _)) = residual_weights::parse_state_dict(bytes) {
        for (key, view) in tensors {
            let _ = view.to_tensor(&key);
        }
    }
});
