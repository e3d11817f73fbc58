//! torchvision's RandAugment, TrivialAugmentWide and AutoAugment (`torchvision/transforms/autoaugment.py`).

use residual_tensor::Stream;

use super::Context;
use crate::augment::canvas::Canvas;
use crate::augment::pixels::PixelOperation;

/// torchvision's operations, whose argument is one of a number of magnitudes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Invert,
}

/// The number of magnitudes of RandAugment and TrivialAugmentWide.
pub(super) const BINS: usize = 31;
/// The number of magnitudes of AutoAugment.
const AUTO_BINS: usize = 10;

/// The operations of RandAugment and TrivialAugmentWide; those of AutoAugment include `Invert`.
pub(super) const OPS: [Op; 14] = [
    Op::Identity,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateX,
    Op::TranslateY,
    Op::Rotate,
    Op::Brightness,
    Op::Color,
    Op::Contrast,
    Op::Sharpness,
    Op::Posterize,
    Op::Solarize,
    Op::AutoContrast,
    Op::Equalize,
];

/// The ranges of the magnitudes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Space {
    bins: usize,
    shear: f32,
    /// Pixels, horizontally and vertically.
    translate: [f32; 2],
    rotate: f32,
    enhance: f32,
    /// The number of bits that the highest magnitude takes away.
    bits: f32,
}

impl Space {
    /// That of RandAugment, with 31 magnitudes, or of AutoAugment, with 10, for images of `size`.
    pub(super) fn narrow(bins: usize, [height, width]: [usize; 2]) -> Self {
        let translate = [width, height].map(|side| (150.0 / 331.0 * side as f64) as f32);
        Self { bins, shear: 0.3, translate, rotate: 30.0, enhance: 0.9, bits: 4.0 }
    }

    /// That of TrivialAugmentWide.
    pub(super) fn wide() -> Self {
        Self { bins: BINS, shear: 0.99, translate: [32.0; 2], rotate: 135.0, enhance: 0.99, bits: 6.0 }
    }

    /// `op` at magnitude `bin`.
    pub(super) fn at(&self, op: Op, bin: usize, negative: bool) -> PixelOperation {
        let step = |start, end| linspace(start, end, self.bins, bin);
        let signed = |most: f32| f64::from(if negative { -step(0.0, most) } else { step(0.0, most) });
        // torchvision moves the image, Pillow's matrix says where a pixel comes from; it truncates to whole pixels.
        let shift = |most: f32| -signed(most).trunc();
        // By the angle whose tangent is the magnitude, which torchvision hands on in degrees.
        let shear = || signed(self.shear).atan().to_degrees().to_radians().tan();
        let factor = || (1.0 + signed(self.enhance)) as f32;
        match op {
            Op::Identity => PixelOperation::Identity,
            Op::ShearX => PixelOperation::ShearX(shear()),
            Op::ShearY => PixelOperation::ShearY(shear()),
            Op::TranslateX => PixelOperation::TranslateX(shift(self.translate[0])),
            Op::TranslateY => PixelOperation::TranslateY(shift(self.translate[1])),
            Op::Rotate => PixelOperation::Rotate(signed(self.rotate)),
            Op::Brightness => PixelOperation::Brightness(factor()),
            Op::Color => PixelOperation::Color(factor()),
            Op::Contrast => PixelOperation::Contrast(factor()),
            Op::Sharpness => PixelOperation::Sharpness(factor()),
            Op::Posterize => {
                let lost = bin as f32 / ((self.bins - 1) as f32 / self.bits);
                PixelOperation::Posterize(8 - lost.round_ties_even() as u32)
            }
            Op::Solarize => PixelOperation::Solarize(step(255.0, 0.0).into()),
            Op::AutoContrast => PixelOperation::AutoContrast,
            Op::Equalize => PixelOperation::Equalize,
            Op::Invert => PixelOperation::Invert,
        }
    }
}

/// `torch.linspace(start, end, count)[index]`, which torch computes from both ends with a fused multiply-add.
fn linspace(start: f32, end: f32, count: usize, index: usize) -> f32 {
    let step = (end - start) / (count - 1) as f32;
    if index < count / 2 { step.mul_add(index as f32, start) } else { step.mul_add(-((count - 1 - index) as f32), end) }
}

/// One operation of RandAugment at one of 31 magnitudes.
pub(super) fn rand_augment(size: [usize; 2], magnitude: usize, random: &mut Stream) -> PixelOperation {
    let op = OPS[random.below(OPS.len() as u32) as usize];
    Space::narrow(BINS, size).at(op, magnitude, random.chance(0.5))
}

/// The one operation of TrivialAugmentWide (Müller and Hutter 2021, arXiv:2103.10158).
pub(super) fn trivial_wide(random: &mut Stream) -> PixelOperation {
    let op = OPS[random.below(OPS.len() as u32) as usize];
    Space::wide().at(op, random.below(BINS as u32) as usize, random.chance(0.5))
}

