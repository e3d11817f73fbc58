//! timm's operations at a magnitude (`timm/data/auto_augment.py`), and its AutoAugment policies.

use residual_tensor::Stream;

use super::Context;
use crate::augment::canvas::Canvas;
use crate::augment::pixels::{PixelOperation, Resampling};

/// The magnitude that stands for the full range of an operation.
pub(super) const FULL: f64 = 10.0;

/// Operations whose argument depends on a magnitude of 0 to 10, by timm's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    PosterizeIncreasing,
    PosterizeOriginal,
    Solarize,
    SolarizeIncreasing,
    SolarizeAdd,
    Color,
    ColorIncreasing,
    Contrast,
    ContrastIncreasing,
    Brightness,
    BrightnessIncreasing,
    Sharpness,
    SharpnessIncreasing,
    ShearX,
    ShearY,
    TranslateXRel,
    TranslateYRel,
    Desaturate,
    GaussianBlur,
    GaussianBlurRand,
}

/// What decides an operation's argument besides its magnitude.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    /// Whether an argument with a sign is negative.
    pub(super) negative: bool,
    /// In [0, 1), for the radius of `GaussianBlurRand`.
    pub(super) unit: f64,
}

impl Op {
    /// The operation at a magnitude of 0 to 10 (or above, where `mmax` allows it), for an image of `size`. Relative
    /// translations reach `reach` of the side at magnitude 10.
    pub(super) fn at(self, magnitude: f64, draw: Draw, reach: f64, [height, width]: [usize; 2]) -> PixelOperation {
        let level = magnitude / FULL;
        let signed = |value: f64| if draw.negative { -value } else { value };
        let bits = || (level * 4.0) as u32;
        let enhance = || (level * 1.8 + 0.1) as f32;
        let enhance_increasing = || (1.0 + signed(level * 0.9)).max(0.1) as f32;
        let threshold = || f64::from(((level * 256.0) as i32).min(256));
        match self {
            Self::AutoContrast => PixelOperation::AutoContrast,
            Self::Equalize => PixelOperation::Equalize,
            Self::Invert => PixelOperation::Invert,
            Self::Rotate => PixelOperation::Rotate(signed(level * 30.0)),
            Self::Posterize => PixelOperation::Posterize(bits()),
            Self::PosterizeIncreasing => PixelOperation::Posterize(4u32.saturating_sub(bits())),
            Self::PosterizeOriginal => PixelOperation::Posterize(bits() + 4),
            Self::Solarize => PixelOperation::Solarize(threshold()),
            Self::SolarizeIncreasing => PixelOperation::Solarize(256.0 - threshold()),
            Self::SolarizeAdd => PixelOperation::SolarizeAdd(((level * 110.0) as u32).min(128)),
            Self::Color => PixelOperation::Color(enhance()),
            Self::ColorIncreasing => PixelOperation::Color(enhance_increasing()),
            Self::Contrast => PixelOperation::Contrast(enhance()),
            Self::ContrastIncreasing => PixelOperation::Contrast(enhance_increasing()),
            Self::Brightness => PixelOperation::Brightness(enhance()),
            Self::BrightnessIncreasing => PixelOperation::Brightness(enhance_increasing()),
            Self::Sharpness => PixelOperation::Sharpness(enhance()),
            Self::SharpnessIncreasing => PixelOperation::Sharpness(enhance_increasing()),
            Self::ShearX => PixelOperation::ShearX(signed(level * 0.3)),
            Self::ShearY => PixelOperation::ShearY(signed(level * 0.3)),
            Self::TranslateXRel => PixelOperation::TranslateX(signed(level * reach) * width as f64),
            Self::TranslateYRel => PixelOperation::TranslateY(signed(level * reach) * height as f64),
            // 0 is grey; the magnitude scales from half to full.
            Self::Desaturate => PixelOperation::Color((1.0 - (0.5 + 0.5 * level).clamp(0.5, 1.0)) as f32),
            Self::GaussianBlur => PixelOperation::BoxBlur((0.1 + 1.9 * level).clamp(0.1, 2.0) as f32),
            Self::GaussianBlurRand => {
                PixelOperation::BoxBlur((0.1 + (2.0 * level.clamp(0.0, 1.0) - 0.1) * draw.unit) as f32)
            }
        }
    }
}

