//! Damaged and hostile images are errors, never panics and never floods of memory.

use std::path::Path;

use residual_preprocess::{Decoding, Image, ImageError, SixteenBit};

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

const FILES: [&str; 18] = [
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
    "transparent.gif",
    "animation.gif",
    "rgb.tif",
    "rgba-lzw.tif",
    "rgb.ppm",
    "plain.ppm",
];

#[test]
fn a_truncated_image_is_an_error() {
    for name in FILES {
        let whole = golden(name);
        // What follows the first frame of an animation is not read, and the last number of a text may be cut short.
        let needed = match name {
            "animation.gif" => 140,
            "plain.ppm" => whole.len() - 4,
            _ => whole.len() - 12,
        };
        for len in (0..needed).step_by(3) {
            let error = Image::decode(&whole[..len]);
            assert!(error.is_err(), "{name}: {len} of {} bytes", whole.len());
        }
    }
}

#[test]
fn a_jpeg_that_was_cut_and_closed_is_an_error() {
    for name in ["jpeg-444.jpg", "jpeg-grey.jpg", "jpeg-cmyk.jpg", "jpeg-ycck.jpg"] {
        let whole = golden(name);
        let scan = whole.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        for len in scan + 20..whole.len() - 12 {
            let cut = [&whole[..len], b"\xff\xd9"].concat();
            assert!(Image::decode(&cut).is_err(), "{name}: {len} of {} bytes", whole.len());
        }
    }
}

#[test]
fn a_palette_of_broken_colours_is_an_error() {
    let whole = golden("palette.png");
    let palette = whole.windows(4).position(|kind| kind == b"PLTE").unwrap();
    let len = u32::from_be_bytes(whole[palette - 4..palette].try_into().unwrap());
    let shorter = [
        &whole[..palette - 4],
        &(len - 1).to_be_bytes()[..],
        &whole[palette..palette + 4 + len as usize - 1],
        &whole[palette + 4 + len as usize..],
    ]
    .concat();
    let error = Image::decode(&shorter).unwrap_err().to_string();
    assert_eq!(error, format!("not a readable image: damaged PNG: a palette of {} bytes", len - 1));
}

#[test]
fn a_jpeg_of_a_kind_that_is_not_read_says_which() {
    for (marker, what) in [(0xc3, "lossless coding"), (0xc5, "hierarchical coding"), (0xc9, "arithmetic coding")] {
        let mut jpeg = golden("jpeg-420.jpg");
        let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        jpeg[frame + 1] = marker;
        let error = Image::decode(&jpeg).unwrap_err().to_string();
        assert_eq!(error, format!("not a supported image: a JPEG with {what}"));
    }
    let mut jpeg = golden("jpeg-420.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 4] = 12;
    assert!(
        Image::decode(&jpeg).unwrap_err().to_string().contains("not a supported image: a JPEG with samples of 12 bits")
    );
}

/// Bytes that hold the headers of the golden images.
const HEADERS: usize = 640;

#[test]
fn a_changed_image_is_an_error_or_another_image_but_no_panic() {
    for name in FILES {
        let whole = golden(name);
        for at in 0..whole.len() {
            // Each change of a byte of the headers, and one of each byte behind them.
            let changes = [0x01, 0x10, 0x80, 0xff];
            for bit in if at < HEADERS { &changes[..] } else { &changes[at % 4..][..1] } {
                let mut changed = whole.clone();
                changed[at] ^= bit;
                match Image::decode(&changed) {
                    Ok(image) => {
                        assert_eq!(image.pixels().len(), image.height() * image.width() * image.channels());
                    }
                    Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
                }
            }
        }
    }
}

/// Height and width of an image that is refused for its size.
fn too_large(bytes: &[u8]) -> [u64; 2] {
    match Image::decode(bytes) {
        Err(ImageError::TooLarge { height, width, max_side: 16_384, max_pixels: 89_478_485 }) => [height, width],
        other => panic!("{other:?}"),
    }
}

#[test]
fn limits_follow_the_number_of_pixels_that_is_allowed() {
    let small = Decoding { max_pixels: 100, ..Decoding::default() };
    for name in ["jpeg-420.jpg", "rgb.bmp", "rgba.png"] {
        let error = Image::decode_with(&golden(name), &small).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { max_pixels: 100, .. }), "{name}: {error}");
    }
    // A bitmap of one row of more pixels than the side of an image has by default.
    let mut wide = golden("rgb.bmp")[..54].to_vec();
    wide[18..26].copy_from_slice(&[0, 0x50, 0, 0, 1, 0, 0, 0]);
    wide.resize(54 + 3 * 0x5000, 7);
    assert_eq!(too_large(&wide), [1, 0x5000]);
    let large = Decoding { max_pixels: 2 * Image::MAX_PIXELS, ..Decoding::default() };
    assert_eq!(Image::decode_with(&wide, &large).unwrap().width(), 0x5000);
}

