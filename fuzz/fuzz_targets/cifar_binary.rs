#![no_main]

use libfuzzer_sys::fuzz_target;
use residual_data::{CifarKind, parse::parse_binary};

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_binary(bytes, CifarKind::Cifar10, "fuzz");
    let _ = parse_binary(bytes, CifarKind::Cifar100, "fuzz");
});