/// The noise on magnitudes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Noise {
    None,
    /// A normal distribution of this standard deviation around the magnitude.
    Normal(f64),
    /// Uniform from 0 to the magnitude.
    Uniform,
}

/// How all operations of an augmentation are applied: timm's `AugmentOp`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Application {
    pub(super) noise: Noise,
    /// The upper bound of the magnitude, noise included.
    pub(super) most: f64,
    /// The relative translation at magnitude 10.
    pub(super) reach: f64,
}

impl Application {
    /// Relative translations up to 0.45 of the side, and magnitudes up to 10.
    pub(super) fn new(noise: Noise) -> Self {
        Self { noise, most: FULL, reach: 0.45 }
    }

    /// Applies `op` with `probability`, at a magnitude around `magnitude`.
    pub(super) fn apply(
        &self,
        (op, probability, magnitude): (Op, f64, f64),
        canvas: &mut Canvas,
        context: Context<'_>,
        random: &mut Stream,
    ) {
        if !random.chance(probability as f32) {
            return;
        }
        let magnitude = match self.noise {
            Noise::None => magnitude,
            Noise::Normal(deviation) => magnitude + deviation * f64::from(random.normal()),
            Noise::Uniform => magnitude * f64::from(random.uniform()),
        };
        let draw = Draw { negative: random.chance(0.5), unit: random.uniform().into() };
        let operation = op.at(magnitude.clamp(0.0, self.most), draw, self.reach, canvas.size());
        operation.apply(canvas, Resampling::Smooth(context.interpolation.draw(random)), context.mean);
    }
}

/// One of timm's AutoAugment policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// The ImageNet policy of Cubuk et al. 2019 (arXiv:1805.09501).
    Original,
    /// The same with the posterisation of Google's research code.
    OriginalIncreasing,
    /// The policy of the TPU implementation of EfficientNet.
    V0,
    /// The same with the posterisation of Google's research code.
    V0Increasing,
    /// Three-augment of DeiT III (Touvron et al. 2022, arXiv:2204.07118).
    ThreeAugment,
}

/// Operation, probability, magnitude.
type Step = (Op, f64, f64);

impl Policy {
    /// Applies one of the policy's sub-policies.
    pub(super) fn apply(self, noise: Noise, canvas: &mut Canvas, context: Context<'_>, random: &mut Stream) {
        let application = Application::new(noise);
        let count = self.len() as u32;
        for step in self.steps(random.below(count) as usize) {
            application.apply(step, canvas, context, random);
        }
    }

    /// The number of sub-policies.
    pub(super) fn len(self) -> usize {
        if self == Self::ThreeAugment { THREE.len() } else { 25 }
    }

    /// The steps of a sub-policy.
    pub(super) fn steps(self, index: usize) -> impl Iterator<Item = Step> {
        let (steps, increasing): (&[Step], _) = match self {
            Self::Original => (&ORIGINAL[index], false),
            Self::OriginalIncreasing => (&ORIGINAL[index], true),
            Self::V0 => (&V0[index], false),
            Self::V0Increasing => (&V0[index], true),
            Self::ThreeAugment => (&THREE[index..=index], false),
        };
        steps.iter().map(move |&(op, probability, magnitude)| match op {
            Op::Posterize | Op::PosterizeOriginal if increasing => (Op::PosterizeIncreasing, probability, magnitude),
            _ => (op, probability, magnitude),
        })
    }
}

use Op::{AutoContrast, Color, Contrast, Equalize, Invert, Posterize, PosterizeOriginal, Rotate, Sharpness};
use Op::{Desaturate, GaussianBlurRand, ShearX, ShearY, Solarize, SolarizeAdd, TranslateYRel};

const THREE: [Step; 3] = [(Solarize, 1.0, 5.0), (Desaturate, 1.0, 10.0), (GaussianBlurRand, 1.0, 10.0)];