#[test]
fn values_of_16_bits_become_bytes_as_asked() {
    // A PGM file of 12-bit values: 0, 1000, 4000.
    let grey = b"P5\n3 1\n65535\n\x00\x00\x03\xe8\x0f\xa0";
    let decode =
        |bytes: &[u8], sixteen_bit| Image::decode_with(bytes, &Decoding { sixteen_bit, ..Decoding::default() });
    assert_eq!(decode(grey, SixteenBit::UpperByte).unwrap().pixels(), [0, 3, 15]);
    assert_eq!(decode(grey, SixteenBit::Scale).unwrap().pixels(), [0, 64, 255]);
    let error = decode(grey, SixteenBit::Refuse).unwrap_err().to_string();
    assert_eq!(error, "not a supported image: 16 bits per value, which are refused");
    // One value has no range; colours share theirs.
    assert_eq!(decode(b"P5\n1 1\n65535\n\x12\x34", SixteenBit::Scale).unwrap().pixels(), [0x12]);
    let color = b"P6\n1 1\n65535\n\x00\x0a\x00\x14\x00\x1e";
    assert_eq!(decode(color, SixteenBit::Scale).unwrap().pixels(), [0, 128, 255]);
    assert_eq!(decode(&golden("rgb.ppm"), SixteenBit::Refuse), Image::decode(&golden("rgb.ppm")));
}

#[test]
fn claimed_sizes_are_refused_before_they_are_allocated() {
    // The frame header of a JPEG: height and width are at 5 and 7 bytes after its marker.
    let mut jpeg = golden("jpeg-420.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x3f, 0xff, 0x3f, 0xff]);
    assert_eq!(too_large(&jpeg), [0x3fff, 0x3fff]);
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0, 1]);
    assert_eq!(too_large(&jpeg), [0xffff, 1]);
    // A BMP: width and height are at 18 and 22.
    let mut bmp = golden("rgb.bmp");
    bmp[18..26].copy_from_slice(&[0, 0x30, 0, 0, 0, 0x30, 0, 0]);
    assert_eq!(too_large(&bmp), [0x3000, 0x3000]);
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
fn scans_are_bounded_by_the_blocks_that_they_visit() {
    // 199 scans of a large image: few enough by number, too many by size. The scans are empty, so that only an early end
    // is quick.
    let mut jpeg = golden("jpeg-420-progressive.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc2]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x24, 0, 0x24, 0]);
    let scan = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let header = scan + 4 + usize::from(jpeg[scan + 3]) - 2;
    // For both kinds of components a DC table of one code, of one bit, for no difference.
    let counts = [&[1][..], &[0; 15]].concat();
    let table = |id: u8| [b"\xff\xc4\x00\x14", &[id][..], &counts, &[0]].concat();
    let blocks = 2 * (0x2400 / 8) * (0x2400 / 8);
    let one = [&table(0)[..], &table(1), &jpeg[scan..header], &vec![0; blocks / 8 + 64]].concat();
    let bomb = [&jpeg[..scan], &one.repeat(40), b"\xff\xd9"].concat();
    let error = Image::decode(&bomb).unwrap_err().to_string();
    assert_eq!(error, "not a readable image: damaged JPEG: too many scans for an image of its size");
}

#[test]
fn bytes_of_another_kind_are_named_as_such() {
    let cases: [(&[u8], &str); 9] = [
        (b"", "an empty file"),
        (b"hello", "another kind of file"),
        (&[0; 64], "another kind of file"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\xff\x0a\0\0", "JPEG XL"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a git-lfs pointer: fetch the file itself with `git lfs pull`",
        ),
        (b"<!DOCTYPE html>", "HTML or XML"),
        (b"%PDF-1.7", "a PDF file"),
    ];
    for (bytes, name) in cases {
        let error = Image::decode(bytes).unwrap_err().to_string();
        let expected = "not a readable image: expected a JPEG, PNG, WebP, BMP, GIF, TIFF or PNM file, got ";
        assert_eq!(error, format!("{expected}{name}"));
    }
    for cut in [&b"GIF89a\x01\x00\x01\x00"[..], b"\xff\xd8\xff", b"II*\0", b"P6\n"] {
        let error = Image::decode(cut).unwrap_err().to_string();
        assert!(error.starts_with("not a readable image: "), "{error}");
    }
}
