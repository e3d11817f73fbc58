#![no_main]

use libfuzzer_sys::fuzz_target;
use residual_hub::answer::{content_range, linked_sha256, redirection, strong_etag};

fuzz_target!(|text: &str| {
    let _ = (content_range(text), linked_sha256(text), strong_etag(text));
    if let Some(next) = redirection("https://a.org/b/c?d", text) {
        assert!(next.starts_with("https://"), "{next}");
        assert!(redirection(&next, "/").is_some(), "{next}");
    }
});
