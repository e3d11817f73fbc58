//! What several tests need.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};

/// The folder of test data, or `None`, said aloud, where there is none.
pub(crate) fn test_data() -> Option<PathBuf> {
    let folder = std::env::var_os("RESIDUAL_TEST_DATA").map(PathBuf::from);
    if folder.is_none() {
        assert!(std::env::var("RESIDUAL_REQUIRE_DATA").as_deref() != Ok("1"), "RESIDUAL_TEST_DATA is not set");
        eprintln!("skipped: RESIDUAL_TEST_DATA is not set");
    }
    folder
}

/// A small PNG file of one colour.
pub(crate) fn png(height: u32, width: u32, colour: [u8; 3]) -> Vec<u8> {
    let image = image::RgbImage::from_pixel(width, height, image::Rgb(colour));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Writes a file and creates its folders.
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A safetensors file of the given header and data.
pub(crate) fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}
