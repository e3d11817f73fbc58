//! Damaged and hostile images are errors, never panics and never floods of memory.

use std::path::Path;

use residual_preprocess::{Image, ImageError};

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

const FILES: [&str; 12] = [
    "jpeg-444.jpg",
    "jpeg-420.jpg",
    "jpeg-420-progressive.jpg",
    "jpeg-420-restart.jpg",
    "jpeg-grey.jpg",
    "jpeg-cmyk.jpg",
    "rgba.png",
    "palette.png",
    "rgb16.png",
    "lossless.webp",
    "lossy.webp",
    "rgb.bmp",
];

#[test]
fn a_truncated_image_is_an_error() {
    for name in FILES {
        let whole = golden(name);
        for len in (0..whole.len() - 12).step_by(3) {
            let error = Image::decode(&whole[..len]);
            assert!(error.is_err(), "{name}: {len} of {} bytes", whole.len());
        }
    }
}

#[test]
fn a_changed_image_is_an_error_or_another_image_but_no_panic() {
    for name in FILES {
        let whole = golden(name);
        for at in 0..whole.len() {
            for bit in [0x01, 0x10, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= bit;
                match Image::decode(&changed) {
                    Ok(image) => assert_eq!(image.pixels().len(), image.height() * image.width() * 3),
                    Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
                }
            }
        }
    }
}

#[test]
fn claimed_sizes_are_refused_before_they_are_allocated() {
    // The frame header of a JPEG: height and width are at 5 and 7 bytes behind its marker.
    let mut jpeg = golden("jpeg-420.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x3f, 0xff, 0x3f, 0xff]);
    assert_eq!(Image::decode(&jpeg), Err(ImageError::TooLarge { height: 0x3fff, width: 0x3fff }));
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0, 1]);
    assert_eq!(Image::decode(&jpeg), Err(ImageError::TooLarge { height: 0xffff, width: 1 }));
    // A BMP: width and height are at 18 and 22.
    let mut bmp = golden("rgb.bmp");
    bmp[18..26].copy_from_slice(&[0, 0x30, 0, 0, 0, 0x30, 0, 0]);
    assert_eq!(Image::decode(&bmp), Err(ImageError::TooLarge { height: 0x3000, width: 0x3000 }));
}

#[test]
fn a_jpeg_of_endless_scans_is_refused() {
    let whole = golden("jpeg-420-progressive.jpg");
    let scan = whole.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let end = scan + 2 + whole[scan + 2..].windows(2).position(|pair| pair[0] == 0xff && pair[1] > 0xd7).unwrap();
    let bomb = [&whole[..scan], &whole[scan..end].repeat(300), b"\xff\xd9"].concat();
    let error = Image::decode(&bomb).unwrap_err().to_string();
    assert_eq!(error, "not a readable image: damaged JPEG: too many scans");
}

#[test]
fn bytes_of_another_kind_are_named_as_such() {
    for bytes in [&b""[..], b"GIF89a\x01\x00\x01\x00", b"hello", b"\xff\xd8\xff", &[0; 64]] {
        let error = Image::decode(bytes).unwrap_err().to_string();
        assert!(error.starts_with("not a readable image: "), "{error}");
    }
}
