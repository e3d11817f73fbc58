#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = residual_preprocess::Image::decode(bytes);
    let corner = |[height, width]: [usize; 2]| [height / 2, width / 2, height - height / 2, width - width / 2];
    let _ = residual_preprocess::Image::decode_crop(bytes, corner);
});
