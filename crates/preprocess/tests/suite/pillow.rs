//! Resizing, evaluation and decoding against Pillow, torchvision and timm (golden/make.py).

use std::path::{Path, PathBuf};

use residual_preprocess::{CropMode, Image, Interpolation, Orientation, Preprocessing, Preprocessor, Views, resize};

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The RGB pixels of a file among the golden ones.
fn decoded(name: &str) -> Image {
    let image = Image::decode(&golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    image.with_channels(3).unwrap().into_owned()
}

/// The picture that golden/make.py makes as well.
fn pattern(height: usize, width: usize) -> Image {
    let pixel = |y: usize, x: usize| {
        let edge = (x / 5 + y / 7) % 2 * 90;
        let noise = (x * x * 31 + y * y * 17 + x * y * 7) % 61;
        [x * 3 + edge + noise, y * 4 + edge, x + 2 * y + noise].map(|value| (value % 256) as u8)
    };
    let pixels = (0..height * width).flat_map(|at| pixel(at / width, at % width)).collect();
    Image::new(height, width, 3, pixels).unwrap()
}

/// The greatest and the mean difference in grey levels.
fn difference(got: &[u8], expected: &[u8]) -> (u8, f64) {
    assert_eq!(got.len(), expected.len(), "as many values");
    let differences = got.iter().zip(expected).map(|(got, expected)| got.abs_diff(*expected));
    let sum: f64 = differences.clone().map(f64::from).sum();
    (differences.max().unwrap_or(0), sum / got.len() as f64)
}

#[test]
fn resizing_is_pillows_to_the_bit() {
    let kinds = [("bilinear", Interpolation::Bilinear), ("bicubic", Interpolation::Bicubic)];
    for (name, kind) in kinds {
        for [height, width] in [[32, 32], [17, 40], [61, 20], [58, 46], [90, 70]] {
            let expected = Image::decode(&golden(&format!("resize-{name}-{height}x{width}.png"))).unwrap();
            let got = resize(&pattern(61, 47), [height, width], kind);
            let (most, mean) = difference(got.pixels(), expected.pixels());
            assert_eq!(most, 0, "{name} {height}x{width}: {most} levels, mean {mean}");
        }
    }
}

#[test]
fn any_number_of_channels_is_resized_like_three() {
    let three = pattern(61, 47);
    let expected = resize(&three, [30, 20], Interpolation::Bicubic);
    for channels in [1, 2, 4, 5] {
        let spread =
            |pixels: &[u8]| pixels.chunks_exact(3).flat_map(|p| (0..channels).map(move |c| p[c % 3])).collect();
        let image = Image::new(61, 47, channels, spread(three.pixels())).unwrap();
        let expected: Vec<u8> = spread(expected.pixels());
        assert_eq!(difference(resize(&image, [30, 20], Interpolation::Bicubic).pixels(), &expected).0, 0, "{channels}");
    }
}

#[test]
fn evaluation_is_timms_transform_to_the_bit() {
    let cases = [
        ([61, 47], [32, 32], 0.875, "bilinear"),
        ([47, 61], [32, 32], 0.95, "bicubic"),
        ([61, 47], [24, 40], 0.9, "bicubic"),
        ([33, 35], [32, 32], 1.0, "bilinear"),
    ];
    for ([height, width], size, crop_pct, kind) in cases {
        let interpolation = if kind == "bicubic" { Interpolation::Bicubic } else { Interpolation::Bilinear };
        let crop = if crop_pct == 1.0 { "1.0".into() } else { crop_pct.to_string() };
        let name = format!("eval-{height}x{width}-{}x{}-{crop}-{kind}.png", size[0], size[1]);
        let expected = Image::decode(&golden(&name)).unwrap();
        let unscaled = Preprocessing::unscaled(size, &[0.0; 3], &[1.0; 3]);
        let description = Preprocessing { crop_pct, interpolation, ..unscaled };
        let preprocessor = Preprocessor::new(description).unwrap();
        let mut output = vec![0.0; preprocessor.output_len()];
        preprocessor.run(&pattern(height, width), &mut output).unwrap();
        let got: Vec<u8> = output.iter().map(|value| (value * 255.0).round() as u8).collect();
        let (most, mean) = difference(&got, expected.pixels());
        assert_eq!(most, 0, "{name}: {most} levels, mean {mean}");
    }
}

#[test]
fn squashed_and_letterboxed_images_are_timms_to_the_bit() {
    let cases = [
        (CropMode::Squash, [61, 47], [32, 32], "0.875", Interpolation::Bicubic),
        (CropMode::Squash, [47, 61], [24, 40], "1.0", Interpolation::Bilinear),
        (CropMode::Border, [61, 47], [32, 32], "1.0", Interpolation::Bicubic),
        (CropMode::Border, [47, 61], [24, 40], "0.9", Interpolation::Bilinear),
        (CropMode::Border, [20, 61], [33, 24], "0.8", Interpolation::Bilinear),
    ];
    for (crop_mode, [height, width], size, crop, interpolation) in cases {
        let [mode, kind] = [format!("{crop_mode:?}"), format!("{interpolation:?}")].map(|name| name.to_lowercase());
        let name = format!("eval-{mode}-{height}x{width}-{}x{}-{crop}-{kind}.png", size[0], size[1]);
        let expected = Image::decode(&golden(&name)).unwrap();
        let mean = Preprocessing::IMAGENET_MEAN;
        let crop_pct = crop.parse().unwrap();
        let unscaled = Preprocessing::unscaled(size, &mean, &[1.0; 3]);
        let preprocessor = Preprocessor::new(Preprocessing { crop_pct, crop_mode, interpolation, ..unscaled }).unwrap();
        let mut output = vec![0.0; preprocessor.output_len()];
        preprocessor.run(&pattern(height, width), &mut output).unwrap();
        let values = output.iter().zip(mean.iter().cycle()).map(|(value, mean)| ((value + mean) * 255.0).round() as u8);
        assert_eq!(difference(&values.collect::<Vec<_>>(), expected.pixels()).0, 0, "{name}");
    }
}

#[test]
fn ten_crops_are_torchvisions() {
    let expected = Image::decode(&golden("ten-crop.png")).unwrap();
    let unscaled = Preprocessing::unscaled([16, 16], &[0.0; 3], &[1.0; 3]);
    let preprocessor = Preprocessor::new(Preprocessing { crop_pct: 0.8, ..unscaled }).unwrap();
    let views = |views: Views| -> Vec<u8> {
        let mut output = vec![0.0; views.count() * preprocessor.output_len()];
        preprocessor.run_views(&pattern(24, 30), views, &mut output).unwrap();
        output.iter().map(|value| (value * 255.0).round() as u8).collect()
    };
    let len = preprocessor.output_len();
    assert!(views(Views::TenCrop) == expected.pixels());
    assert!(views(Views::FiveCrop) == expected.pixels()[..5 * len]);
    let centre = &expected.pixels()[4 * len..5 * len];
    let mirrored: Vec<u8> = centre.chunks(48).flat_map(|row| row.chunks(3).rev().flatten().copied()).collect();
    assert!(views(Views::Flip) == [centre, &mirrored].concat());
    assert!(views(Views::Single) == centre);
}

#[test]
fn photographs_are_turned_upright_where_the_description_says_so() {
    let text = String::from_utf8(golden("exif.txt")).unwrap();
    for (number, line) in (1..).zip(text.lines()) {
        let expected: Vec<usize> = line.split(' ').map(|value| value.parse().unwrap()).collect();
        let image = Image::decode(&golden(&format!("exif-{number}.png"))).unwrap();
        assert_eq!(image.orientation(), Orientation::from_exif(number).unwrap());
        assert_eq!([image.height(), image.width()], [2, 3], "as stored");
        let upright = image.upright();
        let red = upright.pixels().iter().step_by(3).map(|&value| usize::from(value));
        assert!([upright.height(), upright.width()].into_iter().chain(red).eq(expected), "orientation {number}");
        assert!(upright.orientation().is_upright() && upright.upright() == upright);

        let size = [upright.height(), upright.width()];
        let description = |exif_orientation| Preprocessing {
            exif_orientation,
            ..Preprocessing::unscaled(size, &[0.0; 3], &[1.0; 3])
        };
        let run = |exif_orientation| {
            let mut output = vec![0.0; 18];
            Preprocessor::new(description(exif_orientation)).unwrap().run(&image, &mut output).unwrap();
            output
        };
        let first = f32::from(upright.pixels()[0]) / 255.0;
        assert!((run(true)[0] - first).abs() < 1e-6);
        assert_eq!(run(true) == run(false), number == 1, "off, pixels are taken as they are stored");
    }
    assert_eq!((Orientation::from_exif(0), Orientation::from_exif(9)), (None, None));
}

#[test]
fn the_orientation_of_every_format_that_has_one_is_read() {
    let six = Orientation::from_exif(6).unwrap();
    for name in ["exif-6.jpg", "exif-6.webp", "exif-6.tif", "exif-6.png"] {
        assert_eq!(Image::decode(&golden(name)).unwrap().orientation(), six, "{name}");
    }
    assert!(Image::decode(&golden("rgb.tif")).unwrap().orientation().is_upright());
}

#[test]
fn every_lossless_kind_of_file_decodes_to_pillows_pixels() {
    const FILES: [(&str, usize); 17] = [
        ("palette.png", 4),
        ("grey-alpha.png", 2),
        ("rgba.png", 4),
        ("bilevel.png", 1),
        ("rgb16.png", 3),
        ("lossless.webp", 3),
        ("rgb.bmp", 3),
        ("palette.gif", 4),
        ("transparent.gif", 4),
        ("animation.gif", 4),
        ("rgb.tif", 3),
        ("grey-deflate.tiff", 1),
        ("rgba-lzw.tif", 4),
        ("rgb.ppm", 3),
        ("plain.ppm", 3),
        ("grey.pgm", 1),
        ("bilevel.pbm", 1),
    ];
    for (name, channels) in FILES {
        assert_eq!(Image::decode(&golden(name)).unwrap().channels(), channels, "{name}");
        assert!(decoded(name) == decoded(&format!("{name}.expected.png")), "{name}: other pixels than Pillow's");
    }
}

#[test]
fn transparency_is_kept_for_networks_that_see_it() {
    // The alpha that golden/make.py gave both is the pattern's green.
    let pattern = pattern(45, 53);
    let green = || pattern.pixels().chunks_exact(3).map(|pixel| pixel[1]);
    for (name, channels) in [("rgba.png", 4), ("rgba-lzw.tif", 4), ("grey-alpha.png", 2)] {
        let image = Image::decode(&golden(name)).unwrap();
        let alpha = image.pixels().chunks_exact(channels).map(|pixel| pixel[channels - 1]);
        assert!(alpha.eq(green()), "{name}");
        let description = Preprocessing::unscaled([45, 53], &vec![0.0; channels], &vec![1.0; channels]);
        let preprocessor = Preprocessor::new(description).unwrap();
        let mut input = vec![0.0; preprocessor.output_len()];
        preprocessor.run(&image, &mut input).unwrap();
        let seen = input.chunks_exact(channels).map(|pixel| (pixel[channels - 1] * 255.0).round() as u8);
        assert!(seen.eq(green()), "{name}");
    }
    let opaque = Image::decode(&golden("rgb.bmp")).unwrap().with_channels(4).unwrap_err().to_string();
    assert_eq!(opaque, "expected an image of 4 channels (RGB and alpha), got 3 channels (RGB)");
}

#[test]
fn jpeg_decodes_to_the_pixels_of_libjpeg_turbo() {
    let kinds = [
        "444",
        "422",
        "422-progressive",
        "420",
        "420-progressive",
        "420-restart",
        "420-3x5",
        "420-5x3",
        "440",
        "411",
        "rgb",
        "grey",
        "cmyk",
        "ycck",
    ];
    for kind in kinds {
        let name = format!("jpeg-{kind}.jpg");
        let expected = decoded(&format!("{name}.expected.png"));
        let difference = difference(decoded(&name).pixels(), expected.pixels());
        assert_eq!(difference, (0, 0.0), "{name}: greatest and mean difference");
    }
}

/// Rectangles at every edge, of a single pixel, of everything: neighbours outside them, which smooth upsampling reads, are those of the image.
#[test]
fn a_decoded_crop_is_the_crop_of_the_decoded_image() {
    let jpeg =
        ["444", "422", "422-progressive", "420", "420-progressive", "420-restart", "420-3x5", "420-5x3", "440", "411"];
    let jpeg = jpeg.into_iter().chain(["rgb", "grey", "cmyk", "ycck"]).map(|kind| format!("jpeg-{kind}.jpg"));
    for name in jpeg.chain(["exif-6.jpg", "rgb.bmp", "rgba.png", "palette.gif"].map(String::from)) {
        let bytes = golden(&name);
        let whole = Image::decode(&bytes).unwrap();
        let (height, width) = (whole.height(), whole.width());
        let mut rectangles = vec![[0, 0, height, width], [0, 0, 1, 1], [height - 1, width - 1, 1, 1]];
        let mut random = residual_tensor::Stream::new(1, &[]);
        for _ in 0..60 {
            let mut side = |len: usize| {
                let at = random.below(len as u32) as usize;
                (at, 1 + random.below((len - at) as u32) as usize)
            };
            let ((top, height), (left, width)) = (side(height), side(width));
            rectangles.push([top, left, height, width]);
        }
        for rectangle in rectangles {
            let mut size = None;
            let crop = Image::decode_crop(&bytes, |whole| {
                size = Some(whole);
                rectangle
            });
            assert_eq!(size, Some([height, width]));
            let [top, left, rows, columns] = rectangle;
            assert!(crop.unwrap() == whole.crop(top, left, rows, columns), "{name} at {rectangle:?}");
        }
    }
}

#[test]
fn a_file_that_is_damaged_outside_the_crop_is_an_error() {
    for name in ["jpeg-444.jpg", "jpeg-420-restart.jpg", "jpeg-grey.jpg"] {
        let whole = golden(name);
        let cut = [&whole[..whole.len() - 14], b"\xff\xd9"].concat();
        let decoded = Image::decode(&cut).unwrap_err();
        assert_eq!(Image::decode_crop(&cut, |_| [0, 0, 1, 1]).unwrap_err(), decoded, "{name}");
    }
}

#[test]
fn lossy_webp_is_close_to_libwebp() {
    let expected = Image::decode(&golden("lossy.webp.expected.png")).unwrap();
    let (most, mean) = difference(Image::decode(&golden("lossy.webp")).unwrap().pixels(), expected.pixels());
    assert!(most <= 4 && mean < 0.5, "{most} levels, mean {mean}");
}

/// The folder of test data, or `None`, said aloud, where there is none.
fn test_data() -> Option<PathBuf> {
    let folder = std::env::var_os("RESIDUAL_TEST_DATA").map(PathBuf::from);
    if folder.is_none() {
        assert!(std::env::var("RESIDUAL_REQUIRE_DATA").as_deref() != Ok("1"), "RESIDUAL_TEST_DATA is not set");
        eprintln!("skipped: RESIDUAL_TEST_DATA is not set");
    }
    folder
}

#[test]
fn photographs_decode_to_the_pixels_of_libjpeg_turbo() {
    let Some(folder) = test_data() else { return };
    let bytes = golden("photographs.bin");
    let mut rest = &bytes[..];
    while let Some((header, tail)) = rest.split_first_chunk::<12>() {
        let [len, height, width] =
            [0, 4, 8].map(|at| u32::from_le_bytes(header[at..at + 4].try_into().unwrap()) as usize);
        let (name, tail) = tail.split_at(len);
        let (expected, tail) = tail.split_at(3 * 2000);
        rest = tail;
        let name = std::str::from_utf8(name).unwrap();
        let image = Image::decode(&std::fs::read(folder.join("hymenoptera").join(name)).unwrap()).unwrap();
        assert_eq!([image.height(), image.width()], [height, width], "{name}");
        let at = (0..2000).map(|k| (k * 2_654_435_761) % (height * width));
        let got: Vec<u8> = at.flat_map(|at| &image.pixels()[at * 3..at * 3 + 3]).copied().collect();
        assert_eq!(difference(&got, expected), (0, 0.0), "{name}: greatest and mean difference");
    }
}