#[rustfmt::skip]
const V0: [[Step; 2]; 25] = [
    [(Equalize, 0.8, 1.0), (ShearY, 0.8, 4.0)],
    [(Color, 0.4, 9.0), (Equalize, 0.6, 3.0)],
    [(Color, 0.4, 1.0), (Rotate, 0.6, 8.0)],
    [(Solarize, 0.8, 3.0), (Equalize, 0.4, 7.0)],
    [(Solarize, 0.4, 2.0), (Solarize, 0.6, 2.0)],
    [(Color, 0.2, 0.0), (Equalize, 0.8, 8.0)],
    [(Equalize, 0.4, 8.0), (SolarizeAdd, 0.8, 3.0)],
    [(ShearX, 0.2, 9.0), (Rotate, 0.6, 8.0)],
    [(Color, 0.6, 1.0), (Equalize, 1.0, 2.0)],
    [(Invert, 0.4, 9.0), (Rotate, 0.6, 0.0)],
    [(Equalize, 1.0, 9.0), (ShearY, 0.6, 3.0)],
    [(Color, 0.4, 7.0), (Equalize, 0.6, 0.0)],
    [(Posterize, 0.4, 6.0), (AutoContrast, 0.4, 7.0)],
    [(Solarize, 0.6, 8.0), (Color, 0.6, 9.0)],
    [(Solarize, 0.2, 4.0), (Rotate, 0.8, 9.0)],
    [(Rotate, 1.0, 7.0), (TranslateYRel, 0.8, 9.0)],
    [(ShearX, 0.0, 0.0), (Solarize, 0.8, 4.0)],
    [(ShearY, 0.8, 0.0), (Color, 0.6, 4.0)],
    [(Color, 1.0, 0.0), (Rotate, 0.6, 2.0)],
    [(Equalize, 0.8, 4.0), (Equalize, 0.0, 8.0)],
    [(Equalize, 1.0, 4.0), (AutoContrast, 0.6, 2.0)],
    [(ShearY, 0.4, 7.0), (SolarizeAdd, 0.6, 7.0)],
    [(Posterize, 0.8, 2.0), (Solarize, 0.6, 10.0)],
    [(Solarize, 0.6, 8.0), (Equalize, 0.6, 1.0)],
    [(Color, 0.8, 6.0), (Rotate, 0.4, 5.0)],
];

#[rustfmt::skip]
const ORIGINAL: [[Step; 2]; 25] = [
    [(PosterizeOriginal, 0.4, 8.0), (Rotate, 0.6, 9.0)],
    [(Solarize, 0.6, 5.0), (AutoContrast, 0.6, 5.0)],
    [(Equalize, 0.8, 8.0), (Equalize, 0.6, 3.0)],
    [(PosterizeOriginal, 0.6, 7.0), (PosterizeOriginal, 0.6, 6.0)],
    [(Equalize, 0.4, 7.0), (Solarize, 0.2, 4.0)],
    [(Equalize, 0.4, 4.0), (Rotate, 0.8, 8.0)],
    [(Solarize, 0.6, 3.0), (Equalize, 0.6, 7.0)],
    [(PosterizeOriginal, 0.8, 5.0), (Equalize, 1.0, 2.0)],
    [(Rotate, 0.2, 3.0), (Solarize, 0.6, 8.0)],
    [(Equalize, 0.6, 8.0), (PosterizeOriginal, 0.4, 6.0)],
    [(Rotate, 0.8, 8.0), (Color, 0.4, 0.0)],
    [(Rotate, 0.4, 9.0), (Equalize, 0.6, 2.0)],
    [(Equalize, 0.0, 7.0), (Equalize, 0.8, 8.0)],
    [(Invert, 0.6, 4.0), (Equalize, 1.0, 8.0)],
    [(Color, 0.6, 4.0), (Contrast, 1.0, 8.0)],
    [(Rotate, 0.8, 8.0), (Color, 1.0, 2.0)],
    [(Color, 0.8, 8.0), (Solarize, 0.8, 7.0)],
    [(Sharpness, 0.4, 7.0), (Invert, 0.6, 8.0)],
    [(ShearX, 0.6, 5.0), (Equalize, 1.0, 9.0)],
    [(Color, 0.4, 0.0), (Equalize, 0.6, 3.0)],
    [(Equalize, 0.4, 7.0), (Solarize, 0.2, 4.0)],
    [(Solarize, 0.6, 5.0), (AutoContrast, 0.6, 5.0)],
    [(Invert, 0.6, 4.0), (Equalize, 1.0, 8.0)],
    [(Color, 0.6, 4.0), (Contrast, 1.0, 8.0)],
    [(Equalize, 0.8, 8.0), (Equalize, 0.6, 3.0)],
];
