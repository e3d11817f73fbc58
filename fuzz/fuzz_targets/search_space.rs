#![no_main]

use libfuzzer_sys::fuzz_target;
use residual_search::{Candidate, NetworkSpace};

fuzz_target!(|text: &str| {
    if let Ok(space) = NetworkSpace::parse("fuzz", text) {
        let _ = space.size();
        let _ = space.member(&Candidate(vec![0; space.sizes().len()]));
    }
});