/// A policy of AutoAugment (Cubuk et al. 2019, arXiv:1805.09501).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    ImageNet,
    Cifar10,
    Svhn,
}

/// Operation, probability, magnitude (0 where the operation has none).
type Step = (Op, f32, usize);

impl Policy {
    /// Applies one of the 25 pairs of operations.
    pub(super) fn apply(self, canvas: &mut Canvas, context: Context<'_>, random: &mut Stream) {
        let pairs = self.pairs();
        for (op, probability, bin) in pairs[random.below(pairs.len() as u32) as usize] {
            let (applied, negative) = (random.chance(probability), random.chance(0.5));
            if applied {
                let operation = Space::narrow(AUTO_BINS, canvas.size()).at(op, bin, negative);
                operation.apply_black(canvas, context, random);
            }
        }
    }

    pub(super) fn pairs(self) -> &'static [[Step; 2]; 25] {
        match self {
            Self::ImageNet => &IMAGENET,
            Self::Cifar10 => &CIFAR10,
            Self::Svhn => &SVHN,
        }
    }
}

#[rustfmt::skip]
const IMAGENET: [[Step; 2]; 25] = [
    [(Op::Posterize, 0.4, 8), (Op::Rotate, 0.6, 9)],
    [(Op::Solarize, 0.6, 5), (Op::AutoContrast, 0.6, 0)],
    [(Op::Equalize, 0.8, 0), (Op::Equalize, 0.6, 0)],
    [(Op::Posterize, 0.6, 7), (Op::Posterize, 0.6, 6)],
    [(Op::Equalize, 0.4, 0), (Op::Solarize, 0.2, 4)],
    [(Op::Equalize, 0.4, 0), (Op::Rotate, 0.8, 8)],
    [(Op::Solarize, 0.6, 3), (Op::Equalize, 0.6, 0)],
    [(Op::Posterize, 0.8, 5), (Op::Equalize, 1.0, 0)],
    [(Op::Rotate, 0.2, 3), (Op::Solarize, 0.6, 8)],
    [(Op::Equalize, 0.6, 0), (Op::Posterize, 0.4, 6)],
    [(Op::Rotate, 0.8, 8), (Op::Color, 0.4, 0)],
    [(Op::Rotate, 0.4, 9), (Op::Equalize, 0.6, 0)],
    [(Op::Equalize, 0.0, 0), (Op::Equalize, 0.8, 0)],
    [(Op::Invert, 0.6, 0), (Op::Equalize, 1.0, 0)],
    [(Op::Color, 0.6, 4), (Op::Contrast, 1.0, 8)],
    [(Op::Rotate, 0.8, 8), (Op::Color, 1.0, 2)],
    [(Op::Color, 0.8, 8), (Op::Solarize, 0.8, 7)],
    [(Op::Sharpness, 0.4, 7), (Op::Invert, 0.6, 0)],
    [(Op::ShearX, 0.6, 5), (Op::Equalize, 1.0, 0)],
    [(Op::Color, 0.4, 0), (Op::Equalize, 0.6, 0)],
    [(Op::Equalize, 0.4, 0), (Op::Solarize, 0.2, 4)],
    [(Op::Solarize, 0.6, 5), (Op::AutoContrast, 0.6, 0)],
    [(Op::Invert, 0.6, 0), (Op::Equalize, 1.0, 0)],
    [(Op::Color, 0.6, 4), (Op::Contrast, 1.0, 8)],
    [(Op::Equalize, 0.8, 0), (Op::Equalize, 0.6, 0)],
];

#[rustfmt::skip]
const CIFAR10: [[Step; 2]; 25] = [
    [(Op::Invert, 0.1, 0), (Op::Contrast, 0.2, 6)],
    [(Op::Rotate, 0.7, 2), (Op::TranslateX, 0.3, 9)],
    [(Op::Sharpness, 0.8, 1), (Op::Sharpness, 0.9, 3)],
    [(Op::ShearY, 0.5, 8), (Op::TranslateY, 0.7, 9)],
    [(Op::AutoContrast, 0.5, 0), (Op::Equalize, 0.9, 0)],
    [(Op::ShearY, 0.2, 7), (Op::Posterize, 0.3, 7)],
    [(Op::Color, 0.4, 3), (Op::Brightness, 0.6, 7)],
    [(Op::Sharpness, 0.3, 9), (Op::Brightness, 0.7, 9)],
    [(Op::Equalize, 0.6, 0), (Op::Equalize, 0.5, 0)],
    [(Op::Contrast, 0.6, 7), (Op::Sharpness, 0.6, 5)],
    [(Op::Color, 0.7, 7), (Op::TranslateX, 0.5, 8)],
    [(Op::Equalize, 0.3, 0), (Op::AutoContrast, 0.4, 0)],
    [(Op::TranslateY, 0.4, 3), (Op::Sharpness, 0.2, 6)],
    [(Op::Brightness, 0.9, 6), (Op::Color, 0.2, 8)],
    [(Op::Solarize, 0.5, 2), (Op::Invert, 0.0, 0)],
    [(Op::Equalize, 0.2, 0), (Op::AutoContrast, 0.6, 0)],
    [(Op::Equalize, 0.2, 0), (Op::Equalize, 0.6, 0)],
    [(Op::Color, 0.9, 9), (Op::Equalize, 0.6, 0)],
    [(Op::AutoContrast, 0.8, 0), (Op::Solarize, 0.2, 8)],
    [(Op::Brightness, 0.1, 3), (Op::Color, 0.7, 0)],
    [(Op::Solarize, 0.4, 5), (Op::AutoContrast, 0.9, 0)],
    [(Op::TranslateY, 0.9, 9), (Op::TranslateY, 0.7, 9)],
    [(Op::AutoContrast, 0.9, 0), (Op::Solarize, 0.8, 3)],
    [(Op::Equalize, 0.8, 0), (Op::Invert, 0.1, 0)],
    [(Op::TranslateY, 0.7, 9), (Op::AutoContrast, 0.9, 0)],
];

