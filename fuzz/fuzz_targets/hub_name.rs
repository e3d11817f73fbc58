#![no_main]

use libfuzzer_sys::fuzz_target;
use residual_hub::{Hub, HubName};
use std::path::Component;

fuzz_target!(|text: &str| {
    let Some(Ok(name)) = HubName::parse(text) else { return };
    // Whatever the name, its file stays in the cache.
    let path = Hub::new("/cache").path(&name);
    assert!(path.starts_with("/cache/hub") && path.components().all(|part| part != Component::ParentDir));
    assert!(path.components().all(|part| part.as_os_str().len() <= 200));
});
