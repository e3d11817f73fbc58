//! Operations and policies against timm and torchvision (`tests/golden/make_augment.py`).

use std::path::Path;

use residual_preprocess::{Image, Interpolation};

use super::rand_augment::OpSet;
use super::timm::{Application, Draw, Op, Policy};
use super::{Noise, PixelOperation, Resampling, torchvision};
use crate::augment::canvas::Canvas;
use crate::augment::testing;

const SIZE: [usize; 2] = [14, 18];
/// ImageNet's mean colour.
const FILL: [u8; 3] = [124, 116, 104];

/// The picture that make_augment.py makes as well.
fn picture() -> Image {
    let pixel = |y: usize, x: usize| {
        let edge = (x / 4 + y / 5) % 2 * 70;
        let noise = (x * x * 31 + y * y * 17 + x * y * 7) % 41;
        [20 + x * 6 + edge + noise, 200 - y * 9 - edge, 40 + 3 * x + 5 * y + noise].map(|value| value as u8)
    };
    let pixels = (0..SIZE[0] * SIZE[1]).flat_map(|at| pixel(at / SIZE[1], at % SIZE[1])).collect();
    Image::new(SIZE[0], SIZE[1], 3, pixels).unwrap()
}

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Applies the operation of each line to `image`, compares it with its tile, and tells the number of tiles and the greatest
/// difference in grey levels.
fn compare(name: &str, image: &Image, mut apply: impl FnMut(&[&str], &mut Canvas)) -> (usize, u8) {
    let lines = String::from_utf8(golden(&format!("{name}.txt"))).unwrap();
    let tiles = Image::decode(&golden(&format!("{name}.png"))).unwrap();
    let tiles = tiles.with_channels(image.channels()).unwrap();
    assert_eq!(tiles.height(), lines.lines().count() * image.height(), "a tile for each line");
    let (mut most, mut count) = (0, 0);
    for (line, tile) in lines.lines().zip(tiles.pixels().chunks_exact(image.pixels().len())) {
        let mut canvas = testing::canvas(image);
        apply(&line.split(' ').collect::<Vec<_>>(), &mut canvas);
        let difference = canvas.pixels().iter().zip(tile).map(|(got, expected)| got.abs_diff(*expected)).max();
        let difference = difference.unwrap();
        assert!(difference <= 1, "{name}: {line}: {difference} levels");
        (most, count) = (most.max(difference), count + 1);
    }
    (count, most)
}

const OPS: [Op; 25] = [
    Op::AutoContrast,
    Op::Equalize,
    Op::Invert,
    Op::Rotate,
    Op::Posterize,
    Op::PosterizeIncreasing,
    Op::PosterizeOriginal,
    Op::Solarize,
    Op::SolarizeIncreasing,
    Op::SolarizeAdd,
    Op::Color,
    Op::ColorIncreasing,
    Op::Contrast,
    Op::ContrastIncreasing,
    Op::Brightness,
    Op::BrightnessIncreasing,
    Op::Sharpness,
    Op::SharpnessIncreasing,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateXRel,
    Op::TranslateYRel,
    Op::Desaturate,
    Op::GaussianBlur,
    Op::GaussianBlurRand,
];

fn timm_operation([name, level, negative, kind]: [&str; 4], canvas: &mut Canvas) {
    let op = OPS.into_iter().find(|op| format!("{op:?}") == name).expect("one of timm's operations");
    let draw = Draw { negative: negative == "1", unit: 0.7 };
    let operation = op.at(level.parse().unwrap(), draw, Application::new(Noise::None).reach, canvas.size());
    let interpolation = if kind == "bicubic" { Interpolation::Bicubic } else { Interpolation::Bilinear };
    let fill = &FILL[..canvas.channels()];
    operation.apply(canvas, Resampling::Smooth(interpolation), fill);
}

#[test]
fn timms_operations_at_every_magnitude_are_equal_to_the_bit() {
    let compared =
        compare("timm-operations", &picture(), |line, canvas| timm_operation(line.try_into().unwrap(), canvas));
    assert_eq!(compared, (25 * 11, 0), "tiles, and the greatest difference");
    let grey = picture().with_channels(1).unwrap().into_owned();
    let compared =
        compare("timm-operations-grey", &grey, |line, canvas| timm_operation(line.try_into().unwrap(), canvas));
    assert_eq!(compared, (23, 0), "tiles, and the greatest difference");
}

