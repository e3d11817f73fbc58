//! The automatic augmentations that `aa` names: timm's strings, and torchvision's policies.
//!
//! What a name means (operations, magnitudes, probabilities) is timm's or torchvision's; the random choice is made from this
//! crate's counter-based streams.

mod aug_mix;
mod parse;
mod rand_augment;
mod timm;
mod torchvision;

use residual_preprocess::Interpolation;
use residual_tensor::Stream;

use super::canvas::Canvas;
use super::pixels::{PixelOperation, Resampling};
use aug_mix::AugMix;
use rand_augment::RandAugment;
use timm::{Noise, Policy};

/// An automatic augmentation: which one of the published policies, and its settings.
///
/// It is parsed from the texts that timm's `--aa` takes, and from torchvision's names:
///
/// | text | meaning |
/// |---|---|
/// | `rand-m9-mstd0.5-inc1` | timm's RandAugment: magnitude `m` (10), layers `n` (2), probability of a layer `p` (0.5), standard deviation of the magnitude `mstd` (0; above 100: uniform from 0 to `m`), upper bound of the magnitude `mmax` (10), operations that grow with the magnitude `inc`, set of operations `t` (`tweights`, `t3a`, `t3aw`) |
/// | `augmix-m3-w3-d-1` | timm's AugMix: magnitude `m` (3), chains `w` (3), depth `d` (1 to 3 at random), `a` (1), blended `b`, `mstd` (uniform) |
/// | `original`, `originalr`, `v0`, `v0r`, `3a` | timm's AutoAugment policies and three-augment, with `-mstd…` |
/// | `ra`, `ra-m9-n2` | torchvision's RandAugment: magnitude `m` (9) of 0 to 30, operations `n` (2) |
/// | `ta_wide` | torchvision's TrivialAugmentWide |
/// | `autoaugment`, `cifar10`, `svhn` | torchvision's AutoAugment with the ImageNet, CIFAR-10 and SVHN policy |
///
/// ```
/// use residual_data::AutoAugment;
/// let aa: AutoAugment = "rand-m9-mstd0.5-inc1".parse()?;
/// assert!("rand-m9-x3".parse::<AutoAugment>().is_err());
/// # Ok::<(), residual_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AutoAugment(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    RandAugment(RandAugment),
    AugMix(AugMix),
    Policy { policy: Policy, noise: Noise },
    TorchRandAugment { magnitude: usize, layers: usize },
    TrivialWide,
    TorchPolicy(torchvision::Policy),
}

/// The interpolation of augmentations that resize or move an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainInterpolation {
    /// Always the same.
    Fixed(Interpolation),
    /// Bilinear or bicubic, at random each time, as in timm.
    Random,
}

impl TrainInterpolation {
    /// The interpolation of one operation.
    pub(super) fn draw(self, random: &mut Stream) -> Interpolation {
        match self {
            Self::Fixed(interpolation) => interpolation,
            Self::Random if random.chance(0.5) => Interpolation::Bilinear,
            Self::Random => Interpolation::Bicubic,
        }
    }
}

/// What all operations on one image share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) interpolation: TrainInterpolation,
    /// The mean colour, which timm fills with.
    pub(super) mean: &'a [u8],
}

impl AutoAugment {
    /// Augments one image. All randomness comes from `random`.
    pub(super) fn apply(&self, canvas: &mut Canvas, context: Context<'_>, random: &mut Stream) {
        match &self.0 {
            Kind::RandAugment(augment) => augment.apply(canvas, context, random),
            Kind::AugMix(augment) => augment.apply(canvas, context, random),
            Kind::Policy { policy, noise } => policy.apply(*noise, canvas, context, random),
            Kind::TorchRandAugment { magnitude, layers } => {
                for _ in 0..*layers {
                    torchvision::rand_augment(canvas.size(), *magnitude, random).apply_black(canvas, context, random);
                }
            }
            Kind::TrivialWide => torchvision::trivial_wide(random).apply_black(canvas, context, random),
            Kind::TorchPolicy(policy) => policy.apply(canvas, context, random),
        }
    }
}

impl PixelOperation {
    /// As torchvision's references apply it: black outside the image.
    fn apply_black(self, canvas: &mut Canvas, context: Context<'_>, random: &mut Stream) {
        let resampling = Resampling::Smooth(context.interpolation.draw(random));
        let black = [0; 3];
        self.apply(canvas, resampling, &black[..canvas.channels()]);
    }
}

#[cfg(test)]
mod tests;
