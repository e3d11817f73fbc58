#![no_main]

use libfuzzer_sys::fuzz_target;
use residual_data::{CifarKind, parse::parse_python};

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_python(bytes, CifarKind::Cifar10, "fuzz");
    let _ = parse_python(bytes, CifarKind::Cifar100, "fuzz");
});