#[test]
fn torchvisions_operations_are_equal_to_the_bit() {
    let compared = compare("torchvision-operations", &picture(), |line, canvas| {
        let [space, name, bin, negative, kind] = line.try_into().unwrap();
        let op = torchvision::OPS.into_iter().find(|op| format!("{op:?}") == name).unwrap();
        let space = if space == "wide" {
            torchvision::Space::wide()
        } else {
            torchvision::Space::narrow(torchvision::BINS, SIZE)
        };
        let resampling =
            if kind == "nearest" { Resampling::Nearest } else { Resampling::Smooth(Interpolation::Bilinear) };
        space.at(op, bin.parse().unwrap(), negative == "1").apply(canvas, resampling, &[0; 3]);
    });
    assert_eq!(compared, (2 * (11 * 7 + 3 * 7), 0), "tiles, and the greatest difference");
}

#[test]
fn torchvisions_colours_and_rotations_are_equal_to_the_bit() {
    let compared = compare("torchvision-colours", &picture(), |line, canvas| {
        let value: f64 = line[1].parse().unwrap();
        let operation = match line[0] {
            "hue" => PixelOperation::Hue(value as f32),
            "brightness" => PixelOperation::Brightness(value as f32),
            "contrast" => PixelOperation::Contrast(value as f32),
            "saturation" => PixelOperation::Color(value as f32),
            "rotate" => PixelOperation::Rotate(value),
            "grayscale" => PixelOperation::Grayscale,
            other => panic!("{other}"),
        };
        operation.apply(canvas, Resampling::Nearest, &[0; 3]);
    });
    assert_eq!(compared, (9 + 3 * 7 + 6 + 1, 0), "tiles, and the greatest difference");
}

#[test]
fn torchvisions_blur_is_equal_within_one_level() {
    let image = picture();
    let pixels = (0..26 * 30).flat_map(|at| &image.pixels()[(at / 30 / 2 * 18 + at % 30 / 2) * 3..][..3]);
    let image = Image::new(26, 30, 3, pixels.copied().collect()).unwrap();
    let (count, _) = compare("torchvision-blur", &image, |line, canvas| {
        PixelOperation::GaussianBlur(line[1].parse().unwrap()).apply(canvas, Resampling::Nearest, &[]);
    });
    assert_eq!(count, 5);
}

#[test]
fn policies_and_sets_of_operations_are_those_of_timm_and_torchvision() {
    let mut ours = Vec::new();
    let policies = [
        ("original", Policy::Original),
        ("originalr", Policy::OriginalIncreasing),
        ("v0", Policy::V0),
        ("v0r", Policy::V0Increasing),
        ("3a", Policy::ThreeAugment),
    ];
    for (name, policy) in policies {
        for number in 0..policy.len() {
            let steps =
                policy.steps(number).map(|(op, probability, magnitude)| format!("{op:?} {probability} {magnitude}"));
            ours.push(format!("{name} {number} {}", steps.collect::<Vec<_>>().join(", ")));
        }
    }
    let sets = [
        ("plain", OpSet::Plain),
        ("increasing", OpSet::Increasing),
        ("weights", OpSet::Weighted),
        ("3aw", OpSet::WeightedThreeAugment),
        ("3a", OpSet::ThreeAugment),
    ];
    for (name, set) in sets {
        let (ops, weights) = set.ops();
        let weight = |at: usize| weights.map_or(1.0, |weights| weights[at]);
        let ops = ops.iter().enumerate().map(|(at, op)| format!("{op:?} {}", weight(at)));
        ours.push(format!("{name} {}", ops.collect::<Vec<_>>().join(", ")));
    }
    let ops = super::aug_mix::OPS.map(|op| format!("{op:?}"));
    ours.push(format!("augmix {}", ops.join(", ")));
    let policies = [
        ("imagenet", torchvision::Policy::ImageNet),
        ("cifar10", torchvision::Policy::Cifar10),
        ("svhn", torchvision::Policy::Svhn),
    ];
    for (name, policy) in policies {
        for (number, pair) in policy.pairs().iter().enumerate() {
            let steps = pair.map(|(op, probability, bin)| format!("{op:?} {probability} {bin}"));
            ours.push(format!("{name} {number} {}", steps.join(", ")));
        }
    }
    let theirs = String::from_utf8(golden("policies.txt")).unwrap();
    for (ours, theirs) in ours.iter().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.lines().count());
}