#[rustfmt::skip]
const SVHN: [[Step; 2]; 25] = [
    [(Op::ShearX, 0.9, 4), (Op::Invert, 0.2, 0)],
    [(Op::ShearY, 0.9, 8), (Op::Invert, 0.7, 0)],
    [(Op::Equalize, 0.6, 0), (Op::Solarize, 0.6, 6)],
    [(Op::Invert, 0.9, 0), (Op::Equalize, 0.6, 0)],
    [(Op::Equalize, 0.6, 0), (Op::Rotate, 0.9, 3)],
    [(Op::ShearX, 0.9, 4), (Op::AutoContrast, 0.8, 0)],
    [(Op::ShearY, 0.9, 8), (Op::Invert, 0.4, 0)],
    [(Op::ShearY, 0.9, 5), (Op::Solarize, 0.2, 6)],
    [(Op::Invert, 0.9, 0), (Op::AutoContrast, 0.8, 0)],
    [(Op::Equalize, 0.6, 0), (Op::Rotate, 0.9, 3)],
    [(Op::ShearX, 0.9, 4), (Op::Solarize, 0.3, 3)],
    [(Op::ShearY, 0.8, 8), (Op::Invert, 0.7, 0)],
    [(Op::Equalize, 0.9, 0), (Op::TranslateY, 0.6, 6)],
    [(Op::Invert, 0.9, 0), (Op::Equalize, 0.6, 0)],
    [(Op::Contrast, 0.3, 3), (Op::Rotate, 0.8, 4)],
    [(Op::Invert, 0.8, 0), (Op::TranslateY, 0.0, 2)],
    [(Op::ShearY, 0.7, 6), (Op::Solarize, 0.4, 8)],
    [(Op::Invert, 0.6, 0), (Op::Rotate, 0.8, 4)],
    [(Op::ShearY, 0.3, 7), (Op::TranslateX, 0.9, 3)],
    [(Op::ShearX, 0.1, 6), (Op::Invert, 0.6, 0)],
    [(Op::Solarize, 0.7, 2), (Op::TranslateY, 0.6, 7)],
    [(Op::ShearY, 0.8, 4), (Op::Invert, 0.8, 0)],
    [(Op::ShearX, 0.7, 9), (Op::TranslateY, 0.8, 3)],
    [(Op::ShearY, 0.8, 5), (Op::AutoContrast, 0.7, 0)],
    [(Op::ShearX, 0.7, 2), (Op::Invert, 0.1, 0)],
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    /// The tables of torchvision, as `tests/golden/make_augment.py` wrote them.
    #[test]
    fn magnitudes_are_torchvisions_to_the_bit() {
        let mut ours = String::new();
        for (name, space) in [
            ("auto", Space::narrow(AUTO_BINS, [14, 18])),
            ("rand", Space::narrow(BINS, [14, 18])),
            ("wide", Space::wide()),
        ] {
            for op in OPS {
                for bin in 0..space.bins {
                    let value = match space.at(op, bin, false) {
                        PixelOperation::ShearX(_) | PixelOperation::ShearY(_) => {
                            linspace(0.0, space.shear, space.bins, bin).into()
                        }
                        PixelOperation::TranslateX(value) | PixelOperation::TranslateY(value) => -value,
                        PixelOperation::Rotate(value) | PixelOperation::Solarize(value) => value,
                        PixelOperation::Brightness(_)
                        | PixelOperation::Color(_)
                        | PixelOperation::Contrast(_)
                        | PixelOperation::Sharpness(_) => linspace(0.0, space.enhance, space.bins, bin).into(),
                        PixelOperation::Posterize(bits) => bits.into(),
                        _ => continue,
                    };
                    writeln!(ours, "{name} {op:?} {bin} {}", value as f32).unwrap();
                }
            }
        }
        let theirs = include_str!("../../../tests/golden/torchvision-magnitudes.txt");
        for (ours, theirs) in ours.lines().zip(theirs.lines()) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours.lines().count(), theirs.lines().count());
    }
}
