//! timm's AugMix (Hendrycks et al. 2020, arXiv:1912.02781).

use residual_tensor::Stream;

use super::Context;
use super::timm::{Application, Op};
use crate::augment::canvas::Canvas;
use crate::augment::pixels::blend;
use crate::beta::dirichlet;

/// `augmix-m…-w…-d…-a…-b…-mstd…`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AugMix {
    pub(super) magnitude: f64,
    /// The number of chains, 1 to [`MAX_WIDTH`](Self::MAX_WIDTH).
    pub(super) width: usize,
    /// The number of operations in a chain; `None` for 1 to 3 at random.
    pub(super) depth: Option<usize>,
    /// The parameter of the distributions of the weights.
    pub(super) alpha: f64,
    /// Blends each chain with the result so far, instead of adding all chains up.
    pub(super) blended: bool,
    pub(super) application: Application,
}

pub(super) const OPS: [Op; 13] = [
    Op::AutoContrast,
    Op::ColorIncreasing,
    Op::ContrastIncreasing,
    Op::BrightnessIncreasing,
    Op::SharpnessIncreasing,
    Op::Equalize,
    Op::Rotate,
    Op::PosterizeIncreasing,
    Op::SolarizeIncreasing,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateXRel,
    Op::TranslateYRel,
];

impl AugMix {
    /// The upper limit of the number of chains.
    pub(super) const MAX_WIDTH: usize = 16;

    pub(super) fn apply(&self, canvas: &mut Canvas, context: Context<'_>, random: &mut Stream) {
        let mut weights = [0.0; Self::MAX_WIDTH];
        let weights = &mut weights[..self.width];
        dirichlet(self.alpha, weights, random);
        let share = crate::beta::symmetric(self.alpha, random) as f32;
        self.mix(canvas, weights, share, |canvas| self.chain(canvas, context, random));
    }

    /// Augments the canvas by one chain.
    fn chain(&self, canvas: &mut Canvas, context: Context<'_>, random: &mut Stream) {
        let depth = self.depth.unwrap_or_else(|| 1 + random.below(3) as usize);
        for _ in 0..depth {
            let op = OPS[random.below(OPS.len() as u32) as usize];
            self.application.apply((op, 1.0, self.magnitude), canvas, context, random);
        }
    }

    /// Mixes the chains by `weights`, and the image with their mixture, which has the weight `share`.
    fn mix(&self, canvas: &mut Canvas, weights: &[f32], share: f32, mut chain: impl FnMut(&mut Canvas)) {
        let mut buffers = std::mem::take(&mut canvas.buffers);
        buffers.original.clear();
        buffers.original.extend_from_slice(canvas.pixels());
        let mut blending = [0.0; Self::MAX_WIDTH];
        blended_weights(weights, share, &mut blending);
        buffers.sums.clear();
        buffers.sums.resize(buffers.original.len(), 0.0);
        buffers.blended.clone_from(&buffers.original);
        for (&weight, &blending) in weights.iter().zip(&blending) {
            canvas.pixels_mut().copy_from_slice(&buffers.original);
            chain(canvas);
            if self.blended {
                let pairs = buffers.blended.iter_mut().zip(canvas.pixels());
                pairs.for_each(|(own, &chain)| *own = blend(*own, chain, blending));
            } else {
                let pairs = buffers.sums.iter_mut().zip(canvas.pixels());
                pairs.for_each(|(sum, &chain)| *sum += weight * f32::from(chain));
            }
        }
        let pixels = canvas.pixels_mut();
        if self.blended {
            pixels.copy_from_slice(&buffers.blended);
        } else {
            for ((pixel, &original), &sum) in pixels.iter_mut().zip(&buffers.original).zip(&buffers.sums) {
                // Conversion to an integer truncates and clamps.
                *pixel = blend(original, sum as u8, share);
            }
        }
        canvas.buffers = buffers;
    }
}

/// The weights with which each chain is blended with the result so far: timm's `_calc_blended_weights`.
fn blended_weights(weights: &[f32], share: f32, blending: &mut [f32]) {
    let mut rest = 1.0;
    for (weight, blending) in weights.iter().zip(blending).rev() {
        *blending = weight * share / rest;
        rest *= 1.0 - *blending;
    }
}

#[cfg(test)]
mod tests {
    use super::super::timm::Noise;
    use super::*;
    use crate::augment::testing::{canvas, image};

    const fn aug_mix(blended: bool) -> AugMix {
        let application = Application { noise: Noise::None, most: 10.0, reach: 0.3 };
        AugMix { magnitude: 3.0, width: 3, depth: None, alpha: 1.0, blended, application }
    }

    /// `AugMixAugment._apply_basic` and `_apply_blended` with the chains below; tests/golden/make_augment.py.
    #[test]
    fn chains_are_mixed_as_timm_mixes_them() {
        let image = image(2, 2);
        // The chains multiply by 4, 5 and 6 and add 90.
        let mixed = |blended| {
            let (mut canvas, mut factor) = (canvas(&image), 3u8);
            aug_mix(blended).mix(&mut canvas, &[0.2, 0.5, 0.3], 0.7, |canvas| {
                factor += 1;
                canvas.pixels_mut().iter_mut().for_each(|value| *value = value.wrapping_mul(factor).wrapping_add(90));
            });
            canvas.pixels().to_vec()
        };
        assert_eq!(mixed(false), BASIC);
        assert_eq!(mixed(true), BLENDED);
    }

    const BASIC: [u8; 12] = [63, 63, 89, 66, 63, 89, 70, 63, 89, 74, 63, 89];
    const BLENDED: [u8; 12] = [62, 62, 89, 65, 62, 89, 70, 62, 89, 74, 62, 89];
}
