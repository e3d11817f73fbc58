//! timm's RandAugment (Cubuk et al. 2020, arXiv:1909.13719).

use residual_tensor::Stream;

use super::Context;
use super::timm::{Application, Op};
use crate::augment::canvas::Canvas;

/// `rand-m…-n…-p…-mstd…-mmax…-inc…-t…`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RandAugment {
    pub(super) magnitude: f64,
    /// The number of operations on an image.
    pub(super) layers: usize,
    /// The probability of each of them.
    pub(super) probability: f64,
    pub(super) ops: OpSet,
    pub(super) application: Application,
}

/// The set of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpSet {
    /// Some operations are weaker at a higher magnitude.
    Plain,
    /// All operations are stronger at a higher magnitude (`inc1`).
    Increasing,
    /// Those of three-augment (`t3a`).
    ThreeAugment,
    /// With weights (`tweights`).
    Weighted,
    /// With the weights of three-augment (`t3aw`).
    WeightedThreeAugment,
}

impl OpSet {
    /// The operations, and their weights where there are any.
    pub(super) fn ops(self) -> (&'static [Op], Option<&'static [f64]>) {
        match self {
            Self::Plain => (&PLAIN, None),
            Self::Increasing => (&INCREASING, None),
            Self::ThreeAugment => (&[Op::SolarizeIncreasing, Op::Desaturate, Op::GaussianBlur], None),
            Self::Weighted => (&WEIGHTED.0, Some(&WEIGHTED.1)),
            Self::WeightedThreeAugment => (&WEIGHTED_THREE.0, Some(&WEIGHTED_THREE.1)),
        }
    }
}

impl RandAugment {
    /// Operations are chosen with replacement, weighted ones without.
    pub(super) fn apply(&self, canvas: &mut Canvas, context: Context<'_>, random: &mut Stream) {
        let (ops, weights) = self.ops.ops();
        let mut left = [0.0; 16];
        let left = &mut left[..ops.len()];
        left.copy_from_slice(weights.unwrap_or(&[1.0; 16][..ops.len()]));
        for _ in 0..self.layers {
            let chosen = weighted(left, random);
            if weights.is_some() {
                left[chosen] = 0.0;
            }
            self.application.apply((ops[chosen], self.probability, self.magnitude), canvas, context, random);
        }
    }
}

/// An index, with a probability proportional to its weight.
fn weighted(weights: &[f64], random: &mut Stream) -> usize {
    let mut rest = weights.iter().sum::<f64>() * f64::from(random.uniform());
    let chosen = weights.iter().position(|weight| {
        rest -= weight;
        rest < 0.0
    });
    // Rounding may leave a rest behind the last one.
    chosen.unwrap_or_else(|| weights.iter().rposition(|&weight| weight > 0.0).expect("a weight above 0"))
}

const PLAIN: [Op; 15] = [
    Op::AutoContrast,
    Op::Equalize,
    Op::Invert,
    Op::Rotate,
    Op::Posterize,
    Op::Solarize,
    Op::SolarizeAdd,
    Op::Color,
    Op::Contrast,
    Op::Brightness,
    Op::Sharpness,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateXRel,
    Op::TranslateYRel,
];

const INCREASING: [Op; 15] = [
    Op::AutoContrast,
    Op::Equalize,
    Op::Invert,
    Op::Rotate,
    Op::PosterizeIncreasing,
    Op::SolarizeIncreasing,
    Op::SolarizeAdd,
    Op::ColorIncreasing,
    Op::ContrastIncreasing,
    Op::BrightnessIncreasing,
    Op::SharpnessIncreasing,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateXRel,
    Op::TranslateYRel,
];

const WEIGHTED: ([Op; 15], [f64; 15]) = (
    [
        Op::Rotate,
        Op::ShearX,
        Op::ShearY,
        Op::TranslateXRel,
        Op::TranslateYRel,
        Op::ColorIncreasing,
        Op::SharpnessIncreasing,
        Op::AutoContrast,
        Op::SolarizeIncreasing,
        Op::SolarizeAdd,
        Op::ContrastIncreasing,
        Op::BrightnessIncreasing,
        Op::Equalize,
        Op::PosterizeIncreasing,
        Op::Invert,
    ],
    [3.0, 2.0, 2.0, 1.0, 1.0, 0.25, 0.25, 0.25, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05],
);

const WEIGHTED_THREE: ([Op; 14], [f64; 14]) = (
    [
        Op::SolarizeIncreasing,
        Op::Desaturate,
        Op::GaussianBlur,
        Op::Rotate,
        Op::ShearX,
        Op::ShearY,
        Op::PosterizeIncreasing,
        Op::AutoContrast,
        Op::ColorIncreasing,
        Op::SharpnessIncreasing,
        Op::ContrastIncreasing,
        Op::BrightnessIncreasing,
        Op::Equalize,
        Op::Invert,
    ],
    [6.0, 6.0, 6.0, 3.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_chosen_by_their_weights() {
        let mut random = Stream::new(4, &[]);
        let mut counts = [0; 4];
        (0..10_000).for_each(|_| counts[weighted(&[3.0, 0.0, 1.0, 4.0], &mut random)] += 1);
        assert_eq!(counts[1], 0);
        let close = |index: usize, expected: i32| (counts[index] - expected).abs() < 200;
        assert!(close(0, 3750) && close(2, 1250) && close(3, 5000), "{counts:?}");
    }
}
